"""Two rankings put together."""

from uuid import UUID

import pytest

from ai_stack.models.search import Hit
from ai_stack.services.fusion import fuse


def hit(chunk: int, document: int, score: float) -> Hit:
    return Hit(UUID(int=chunk), UUID(int=document), score)


def order(hits: list[Hit]) -> list[int]:
    return [h.chunk_id.int for h in hits]


def test_without_weight_the_dense_order_stands() -> None:
    dense = [hit(1, 1, 0.9), hit(2, 2, 0.5), hit(3, 3, 0.1)]
    assert order(fuse(dense, [hit(3, 3, 7.0)], 0.0)) == [1, 2, 3]
    assert order(fuse(dense, [hit(3, 3, 7.0)], 1.0))[0] == 3


def test_what_both_find_comes_before_what_one_finds() -> None:
    dense = [hit(1, 1, 0.9), hit(2, 2, 0.89), hit(4, 4, 0.1)]
    assert order(fuse(dense, [hit(2, 2, 3.0), hit(3, 3, 2.9)], 0.3))[0] == 2


def test_words_count_wherever_in_the_document_they_stand() -> None:
    dense = [hit(1, 1, 0.9), hit(2, 2, 0.88), hit(9, 9, 0.0)]
    assert order(fuse(dense, [hit(22, 2, 5.0)], 0.2))[0] == 2


def test_scores_are_shares_of_one() -> None:
    fused = fuse([hit(1, 1, 0.7), hit(2, 2, 0.2)], [hit(1, 1, 9.0)], 0.4)
    assert fused[0].score == pytest.approx(1.0)
    assert all(0 <= h.score <= 1 for h in fused)


@pytest.mark.parametrize(
    ("dense", "keyword"), [([], []), ([hit(1, 1, 0.3)], []), ([], [hit(1, 1, 2)])]
)
def test_either_list_may_be_empty(dense: list[Hit], keyword: list[Hit]) -> None:
    assert len(fuse(dense, keyword, 0.3)) == len(dense) + len(keyword)
