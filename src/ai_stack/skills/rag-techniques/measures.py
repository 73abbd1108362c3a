"""How good a ranking is, how fast it came, and whether two ways to rank differ by more than chance.

nDCG has gains 0 and 1 and the discount 1/log2(rank + 1), as trec_eval's ndcg_cut; recall and the
reciprocal rank are trec_eval's too.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CUTOFF = 10
ROUNDS = 10_000
SIGNIFICANCE = 0.05
JUDGED = "ndcg@10"
NAMES = ("ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10")


def scores(ranked: Sequence[str], relevant: Collection[str]) -> dict[str, float]:
    """All measures of one ranking; a document that is ranked twice counts where it is first."""
    top = [*dict.fromkeys(ranked)][:CUTOFF]
    hits = [document in relevant for document in top]
    gain = sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(len(relevant), CUTOFF)))
    first = next((rank for rank, hit in enumerate(hits, 1) if hit), math.inf)
    found = {f"recall@{k}": sum(hits[:k]) / len(relevant) for k in (1, 5, 10)}
    return {"ndcg@10": gain / ideal, "mrr@10": 1 / first, **found}


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each measure's mean."""
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in NAMES}


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest rank, so that it is one that was measured; None for none."""
    if not values:
        return None
    found = np.percentile(np.asarray(values), share, method="inverted_cdf")
    return round(float(found), 2)


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean less the baseline's, and how often chance alone would make it as large."""

    mean: float
    p_value: float

    @property
    def is_noise(self) -> bool:
        return self.p_value >= SIGNIFICANCE


def difference(ours: Sequence[float], baseline: Sequence[float]) -> Difference:
    """A two-sided paired randomisation test, which Smucker, Allan and Carterette (2007) advise.

    The seed is fixed, so that the same rankings have the same p-value.
    """
    each = np.asarray(ours) - np.asarray(baseline)
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (ROUNDS, len(each)))
    extreme = np.abs(signs @ each) >= abs(each.sum()) - 1e-9
    p_value = (1 + int(extreme.sum())) / (1 + ROUNDS)
    return Difference(round(float(each.mean()), 4), round(p_value, 4))
