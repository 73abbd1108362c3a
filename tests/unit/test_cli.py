"""The data verbs' parts that need no gateway, or one that is played."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import typer

from ai_stack.cli.client import Gateway, Refused, Unreachable, quoted
from ai_stack.cli.evaluation import read_variants
from ai_stack.cli.exports import _save
from ai_stack.cli.folders import Chosen, walk
from ai_stack.cli.imports import BATCH_BYTES, BATCH_FILES, batches
from ai_stack.cli.options import printable, read_filter, read_metadata
from ai_stack.cli.search import excerpt
from ai_stack.errors import AIStackError, InvalidRequest, StackError

URL = "http://127.0.0.1:8091"


def gateway(answer: Callable[[httpx.Request], httpx.Response]) -> Gateway:
    return Gateway(URL, httpx.MockTransport(answer))


def refusing(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise error

    return refuse


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (httpx.ConnectError("refused"), "start it with `ai-stack up`"),
        (httpx.ReadTimeout("slow"), "`ai-stack health`"),
        (httpx.RemoteProtocolError("cut"), "`ai-stack logs aidb-mcp`"),
    ],
)
def test_a_gateway_that_fails_is_told_in_one_line(error: Exception, said: str) -> None:
    with pytest.raises(Unreachable) as raised:
        gateway(refusing(error)).ask("GET", "/documents")
    assert said in raised.value.message
    assert URL in raised.value.message
    assert "\n" not in raised.value.message


def test_a_problem_is_shown_as_the_gateway_tells_it() -> None:
    problem = {"detail": "There is no document with this id.", "request_id": "r1"}
    with pytest.raises(Refused, match="There is no document") as raised:
        gateway(lambda _: httpx.Response(404, json=problem)).ask("GET", "/documents/x")
    assert raised.value.answered == 404
    assert "r1" not in raised.value.message
    with pytest.raises(Refused, match="request r1"):
        gateway(lambda _: httpx.Response(500, json=problem)).ask("GET", "/documents/x")


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[1]", b'"x"'])
@pytest.mark.parametrize("status", [200, 404])
def test_another_server_is_recognised(body: bytes, status: int) -> None:
    with pytest.raises(AIStackError, match="not an AIDB gateway"):
        gateway(lambda _: httpx.Response(status, content=body)).ask("GET", "/documents")


def test_lists_are_followed_to_the_limit_or_to_the_end() -> None:
    def page(request: httpx.Request) -> httpx.Response:
        start = int(request.url.params.get("cursor", "0"))
        end = min(start + int(request.url.params["limit"]), 1200)
        following = str(end) if end < 1200 else None
        return httpx.Response(200, json={"items": [*range(start, end)], "next_cursor": following})

    assert list(gateway(page).items("/documents", None)) == [*range(1200)]
    assert list(gateway(page).items("/documents", 7)) == [*range(7)]
    assert list(gateway(page).items("/documents", 501)) == [*range(501)]


def event(number: int, kind: str, **data: object) -> str:
    body = json.dumps({"number": number, "kind": kind, "data": data})
    return f"id: {number}\nevent: {kind}\ndata: {body}\n\n"


def test_events_are_taken_up_where_the_stream_broke() -> None:
    asked: list[str] = []

    def stream(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["Last-Event-ID"])
        if len(asked) == 1:
            return httpx.Response(200, text=": hi\n\n" + event(1, "started") + "data: {")
        return httpx.Response(200, text=event(2, "progress", done=1) + event(3, "done"))

    found = [kind for kind, _ in gateway(stream).events("r")]
    assert found == ["started", "progress", "done"]
    assert asked == ["0", "1"]


@pytest.mark.parametrize("id", ["a b", "a/b", "..", ".", "a?b#c", "ü/../x", "%2F"])
def test_any_id_is_one_segment_of_a_path(id: str) -> None:
    seen: list[bytes] = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200, json={})

    gateway(note).ask("GET", f"/documents/{quoted(id)}")
    assert httpx.URL(URL + "/").join(seen[0].decode()).raw_path.startswith(b"/documents/")
    assert seen[0].count(b"/") == 2


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.md", "b.png", ".hidden.md", "sub/c.txt", "sub/.git/d.txt", "big.md"):
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * (200 if name == "big.md" else 10))
    return tmp_path / "tree"


def test_a_folder_gives_its_readable_files(tree: Path) -> None:
    found = walk([tree], Chosen(max_bytes=100))
    assert list(found.files) == ["a.md", "sub/c.txt"]
    assert found.refused == {"big.md": "It is larger than 100 bytes."}
    assert found.skipped == 1
    assert set(walk([tree], Chosen(hidden=True)).files) >= {".hidden.md", "sub/.git/d.txt"}
    assert list(walk([tree], Chosen(include=("*.png",))).files) == ["b.png"]
    assert list(walk([tree], Chosen(exclude=("sub/*", "b*"))).files) == ["a.md"]
    assert list(walk([tree / "b.png"], Chosen()).files) == ["b.png"]


def test_paths_that_cannot_be_told_apart_or_are_not_there_are_refused(tree: Path) -> None:
    other = tree.parent / "other"
    other.mkdir()
    (other / "a.md").write_text("y")
    with pytest.raises(InvalidRequest, match="--prefix"):
        walk([tree, other], Chosen())
    with pytest.raises(InvalidRequest, match="no file or folder"):
        walk([tree / "nowhere"], Chosen())


def test_odd_files_are_told_and_not_sent(tree: Path) -> None:
    os.mkfifo(tree / "pipe.txt")
    (tree / "broken.md").symlink_to(tree / "nowhere")
    Path(os.fsdecode(bytes(tree) + b"/\xff.md")).write_text("x")
    found = walk([tree], Chosen(include=("*.md", "pipe*")))
    assert found.skipped == 3
    assert found.refused["broken.md"].startswith("It cannot be read")
    assert found.refused["\\udcff.md"] == "Its name is not UTF-8."


def test_batches_are_bounded_in_number_and_size(tree: Path) -> None:
    found = walk([tree], Chosen())
    sizes = [1] * (BATCH_FILES + 1) + [BATCH_BYTES * 2, BATCH_BYTES // 2, BATCH_BYTES // 2, 1]
    found.files = {str(n): (tree, size) for n, size in enumerate(sizes)}
    made = [len(batch) for batch in batches(found)]
    assert made == [50, 1, 1, 2, 1]


def test_metadata_and_filters_are_read() -> None:
    pairs = ["year=2020", "tag=x=y", 'tags=["a"]', "flag=true", "empty="]
    expected = {"year": 2020, "tag": "x=y", "tags": ["a"], "flag": True, "empty": ""}
    assert read_metadata(pairs) == expected
    assert read_filter("year=2020") == {"year": 2020}
    assert read_filter('{"year": {"gte": 1}}') == {"year": {"gte": 1}}
    for wrong in ("year", "=1"):
        with pytest.raises(typer.BadParameter):
            read_metadata([wrong])
    for wrong in ('{"a"', "year"):
        with pytest.raises(typer.BadParameter) as caught:
            read_filter(wrong)
        assert caught.value.param_hint == "--filter"


def test_an_excerpt_is_where_the_words_stand() -> None:
    text = "Something else entirely. " * 30 + "Here the needle lies in hay. " + "More. " * 90
    assert excerpt("short  and\nsweet", []) == "short and sweet"
    assert "needle lies" in excerpt(text, ["needle", "hay"])
    assert len(excerpt(text, ["needle"])) <= 322


def test_variants_are_modes_and_weights() -> None:
    names = [v.name for v in read_variants("semantic, hybrid", "0.1,0.25")]
    assert names == ["semantic", "hybrid 0.1", "hybrid 0.25"]
    assert [v.name for v in read_variants("hybrid", "")] == ["hybrid"]
    for modes, weights in (("fuzzy", ""), ("hybrid", "2"), ("hybrid", "x")):
        with pytest.raises(typer.BadParameter):
            read_variants(modes, weights)


def test_an_export_is_whole_or_not_there(tmp_path: Path) -> None:
    def broken():
        yield b'{"id": 1}\n'
        raise Unreachable("it broke off")

    file = tmp_path / "new" / "export.jsonl"
    with pytest.raises(Unreachable):
        _save(broken(), file)
    assert list(file.parent.iterdir()) == []
    assert _save([b"1\n2", b"\n"], file) == 2
    assert file.stat().st_mode & 0o77 == 0
    assert file.read_bytes() == b"1\n2\n"
    (tmp_path / "taken").write_text("")
    with pytest.raises(StackError, match="cannot be written"):
        _save([b"1\n"], tmp_path / "taken" / "x.jsonl")


def test_stored_text_cannot_command_the_terminal() -> None:
    hostile = "a\x1b]0;title\x07\x1b[2J\u202eb\x9bc\r\n\td"
    assert printable(hostile) == "a\ufffd]0;title\ufffd\ufffd[2J\ufffdb\ufffdc\ufffd\n\td"
