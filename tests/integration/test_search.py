"""Pages of a search, on a real PostgreSQL."""

from collections.abc import Sequence
from dataclasses import replace

import psycopg
import pytest

from ai_stack.database import search as rows
from ai_stack.models.documents import NewDocument
from ai_stack.models.filters import parse_filter
from ai_stack.models.principals import Principal
from ai_stack.models.search import Hit, SearchMode, SearchRequest
from ai_stack.services.search import RERANK_DEPTH, Search
from ai_stack.stack import Stack

ME = Principal()
DOCUMENTS, PAGE, FEW = 75, 10, 5


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


@pytest.fixture(scope="module")
async def beacons(stack: Stack, search: Search, database_url: str) -> Search:
    """Two documents with a word that the lanterns lack, and statistics that tell how rare it is."""
    west = NewDocument("A lantern in a beacon.", {"coast": "west"}, "beacon/west")
    east = NewDocument("Nothing but a beacon.", {"coast": "east"}, "beacon/east")
    await stack.documents.add(ME, [west, east])
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("ANALYZE aidb.chunks")
    return search


async def by_words(search: Search, query: str, enough: int, coast: str | None = None) -> list[Hit]:
    chosen = None if coast is None else parse_filter({"coast": coast})
    project, most = ME.project_id, 2 * DOCUMENTS
    return await rows.keyword(search.database, project, query, most, chosen, enough=enough)


async def test_a_passage_counts_for_each_of_its_words_and_most_for_the_rare_one(
    beacons: Search,
) -> None:
    hits = await by_words(beacons, "lantern beacon", DOCUMENTS * 2)
    assert len(hits) == len({h.chunk_id for h in hits}) == DOCUMENTS + 2
    both, rare, common, *others = [h.score for h in hits]
    assert both == pytest.approx(rare + common)
    assert rare > common == others[-1]


async def test_words_too_common_to_tell_anything_find_nothing_beside_a_rare_one(
    beacons: Search,
) -> None:
    assert len(await by_words(beacons, "lantern beacon", FEW)) == 2
    assert len(await by_words(beacons, "lantern", FEW)) == DOCUMENTS + 1
    assert await by_words(beacons, "the", FEW) == []


async def test_a_filter_holds_for_a_search_by_words(beacons: Search) -> None:
    west, east = [await by_words(beacons, "beacon", FEW, coast) for coast in ("west", "east")]
    assert len(west) == len(east) == 1
    assert west[0].document_id != east[0].document_id
