"""Runs judged by a golden set: a row for each, against the first, and which to choose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_stack.skill import JSON

from .golden import Question
from .measures import JUDGED, NAMES, Difference, difference, means, percentile, scores
from .rankings import Run

MOST_MISSES = 20


@dataclass(frozen=True, slots=True)
class Judged:
    """How one way did; `against` is its difference from the baseline, None for that itself."""

    run: Run
    questions: Sequence[Question]
    rows: Sequence[Mapping[str, float]]
    against: Difference | None = None

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def ndcg(self) -> list[float]:
        return [row[JUDGED] for row in self.rows]

    @property
    def p95_ms(self) -> float | None:
        return percentile(self.run.took_ms, 95)

    def shown(self) -> dict[str, JSON]:
        found: dict[str, JSON] = {
            "variant": self.name,
            **means(self.rows),
            "p50_ms": percentile(self.run.took_ms, 50),
            "p95_ms": self.p95_ms,
        }
        if self.against is not None:
            found["difference"] = self.against.mean
            found["p_value"] = self.against.p_value
            found["is_noise"] = self.against.is_noise
        return found

    def by_kind(self) -> dict[str, JSON]:
        """The judged measure's mean for each kind of question."""
        kinds: dict[str, list[Mapping[str, float]]] = {}
        for question, row in zip(self.questions, self.rows, strict=True):
            kinds.setdefault(question.kind or "all", []).append(row)
        return {
            kind: {"questions": len(rows), JUDGED: means(rows)[JUDGED]}
            for kind, rows in sorted(kinds.items())
        }

    def misses(self) -> list[JSON]:
        """Questions for which nothing right was among the first ten."""
        missed = [
            question
            for question, row in zip(self.questions, self.rows, strict=True)
            if not row["recall@10"]
        ]
        return [self._miss(question) for question in missed[:MOST_MISSES]]

    def _miss(self, question: Question) -> dict[str, JSON]:
        return {
            "id": question.id,
            "question": question.question[:300],
            "relevant": sorted(question.relevant)[:5],
            "found": self.run.documents[question.id][:3],
        }


def judge(runs: Sequence[Run], questions: Sequence[Question]) -> list[Judged]:
    """Every run by these questions, each but the first against the first."""
    found: list[Judged] = []
    for run in runs:
        rows = [scores(run.documents[q.id], q.relevant) for q in questions]
        against = difference([row[JUDGED] for row in rows], found[0].ndcg) if found else None
        found.append(Judged(run, questions, rows, against))
    return found


def best(judged: Sequence[Judged], max_p95_ms: float | None) -> Judged:
    """The best by nDCG among those that are fast enough; what is in force where two are equal."""
    quick = [
        one for one in judged
        if max_p95_ms is None or one.p95_ms is None or one.p95_ms <= max_p95_ms
    ]  # fmt: skip
    return max(quick or judged[:1], key=lambda one: sum(one.ndcg))


def markdown(judged: Sequence[Judged]) -> str:
    """The table for people."""
    head = ["variant", *NAMES, "p50 ms", "p95 ms", "difference", "p"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for one in judged:
        row = one.shown()
        cells = [str(row["variant"]).replace("|", "/")]
        cells += [f"{row[name]:.4f}" for name in NAMES]
        cells += ["" if row.get(k) is None else str(row[k])
                  for k in ("p50_ms", "p95_ms", "difference", "p_value")]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
