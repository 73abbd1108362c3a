"""The host of models with real llama.cpp servers: loaded, swapped, killed, refused, downloaded."""

import asyncio
import http.client
import json
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import gguf
from ai_stack.errors import (
    EngineFailed,
    EngineUnavailable,
    ModelNotFound,
    ModelTooLarge,
    StackError,
)
from ai_stack.settings import load_settings
from ai_stack.supervisor import llama_cpp
from ai_stack.supervisor.account import Account
from ai_stack.supervisor.child import Launcher
from ai_stack.supervisor.llama_cpp import Load, Program
from ai_stack.supervisor.machine import Free, Machine
from ai_stack.supervisor.occupancy import Occupancy
from ai_stack.supervisor.ports import Ports
from ai_stack.weights.shelf import Shelf
from hosts import ask, host, said, shelf_in
from hub import FakeHub
from stacks import alive, free_port, part, stack

pytestmark = pytest.mark.alone

ONE, TWO = "One says hello to everybody.", "Two answers something else."
STAND_IN = Path(__file__).parent / "llama_server_stand_in.py"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose shelf holds two models that say different things."""
    folder = shelf_in(tmp_path / "data")
    gguf.write_chat(folder / "one.gguf", say=ONE)
    gguf.write_chat(folder / "two.gguf", say=TWO)
    return tmp_path / "data"


@contextmanager
def listening(port: int) -> Iterator[None]:
    """Another program on a port."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        yield


async def test_two_models_take_turns_in_one_place(data: Path):
    async with host(data, AI_STACK_LLAMA_CPP_MODELS="1") as running:
        one = await running.serve("one")
        assert one == f"http://127.0.0.1:{running.port}"
        assert await said(one) == ONE
        assert (await ask(one, "/v1/models"))["data"][0]["id"] == "one"
        two = await running.serve("two")
        assert await said(two) == TWO
        assert two != one  # whoever remembers the address of one would be answered by two
        assert await running.states() == {"one": "stopped", "two": "ready"}
        assert len(running.children()) == 1
        assert await running.serve("one") == one
        listed = (await running.models())["one"]
        assert listed["url"] == one
        assert listed["context_length"] == 1024
        assert time.time() - listed["last_used"] < 10


async def test_many_who_ask_at_once_share_one_load(data: Path):
    async with host(data) as running:
        urls = await asyncio.gather(*(running.serve("one") for _ in range(20)))
        assert len({*urls}) == 1
        assert len(running.children()) == 1


async def test_a_model_with_work_is_not_unloaded(data: Path):
    gguf.write_chat(data / "llama-cpp-models" / "endless.gguf")
    async with host(data, AI_STACK_LLAMA_CPP_MODELS="1", LLAMA_CPP_CTX_SIZE="4096") as running:
        endless = await running.serve("endless")
        begun = time.monotonic()
        work = asyncio.create_task(said(endless, max_tokens=1500, ignore_eos=True))
        await asyncio.sleep(0.6)
        assert not work.done()
        await running.serve("two")
        assert len(await work) > 500
        assert time.monotonic() - begun > 0.6
        assert await running.states() == {"one": "stopped", "two": "ready", "endless": "stopped"}


async def test_a_killed_server_is_noticed_told_and_started_again(data: Path):
    async with host(data) as running:
        url = await running.serve("one")
        os.kill(running.server_of(running.port), signal.SIGKILL)
        failed = await running.until("one", "failed", within_s=2)
        assert "SIGKILL" in failed["error"]
        assert "url" not in failed
        assert await running.serve("one") == url
        assert await said(url) == ONE
        with pytest.raises(EngineUnavailable, match=r"SIGKILL\. It is started again in \d"):
            for _ in range(6):
                os.kill(running.server_of(running.port), signal.SIGKILL)
                await running.until("one", "failed", within_s=2)
                await running.serve("one")


async def test_what_llama_cpp_cannot_load_is_told_with_its_reason(data: Path):
    file = data / "llama-cpp-models" / "strange.gguf"
    content = (data / "llama-cpp-models" / "one.gguf").read_bytes()
    file.write_bytes(content.replace(b"llama", b"lamda"))
    async with host(data) as running:
        with pytest.raises(EngineFailed, match="unknown model architecture"):
            await running.serve("strange")
        row = (await running.models())["strange"]
        assert row["state"] == "failed"
        assert "unknown model architecture: 'lamda'" in row["error"]
        assert "strange: " in running.log
        await running.serve("one")


async def test_what_does_not_fit_is_refused_with_figures_before_it_loads(data: Path):
    shape = gguf.Shape(context=1 << 20)
    gguf.write_chat(data / "llama-cpp-models" / "long.gguf", shape=shape)
    sizes = {"LLAMA_CPP_CTX_SIZE": str(1 << 20), "LLAMA_CPP_WEB_CONCURRENCY": "256"}
    async with host(data, **sizes) as running:
        with pytest.raises(ModelTooLarge, match=r"long needs about \d+\.\d\d GiB .* are free"):
            await running.serve("long")
        row = (await running.models())["long"]
        assert row["state"] == "failed"
        assert row["estimate_bytes"] > 100 << 30
        assert not running.children()


class SmallMachine(Machine):
    """Room for one tiny model and a half."""

    async def free(self, device: str) -> Free:
        return Free(110 << 20)


async def test_the_idlest_makes_room_for_the_memory_of_another(data: Path):
    settings = load_settings({"HOME": str(data), "AI_STACK_LLAMA_CPP_PORT": str(free_port())})
    account = Account(os.getuid(), os.getgid(), "", "")
    launcher = Launcher(account, data, llama_cpp.environment(data))
    occupancy = Occupancy(
        settings,
        launcher,
        SmallMachine(settings, launcher),
        Ports(settings.llama_cpp_port, data / "ports", keep=False),
        crashed=lambda _: None,
    )
    one, two = Shelf(data / "llama-cpp-models").all()
    try:
        await occupancy.serve(one)
        await occupancy.serve(two)
        assert [*occupancy.residents] == ["two"]
    finally:
        await occupancy.stop_all()


async def test_idle_models_are_unloaded_and_use_past_the_gateway_counts(data: Path):
    async with host(data, AI_STACK_LLAMA_CPP_IDLE_S="1") as running:
        one, two = await running.serve("one"), await running.serve("two")
        for _ in range(8):
            await said(two)
            await asyncio.sleep(0.3)
        assert await running.states() == {"one": "stopped", "two": "ready"}
        assert one != two
        await running.until("two", "stopped", within_s=5)
        await running.until_childless()


async def test_stopping_and_unknown_models(data: Path):
    async with host(data) as running:
        await running.serve("one")
        await running.channel.call("stop", model="one")
        assert await running.states() == {"one": "stopped", "two": "stopped"}
        with pytest.raises(ModelNotFound, match="models pull nobody/nothing"):
            await running.serve("nobody/nothing")
        with pytest.raises(ModelNotFound, match="no file"):
            await running.serve("/nowhere/x.gguf")


async def test_embedders_and_rerankers_are_served_as_such(data: Path):
    gguf.write_embedder(data / "llama-cpp-models" / "embeds.gguf")
    gguf.write_reranker(data / "llama-cpp-models" / "ranks.gguf")
    async with host(data) as running:
        embeds = await running.serve("embeds")
        answer = await ask(embeds, "/v1/embeddings", {"input": ["a city", "a city"]})
        first, second = (row["embedding"] for row in answer["data"])
        assert first == second
        ranks = await running.serve("ranks")
        asked = {"query": "city", "documents": ["a", "b", "c"]}
        assert len((await ask(ranks, "/v1/rerank", asked))["results"]) == 3
        kinds = {id: row["kind"] for id, row in (await running.models()).items()}
        assert kinds["embeds"] == "embedding"
        assert kinds["ranks"] == "rerank"


async def test_no_web_page_may_ask_a_server(data: Path):
    async with host(data) as running:
        await running.serve("one")
        client = http.client.HTTPConnection("127.0.0.1", running.port)
        client.request("OPTIONS", "/v1/chat/completions", headers={"Origin": "https://evil.test"})
        allowed = client.getresponse().getheader("Access-Control-Allow-Origin")
        client.close()
        assert not allowed


async def test_the_default_model_is_served_from_a_path_and_again_when_it_breaks(data: Path):
    file = gguf.write_chat(data.parent / "Mine.gguf", say="I lie elsewhere on this disk.")
    async with host(data, LLAMA_CPP_DEFAULT_MODEL=str(file)) as running:
        row = await running.until("mine", "ready")
        assert row["url"] == f"http://127.0.0.1:{running.port}"
        assert [*await running.models()] == ["mine", "one", "two"]
        os.kill(running.server_of(running.port), signal.SIGKILL)
        await running.until("mine", "failed", within_s=2)
        await running.until("mine", "ready")
        assert await said(row["url"]) == "I lie elsewhere on this disk."


async def test_a_default_model_that_is_not_here_is_downloaded(data: Path):
    content = (data / "llama-cpp-models" / "one.gguf").read_bytes()
    files = {"someone/Tiny-GGUF/tiny-Q4_K_M.gguf": content}
    with FakeHub(files, block_s=0.15).serving() as hub:
        own = {"LLAMA_CPP_DEFAULT_MODEL": "someone/Tiny-GGUF", "AI_STACK_HUB_URL": hub.url}
        async with host(data, **own) as running:
            row = await running.until("someone/Tiny-GGUF", "downloading")
            with pytest.raises(EngineUnavailable, match="is being downloaded"):
                await running.serve("someone/Tiny-GGUF")
            assert await said(await running.serve("two")) == TWO
            row = await running.until("tiny", "ready")
            assert row["url"] == f"http://127.0.0.1:{running.port}"
            assert await said(row["url"]) == ONE
            assert f"of {len(content) >> 20} MiB" in running.log


async def test_a_default_model_that_cannot_come_is_told(data: Path):
    with FakeHub({}).serving() as hub:
        own = {"LLAMA_CPP_DEFAULT_MODEL": "someone/nothing", "AI_STACK_HUB_URL": hub.url}
        async with host(data, **own) as running:
            row = await running.until("someone/nothing", "failed")
            assert "has no repository someone/nothing" in row["error"]
            with pytest.raises(EngineUnavailable, match="has no repository"):
                await running.serve("someone/nothing")


async def test_a_taken_port_is_told_and_only_the_default_model_waits_for_it(data: Path):
    port = free_port()
    own = {"AI_STACK_LLAMA_CPP_PORT": str(port)}
    with listening(port):
        async with host(data, **own) as running:
            other = await running.serve("one")
            assert other != f"http://127.0.0.1:{port}"
            assert f"port {port} is taken by another program" in running.log
        async with host(data, **own, LLAMA_CPP_DEFAULT_MODEL="two") as running:
            row = await running.until("two", "failed")
            assert f"Port {port}, at which two is to be served, is taken" in row["error"]
            assert f"AI_STACK_LLAMA_CPP_PORT={port + 1}" in row["error"]
            with pytest.raises(StackError, match="is taken by another program"):
                await running.serve("two")
            assert await said(await running.serve("one")) == ONE


async def test_a_killed_host_takes_its_servers_with_it_and_a_port_keeps_its_model(data: Path):
    async with host(data) as running:
        one = await running.serve("one")
        children = [*running.children()]
        running.process.kill()
        running.process.wait()
        deadline = time.monotonic() + 5
        while any(map(alive, children)) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert not any(map(alive, children))
    async with host(data, AI_STACK_LLAMA_CPP_PORT=str(running.port)) as running:
        assert await running.serve("two") != one
        assert await running.serve("one") == one


def test_the_supervisor_restarts_the_host_and_the_default_model_comes_back(tmp_path: Path):
    data, port = tmp_path / "data", free_port()
    gguf.write_chat(shelf_in(data) / "one.gguf", say=ONE)
    variables = {"LLAMA_CPP_DEFAULT_MODEL": "one", "AI_STACK_LLAMA_CPP_PORT": str(port)}
    with stack(data, chosen=("llama-cpp",), **variables) as made:
        before = part(made.up(), "llama-cpp").pid
        assert before is not None
        url = f"http://127.0.0.1:{port}"
        asyncio.run(_answers(url))
        children = Path(f"/proc/{before}/task/{before}/children").read_text().split()
        assert _user(before) == (65534 if os.getuid() == 0 else os.getuid())
        assert {_user(int(child)) for child in children} == {_user(before)}
        os.kill(before, signal.SIGKILL)
        made.until(lambda s: part(s, "llama-cpp").pid not in (None, before))
        asyncio.run(_answers(url))
        assert asyncio.run(said(url)) == ONE
        assert not any(alive(int(child)) for child in children)
        made.down()
        assert "one: " in (data / "logs" / "llama-cpp.log").read_text()


async def test_the_server_on_path_is_preferred_with_the_flags_that_it_knows(
    data: Path, tmp_path: Path
):
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "llama-server"
    script.write_text(STAND_IN.read_text())
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    settings = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "LLAMA_CPP_WEB_CONCURRENCY": "3",
        "AI_STACK_LLAMA_CPP_GPU_LAYERS": "20",
        "AI_STACK_LLAMA_CPP_DEVICES": "GPU0 GPU1",
        "AI_STACK_LLAMA_CPP_CACHE_TYPE": "q8_0",
        "AI_STACK_LLAMA_CPP_BATCH": "512",
        "AI_STACK_LLAMA_CPP_THREADS": "2",
        "HUGGING_FACE_HUB_TOKEN": "secret",
    }
    gguf.write_embedder(data / "llama-cpp-models" / "embeds.gguf")
    async with host(data, **settings) as running:
        told = json.loads((await ask(await running.serve("one"), "/told"))["told"])
        words = told["arguments"]
        for flag, value in {
            "-m": str(data / "llama-cpp-models" / "one.gguf"),
            "--alias": "one",
            "--host": "127.0.0.1",
            "--port": str(running.port),
            "-c": str(3 * 1024),
            "-np": "3",
            "-t": "2",
            "-b": "512",
            "-ngl": "20",
            "--device": "GPU0",
            "--cache-type-k": "q8_0",
            "--cache-type-v": "q8_0",
        }.items():
            assert words[words.index(flag) + 1] == value, flag
        assert {"--metrics", "--slots", "--jinja"} <= {*words}
        assert "--cors-origins" not in words  # this one does not know it
        assert told["environment"]["OMP_WAIT_POLICY"] == "passive"
        assert "secret" not in str(told["environment"])
        told = json.loads((await ask(await running.serve("embeds"), "/told"))["told"])
        words = told["arguments"]
        assert words[words.index("--device") + 1] == "GPU1"
        assert {"--embeddings"} <= {*words}
        assert "--jinja" not in words


def test_the_wheel_takes_every_flag_that_is_passed(tmp_path: Path):
    settings = load_settings({"HOME": str(tmp_path), "AI_STACK_LLAMA_CPP_GPU_LAYERS": "3"})
    load = Load("x", tmp_path / "x.gguf", 512, 1234, "rerank", "none", tmp_path / "eye.gguf")
    words = llama_cpp.arguments(Program(llama_cpp.OF_THE_WHEEL), load, settings, 64)
    parser = pytest.importorskip("ai_stack.supervisor.llama_server").flags()
    given = parser.parse_args(words[3:])
    assert (given.ctx_size, given.parallel, given.gpu_layers) == (512 * 4, 4, 3)
    assert (given.reranking, given.cors_origins, given.ubatch_size) == (True, "localhost", 2048)


async def _answers(url: str, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            assert (await ask(url, "/health"))["status"] == "ok"
            return
        except OSError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def _user(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid
