"""Documents: stored first, then brought into the index, by the caller's wait or in its absence."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import orjson

from ai_stack.database import Database, Transaction, changes, idempotency
from ai_stack.database import documents as rows
from ai_stack.database.documents import Lease
from ai_stack.database.idempotency import KeptAnswer
from ai_stack.errors import (
    InvalidRequest,
    NotFound,
    PreconditionFailed,
)
from ai_stack.models.documents import (
    JSON,
    Document,
    DocumentPage,
    DocumentState,
    NewDocument,
)
from ai_stack.models.filters import Filter
from ai_stack.models.principals import Principal, Scope
from ai_stack.services.arrivals import Arrivals, Arrived
from ai_stack.services.cursors import cursor_of, position_of
from ai_stack.services.indexing import LEASE_S, Indexing
from ai_stack.services.limits import Limits, spending
from ai_stack.services.storable import check, check_nesting, require_storable

WAIT_S = 30.0
POLL_S = 0.05
PAGE_LIMIT, PAGE_BYTES = 1000, 32 << 20
FOLLOWED_HERE = 1 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """Documents after a write; `settled` when searches find all of them as they are now."""

    documents: Sequence[Document]
    settled: bool


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a project.

    Every write is durable when it returns. With `wait`, it returns when searches follow it, or
    after WAIT_S with `settled` false; the index then follows by itself.
    """

    database: Database
    indexing: Indexing
    limits: Limits | None = None

    async def add(
        self,
        principal: Principal,
        new: Sequence[NewDocument],
        *,
        wait: bool = True,
        idempotency_key: str | None = None,
    ) -> Written:
        """Store all of these or none.

        Repeated under the same `idempotency_key` it answers with the documents of the first
        time. Raises AlreadyExists for a taken key, InvalidRequest, TooLarge, StorageFull,
        LimitExceeded, and IdempotencyMismatch when the key came with other documents before.
        """
        principal.require(Scope.WRITE)
        check(new)
        arrivals = Arrivals(self.indexing)
        model = await arrivals.model(new) if wait else None
        arrived: Arrived | None = None
        leases: Sequence[Lease] = ()
        async with (
            spending(self.limits, principal, "documents", len(new)) as held,
            self.database.transaction(principal.project_id) as tx,
        ):
            kept = await _claim(tx, idempotency_key, new)
            if kept is not None:
                ids = kept
            elif model is not None:
                arrived = await arrivals.write(tx, model, new)
                ids, leases = [d.uuid for d in arrived.documents], arrived.leases
            else:
                ids, leases = await _insert(tx, new, wait=wait)
            if kept is None:
                await _keep(tx, idempotency_key, ids)
        if kept is not None and self.limits is not None:
            self.limits.settle(held, 0)
        if arrived is not None and await _published(arrivals, arrived):
            return Written(arrived.documents, True)
        return await self._written(principal, ids, leases, wait=wait)

    async def get(self, principal: Principal, id: str) -> Document:
        """The document of one of our ids or of the caller's key; NotFound."""
        principal.require(Scope.READ)
        async with self.database.transaction(principal.project_id) as tx:
            return await rows.find(tx, _key(id))

    async def page(
        self,
        principal: Principal,
        *,
        limit: int = 100,
        cursor: str | None = None,
        filter: Filter | None = None,
        search: str | None = None,
        state: DocumentState | None = None,
    ) -> DocumentPage:
        """Documents in the order of their making; `search` finds words of indexed content.

        A page has at most `limit` documents, and fewer when they are long: PAGE_BYTES in all.
        """
        principal.require(Scope.READ)
        if not 1 <= limit <= PAGE_LIMIT:
            raise InvalidRequest(f"limit must be between 1 and {PAGE_LIMIT}.")
        after = None if cursor is None else position_of(cursor)
        async with self.database.transaction(principal.project_id) as tx:
            found = await rows.matching(
                tx,
                after=after,
                limit=limit + 1,
                filter=filter,
                search=_text(search),
                state=state,
            )
            ids = _fitting(found[:limit])
            items = await rows.fetch(tx, ids)
        return DocumentPage(items, cursor_of(ids[-1]) if len(found) > len(ids) else None)

    async def patch(
        self,
        principal: Principal,
        id: str,
        change: Mapping[str, JSON],
        *,
        if_match: int | None = None,
        wait: bool = True,
    ) -> Written:
        """Merge a change into a document (RFC 7396): its `content` and its `metadata`.

        Raises PreconditionFailed when `if_match` is not the document's version.
        """
        unknown = set(change) - {"content", "metadata"}
        if unknown:
            raise InvalidRequest(f"These cannot be changed: {', '.join(sorted(unknown))}.")
        check_nesting(change, "The change")

        def merged(document: Document) -> NewDocument:
            both: JSON = {"content": document.content, "metadata": document.metadata}
            return _from_json(merge(both, change))

        return await self._rewrite(principal, id, merged, if_match, wait=wait)

    async def put(
        self,
        principal: Principal,
        id: str,
        new: NewDocument,
        *,
        if_match: int | None = None,
        wait: bool = True,
    ) -> Written:
        """Put another content and metadata in a document's place."""
        return await self._rewrite(principal, id, lambda _: new, if_match, wait=wait)

    async def delete(
        self, principal: Principal, id: str, *, if_match: int | None = None, wait: bool = True
    ) -> None:
        """Remove a document; with `wait` its vectors are gone too when this returns."""
        principal.require(Scope.WRITE)
        async with self.database.transaction(principal.project_id) as tx:
            document = await rows.find(tx, _key(id), lock=True)
            _match(document, if_match)
            await rows.delete(tx, [document.uuid])
            leases = await _mark(tx, [document.uuid], [], wait=wait)
        await self._settle(principal, [document.uuid], leases)

    async def retry_failed(self, principal: Principal) -> int:
        """Give the documents that could not be indexed another chance; how many there are."""
        principal.require(Scope.WRITE)
        async with self.database.transaction(principal.project_id) as tx:
            return await changes.retry_failed(tx)

    async def _rewrite(
        self,
        principal: Principal,
        id: str,
        make: Callable[[Document], NewDocument],
        if_match: int | None,
        *,
        wait: bool,
    ) -> Written:
        principal.require(Scope.WRITE)
        async with (
            spending(self.limits, principal, "documents", 1),
            self.database.transaction(principal.project_id) as tx,
        ):
            document = await rows.find(tx, _key(id), lock=True)
            _match(document, if_match)
            new = make(document)
            check([new])
            await rows.replace(
                tx,
                document,
                content=new.content,
                metadata=new.metadata,
                vector=new.vector,
                source_hash=new.source_hash,
                updated_at=new.updated_at,
            )
            leases = await _mark(tx, [document.uuid], [new], wait=wait)
        return await self._written(principal, [document.uuid], leases, wait=wait)

    async def _written(
        self, principal: Principal, ids: Sequence[UUID], leases: Sequence[Lease], *, wait: bool
    ) -> Written:
        settled = await self._settle(principal, ids, leases, wait=wait)
        async with self.database.transaction(principal.project_id) as tx:
            found = {d.uuid: d for d in await rows.fetch(tx, ids)}
        if len(found) < len(ids):
            raise NotFound("What this key made has been deleted since.")
        return Written([found[id] for id in ids], settled)

    async def _settle(
        self,
        principal: Principal,
        ids: Sequence[UUID],
        leases: Sequence[Lease],
        *,
        wait: bool = True,
    ) -> bool:
        """Follow our own changes at once; wait for those that others follow."""
        if not wait:
            return False
        try:
            async with asyncio.timeout(WAIT_S):
                await self.indexing.apply(leases)
                while True:
                    async with self.database.transaction(principal.project_id) as tx:
                        open_changes = await changes.unfinished(tx, ids)
                    if all(open_changes.values()):
                        return not open_changes
                    if leases:  # postponed: a part is down
                        return False
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return False


async def _published(arrivals: Arrivals, arrived: Arrived) -> bool:
    try:
        async with asyncio.timeout(WAIT_S):
            return await arrivals.publish(arrived)
    except TimeoutError:
        return False


async def _insert(
    tx: Transaction, new: Sequence[NewDocument], *, wait: bool
) -> tuple[list[UUID], Sequence[Lease]]:
    ids = [tx.new_id() for _ in new]
    await rows.insert(tx, [*zip(ids, new, strict=True)])
    return ids, await _mark(tx, ids, new, wait=wait)


async def _mark(
    tx: Transaction, ids: Sequence[UUID], new: Sequence[NewDocument], *, wait: bool
) -> list[Lease]:
    """Mark documents as changed; the leases of those that this process follows itself.

    Long ones are the worker's in any case: the gateway's memory is for requests.
    """
    ours = wait and sum(len(document.content) for document in new) <= FOLLOWED_HERE
    leases = await rows.mark_dirty(tx, ids, LEASE_S if ours else 0)
    return leases if ours else []


def merge(target: JSON, patch: JSON) -> JSON:
    """JSON Merge Patch (RFC 7396): null removes a member, everything else replaces or merges."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def _from_json(value: JSON) -> NewDocument:
    content = value.get("content") if isinstance(value, Mapping) else None
    metadata = value.get("metadata", {}) if isinstance(value, Mapping) else None
    if not isinstance(content, str) or not isinstance(metadata, Mapping):
        raise InvalidRequest("A document has a content, a string, and metadata, an object.")
    return NewDocument(content, metadata)


def _key(id: str) -> str:
    require_storable(id, "The id")
    return id


def _text(search: str | None) -> str | None:
    if search is not None:
        require_storable(search, "The search")
    return search


def _match(document: Document, if_match: int | None) -> None:
    if if_match is not None and if_match != document.version:
        raise PreconditionFailed


async def _claim(tx: Transaction, key: str | None, new: Sequence[NewDocument]) -> list[UUID] | None:
    if key is None:
        return None
    kept = await idempotency.claim(tx, key, _hash(new))
    return None if kept is None else [UUID(id) for id in orjson.loads(kept.response)]


async def _keep(tx: Transaction, key: str | None, ids: Sequence[UUID]) -> None:
    if key is not None:
        await idempotency.keep(tx, key, KeptAnswer(201, orjson.dumps([str(id) for id in ids])))


def _hash(new: Sequence[NewDocument]) -> bytes:
    plain = [replace(d, vector=None if d.vector is None else list(d.vector)) for d in new]
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).digest()


def _fitting(found: Sequence[tuple[UUID, int]]) -> list[UUID]:
    """The first of these documents that together have PAGE_BYTES, one of them in any case."""
    ids: list[UUID] = []
    room = PAGE_BYTES
    for id, size in found:
        room -= size
        if ids and room < 0:
            break
        ids.append(id)
    return ids
