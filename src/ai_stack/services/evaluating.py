"""Runs a golden set through variants of search, and says how they compare.

It does not know how a search is asked for: a Ranker does that.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ai_stack.models.documents import JSON
from ai_stack.models.search import SearchMode
from ai_stack.services.evaluation import (
    CUTOFF,
    Comparison,
    Evaluation,
    Latency,
    Question,
    compare,
    evaluate,
    latency,
)

SHOWN = ("ndcg@10", "recall@1", "recall@5", "recall@10", "mrr@10")
JUDGED = "ndcg@10"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to search; `hybrid_weight` is the keywords' share, None for the setting's."""

    mode: SearchMode
    hybrid_weight: float | None = None

    @property
    def name(self) -> str:
        weight = "" if self.hybrid_weight is None else f" {self.hybrid_weight:g}"
        return f"{self.mode}{weight}"


@dataclass(frozen=True, slots=True)
class Ranking:
    """Document ids, best first; `cached` when no search was run for them."""

    documents: Sequence[str]
    cached: bool = False


Ranker: TypeAlias = Callable[[str, Variant, int], Ranking]
Told: TypeAlias = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """How one variant did; `latency` is of the answers that were not cached, None if all were."""

    variant: Variant
    evaluation: Evaluation
    latency: Latency | None
    kinds: Mapping[str, float]
    against_first: Comparison | None

    def json(self) -> Mapping[str, JSON]:
        difference = self.against_first
        return {
            "variant": self.variant.name,
            **self.evaluation.means(),
            "by_kind": dict(self.kinds),
            "p50_ms": None if self.latency is None else self.latency.p50_ms,
            "p95_ms": None if self.latency is None else self.latency.p95_ms,
            "against_first": None
            if difference is None
            else {
                "measure": JUDGED,
                "difference": difference.difference,
                "low": difference.low,
                "high": difference.high,
                "p_value": difference.p_value,
                "is_noise": difference.is_noise,
            },
        }


@dataclass(slots=True)
class _Answers:
    rankings: dict[str, Sequence[str]] = field(default_factory=dict)
    took_s: list[float] = field(default_factory=list)


def run(
    questions: Sequence[Question], variants: Sequence[Variant], rank: Ranker, told: Told
) -> list[Result]:
    """Ask every question in every way, in turn so that what the machine does besides falls on
    all alike, and judge the variants, each but the first against the first."""
    answers = [_Answers() for _ in variants]
    for number, question in enumerate(questions):
        told(number, len(questions), question.question)
        for variant, kept in zip(variants, answers, strict=True):
            started = time.perf_counter()
            ranking = rank(question.question, variant, CUTOFF)
            if not ranking.cached:
                kept.took_s.append(time.perf_counter() - started)
            kept.rankings[question.id] = ranking.documents
    told(len(questions), len(questions), "")
    return _judged(questions, variants, answers)


def prefixed(questions: Sequence[Question], prefix: str) -> list[Question]:
    """The questions with their documents named as an import under a prefix names them."""
    return [
        q.model_copy(update={"relevant": tuple(prefix + path for path in q.relevant)})
        for q in questions
    ]


def _judged(
    questions: Sequence[Question], variants: Sequence[Variant], answers: Sequence[_Answers]
) -> list[Result]:
    evaluations = [evaluate(questions, kept.rankings) for kept in answers]
    return [
        Result(
            variant,
            evaluation,
            latency(kept.took_s) if kept.took_s else None,
            _by_kind(questions, evaluation),
            None if n == 0 else compare(evaluation, evaluations[0], JUDGED),
        )
        for n, (variant, kept, evaluation) in enumerate(
            zip(variants, answers, evaluations, strict=True)
        )
    ]


def _by_kind(questions: Sequence[Question], evaluation: Evaluation) -> dict[str, float]:
    """The judged measure's mean for each kind of question."""
    scores = evaluation.scores[JUDGED]
    kinds = sorted({q.kind for q in questions})
    return {
        kind: float(scores[[n for n, q in enumerate(questions) if q.kind == kind]].mean())
        for kind in kinds
    }
