"""The embedder's process under load, faults and restarts, and downloads from a hub."""

import asyncio
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pytest

import embedders
import hub
from ai_stack.channel import Channel
from ai_stack.embedders.descriptions import MINILM, Description
from ai_stack.embedders.hub import fetch
from ai_stack.embedders.onnx import OnnxEmbedder
from ai_stack.embedders.session import Session
from ai_stack.embedders.weights import minilm, prepare
from ai_stack.errors import EmbedderUnavailable, Forbidden, SettingsError, StackError, TooBusy
from ai_stack.hub import Hub
from minilm import FloatMiniLM

PASSAGE = "Open a file and read its lines. The file is closed when the block ends. " * 11
OTHER = Description("other", 384, 64, passage_prefix="passage: ", repository="org/other")


def pss_bytes(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(rollup.partition("\nPss:")[2].split()[0])


@pytest.fixture(scope="module")
def made() -> Path:
    """The folder of MiniLM's converted files."""
    return minilm(embedders.CACHE).onnx.parent


async def test_it_starts_within_a_second_and_stays_small(made: Path) -> None:
    begin = time.monotonic()
    async with (
        embedders.child() as (socket, process),
        embedders.opened(f"onnx://{socket}") as embedder,
    ):
        started_s = time.monotonic() - begin
        await embedder.embed([PASSAGE[: 40 * n] for n in range(1, 20)] * 4, "passage")
        assert pss_bytes(process.pid) < 200 << 20
    assert started_s < 3  # 0.4 s on an idle machine


async def test_int8_is_close_to_the_float_weights(made: Path) -> None:
    assert (made / "model.onnx").stat().st_size < 30 << 20
    session = Session(MINILM.model("0" * 64), made / "model.onnx", made / "tokenizer.json")
    exact = FloatMiniLM()
    for text in (PASSAGE, "how do I open a file?", "Les impôts sont dus en avril; see §4."):
        (ids,) = session.tokens([text])
        assert (session.run([ids])[0] * exact.embed(ids)).sum() > 0.99


async def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    first = minilm(tmp_path)
    good = first.onnx.read_bytes()
    first.onnx.write_bytes(good[:-100])
    assert minilm(tmp_path).onnx.read_bytes() == good
    assert [f.name for f in tmp_path.iterdir()] == [first.onnx.parent.name]


async def test_queries_pass_by_an_import(made: Path) -> None:
    async with embedders.child() as (socket, _), embedders.opened(f"onnx://{socket}") as embedder:
        call = asyncio.create_task(embedder.embed([PASSAGE] * 64, "passage"))
        await asyncio.sleep(0.1)
        begin = time.monotonic()
        for number in range(5):
            await embedder.embed([f"where is file {number}?"], "query")
        assert not call.done()
        assert (time.monotonic() - begin) / 5 < 0.15
        await call


async def test_a_full_queue_says_so_and_recovers(made: Path) -> None:
    async with embedders.child("--threads", "1") as (socket, _):
        channel = Channel(socket)
        texts = [PASSAGE] * 100
        arguments = {"model": embedders.MINILM, "kind": "passage", "texts": texts}
        calls = [asyncio.create_task(channel.call("embed", **arguments)) for _ in range(6)]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(TooBusy):
            done.pop().result()
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await _until_idle(channel)
        await channel.call("embed", **{**arguments, "texts": ["one"]}, timeout_s=2)
        await channel.aclose()


async def _until_idle(channel: Channel) -> None:
    """Cancelled calls leave the queue at once: 600 passages would take 15 s or more."""
    begin = time.monotonic()
    while (await channel.call("ping"))[0]["waiting_tokens"]:
        assert time.monotonic() - begin < 2
        await asyncio.sleep(0.02)


async def test_a_client_survives_the_child_s_restart(made: Path) -> None:
    async with embedders.child() as (socket, process):
        embedder = await OnnxEmbedder.open(socket, embedders.MINILM)
        call = asyncio.create_task(embedder.embed([PASSAGE] * 64, "passage"))
        await asyncio.sleep(0.2)
        process.kill()
        with pytest.raises(EmbedderUnavailable):
            await call
        with pytest.raises(EmbedderUnavailable):
            await embedder.embed(["gone"], "query")
    async with embedders.child() as (again, _):
        socket.parent.mkdir()
        socket.symlink_to(again)
        assert (await embedder.embed(["back"], "query")).shape == (1, 384)
        await embedder.aclose()
        socket.unlink()
        socket.parent.rmdir()


async def test_spans_of_megabytes_hold_nobody_up(made: Path) -> None:
    async with embedders.child() as (socket, _), embedders.opened(f"onnx://{socket}") as embedder:
        call = asyncio.create_task(embedder.spans([PASSAGE * 2_600]))
        longest_s = 0.0
        while not call.done():
            begin = time.monotonic()
            await embedder.embed(["a query meanwhile"], "query")
            longest_s = max(longest_s, time.monotonic() - begin)
        (spans,) = await call
    assert len(spans) > 400_000
    assert longest_s < 0.5


async def test_a_broken_description_ends_the_child_with_a_reason() -> None:
    async with embedders.child(models=["unheard-of"]) as (_, process):
        _, errors = await asyncio.to_thread(process.communicate, timeout=10)
    assert process.returncode == 1
    assert b"AI_STACK_EMBEDDING_MODEL" in errors
    assert b"Traceback" not in errors


async def test_two_models_serve_side_by_side(made: Path, tmp_path: Path) -> None:
    described = {"name": "copy", "dimensions": 384, "max_tokens": 64, "query_prefix": "query: "}
    file = tmp_path / "copy.json"
    file.write_bytes(orjson.dumps({**described, "folder": str(made)}))
    variables = {"AI_STACK_EMBEDDING_DESCRIPTION": str(file)}
    async with embedders.child(**variables) as (socket, _):
        url = f"onnx://{socket}"
        async with embedders.opened(url) as old, embedders.opened(url, "copy") as new:
            assert old.model.key != new.model.key
            assert new.model.max_tokens == 64
            calls = [one.embed(["a text"] * 40, "passage") for one in (old, new)]
            (before, after) = await asyncio.gather(*calls)
            assert np.allclose(before, after, atol=0.05)
            prefixed = await old.embed(["query: a text"], "query")
            assert np.allclose(await new.embed(["a text"], "query"), prefixed, atol=0.05)
            with pytest.raises(SettingsError):
                await OnnxEmbedder.open(socket, "unheard-of")


@pytest.fixture(scope="module")
def files(made: Path) -> dict[str, bytes]:
    return {
        "org/other/onnx/model.onnx": (made / "model.onnx").read_bytes(),
        "org/other/tokenizer.json": (made / "tokenizer.json").read_bytes(),
    }


def client(served: hub.FakeHub, token: str | None = None) -> Hub:
    return Hub(served.url, token, lambda *_: None, timeout_s=0.4, pause_s=0.01)


async def test_a_model_comes_from_the_hub_once(files: dict[str, bytes], tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    with hub.FakeHub(files, token="hf_secret").serving() as served:
        asked = Hub(served.url, "hf_secret", lambda *step: seen.append(step))
        found = fetch(asked, OTHER, tmp_path)
        requests = len(served.requests)
        assert fetch(asked, OTHER, tmp_path) == found
        assert len(served.requests) == requests
        assert {a for verb, *_, a in served.requests if verb == "CDN"} == {None}
    assert found.onnx.read_bytes() == files["org/other/onnx/model.onnx"]
    sizes = [done for name, done, _ in seen if name == "onnx--model.onnx"]
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(files["org/other/onnx/model.onnx"])


@pytest.mark.parametrize(
    "faults", [["cut"], ["stall"], ["busy"], ["cut", "ignore-range"], ["cut", "stall", "cut"]]
)
async def test_a_download_goes_on_after(
    faults: list[str], files: dict[str, bytes], tmp_path: Path
) -> None:
    with hub.FakeHub(files, faults=list(faults)).serving() as served:
        found = fetch(client(served), OTHER, tmp_path)
    assert found.onnx.read_bytes() == files["org/other/onnx/model.onnx"]
    assert len(served.downloads()) == len([f for f in faults if f != "ignore-range"]) + 1
    assert served.downloads()[-1] is None or int(served.downloads()[-1][6:-1]) > 1 << 20
    assert not list(tmp_path.rglob("*.part"))


async def test_a_wrong_hash_is_refused_and_not_kept(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    with hub.FakeHub(files, lie=True).serving() as served, pytest.raises(StackError, match="hash"):
        fetch(client(served), OTHER, tmp_path)
    assert not [f for f in tmp_path.rglob("*") if f.is_file()]


async def test_other_weights_than_the_pinned_are_refused(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    pinned = Description("other", 384, 64, repository="org/other", weights=MINILM.weights)
    with hub.FakeHub(files).serving() as served, pytest.raises(StackError, match="weights"):
        prepare(pinned, tmp_path, partial(fetch, client(served)))


async def test_a_closed_repository_names_the_token(files: dict[str, bytes], tmp_path: Path) -> None:
    with (
        hub.FakeHub(files, token="hf_secret").serving() as served,
        pytest.raises(Forbidden, match="HUGGING_FACE_HUB_TOKEN"),
    ):
        fetch(client(served, "wrong"), OTHER, tmp_path)


async def test_without_a_network_the_way_out_is_told(tmp_path: Path) -> None:
    nowhere = Hub("http://127.0.0.1:9", timeout_s=0.4, pause_s=0)
    with pytest.raises(EmbedderUnavailable, match='name it as "folder"'):
        fetch(nowhere, OTHER, tmp_path)


async def test_a_repository_without_onnx_says_so(files: dict[str, bytes], tmp_path: Path) -> None:
    with (
        hub.FakeHub({}).serving() as served,
        pytest.raises(StackError, match=r"has no onnx/model_quantized\.onnx"),
    ):
        fetch(client(served), OTHER, tmp_path)


async def test_the_child_fetches_a_model_that_it_is_told(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    served_files = {k.replace("org/other", "Xenova/gte-small"): v for k, v in files.items()}
    with hub.FakeHub(served_files).serving() as served:
        variables = {"AI_STACK_HUB_URL": served.url, "AI_STACK_CONFIG_DIR": str(tmp_path)}
        async with (
            embedders.child(models=["gte-small"], cache=tmp_path, **variables) as (socket, _),
            embedders.opened(f"onnx://{socket}", "gte-small") as embedder,
        ):
            assert embedder.model.max_tokens == 512
            assert (await embedder.embed(["a text"], "passage")).shape == (1, 384)
            await embedder.ping()
    assert [f.name for f in (tmp_path / "hub").iterdir()] == ["Xenova--gte-small@main"]


def test_a_user_may_run_it_at_a_lower_priority() -> None:
    """Its threads may not go back up, and without them nothing would ever be embedded."""
    code = """if True:
        import os
        from ai_stack.embedders.child import Worker

        class Once:
            def take(self):
                os._exit(42)

        os.nice(5)
        if os.getuid() == 0:
            os.setuid(65534)
        Worker(Once(), None, None, 0).run()
    """
    assert subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode == 42
