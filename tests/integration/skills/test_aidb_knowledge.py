"""Knowledge over the real services: answers cite passages that exist, and forgetting asks first."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ai_stack.engines.memory import MemoryEngine, Turn
from ai_stack.errors import AlreadyExists, InvalidRequest
from ai_stack.models.principals import Principal
from ai_stack.services.skills.abilities import Abilities
from ai_stack.skill import SkillFailed
from ai_stack.skill.context import Calls
from ai_stack.skill.discovery import OURS
from ai_stack.skill.manifest import read_manifest
from ai_stack.stack import Stack
from gateways import worker
from skills import run

NAME = "aidb-knowledge"
HANDBOOK = OURS / NAME / "examples/handbook.md"
DOCUMENTS = {
    "k/leave": "Leave is asked for two weeks ahead, in the calendar of the team.",
    "k/travel": "Trains are booked by the office; cars are paid for each kilometre.",
    "k/laptops": "A laptop lasts four years. Broken ones go to the third floor.",
}


class Asking:
    """The calls of a run: the stack's own abilities within what SKILL.md states."""

    def __init__(self, stack: Stack) -> None:
        self.principal, self.told = Principal(), list[tuple[int, int]]()
        abilities = Abilities(stack.search, stack.documents, stack.generation)
        self.calls = abilities.of(self, read_manifest(OURS / NAME).permissions)  # type: ignore[arg-type]
        self.models: list[str] | None = None
        self.lies: list[dict[str, Any]] = []

    async def __call__(self, ability: str, parameters: Mapping[str, Any]) -> Any:
        if ability == "models" and self.models is not None:
            return self.models
        answer = await self.calls(ability, parameters)
        return {**answer, "citations": self.lies} if ability == "generate" and self.lies else answer

    async def progress(self, done: int, total: int, message: str) -> None:
        self.told.append((done, total))


@pytest.fixture(scope="module")
async def stored(stack: Stack) -> AsyncIterator[Stack]:
    async with worker(stack):
        await stack.inference.fleet.look()
        yield stack


@pytest.fixture
async def asking(stored: Stack, tmp_path: Path) -> Asking:
    """A stack with three documents, and only those."""
    calls = Asking(stored)
    await act(tmp_path, calls, "forget", prefix="k/", confirm=True)
    for id, text in DOCUMENTS.items():
        await act(tmp_path, calls, "add", text=text, id=id, metadata={"of": id[2:]})
    return calls


def engine_of(stack: Stack) -> MemoryEngine:
    engine = stack.inference.fleet.members[0].engine
    assert isinstance(engine, MemoryEngine)
    return engine


async def act(folder: Path, calls: Calls, action: str, **more: Any) -> dict[str, Any]:
    return dict((await run(NAME, folder, calls, action=action, **more)).output)


async def test_an_answer_cites_passages_that_exist(asking: Asking, stored: Stack, tmp_path: Path):
    engine_of(stored).script = [Turn(text="Two weeks ahead [1].")]
    found = await run(
        NAME, tmp_path, asking, action="ask", mode="keyword",
        question="How is leave asked for?",
    )  # fmt: skip
    assert found.output["answer"] == "Two weeks ahead [1]."
    (citation,) = found.output["citations"]
    content = DOCUMENTS[citation["document_id"]]
    assert citation["document_id"] == "k/leave"
    assert content[citation["start"] : citation["end"]] == citation["text"]
    assert found.output["model"] == "memory"
    assert found.notes == ()


async def test_citations_of_what_is_not_there_are_left_out(
    asking: Asking, stored: Stack, tmp_path: Path
):
    true = {"number": 1, "document_id": "k/leave", "start": 0, "end": 5, "text": "Leave"}
    asking.lies = [
        true,
        {**true, "number": 2, "text": "Never"},
        {**true, "number": 3, "document_id": "k/gone"},
    ]
    engine_of(stored).script = [Turn(text="So it is [1], [2] and [3, 9].")]
    found = await run(NAME, tmp_path, asking, action="ask", question="leave?")
    assert [c["number"] for c in found.output["citations"]] == [1]
    assert "2 citations are not in their document" in found.notes[0]
    assert "[2], [3], [9]" in found.notes[1]


async def test_without_a_model_the_best_passages_come(asking: Asking, tmp_path: Path):
    asking.models = []
    found = await run(
        NAME, tmp_path, asking, action="ask", question="Where are laptops broken?", mode="keyword",
        limit=1,
    )  # fmt: skip
    assert found.output["answer"] is None
    assert [c["document_id"] for c in found.output["citations"]] == ["k/laptops"]
    assert "No language model" in found.notes[0]


async def test_a_search_is_narrowed_by_metadata(asking: Asking, tmp_path: Path):
    found = await act(tmp_path, asking, "search", query="leave", filter={"of": "travel"})
    assert {p["document_id"] for p in found["passages"]} == {"k/travel"}


async def test_what_is_added_is_found_and_what_is_forgotten_is_not(asking: Asking, tmp_path: Path):
    added = await act(tmp_path, asking, "add", files=[str(HANDBOOK)], id_prefix="k/")
    assert added["documents"][0]["id"] == "k/handbook.md"
    query = {"query": "kilometre handbook", "mode": "keyword"}
    found = await act(tmp_path, asking, "search", **query)
    assert "k/handbook.md" in {p["document_id"] for p in found["passages"]}
    listed = await act(tmp_path, asking, "forget", ids=["k/handbook.md", "k/nobody"])
    assert listed["would_forget"] == ["k/handbook.md", "k/nobody"]
    assert (await act(tmp_path, asking, "search", **query)) == found  # nothing went yet
    gone = await act(tmp_path, asking, "forget", ids=["k/handbook.md", "k/nobody"], confirm=True)
    assert gone == {"forgotten": ["k/handbook.md"], "missing": ["k/nobody"]}
    found = await act(tmp_path, asking, "search", **query)
    assert "k/handbook.md" not in {p["document_id"] for p in found["passages"]}


async def test_a_taken_id_is_refused_unless_it_is_to_be_replaced(asking: Asking, tmp_path: Path):
    new = {"text": "Leave is given at once.", "id": "k/leave"}
    with pytest.raises(AlreadyExists):
        await act(tmp_path, asking, "add", **new)
    await act(tmp_path, asking, "add", **new, replace=True)
    found = await act(tmp_path, asking, "search", query="leave given", mode="keyword")
    assert found["passages"][0]["text"] == "Leave is given at once."


async def test_a_prefix_and_a_filter_choose_what_is_forgotten(asking: Asking, tmp_path: Path):
    listed = await act(tmp_path, asking, "forget", filter={"of": "leave"})
    assert listed["would_forget"] == ["k/leave"]
    gone = await act(tmp_path, asking, "forget", prefix="k/", confirm=True)
    assert set(gone["forgotten"]) == {*DOCUMENTS}
    assert asking.told[-1][1] == len(DOCUMENTS)
    with pytest.raises(SkillFailed, match="one of"):
        await act(tmp_path, asking, "forget", confirm=True)
    with pytest.raises(SkillFailed, match="one of"):
        await act(tmp_path, asking, "forget", ids=["a"], prefix="b", confirm=True)


async def test_files_are_asked_with_a_model_too(asking: Asking, stored: Stack, tmp_path: Path):
    engine_of(stored).script = [Turn(text="By the office [1], they say [7].")]
    found = await run(
        NAME, tmp_path, asking, action="ask", question="Who books trains?", files=[str(HANDBOOK)]
    )
    (citation,) = found.output["citations"]
    text = HANDBOOK.read_text()
    assert text[citation["start"] : citation["end"]] == citation["text"]
    assert "Trains" in citation["text"]
    assert "[7]" in found.notes[0]


async def test_passages_of_long_texts_are_bounded_and_in_their_place(tmp_path: Path):
    path = tmp_path / "long.txt"
    path.write_text("word " * 5000 + "\n\n" + "x" * 5000 + " Needle here. " + "y. " * 900)
    found = await act(tmp_path, offline_calls, "search", query="needle", files=[str(path)])
    (passage,) = found["passages"]
    assert len(passage["text"]) <= 800
    assert path.read_text()[passage["start"] : passage["end"]] == passage["text"]


async def offline_calls(ability: str, parameters: Mapping[str, Any]) -> Any:
    raise AssertionError(f"{ability} was asked for")


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "nothing"), (b" \n", "nothing"), (b"\xff\xfe\x00", "no text"), (b"%PDF\0", "no text")],
)
async def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, told: str):
    path = tmp_path / "x.bin"
    path.write_bytes(content)
    with pytest.raises(SkillFailed, match=told):
        await act(tmp_path, offline_calls, "add", files=[str(path)], preview=True)


async def test_too_much_is_refused(tmp_path: Path):
    path = tmp_path / "big.txt"
    path.write_bytes(b"x" * (9 << 20))
    with pytest.raises(SkillFailed, match="8 MiB"):
        await act(tmp_path, offline_calls, "add", files=[str(path)], preview=True)
    with pytest.raises(SkillFailed, match="either"):
        await act(tmp_path, offline_calls, "add")
    with pytest.raises(InvalidRequest, match="question"):
        await act(tmp_path, offline_calls, "ask", question="")
