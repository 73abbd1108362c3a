"""Measures the stack's search by questions with known answers, and recommends its settings."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action

from .golden import Question, halves, read_golden
from .judging import Judged, best, judge, markdown
from .measures import JUDGED
from .rankings import RERANKED, Run, Variant, ask, possible, read_runs, variants, write_runs
from .trials import sampled, trial

FEWEST = 4
Golden = Annotated[File, Field(description="Questions with the documents that answer them, JSONL.")]
Prefix = Annotated[str, Field(max_length=500, description="Before each relevant document's id.")]
Rankings = Annotated[
    list[File], Field(max_length=20, description="Judge these rankings, and ask nothing.")
]
Weight = Annotated[float, Field(ge=0, le=1)]
Weights = Annotated[
    list[Weight], Field(max_length=20, description="The keywords' share of a hybrid search.")
]
Chunks = Annotated[
    list[Annotated[int, Field(ge=0, le=5000)]],
    Field(max_length=8, description="Words of a piece to try; 0 is the whole document."),
]
Reranked = Annotated[bool, Field(description="Try the reranker too.")]
Sample = Annotated[int, Field(ge=10, le=500, description="Documents to try ways of cutting on.")]
SPREAD = [0.1, 0.3, 0.5, 0.7, 0.9]


class RagTechniques(Skill):
    @action
    async def evaluate(
        self,
        golden: Golden,
        prefix: Prefix = "",
        mode: Annotated[
            Literal["hybrid", "semantic", "keyword"], Field(description="How to search.")
        ] = "hybrid",
        hybrid_weight: Annotated[
            Weight | None, Field(description="The keywords' share; None for the setting's.")
        ] = None,
        rerank: Annotated[bool, Field(description="Have the reranker order them.")] = False,
        rankings: Rankings = [],  # noqa: B006 (pydantic copies it)
    ) -> SkillResult:
        """Measure one way to search."""
        questions = await asyncio.to_thread(read_golden, golden, prefix)
        options: dict[str, JSON] = {"mode": mode, "rerank": rerank}
        if hybrid_weight is not None:
            options["hybrid_weight"] = hybrid_weight
        runs = await self._runs(questions, [Variant(mode, options)], rankings)
        (found, *_) = judge(runs, questions)
        output: dict[str, JSON] = {
            "questions": len(questions),
            **found.shown(),
            "by_kind": found.by_kind(),
            "misses": found.misses(),
        }
        return SkillResult(output, summary=_line(found), notes=_notes([found], 0))

    @action
    async def compare(
        self,
        golden: Golden,
        prefix: Prefix = "",
        weights: Weights = [0.2, 0.5, 0.8],  # noqa: B006
        rerank: Reranked = False,
        chunk_words: Chunks = [],  # noqa: B006
        sample: Sample = 200,
        rankings: Rankings = [],  # noqa: B006
    ) -> SkillResult:
        """Measure several ways to search, against what is in force."""
        questions = await asyncio.to_thread(read_golden, golden, prefix)
        runs = await self._runs(questions, variants(weights, rerank), rankings)
        judged = judge(runs, questions)
        cut, sampled_ones = await self._cut(questions, chunk_words, sample)
        text = markdown(judged) + (f"\nOn a sample:\n\n{markdown(cut)}" if cut else "")
        self.context.artifact("comparison.md").write_text(text)
        output: dict[str, JSON] = {
            "questions": len(questions),
            "baseline": judged[0].name,
            "table": [one.shown() for one in judged],
            "chunking": [one.shown() for one in cut],
            "sample": sampled_ones,
        }
        ranked = sorted(judged, key=lambda one: -sum(one.ndcg))
        summary = "\n".join(_line(one) for one in ranked[:5])
        return SkillResult(
            output, summary=summary, notes=_notes(judged, len(cut), rerank and not rankings)
        )

    @action
    async def recommend(
        self,
        golden: Golden,
        prefix: Prefix = "",
        weights: Weights = SPREAD,
        rerank: Reranked = True,
        max_p95_ms: Annotated[
            float | None, Field(gt=0, description="What 95 of 100 searches may take.")
        ] = None,
        rankings: Rankings = [],  # noqa: B006
    ) -> SkillResult:
        """Choose on one half of the questions, and confirm on the other."""
        questions = await asyncio.to_thread(read_golden, golden, prefix)
        if len(questions) < FEWEST:
            raise SkillFailed(f"A recommendation needs {FEWEST} questions or more.")
        tune, test = halves(questions)
        runs = await self._runs(questions, variants(weights, rerank), rankings)
        chosen = best(judge(runs, tune), max_p95_ms)
        on_test = judge(runs, test)
        confirmed = next(one for one in on_test if one.name == chosen.name)
        gain = confirmed.against
        changes = gain is not None and gain.mean > 0 and not gain.is_noise
        output: dict[str, JSON] = {
            "recommended": chosen.name if changes else runs[0].name,
            "is_change": changes,
            "chosen_on_tune": chosen.name,
            "tune": chosen.shown(),
            "test": confirmed.shown(),
            "settings": _settings(chosen.name) if changes else {},
        }
        summary = _recommended(chosen, confirmed, runs[0].name, changes)
        return SkillResult(
            output, summary=summary, notes=_notes(on_test, 0, rerank and not rankings)
        )

    async def _runs(
        self, questions: Sequence[Question], ways: Sequence[Variant], rankings: Sequence[File]
    ) -> list[Run]:
        """What was given, or what the stack answers now, which is kept as rankings.jsonl."""
        if rankings:
            return await asyncio.to_thread(read_runs, rankings, questions)
        asked = await possible(self.context, ways) if len(ways) > 1 else ways
        runs = await ask(self.context, questions, asked)
        write_runs(self.context.artifact("rankings.jsonl"), runs)
        return runs

    async def _cut(
        self, questions: Sequence[Question], chunk_words: Sequence[int], most: int
    ) -> tuple[list[Judged], int]:
        """Ways of cutting, judged on a sample; how many documents that has."""
        if not chunk_words:
            return [], 0
        sample = await sampled(self.context, questions, most)
        asked = [one for one in questions if one.relevant & sample.keys()]
        async with trial(self.context) as tried:
            ways = [await tried.store(sample, words) for words in dict.fromkeys(chunk_words)]
            runs = await ask(self.context, asked, ways)
        return judge(runs, asked), len(sample)


def _line(one: Judged) -> str:
    row = one.shown()
    took = "" if row["p50_ms"] is None else f", {row['p50_ms']} ms at the median"
    return f"{one.name}: nDCG@10 {row[JUDGED]}, recall@10 {row['recall@10']}{took}"


def _recommended(chosen: Judged, confirmed: Judged, in_force: str, changes: bool) -> str:
    gain = confirmed.against
    if gain is None:
        return f"{in_force}, which is in force, is the best: nothing needs to change."
    told = f"{gain.mean:+.4f} nDCG@10 on the other half, p = {gain.p_value}"
    if changes:
        return f"Change to {chosen.name}: {told}."
    return f"Keep {in_force}: {chosen.name} was best on one half, but {told}."


def _settings(name: str) -> dict[str, JSON]:
    """The variables that make a way the one in force, as far as a setting does."""
    first, _, weight = name.partition(" ")
    if first == "hybrid" and weight.replace(".", "", 1).isdigit():
        return {"AI_STACK_HYBRID_WEIGHT": float(weight)}
    ways: dict[str, dict[str, JSON]] = {
        "semantic": {"AI_STACK_HYBRID_WEIGHT": 0.0},
        "keyword": {"AI_STACK_HYBRID_WEIGHT": 1.0},
        RERANKED: {"rerank": True},
    }
    return ways.get(name, {})


def _notes(judged: Sequence[Judged], cut: int, rerank: bool = False) -> tuple[str, ...]:
    notes = []
    questions = len(judged[0].questions)
    if questions < 50:
        notes.append(f"{questions} questions tell large differences only.")
    if rerank and not any(one.name == RERANKED for one in judged):
        notes.append("No reranker is configured (AI_STACK_RERANK_URL), so that none was tried.")
    if cut:
        notes.append(
            "Ways of cutting are compared with each other, on a sample, not with the rest."
        )
    return tuple(notes)
