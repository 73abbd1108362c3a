"""Documents as a person keeps them, on a real PostgreSQL."""

import asyncio
from uuid import UUID

import orjson
import pytest

from ai_stack.database import Database, changes
from ai_stack.errors import (
    AlreadyExists,
    IdempotencyMismatch,
    InvalidCursor,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
)
from ai_stack.models.documents import NewDocument
from ai_stack.models.filters import parse_filter
from ai_stack.models.principals import Principal
from ai_stack.models.search import SearchRequest
from ai_stack.services.documents import PAGE_BYTES, merge
from ai_stack.stack import Stack

ME = Principal()


async def texts(stack: Stack, query: str, **options: object) -> list[str]:
    answer = await stack.search.search(SearchRequest(query=query, **options), ME)
    return [result.document.content for result in answer.results]


async def test_numbers_beyond_64_bits_are_read_as_they_were_written(stack: Stack) -> None:
    metadata = {"large": 1e30, "list": [-1e300, 2**53]}
    written = await stack.documents.add(ME, [NewDocument("numbers", metadata)])
    id = written.documents[0].id
    for read in (written.documents[0], await stack.documents.get(ME, id)):
        assert orjson.loads(orjson.dumps(read.metadata)) == metadata
    page = await stack.documents.page(ME, filter=parse_filter({"large": {"gte": 1e29}}))
    assert [document.id for document in page.items] == [id]


async def test_a_document_is_found_as_soon_as_it_is_stored(stack: Stack) -> None:
    written = await stack.documents.add(ME, [NewDocument("Sourdough rises in warm kitchens.")])
    assert written.settled
    assert written.documents[0].state == "indexed"
    assert "Sourdough rises in warm kitchens." in await texts(stack, "sourdough kitchens")


async def test_a_callers_id_is_unique_and_names_the_document(stack: Stack) -> None:
    await stack.documents.add(ME, [NewDocument("One of a kind.", key="only.md")])
    assert (await stack.documents.get(ME, "only.md")).id == "only.md"
    with pytest.raises(AlreadyExists):
        await stack.documents.add(ME, [NewDocument("Another.", key="only.md")])
    with pytest.raises(NotFound):
        await stack.documents.get(ME, "other.md")


async def test_a_batch_is_stored_whole_or_not_at_all(stack: Stack) -> None:
    await stack.documents.add(ME, [NewDocument("Taken.", key="taken")])
    before = len((await stack.documents.page(ME, limit=1000)).items)
    with pytest.raises(AlreadyExists):
        await stack.documents.add(ME, [NewDocument("New."), NewDocument("Bad.", key="taken")])
    assert len((await stack.documents.page(ME, limit=1000)).items) == before


async def test_a_repeated_request_stores_nothing_new(stack: Stack) -> None:
    new = [NewDocument("Once and only once.")]
    first = await stack.documents.add(ME, new, idempotency_key="k1")
    again = await stack.documents.add(ME, new, idempotency_key="k1")
    assert [d.id for d in first.documents] == [d.id for d in again.documents]
    with pytest.raises(IdempotencyMismatch):
        await stack.documents.add(ME, [NewDocument("Different.")], idempotency_key="k1")


async def test_twins_at_once_store_one_document(stack: Stack) -> None:
    new = [NewDocument("Sent by two hands at once.")]
    adding = [stack.documents.add(ME, new, idempotency_key="twin") for _ in range(8)]
    written = await asyncio.gather(*adding)
    assert len({w.documents[0].id for w in written}) == 1


async def test_a_change_is_followed_and_the_old_text_is_gone(stack: Stack) -> None:
    await stack.documents.add(ME, [NewDocument("Penguins live on ice.", key="p")])
    await stack.documents.patch(ME, "p", {"content": "Camels cross the desert."})
    found = await texts(stack, "penguins ice camels desert")
    assert "Camels cross the desert." in found
    assert "Penguins live on ice." not in found


async def test_metadata_changes_reach_filters_without_new_chunks(
    stack: Stack, database: Database
) -> None:
    await stack.documents.add(ME, [NewDocument("A red bicycle.", {"colour": "red"}, key="bike")])
    async with database.transaction(ME.project_id) as tx:
        before = await tx.rows("SELECT id FROM chunks ORDER BY id")
    await stack.documents.patch(ME, "bike", {"metadata": {"colour": None, "wheels": 2}})
    async with database.transaction(ME.project_id) as tx:
        assert await tx.rows("SELECT id FROM chunks ORDER BY id") == before
    wheels = parse_filter({"wheels": {"gte": 2}})
    assert await texts(stack, "bicycle", filter=wheels) == ["A red bicycle."]
    assert await texts(stack, "bicycle", filter=parse_filter({"colour": "red"})) == []


async def test_a_new_title_is_found_in_every_passage(stack: Stack) -> None:
    new = NewDocument("Twelve spokes and one hub.", {"title": "Barrow"}, key="titled")
    await stack.documents.add(ME, [new])
    await stack.documents.patch(ME, "titled", {"metadata": {"title": "Chariot"}})
    assert await texts(stack, "chariot", mode="keyword") == ["Twelve spokes and one hub."]
    assert await texts(stack, "barrow", mode="keyword") == []


async def test_a_delete_leaves_nothing_behind(stack: Stack, database: Database) -> None:
    written = await stack.documents.add(ME, [NewDocument("Soon forgotten.", key="gone")])
    await stack.documents.delete(ME, "gone")
    assert "Soon forgotten." not in await texts(stack, "soon forgotten")
    async with database.transaction(ME.project_id) as tx:
        for table in ("chunks", "embeddings", "dirty"):
            rows = await tx.rows(
                f"SELECT 1 FROM {table} WHERE document_id = %(id)s",
                {"id": written.documents[0].uuid},
            )
            assert rows == []
    model = (await stack.models.active()).model
    points = [p async for batch in stack.indexing.vectors.scan(model) for p in batch]
    assert all(document != written.documents[0].uuid for _, document, _ in points)


async def test_a_change_over_another_is_refused(stack: Stack) -> None:
    written = await stack.documents.add(ME, [NewDocument("Version one.", key="v")])
    version = written.documents[0].version
    await stack.documents.patch(ME, "v", {"content": "Version two."}, if_match=version)
    with pytest.raises(PreconditionFailed):
        await stack.documents.patch(ME, "v", {"content": "Lost update."}, if_match=version)
    with pytest.raises(PreconditionFailed):
        await stack.documents.delete(ME, "v", if_match=version)


async def test_pages_hold_every_document_once(stack: Stack) -> None:
    await stack.documents.add(ME, [NewDocument(f"Page filler {n}.") for n in range(7)])
    seen, cursor = [], None
    while True:
        page = await stack.documents.page(ME, limit=3, cursor=cursor)
        seen += [d.id for d in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    everything = await stack.documents.page(ME, limit=1000)
    assert seen == [d.id for d in everything.items]
    with pytest.raises(InvalidCursor):
        await stack.documents.page(ME, cursor="not a cursor")


async def test_a_page_of_long_documents_ends_early(stack: Stack) -> None:
    text = "x" * (PAGE_BYTES * 2 // 5)
    new = [NewDocument(text, {"long": True}, key=f"long-{n}.txt") for n in range(5)]
    await stack.documents.add(ME, new, wait=False)
    filter, cursor, pages = parse_filter({"long": True}), None, []
    while cursor is not None or not pages:
        page = await stack.documents.page(ME, limit=4, cursor=cursor, filter=filter)
        pages.append([d.id for d in page.items])
        cursor = page.next_cursor
    assert pages == [[n.key for n in part] for part in (new[:2], new[2:4], new[4:])]
    for document in new:
        await stack.documents.delete(ME, str(document.key))


@pytest.mark.parametrize(
    ("search", "found"),
    [("json.loads", 1), ("loads", 1), ("max_wal_size's", 1), ("json absent", 0), ("the of", 0)],
)
async def test_lists_search_words_as_searches_do(stack: Stack, search: str, found: int) -> None:
    text = "Call json.loads, then raise max_wal_size."
    made = (await stack.documents.add(ME, [NewDocument(text)])).documents[0]
    assert len((await stack.documents.page(ME, search=search)).items) == found
    await stack.documents.delete(ME, made.id)


async def test_a_given_vector_stands_for_the_document(stack: Stack) -> None:
    width = (await stack.models.active()).model.dimensions
    vector = [1.0] + [0.0] * (width - 1)
    await stack.documents.add(ME, [NewDocument("Placed by hand.", vector=vector)])
    answer = await stack.search.search(SearchRequest(vector=vector, mode="semantic"), ME)
    assert answer.results[0].document.content == "Placed by hand."
    assert answer.results[0].score == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "new",
    [
        NewDocument(""),
        NewDocument("  \n"),
        NewDocument("a\x00b"),
        NewDocument("\ud800"),
        NewDocument("x", {"a": "\x00"}),
        NewDocument("x", {"a": float("nan")}),
        NewDocument("x", vector=[0.0]),
        NewDocument("x", vector=[float("inf")]),
        NewDocument("x", vector=[1e-30]),
        NewDocument("x", key=""),
    ],
)
async def test_what_cannot_be_stored_is_refused_before_anything_is(
    stack: Stack, new: NewDocument
) -> None:
    with pytest.raises(InvalidRequest):
        await stack.documents.add(ME, [NewDocument("Fine."), new])


async def test_an_id_of_ours_is_nobodys_key(stack: Stack) -> None:
    made = (await stack.documents.add(ME, [NewDocument("Reached by our id.")])).documents[0]
    with pytest.raises(AlreadyExists):
        await stack.documents.add(ME, [NewDocument("In its way.", key=made.id)])
    assert (await stack.documents.get(ME, made.id)).content == "Reached by our id."


async def test_metadata_may_quote_an_escape(stack: Stack) -> None:
    quoted = NewDocument("About escapes.", {"code": "\\u0000", "path": "a\\\\u0000"})
    made = (await stack.documents.add(ME, [quoted])).documents[0]
    assert made.metadata == quoted.metadata


async def test_without_waiting_the_worker_follows(stack: Stack, database: Database) -> None:
    written = await stack.documents.add(ME, [NewDocument("Followed later.")], wait=False)
    assert not written.settled
    assert written.documents[0].state == "pending"
    while await stack.indexing.apply_due():
        pass
    assert await changes.count(database) == (0, 0)
    assert "Followed later." in await texts(stack, "followed later")


async def test_another_project_sees_nothing(stack: Stack, database: Database) -> None:
    other = UUID("00000000-0000-7000-8000-0000000000ff")
    async with database.transaction(other) as tx:
        for table in ("documents", "chunks", "embeddings", "document_keys", "dirty", "runs"):
            assert await tx.rows(f"SELECT 1 FROM {table}") == []
    async with database.transaction(None) as tx:
        assert await tx.rows("SELECT 1 FROM documents") == []


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a"], {"a": "b"}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_follows_the_examples_of_rfc_7396(target, patch, merged) -> None:
    assert merge(target, patch) == merged


async def test_a_passage_is_what_was_found_until_the_change_is_followed(stack: Stack) -> None:
    """Its offsets are those of the content that was cut, which the document may have no more."""
    await stack.documents.add(ME, [NewDocument("Ocelots hunt by night.", key="ocelot")])
    await stack.documents.patch(ME, "ocelot", {"content": "Gone."}, wait=False)
    answer = await stack.search.search(SearchRequest("ocelots", mode="keyword"), ME)
    assert [p.text for p in answer.results[0].passages] == ["Ocelots hunt by night."]
    assert answer.results[0].document.content == "Gone."
