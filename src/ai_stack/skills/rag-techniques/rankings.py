"""What each way to search gave for each question: asked of the stack, or read from files."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ai_stack.skill import JSON, Context, InvalidRequest, SkillFailed

from .golden import Question, parsed, read_lines, texts
from .measures import CUTOFF

MAX_VARIANTS = 24
RERANKED = "hybrid, reranked"
Fold: TypeAlias = Callable[[Mapping[str, Any]], str]
Progress: TypeAlias = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to search: options of a search; `fold` names the document that a result is of."""

    name: str
    options: Mapping[str, JSON] = field(default_factory=dict)
    fold: Fold = lambda result: str(result["document"]["id"])
    limit: int = CUTOFF


@dataclass(slots=True)
class Run:
    """A way's documents for each question's id, best first, and what each answer took."""

    name: str
    documents: dict[str, list[str]] = field(default_factory=dict)
    took_ms: list[float] = field(default_factory=list)


def variants(weights: Sequence[float], rerank: bool) -> list[Variant]:
    """The ways to compare, what is in force first."""
    found = [Variant("hybrid")]
    found += [Variant(mode, {"mode": mode}) for mode in ("semantic", "keyword")]
    found += [
        Variant(f"hybrid {weight:g}", {"mode": "hybrid", "hybrid_weight": weight})
        for weight in dict.fromkeys(weights)
    ]
    return found + ([Variant(RERANKED, {"rerank": True})] if rerank else [])


async def possible(context: Context, ways: Sequence[Variant]) -> list[Variant]:
    """The ways without those that rerank where the stack has no reranker."""
    if not any(way.options.get("rerank") for way in ways):
        return [*ways]
    try:
        await context.search("reranker", limit=1, rerank=True)
    except InvalidRequest:
        return [way for way in ways if not way.options.get("rerank")]
    return [*ways]


async def ask(
    context: Context, questions: Sequence[Question], ways: Sequence[Variant]
) -> list[Run]:
    """Ask every question in every way, in turn, so that what else happens falls on all alike."""
    if len(ways) > MAX_VARIANTS:
        raise SkillFailed(f"Compare {MAX_VARIANTS} ways at most.")
    runs = [Run(way.name) for way in ways]
    for number, question in enumerate(questions):
        await context.progress(number, len(questions), question.question[:100])
        for way, run in zip(ways, runs, strict=True):
            begun = time.perf_counter()
            found = await context.search(question.question, limit=way.limit, **way.options)
            run.took_ms.append((time.perf_counter() - begun) * 1000)
            run.documents[question.id] = [*dict.fromkeys(map(way.fold, found))][:CUTOFF]
    return runs


def read_runs(files: Sequence[Path], questions: Sequence[Question]) -> list[Run]:
    """Rankings of files; SkillFailed for a way that leaves out a question."""
    runs: dict[str, Run] = {}
    for file in files:
        for number, line in enumerate(read_lines(file), 1):
            if line.strip():
                _add(runs, number, line)
    if not 1 <= len(runs) <= MAX_VARIANTS:
        raise SkillFailed(f"The rankings must have 1 to {MAX_VARIANTS} ways to search.")
    for run in runs.values():
        missing = [one.id for one in questions if one.id not in run.documents]
        if missing:
            raise SkillFailed(f"The rankings of {run.name} lack the question {missing[0]}.")
    return [*runs.values()]


def write_runs(file: Path, runs: Sequence[Run]) -> None:
    """The form that `read_runs` takes."""
    with file.open("w") as out:
        for run in runs:
            times = run.took_ms or [None] * len(run.documents)  # type: ignore[list-item]
            for (id, documents), took in zip(run.documents.items(), times, strict=False):
                row = {"variant": run.name, "id": id, "documents": documents, "took_ms": took}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _add(runs: dict[str, Run], number: int, line: str) -> None:
    row = parsed(line)
    name, id, documents = row.get("variant"), row.get("id"), texts(row.get("documents"))
    if not isinstance(name, str) or not isinstance(id, str) or documents is None:
        raise SkillFailed(f"Line {number} of the rankings has no `variant`, `id`, `documents`.")
    run = runs.setdefault(name[:100], Run(name[:100]))
    run.documents[id] = documents[:CUTOFF]
    took = row.get("took_ms")
    if isinstance(took, int | float) and 0 <= took < 1e9:
        run.took_ms.append(float(took))
