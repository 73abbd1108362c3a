"""Search measured over the real services: by hand-made rankings, by weights, by ways of cutting."""

import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ai_stack.models.principals import Principal
from ai_stack.services.evaluation import Question, compare, evaluate
from ai_stack.services.skills.abilities import Abilities
from ai_stack.settings import Settings
from ai_stack.skill import InvalidRequest, SkillFailed, SkillResult
from ai_stack.skill.discovery import OURS
from ai_stack.skill.manifest import read_manifest
from ai_stack.stack import Stack, open_stack
from gateways import worker
from rerankers import RerankServer
from skills import run

NAME = "rag-techniques"
EXAMPLES = OURS / NAME / "examples"
TOPICS = ("brakes", "leave", "copies", "tea", "vacuum", "laptops", "trains", "windows")
FILLER = "Nothing of interest stands in this sentence about the weather of the day. " * 8


class Asking:
    """The calls of a run: the stack's own abilities within what SKILL.md states."""

    def __init__(self, stack: Stack) -> None:
        self.principal, self.breaks_at = Principal(), math.inf
        abilities = Abilities(stack.search, stack.documents, stack.generation)
        self.calls = abilities.of(self, read_manifest(OURS / NAME).permissions)  # type: ignore[arg-type]
        self.searches: list[Mapping[str, Any]] = []

    async def __call__(self, ability: str, parameters: Mapping[str, Any]) -> Any:
        if ability == "search":
            self.searches.append(parameters)
            if len(self.searches) > self.breaks_at:
                raise SkillFailed("planted")
        return await self.calls(ability, parameters)

    async def progress(self, done: int, total: int, message: str) -> None:
        assert 0 <= done <= total


@pytest.fixture(scope="module")
async def stack(memory_settings: Settings) -> AsyncIterator[Stack]:
    """The services with a reranker."""
    async with RerankServer().serving() as url:
        settings = memory_settings.model_copy(update={"rerank_url": url})
        async with open_stack(settings) as opened:
            yield opened


@pytest.fixture(scope="module")
async def asking(stack: Stack) -> AsyncIterator[Asking]:
    """A stack with a long document for each topic."""
    async with worker(stack):
        made = Asking(stack)
        await made.calls("add_documents", {"documents": [
            {"id": f"r/{topic}", "content": f"{FILLER} The rule of {topic}: ask the {topic} desk."}
            for topic in TOPICS
        ]})  # fmt: skip
        yield made


def golden(path: Path, rows: Sequence[Mapping[str, Any]] | None = None) -> str:
    given = rows or [
        {"id": topic, "question": f"rule {topic} desk", "relevant": [topic]} for topic in TOPICS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return str(path)


async def act(folder: Path, calls: Any, action: str, **more: Any) -> SkillResult:
    return await run(NAME, folder, calls, action=action, **more)


async def nothing(ability: str, parameters: Mapping[str, Any]) -> Any:
    assert ability == "progress"


async def test_the_measures_are_the_stacks_own(tmp_path: Path):
    """On rankings with hits in every place, ties of several documents, and none."""
    rows = [
        {"id": f"q{n}", "question": "?", "relevant": [f"d{n}", f"e{n}"][: 1 + n % 2]}
        for n in range(24)
    ]
    runs = {
        way: {f"q{n}": [f"x{k}" for k in range(n % 11)][:9] + [f"d{n}"] * (n % step > 0)
              + [f"e{n}"] for n in range(24)}
        for way, step in (("a", 3), ("b", 7))
    }  # fmt: skip
    rankings = tmp_path / "r.jsonl"
    rankings.write_text("".join(
        json.dumps({"variant": way, "id": id, "documents": documents[:10]}) + "\n"
        for way, ranked in runs.items() for id, documents in ranked.items()
    ))  # fmt: skip
    found = await act(
        tmp_path, nothing, "compare", golden=golden(tmp_path / "g", rows), rankings=[str(rankings)]
    )
    questions = [Question(**row) for row in rows]
    theirs = [
        evaluate(questions, {i: d[:10] for i, d in ranked.items()}) for ranked in runs.values()
    ]
    for row, their in zip(found.output["table"], theirs, strict=True):
        for name in ("ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10"):
            assert row[name] == pytest.approx(their.means()[name], abs=1e-4), name
    expected = compare(theirs[1], theirs[0])
    assert found.output["table"][1]["difference"] == pytest.approx(expected.difference, abs=1e-4)
    assert found.output["table"][1]["p_value"] == pytest.approx(expected.p_value, abs=0.02)
    assert "24 questions" in found.notes[0]


async def test_a_search_is_measured_and_its_misses_are_named(asking: Asking, tmp_path: Path):
    rows = [
        {"id": "1", "question": "rule tea desk", "relevant": ["tea"], "kind": "keyword"},
        {"id": "2", "question": "rule brakes desk", "relevant": ["brakes"]},
        {"id": "3", "question": "rule tea", "relevant": ["nowhere"]},
    ]
    found = (await act(
        tmp_path, asking, "evaluate", golden=golden(tmp_path / "g", rows), mode="keyword",
        prefix="r/",
    )).output  # fmt: skip
    assert found["ndcg@10"] == pytest.approx(2 / 3, abs=1e-3)
    assert found["by_kind"]["keyword"] == {"questions": 1, "ndcg@10": 1.0}
    assert [miss["id"] for miss in found["misses"]] == ["3"]
    assert 0 < found["p50_ms"] <= found["p95_ms"]
    assert len((tmp_path / "out/rankings.jsonl").read_text().splitlines()) == 3


async def test_weights_and_reranking_are_compared(asking: Asking, tmp_path: Path):
    asking.searches.clear()
    found = await act(
        tmp_path, asking, "compare", golden=golden(tmp_path / "g"), prefix="r/",
        weights=[0.25, 0.75], rerank=True,
    )  # fmt: skip
    rows = {row["variant"]: row for row in found.output["table"]}
    assert [*rows] == ["hybrid", "semantic", "keyword", "hybrid 0.25", "hybrid 0.75",
                       "hybrid, reranked"]  # fmt: skip
    assert rows["keyword"]["ndcg@10"] == 1.0
    assert {s.get("hybrid_weight") for s in asking.searches} == {None, 0.25, 0.75}
    assert all(row["p95_ms"] > 0 for row in rows.values())
    table = (tmp_path / "out/comparison.md").read_text()
    assert table.count("\n| ") == len(rows)
    again = await act(
        tmp_path, nothing, "compare", golden=golden(tmp_path / "g"), prefix="r/",
        rankings=[str(tmp_path / "out/rankings.jsonl")],
    )  # fmt: skip
    assert [r["ndcg@10"] for r in again.output["table"]] == [r["ndcg@10"] for r in rows.values()]


async def test_without_a_reranker_none_is_tried_and_a_note_says_so(tmp_path: Path):
    async def calls(ability: str, parameters: Mapping[str, Any]) -> Any:
        if parameters.get("rerank"):
            raise InvalidRequest("rerank needs AI_STACK_RERANK_URL to be set.")
        return []

    found = await act(tmp_path, calls, "recommend", golden=golden(tmp_path / "g"), weights=[])
    assert found.output["recommended"] == "hybrid"
    assert "AI_STACK_RERANK_URL" in found.notes[1]
    with pytest.raises(InvalidRequest):
        await act(tmp_path, calls, "evaluate", golden=golden(tmp_path / "g"), rerank=True)


async def test_ways_of_cutting_are_compared_and_leave_nothing(asking: Asking, tmp_path: Path):
    before = await stored(asking)
    found = (await act(
        tmp_path, asking, "compare", golden=golden(tmp_path / "g"), prefix="r/", weights=[],
        chunk_words=[0, 40], sample=10,
    )).output  # fmt: skip
    assert [row["variant"] for row in found["chunking"]] == ["as a whole", "cut 40 words"]
    assert found["sample"] == len(TOPICS)
    assert all(row["recall@10"] > 0 for row in found["chunking"])
    assert await stored(asking) == before


async def test_a_trial_that_fails_leaves_nothing(asking: Asking, tmp_path: Path):
    before = await stored(asking)
    asking.searches.clear()
    asking.breaks_at = len(TOPICS) * 3 + 2  # the second search of the sample
    with pytest.raises(SkillFailed, match="planted"):
        await act(
            tmp_path, asking, "compare", golden=golden(tmp_path / "g"), prefix="r/", weights=[],
            chunk_words=[40], sample=10,
        )  # fmt: skip
    asking.breaks_at = math.inf
    assert await stored(asking) == before


async def stored(asking: Asking) -> list[str]:
    page = await asking.calls("documents", {"limit": 1000})
    return [item["id"] for item in page["items"]]


def ranked(path: Path, places: Mapping[str, Sequence[int]], took: Mapping[str, float]) -> str:
    """Rankings whose right document stands at these places."""
    path.write_text("".join(
        json.dumps({
            "variant": way, "id": f"q{n}", "took_ms": took[way],
            "documents": [f"x{k}" for k in range(place)] + [f"d{n}"],
        }) + "\n"
        for way, all_places in places.items() for n, place in enumerate(all_places)
    ))  # fmt: skip
    return str(path)


async def recommended(tmp_path: Path, places: Mapping[str, Sequence[int]], **more: Any) -> Any:
    rows = [{"id": f"q{n}", "question": "?", "relevant": [f"d{n}"]} for n in range(40)]
    took = {"hybrid": 10.0, "hybrid 0.7": 15.0, "hybrid, reranked": 900.0}
    rankings = ranked(tmp_path / "r", places, took)
    found = await act(
        tmp_path, nothing, "recommend", golden=golden(tmp_path / "g", rows), rankings=[rankings],
        **more,
    )  # fmt: skip
    return found.output


async def test_a_better_way_is_recommended_with_its_setting(tmp_path: Path):
    places = {"hybrid": [4] * 40, "hybrid 0.7": [1] * 40, "hybrid, reranked": [0] * 40}
    found = await recommended(tmp_path, places)
    assert found["recommended"] == "hybrid, reranked"
    found = await recommended(tmp_path, places, max_p95_ms=100)
    assert found["recommended"] == "hybrid 0.7"
    assert found["settings"] == {"AI_STACK_HYBRID_WEIGHT": 0.7}
    assert found["test"]["is_noise"] is False


async def test_noise_is_no_reason_to_change(tmp_path: Path):
    """Better on the half that chooses, by luck, and not on the half that judges."""
    lucky = [0 if n % 2 == 0 else (6 if n % 4 == 1 else 1) for n in range(40)]
    found = await recommended(tmp_path, {"hybrid": [2] * 40, "hybrid 0.7": lucky})
    assert found["chosen_on_tune"] == "hybrid 0.7"
    assert (found["recommended"], found["is_change"]) == ("hybrid", False)
    assert found["settings"] == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no question"),
        ("{}\n", "Line 1"),
        ('{"id": "1", "question": "q", "relevant": []}', "relevant"),
        ('{"id": "1", "question": "q", "relevant": [1]}', "relevant"),
        ("[" * 100_000, "Line 1"),
        ('{"id": "1", "question": "q", "relevant": ["d"]}\n' * 2, "one id"),
        ("\udcff", "UTF-8"),
    ],
)
async def test_what_is_no_golden_set_is_refused(tmp_path: Path, content: str, told: str):
    path = tmp_path / "g"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(SkillFailed, match=told):
        await act(tmp_path, nothing, "evaluate", golden=str(path))


async def test_rankings_that_lack_a_question_are_refused(tmp_path: Path):
    rankings = tmp_path / "r"
    rankings.write_text('{"variant": "a", "id": "brakes", "documents": []}\n')
    with pytest.raises(SkillFailed, match="lack the question leave"):
        await act(
            tmp_path, nothing, "evaluate", golden=golden(tmp_path / "g"), rankings=[str(rankings)]
        )
    rankings.write_text("{}\n")
    with pytest.raises(SkillFailed, match="Line 1"):
        await act(
            tmp_path, nothing, "evaluate", golden=golden(tmp_path / "g"), rankings=[str(rankings)]
        )
