"""The verbs `chat` and `usage`, on a gateway that is played."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import typer

from ai_stack.cli import chat, usage
from ai_stack.cli.client import Gateway, Refused, Unreachable

URL = "http://127.0.0.1:8091"
ENDING = {
    "model": "m",
    "usage": {},
    "cached": False,
    "finish_reason": "stop",
    "citations": [{"number": 2, "document_id": "tea", "start": 3, "end": 9, "text": "steep  it"}],
    "passages": {"found": 4, "shown": 3},
}


class Played:
    """A gateway that answers each request with the next of its streams, and notes what came."""

    def __init__(self, *streams: str) -> None:
        self.streams = list(streams)
        self.paths: list[str] = []
        self.bodies: list[Any] = []
        self.gateway = Gateway(URL, httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        self.bodies.append(json.loads(request.content))
        if request.url.path == "/sessions":
            return httpx.Response(201, json={"id": "s1"})
        return httpx.Response(200, text=self.streams.pop(0))


def stream(*events: object, done: bool = True) -> str:
    lines = [": keep-alive", *(f"data: {json.dumps(event)}" for event in events)]
    return "\n\n".join([*lines, *(["data: [DONE]"] if done else [])]) + "\n\n"


def talk(played: Played, **more: Any) -> chat.Talk:
    return chat.Talk(played.gateway, {"model": "m"}, **more)


def test_what_was_said_is_sent_again() -> None:
    played = Played(stream({"delta": "A"}, {"delta": "B"}, ENDING), stream(ENDING))
    asked = talk(played, system="S", documents={"limit": 2})
    assert asked.ask("one") == {"text": "AB", **ENDING}
    asked.ask("two")
    assert [m["content"] for m in played.bodies[1]["messages"]] == ["S", "one", "AB", "two"]
    assert played.bodies[1]["documents"] == {"limit": 2}
    assert played.paths == ["/inference/generate"] * 2


def test_a_session_is_sent_only_what_is_new() -> None:
    played = Played(stream({"delta": "A"}, ENDING), stream(ENDING))
    asked = talk(played, session="s/1")
    asked.ask("one")
    asked.ask("two")
    assert [body["content"] for body in played.bodies] == ["one", "two"]
    assert "messages" not in played.bodies[1]
    assert played.paths == ["/sessions/s/1/messages"] * 2


def test_an_answer_that_breaks_off_is_told_and_forgotten() -> None:
    problem = {"status": 502, "detail": "The engine broke off.", "code": "engine_broken"}
    played = Played(
        stream({"delta": "A"}, done=False),
        stream({"delta": "A"}, {"error": problem}, done=False),
    )
    asked = talk(played)
    with pytest.raises(Unreachable, match="broke off before its end"):
        asked.ask("one")
    with pytest.raises(Refused, match="The engine broke off"):
        asked.ask("one")
    assert asked.messages == []


def test_sources_stand_below_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    played = Played(stream({"delta": "Two \x1b[2Jminutes [2]."}, ENDING))
    chat._answer(talk(played), "how long?")
    said = capsys.readouterr()
    assert said.out == "Two \ufffd[2Jminutes [2].\n"
    assert said.err == "[2] tea, characters 3 to 9\n    steep it\n"


def test_what_is_missing_is_told() -> None:
    ending = {
        "citations": [],
        "passages": {"found": 4, "shown": 3},
        "degraded": "By words alone.",
        "session": {"session_id": "s", "left_out": 2, "kept": False},
        "finish_reason": "length",
    }
    lines = " ".join(chat.notes(ending))
    for part in ("3 of 4 passages", "By words alone", "2 oldest turns", "not be kept", "cut off"):
        assert part in lines
    assert list(chat.notes({"finish_reason": "stop"})) == []
    none = {"citations": [], "passages": {"found": 0, "shown": 0}}
    assert list(chat.notes(none)) == ["Nothing was found in the documents."]


def test_a_question_says_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(" why \n"))
    assert chat._question(["-"]) == "why"
    assert chat._question(["why", "so"]) == "why so"
    for words in ([" "], ["-"]):
        with pytest.raises(typer.BadParameter, match="no question"):
            chat._question(words)


def test_a_conversation_has_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(stream({"delta": "A"}, ENDING), stream(ENDING), stream(ENDING))
    typed = "/documents on|one|/model other|two|/reset|/documents off|/what||three|/quit|never"
    lines = iter(typed.split("|"))
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    chat._converse(talk(played), {"filter": None, "limit": 3})
    first, second, third = played.bodies
    assert (first["documents"], second["documents"]) == ({"limit": 3}, {"limit": 3})
    assert "documents" not in third
    assert (first["model"], second["model"]) == ("m", "other")
    assert (len(second["messages"]), len(third["messages"])) == (3, 1)


def test_an_interrupt_stops_the_answer_and_not_the_conversation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed: list[bool] = []

    def interrupted(path: str, body: object) -> Iterator[dict[str, str]]:
        try:
            yield {"delta": "A"}
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    played = Played(stream(ENDING))
    asked = talk(played)
    whole = played.gateway.chunks
    monkeypatch.setattr(played.gateway, "chunks", interrupted)
    chat._turn(asked, "one", {})
    assert closed == [True]
    assert asked.messages == []
    assert "Stopped" in capsys.readouterr().err
    monkeypatch.setattr(played.gateway, "chunks", whole)
    chat._turn(asked, "two", {})
    assert len(asked.messages) == 2
    with pytest.raises(typer.Exit) as left:
        monkeypatch.setattr(played.gateway, "chunks", interrupted)
        chat._once(asked, "three")
    assert left.value.exit_code == 130


def test_a_new_session_is_begun_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    played = Played()
    assert chat._session(played.gateway, "new", "S") == "s1"
    assert played.bodies == [{"system": "S"}]
    assert "session s1" in capsys.readouterr().err
    assert chat._session(played.gateway, "s2", None) == "s2"
    with pytest.raises(typer.BadParameter):
        chat._session(played.gateway, "s2", "S")


def test_documents_are_asked_for_by_their_flag_or_a_filter() -> None:
    assert chat.read_documents(False, None, 5) is None
    assert chat.read_documents(True, None, 5) == {"limit": 5}
    assert chat.read_documents(False, "a=1", 3) == {"limit": 3, "filter": {"a": 1}}


def test_a_line_of_usage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = dict.fromkeys(("requests", "cached", "prompt_tokens", "completion_tokens"), 10**6)
    sums = {**numbers, "mean_ms": 1.0, "max_ms": 2.0, "cost": 0.5, "repaired_calls": 7}
    item = {**sums, "start": "2026-03-01T00:00:00+00:00", "model": "a-model-" * 8}
    usage._show([item], sums, usage.LENGTHS[usage.Group.day])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("2026-03-01  a-model-")
    assert lines[1].split()[1:] == [item["model"], *["1000000"] * 4, "1", "2", "0.5", "7"]


def test_times_are_read() -> None:
    now = datetime(2026, 3, 8, tzinfo=UTC)
    assert usage.read_time("7d", now) == "2026-03-01T00:00:00+00:00"
    assert usage.read_time("90m", now) == "2026-03-07T22:30:00+00:00"
    assert usage.read_time(None) is None
    assert usage.read_time("2026-03-01T00:00:00+00:00").startswith("2026-0")
    for wrong in ("soon", "7y", "d", ""):
        with pytest.raises(typer.BadParameter):
            usage.read_time(wrong)
