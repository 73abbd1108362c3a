"""What becomes of a change when something is in its way, on a real PostgreSQL."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pytest

from ai_stack.database import Database, changes
from ai_stack.embedders.memory import MemoryEmbedder
from ai_stack.errors import AIStackError, EmbedderUnavailable, StorageFull, TooBusy
from ai_stack.models.documents import DocumentState, NewDocument
from ai_stack.models.embedding import TextKind
from ai_stack.models.principals import Principal
from ai_stack.services.documents import Documents
from ai_stack.services.embedding import Models
from ai_stack.stack import Stack

ME = Principal()
BITTER = "A bitter pill"


class Choking(MemoryEmbedder):
    """Raises what it is given for every text that is bitter."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def embed(self, texts: Sequence[str], kind: TextKind) -> npt.NDArray[np.float32]:
        if any(BITTER in text for text in texts):
            raise self.error
        return await super().embed(texts, kind)


def choking(stack: Stack, error: Exception) -> Documents:
    async def opened(name: str | None) -> MemoryEmbedder:
        return Choking(error)

    models = Models(stack.database, opened)
    return replace(stack.documents, indexing=replace(stack.indexing, models=models))


async def states(stack: Stack, *keys: str) -> list[DocumentState]:
    return [(await stack.documents.get(ME, key)).state for key in keys]


@pytest.mark.parametrize("error", [TooBusy(), StorageFull(), EmbedderUnavailable()])
async def test_what_passes_by_itself_gives_no_document_up(
    stack: Stack, error: AIStackError
) -> None:
    key = f"passing-{error.code}.md"
    documents = choking(stack, error)
    written = await documents.add(ME, [NewDocument(f"{BITTER}.", key=key)])
    assert not written.settled
    leases = await changes.lease(stack.database, 10, 30.0)
    await documents.indexing.apply([replace(lease, tries=99) for lease in leases])
    assert await states(stack, key) == ["pending"]
    await stack.documents.delete(ME, key)


async def test_a_fault_of_ours_in_one_document_is_not_the_others(
    stack: Stack, database: Database
) -> None:
    keys = ["good.md", "poison.md", "also-good.md"]
    texts = ["Sweet.", f"{BITTER}.", "Savoury."]
    new = [NewDocument(text, key=key) for text, key in zip(texts, keys, strict=True)]
    documents = choking(stack, IndexError("a fault of ours"))
    written = await documents.add(ME, new, wait=False)
    leases = await changes.lease(database, 10, 30.0)
    assert {lease.document_id for lease in leases} == {d.uuid for d in written.documents}
    await documents.indexing.apply(leases)
    assert await states(stack, *keys) == ["indexed", "pending", "indexed"]
    await documents.indexing.apply([replace(lease, tries=99) for lease in leases])
    assert await states(stack, *keys) == ["indexed", "failed", "indexed"]
    assert (await stack.documents.get(ME, "poison.md")).error == AIStackError().message
    for key in keys:
        await stack.documents.delete(ME, key)


async def test_pieces_are_bounded_whatever_the_number_and_length(stack: Stack) -> None:
    new = [NewDocument("word " * 20_000, key=f"long-{n}.md") for n in range(5)]
    documents = (await stack.documents.add(ME, new)).documents
    ids = [d.uuid for d in documents] + [uuid4() for _ in range(300)]
    pieces = [p async for p in stack.indexing.pieces(ME.project_id, ids)]
    assert [id for piece in pieces for id in piece] == ids
    assert [len(piece) for piece in pieces] == [2, 2, 200, 101]
    for document in documents:
        await stack.documents.delete(ME, document.id)


async def test_a_model_that_is_being_fetched_keeps_no_other_waiting(stack: Stack) -> None:
    fetched = asyncio.Event()

    async def opened(name: str | None) -> MemoryEmbedder:
        if name == "huge":
            await fetched.wait()
        return MemoryEmbedder(name=name or "memory")

    models = Models(stack.database, opened)
    huge = asyncio.create_task(models.named("huge"))
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        assert (await models.named("memory")).model.name == "memory"
    fetched.set()
    assert (await huge).model.name == "huge"
