"""Pages of a search, on a real PostgreSQL."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ai_stack.models.documents import NewDocument
from ai_stack.models.principals import Principal
from ai_stack.models.search import SearchMode, SearchRequest
from ai_stack.services.search import RERANK_DEPTH, Search
from ai_stack.stack import Stack

ME = Principal()
DOCUMENTS, PAGE = 75, 10


class Longest:
    """A reranker that likes long passages best, whatever was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        self.asked.append(len(texts))
        return [float(len(text)) for text in texts]

    async def aclose(self) -> None: ...


@pytest.fixture(scope="module")
async def search(stack: Stack) -> Search:
    """Documents that are found in one order and reranked into another."""
    new = [NewDocument(f"A lantern {'word ' * n}.", key=f"lantern/{n}") for n in range(DOCUMENTS)]
    await stack.documents.add(ME, new)
    return replace(stack.search, reranker=Longest())


async def ids(search: Search, offset: int, limit: int, mode: SearchMode) -> list[str]:
    request = SearchRequest("lantern", limit=limit, offset=offset, mode=mode, rerank=True)
    return [r.document.id for r in (await search.search(request, ME)).results]


@pytest.mark.parametrize("mode", ["semantic", "keyword", "hybrid"])
async def test_pages_that_are_reranked_neither_overlap_nor_leave_out(
    search: Search, mode: SearchMode
) -> None:
    pages = [await ids(search, n, PAGE, mode) for n in range(0, 80, PAGE)]
    assert [len(page) for page in pages] == [PAGE] * 7 + [DOCUMENTS - 70]
    seen = [id for page in pages for id in page]
    assert len(set(seen)) == DOCUMENTS
    assert await ids(search, 0, 60, mode) == seen[:60]
    lengths = [int(id.removeprefix("lantern/")) for id in seen]
    for begin in range(0, DOCUMENTS, RERANK_DEPTH):
        block = lengths[begin : begin + RERANK_DEPTH]
        assert block == sorted(block, reverse=True)
