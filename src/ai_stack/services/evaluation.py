"""How well rankings answer a golden set, and which differences are noise; it runs no search."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ai_stack.errors import InvalidRequest

CUTOFF = 10
ROUNDS = 10_000
SIGNIFICANCE = 0.05

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Floats = NDArray[np.float64]


class Question(BaseModel):
    """What somebody asks, and the documents that answer it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Text
    question: Text
    relevant: tuple[Text, ...] = Field(min_length=1)
    split: Literal["tune", "test"] = "test"
    kind: Literal["described", "keyword", "identifier"] = "described"
    evidence: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One run's scores: for each measure one value in [0, 1] a question, in `questions`' order."""

    questions: tuple[str, ...]
    scores: Mapping[str, Floats]

    def means(self) -> dict[str, float]:
        """Each measure's mean over the questions."""
        return {measure: float(values.mean()) for measure, values in self.scores.items()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A measure's mean in one run less that in another, with its 95 % interval and p-value."""

    difference: float
    low: float
    high: float
    p_value: float

    @property
    def is_noise(self) -> bool:
        """Whether two equally good runs would differ this much in more than 5 % of cases."""
        return self.p_value >= SIGNIFICANCE


@dataclass(frozen=True, slots=True)
class Latency:
    """Half, and 95 %, of the calls took at most this long: nearest rank, so both were measured."""

    p50_ms: float
    p95_ms: float


def load_golden(path: Path) -> list[Question]:
    """The questions of a JSONL file, one object a line; blank lines are skipped.

    Raises InvalidRequest, naming the line, for what is not a question or repeats an id.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InvalidRequest(f"The golden set {path.name} cannot be read.") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    questions = [_question(path.name, number, line) for number, line in numbered]
    if not questions:
        raise InvalidRequest(f"The golden set {path.name} holds no question.")
    _refuse_repeated_ids(path.name, questions, [number for number, _ in numbered])
    return questions


def ndcg(ranked: Sequence[str], relevant: Iterable[str], k: int = CUTOFF) -> float:
    """Normalised discounted cumulative gain at k, gains 0 and 1 (Järvelin & Kekäläinen 2002).

    The discount is 1 / log2(rank + 1), as trec_eval's ndcg_cut has it; the ideal ranking has
    every relevant document, k at most, on top.
    """
    wanted = set(relevant)
    found = np.array([document in wanted for document in _distinct(ranked, k)], dtype=float)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    return float(found @ discounts[: len(found)] / discounts[: len(wanted)].sum())


def recall(ranked: Sequence[str], relevant: Iterable[str], k: int) -> float:
    """The share of the relevant documents among the top k (trec_eval's recall).

    With several relevant documents its best value at a small k is below 1; success is not.
    """
    wanted = set(relevant)
    return len(wanted.intersection(_distinct(ranked, k))) / len(wanted)


def success(ranked: Sequence[str], relevant: Iterable[str], k: int) -> float:
    """1 with a relevant document among the top k, else 0 (trec_eval's success, or hit rate)."""
    return float(not set(relevant).isdisjoint(_distinct(ranked, k)))


def reciprocal_rank(ranked: Sequence[str], relevant: Iterable[str], k: int = CUTOFF) -> float:
    """1 / rank of the first relevant document, 0 when none is among the top k; its mean is MRR."""
    wanted = set(relevant)
    ranks = (rank for rank, document in enumerate(_distinct(ranked, k), 1) if document in wanted)
    return 1 / next(ranks, np.inf)


MEASURES: Mapping[str, Callable[[Sequence[str], Iterable[str]], float]] = {
    "ndcg@10": ndcg,
    "mrr@10": reciprocal_rank,
    "recall@1": partial(recall, k=1),
    "recall@5": partial(recall, k=5),
    "recall@10": partial(recall, k=10),
    "success@1": partial(success, k=1),
    "success@5": partial(success, k=5),
    "success@10": partial(success, k=10),
}


def evaluate(questions: Sequence[Question], rankings: Mapping[str, Sequence[str]]) -> Evaluation:
    """Scores of a run that gave, by question id, its document ids, best first.

    A question without results needs an empty ranking: one that is absent, no question at all
    or a document ranked twice is a fault of the caller's and raises ValueError.
    """
    if missing := [question.id for question in questions if question.id not in rankings]:
        raise ValueError(f"no ranking for {', '.join(missing)}")
    if not questions:
        raise ValueError("no questions")
    scores = {
        name: np.array([measure(rankings[q.id], q.relevant) for q in questions])
        for name, measure in MEASURES.items()
    }
    return Evaluation(tuple(question.id for question in questions), scores)


def compare(
    run: Evaluation, baseline: Evaluation, measure: str = "ndcg@10", *, seed: int = 0
) -> Comparison:
    """How far `run` is above `baseline` on the same questions, and whether that is noise.

    A two-sided paired randomisation test, which Smucker, Allan & Carterette 2007 found the one
    to use in retrieval, and a paired percentile bootstrap for the interval; 10,000 rounds each.
    """
    if run.questions != baseline.questions:
        raise ValueError("the runs answer different questions")
    differences = run.scores[measure] - baseline.scores[measure]
    rng = np.random.default_rng(seed)
    p_value = _randomised_p_value(differences, rng)
    low, high = _bootstrap_interval(differences, rng)
    return Comparison(float(differences.mean()), low, high, p_value)


def latency(samples_s: Sequence[float]) -> Latency:
    """The median and 95th percentile of durations in seconds, in milliseconds."""
    p50, p95 = np.percentile(np.asarray(samples_s), [50, 95], method="inverted_cdf") * 1000
    return Latency(float(p50), float(p95))


def _question(name: str, number: int, line: bytes) -> Question:
    try:
        return Question.model_validate(orjson.loads(line))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"Line {number} of {name} is not JSON.") from error
    except ValidationError as error:
        field = next(iter(error.errors()[0]["loc"]), None)
        what = f"{field!r} is missing or wrong" if field else "not an object"
        raise InvalidRequest(f"Line {number} of {name} is no question: {what}.") from error


def _refuse_repeated_ids(name: str, questions: Sequence[Question], numbers: Sequence[int]) -> None:
    first: dict[str, int] = {}
    for question, number in zip(questions, numbers, strict=True):
        if first.setdefault(question.id, number) != number:
            raise InvalidRequest(
                f"Line {number} of {name} repeats the id of line {first[question.id]}."
            )


def _distinct(ranked: Sequence[str], k: int) -> list[str]:
    top = list(islice(ranked, k))
    if len(set(top)) < len(top):
        raise ValueError("a ranking holds a document twice")
    return top


def _randomised_p_value(differences: Floats, rng: np.random.Generator) -> float:
    """How often swapping the two runs' scores at random gives at least this mean difference."""
    signs = rng.integers(0, 2, (ROUNDS, len(differences)), dtype=np.int8) * 2 - 1
    extreme = np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9
    return float((1 + extreme.sum()) / (1 + ROUNDS))


def _bootstrap_interval(differences: Floats, rng: np.random.Generator) -> tuple[float, float]:
    samples = rng.integers(0, len(differences), (ROUNDS, len(differences)))
    low, high = np.percentile(differences[samples].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
