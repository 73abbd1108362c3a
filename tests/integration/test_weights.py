"""Models pulled from a hub of this machine that misbehaves, by the command too."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import gguf
import hub
from ai_stack.channel import ChannelServer
from ai_stack.errors import (
    Conflict,
    Forbidden,
    ModelNotFound,
    NotFound,
    StackError,
    StorageFull,
    Unavailable,
    Unsupported,
)
from ai_stack.hub import Hub
from ai_stack.supervisor.account import find_account
from ai_stack.weights import fit
from ai_stack.weights import pull as pulling
from ai_stack.weights.lock import held
from ai_stack.weights.names import resolve
from ai_stack.weights.pull import Step, adopt, pull
from ai_stack.weights.shelf import Model, Shelf

QWEN = "Qwen/Qwen2.5-Coder-7B-Instruct"
REPOSITORY = f"{QWEN}-GGUF"
NAME = "qwen2.5-coder-7b-instruct"
PADDING = 3 << 20
BROKEN_OFF = 130


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model of a few MiB, so that it comes in several blocks."""
    made = gguf.write_chat(tmp_path_factory.mktemp("gguf") / "m.gguf")
    return made.read_bytes() + bytes(PADDING)


@pytest.fixture
def files(content: bytes) -> dict[str, bytes]:
    return {
        f"{REPOSITORY}/README.md": b"# A model",
        f"{REPOSITORY}/{NAME}-q4_k_m.gguf": content,
        f"{REPOSITORY}/{NAME}-q8_0.gguf": content + b"8",
    }


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "data" / "llama-cpp-models")


def client(served: hub.FakeHub, token: str | None = None) -> Hub:
    return Hub(served.url, token, timeout_s=0.4, pause_s=0.01)


def brought(files: dict[str, bytes], shelf: Shelf, name: str = QWEN, **faults: Any) -> Model:
    with hub.FakeHub(files, **faults).serving() as served:
        return pull(resolve(name), shelf, client(served))


def left_over(shelf: Shelf) -> list[str]:
    found = [f for f in shelf.folder.rglob("*") if f.is_file() and f.parent.name != ".locks"]
    return sorted(f.name for f in found)


def test_a_model_comes_once_under_all_its_names(files: dict[str, bytes], shelf: Shelf) -> None:
    steps: list[Step] = []
    with hub.FakeHub(files, token="hf_secret", page=1).serving() as served:
        model = pull(resolve(QWEN), shelf, client(served, "hf_secret"), steps.append)
        assert len(served.downloads()) == 1
        assert pull(resolve("qwen"), shelf, client(served, "hf_secret")) == model
        assert len(served.downloads()) == 1
        assert {a for verb, *_, a in served.requests if verb == "CDN"} == {None}
    assert (model.id, model.quantization, model.repository) == (NAME, "Q4_K_M", REPOSITORY)
    assert model.file.read_bytes() == files[f"{REPOSITORY}/{NAME}-q4_k_m.gguf"]
    assert (model.context_length, model.layers, model.size_bytes) == (
        4096,
        2,
        len(files[f"{REPOSITORY}/{NAME}-q4_k_m.gguf"]),
    )
    for name in (NAME, NAME.upper(), QWEN, REPOSITORY, "qwen2.5-coder-7b", f"{QWEN}:Q4_K_M"):
        assert shelf.find(name) == model
    assert shelf.find(str(model.file)) == model
    assert left_over(shelf) == ["manifest.json", f"{NAME}-q4_k_m.gguf"]
    done = [step.done_bytes for step in steps if step.stage == "downloading"]
    assert done == sorted(done)
    assert done[-1] == model.size_bytes
    assert "Q4_K_M" in steps[0].text


def test_quantizations_lie_side_by_side(files: dict[str, bytes], shelf: Shelf) -> None:
    first = brought(files, shelf)
    second = brought(files, shelf, f"{QWEN}:q8_0")
    assert [model.id for model in shelf.all()] == [NAME, f"{NAME}-q8_0"]
    assert shelf.find(NAME) == first
    assert shelf.find(f"{QWEN}:Q8_0") == second
    shelf.remove(NAME)
    assert [model.id for model in shelf.all()] == [NAME]
    found = shelf.find(f"{NAME}-q8_0")
    assert found is not None
    assert found.file == second.file
    with pytest.raises(NotFound, match="has no Q6_K; it has Q4_K_M, Q8_0"):
        brought(files, shelf, f"{QWEN}:Q6_K")


@pytest.mark.parametrize(
    "faults", [["cut"], ["stall"], ["busy"], ["cut", "ignore-range"], ["cut"] * 8, ["busy"] * 4]
)
def test_a_pull_goes_on_after(faults: list[str], files: dict[str, bytes], shelf: Shelf) -> None:
    with hub.FakeHub(files, faults=list(faults)).serving() as served:
        model = pull(resolve(QWEN), shelf, client(served))
        ranges = [int(r[6:-1]) for r in served.downloads() if r]
    assert model.file.read_bytes() == files[f"{REPOSITORY}/{NAME}-q4_k_m.gguf"]
    assert ranges == sorted(ranges)
    assert left_over(shelf) == ["manifest.json", f"{NAME}-q4_k_m.gguf"]


def test_a_hub_that_stays_away_is_told_with_the_way_out(
    files: dict[str, bytes], shelf: Shelf
) -> None:
    with pytest.raises(Unavailable, match=r"\./file\.gguf"):
        pull(resolve(QWEN), shelf, Hub("http://127.0.0.1:9", timeout_s=0.4, pause_s=0))
    with pytest.raises(Unavailable, match=r"MiB are here and stay.*\./file\.gguf"):
        brought(files, shelf, faults=["cut", *["busy"] * 9])
    assert shelf.all() == []
    unfinished = shelf.unfinished()
    assert [(each.quantization, each.repository) for each in unfinished] == [("Q4_K_M", REPOSITORY)]
    assert 0 < unfinished[0].done_bytes < unfinished[0].size_bytes
    assert shelf.discard(NAME) == unfinished
    assert left_over(shelf) == []


def test_a_wrong_hash_is_refused_and_not_kept(files: dict[str, bytes], shelf: Shelf) -> None:
    with pytest.raises(StackError, match="hash"):
        brought(files, shelf, lie=True)
    assert (shelf.all(), left_over(shelf)) == ([], [])


def test_what_is_no_gguf_is_refused_and_not_kept(shelf: Shelf) -> None:
    with pytest.raises(Unsupported, match="does not begin with GGUF"):
        brought({f"{REPOSITORY}/{NAME}-q4_k_m.gguf": b"<html>" * 100}, shelf)
    assert left_over(shelf) == []


def test_what_the_hub_does_not_have_or_show(files: dict[str, bytes], shelf: Shelf) -> None:
    with pytest.raises(Forbidden, match="HUGGING_FACE_HUB_TOKEN"):
        brought(files, shelf, token="hf_secret")
    with pytest.raises(NotFound, match="has no repository nobody/nothing"):
        brought(files, shelf, "nobody/nothing")
    with pytest.raises(NotFound, match="hold no GGUF"):
        brought({"org/plain/model.safetensors": b"x"}, shelf, "org/plain")
    assert left_over(shelf) == []


def test_a_plain_repository_leads_to_its_gguf_one(content: bytes, shelf: Shelf) -> None:
    served = {"org/New-7B/x.safetensors": b"x", "org/New-7B-GGUF/New-7B-Q5_K_M.gguf": content}
    steps: list[Step] = []
    with hub.FakeHub(served).serving() as found:
        model = pull(resolve("org/New-7B"), shelf, client(found), steps.append)
    assert (model.id, model.quantization) == ("new-7b", "Q5_K_M")
    assert shelf.find("org/New-7B") == model


def test_all_parts_of_a_split_model_come(content: bytes, shelf: Shelf) -> None:
    place = f"{REPOSITORY}/{NAME}-q4_k_m"
    parts = {f"{place}-{n:05}-of-00003.gguf": content + bytes([n]) for n in (1, 2, 3)}
    parts[f"{REPOSITORY}/mmproj-F16.gguf"] = b"sees"
    with hub.FakeHub(parts, faults=["cut"]).serving() as served:
        model = pull(resolve(QWEN), shelf, client(served))
        assert len(served.downloads()) == 5
    assert model.file.name == f"{NAME}-q4_k_m-00001-of-00003.gguf"
    assert model.size_bytes == sum(map(len, parts.values()))
    assert model.projector == model.file.with_name("mmproj-F16.gguf")
    model.file.with_name(f"{NAME}-q4_k_m-00002-of-00003.gguf").unlink()
    assert shelf.all() == []
    with hub.FakeHub(parts).serving() as served:
        assert pull(resolve(QWEN), shelf, client(served)).size_bytes == model.size_bytes
        assert len(served.downloads()) == 1


def test_newer_weights_take_the_place_of_older(files: dict[str, bytes], shelf: Shelf) -> None:
    before = brought(files, shelf)
    place = f"{REPOSITORY}/{NAME}"
    newer = {**files, f"{place}-q4_k_m.gguf": files[f"{place}-q8_0.gguf"]}
    after = brought(newer, shelf)
    assert (after.id, after.revision != before.revision) == (NAME, True)
    assert shelf.all() == [after]
    assert not before.file.exists()


def test_a_full_disk_is_seen_before(
    files: dict[str, bytes], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "RESERVE_BYTES", 1 << 60)
    with hub.FakeHub(files).serving() as served:
        with pytest.raises(StorageFull, match="Nothing was downloaded"):
            pull(resolve(QWEN), shelf, client(served))
        assert served.downloads() == []


def test_two_pulls_at_once_download_once(files: dict[str, bytes], shelf: Shelf) -> None:
    found: list[Model] = []
    waited: list[str] = []

    def bring() -> None:
        def note(step: Step) -> None:
            waited.extend([step.stage] if step.stage == "waiting" else [])

        found.append(pull(resolve(QWEN), shelf, client(served), note))

    with hub.FakeHub(files, block_s=0.005).serving() as served:
        threads = [threading.Thread(target=bring) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(served.downloads()) == 1
    assert found == [found[0]] * 3
    assert waited == ["waiting"] * 2


def test_a_pull_that_may_not_wait_is_refused(files: dict[str, bytes], shelf: Shelf) -> None:
    model = brought(files, shelf)
    with held(model.file.parent, wait=False):
        with pytest.raises(Conflict, match="being pulled"):
            shelf.remove(NAME)
        with hub.FakeHub(files).serving() as served, pytest.raises(Conflict):
            pull(resolve(QWEN), shelf, client(served), wait=False)


def test_a_file_of_ones_own(content: bytes, shelf: Shelf, tmp_path: Path) -> None:
    parts = [tmp_path / f"Own-Model-Q8_0-{n:05}-of-00002.gguf" for n in (1, 2)]
    for part in parts:
        part.write_bytes(content)
    model = adopt(parts[0], shelf)
    assert (model.id, model.quantization, model.repository) == ("own-model", "Q8_0", None)
    assert adopt(parts[0], shelf) == model
    assert all(part.exists() for part in parts)
    parts[1].unlink()
    with pytest.raises(Unsupported, match="not beside it"):
        adopt(parts[0], shelf)
    assert shelf.remove("own-model").id == "own-model"
    assert left_over(shelf) == []


def test_what_is_pulled_belongs_to_the_account(files: dict[str, bytes], shelf: Shelf) -> None:
    given: set[Path] = set()
    with hub.FakeHub(files, faults=["cut"]).serving() as served:
        model = pull(resolve(QWEN), shelf, client(served), give=given.add)
    assert shelf.folder.parent not in given
    assert model.file in given
    assert any(path.suffix == ".part" for path in given)
    unowned = {p for p in (shelf.folder, *shelf.folder.rglob("*")) if p not in given}
    assert {path.name for path in unowned} <= {"manifest.json"}  # renamed after it was given


def test_a_real_server_takes_what_was_estimated(tmp_path: Path) -> None:
    file = gguf.write_chat(tmp_path / "m.gguf", shape=gguf.Shape(layers=16))
    model = Shelf(tmp_path).get("m")
    found = fit.estimate(model, 4096, 4)
    with serving(file, "-c", "16384", "-np", "4") as pid:
        status = Path(f"/proc/{pid}/status").read_text()
    took = int(status.partition("VmHWM:")[2].split()[0]) << 10
    assert found.cache_bytes < took < found.total_bytes < 3 * took


@contextmanager
def serving(file: Path, *options: str) -> Iterator[int]:
    """llama.cpp with a model; yields its pid once it is ready."""
    words = ["-m", str(file), "--port", "0", "-t", "1", "--cache-ram", "0", *options]
    whole = [sys.executable, "-m", "ai_stack.supervisor.llama_server", *words]
    process = subprocess.Popen(whole, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        assert any(line.startswith("serving") for line in process.stderr)
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def command(
    *words: str, data: Path, url: str = "http://127.0.0.1:9", **more: str
) -> "subprocess.Popen[str]":
    environment = {
        "PATH": os.environ["PATH"],
        "AI_STACK_DATA_DIR": str(data),
        "AI_STACK_CONFIG_DIR": str(data),
        "AI_STACK_HUB_URL": url,
        **more,
    }
    pipe = subprocess.PIPE
    whole = [sys.executable, "-m", "ai_stack", "models", *words]
    return subprocess.Popen(whole, env=environment, stdout=pipe, stderr=pipe, text=True)


def ran(*words: str, data: Path, **more: str) -> tuple[int, str, str]:
    process = command(*words, data=data, **more)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def until_half(folder: Path, size: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if sum(part.stat().st_size for part in folder.rglob("*.part")) > size // 3:
            return
        time.sleep(0.01)
    raise AssertionError("nothing came")


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_pull_that_is_killed_goes_on_where_it_was(
    sent: signal.Signals, files: dict[str, bytes], tmp_path: Path
) -> None:
    size = len(files[f"{REPOSITORY}/{NAME}-q4_k_m.gguf"])
    shelf = Shelf(tmp_path / "llama-cpp-models")
    with hub.FakeHub(files, block_s=0.03).serving() as served:
        process = command("pull", "qwen", data=tmp_path, url=served.url)
        until_half(shelf.folder, size)
        process.send_signal(sent)
        _, err = process.communicate(timeout=30)
        assert process.returncode == (-9 if sent == signal.SIGKILL else BROKEN_OFF), err
        assert ("pull again" in err) == (sent == signal.SIGINT)
        assert shelf.all() == []
        served.block_s = 0.0
        status, out, err = ran("pull", "qwen", "--json", data=tmp_path, url=served.url)
        assert (status, err) == (0, "")
        assert int((served.downloads()[-1] or "bytes=0-")[6:-1]) > size // 4
    assert json.loads(out)["id"] == NAME
    assert shelf.get(NAME).file.read_bytes() == files[f"{REPOSITORY}/{NAME}-q4_k_m.gguf"]


def test_the_verbs_without_a_stack(files: dict[str, bytes], tmp_path: Path) -> None:
    assert "models pull" in ran("list", data=tmp_path)[1]
    status, _, err = ran("pull", "qwen", data=tmp_path)
    assert status == 1
    assert "./file.gguf" in err
    with hub.FakeHub(files).serving() as served:
        status, out, err = ran("pull", QWEN, data=tmp_path, url=served.url)
    assert status == 0, err
    assert "100 %" in err
    assert f"{NAME} is here" in out
    assert "fits" in out
    assert NAME in ran("list", data=tmp_path)[1]
    folder = tmp_path / "llama-cpp-models"
    assert {p.stat().st_uid for p in (folder, *folder.rglob("*"))} == {
        find_account("nobody", ()).uid
    }
    shown = json.loads(ran("show", "qwen", "--json", data=tmp_path, LLAMA_CPP_CTX_SIZE="999")[1])
    assert (shown["fit"]["context"], shown["fit"]["fits"]) == (999, True)
    assert "4096 tokens" in ran("show", "qwen", data=tmp_path)[1]
    status, _, err = ran("serve", "qwen", data=tmp_path)
    assert (status, "ai-stack up" in err) == (1, True)
    assert ran("remove", QWEN, data=tmp_path)[0] == 0
    status, _, err = ran("remove", QWEN, data=tmp_path)
    assert (status, "is not here" in err) == (1, True)
    assert json.loads(ran("list", "--json", data=tmp_path)[1]) == {"models": [], "unfinished": []}


async def test_the_verbs_with_a_host_of_models(content: bytes, tmp_path: Path) -> None:
    """The host is played: it notes what it is asked."""
    asked: list[tuple[str, str]] = []
    (tmp_path / "own.gguf").write_bytes(content)
    runtime = tmp_path / "run"
    runtime.mkdir()

    async def answer(header: Mapping[str, Any], body: bytes) -> tuple[Mapping[str, Any], bytes]:
        asked.append((header["method"], header.get("model", "")))
        if header["method"] == "serve" and header["model"] != "own":
            raise ModelNotFound
        state = {"id": "own", "state": "ready"}
        return {"models": [state], "url": "http://127.0.0.1:8080"}, b""

    async def verb(*words: str) -> tuple[int, str, str]:
        more = {"AI_STACK_RUNTIME_DIR": str(runtime)}
        return await asyncio.to_thread(lambda: ran(*words, data=tmp_path, **more))

    handlers = dict.fromkeys(("list", "serve", "stop"), answer)
    host = asyncio.create_task(ChannelServer(handlers).serve(runtime / "models.sock"))
    try:
        assert (await verb("pull", str(tmp_path / "own.gguf")))[0] == 0
        assert "loaded" in (await verb("list"))[1]
        assert "8080" in (await verb("serve", "OWN"))[1]
        assert (await verb("remove", "own"))[0] == 0
    finally:
        host.cancel()
    assert asked == [("list", ""), ("serve", "own"), ("stop", "own")]
    assert (tmp_path / "own.gguf").exists()
