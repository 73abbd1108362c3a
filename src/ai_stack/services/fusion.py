"""Puts two rankings together; pure.

Scores are compared, not ranks: reciprocal rank fusion with equal weights makes a good dense
ranking worse when the other list is much poorer. Each list is scaled by its own best and, for
the dense one, its own worst candidate, then weighed (Bruch, Gai and Ingber 2023). A passage has
the other list's score from wherever in its document that is: the words that were asked for may
stand in another passage than what is meant.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from ai_stack.models.search import Hit


def fuse(dense: Sequence[Hit], keyword: Sequence[Hit], weight: float) -> list[Hit]:
    """The hits of both, best first; `weight` is the keywords', the dense list has the rest.

    A score is between 0 and 1. A hit whose document one list lacks has nothing from that list.
    """
    documents = {hit.chunk_id: hit.document_id for hit in (*dense, *keyword)}
    meaning, words = _scaled(dense, floor=True), _scaled(keyword, floor=False)
    best_meaning, best_words = _best(meaning, documents), _best(words, documents)
    scores = {
        id: (1 - weight) * meaning.get(id, best_meaning.get(document, 0.0))
        + weight * words.get(id, best_words.get(document, 0.0))
        for id, document in documents.items()
    }
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [Hit(id, documents[id], score) for id, score in ranked]


def _scaled(hits: Sequence[Hit], *, floor: bool) -> dict[UUID, float]:
    if not hits:
        return {}
    best = max(hit.score for hit in hits)
    worst = min(hit.score for hit in hits) if floor else 0.0
    width = max(best - worst, 1e-9)
    return {hit.chunk_id: (hit.score - worst) / width for hit in hits}


def _best(scores: Mapping[UUID, float], documents: Mapping[UUID, UUID]) -> dict[UUID, float]:
    """The best score of each document's chunks."""
    best: dict[UUID, float] = {}
    for id, score in scores.items():
        best[documents[id]] = max(score, best.get(documents[id], 0.0))
    return best
