"""Which projects keep what they have in envelopes, and with which keys: asked for, told, rotated.

A change holds for everything that is written from then on; what is there already is rewritten by
a run, while it is read and written as ever.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from ai_stack.database import Database, Transaction, audit, data_keys, locks, resealing
from ai_stack.database.data_keys import WrappedKey
from ai_stack.errors import Conflict, DeadlineExceeded
from ai_stack.models.documents import JSON
from ai_stack.models.principals import Principal, Scope
from ai_stack.models.runs import Run
from ai_stack.services.encryption.keyring import Keyring
from ai_stack.services.handlers import RunContext
from ai_stack.services.runs import Runs

KIND = "seal"
SETTLE_S, LOOK_S, PATIENCE_S = 2.0, 0.2, 600.0
IN_THE_CLEAR = (
    "the words of each passage, without their order, which full text search needs",
    "the vectors, which can tell what a passage is about",
    "the metadata, keys, names and hashes of documents and files, by which one finds them",
    "the inputs, outputs and events of runs",
    "what Redis holds for a time: conversations and answers",
    "files in the folders of imports and exports",
    "what was written before, until PostgreSQL has reused its space, and in older backups",
)


@dataclass(frozen=True, slots=True)
class Sealing:
    """How a project is kept; `counts` are the rows of each kind, and those still to rewrite."""

    key_id: int | None
    master: str | None
    counts: Mapping[str, resealing.Tally]

    @property
    def is_done(self) -> bool:
        """Whether every row has the form that it should have."""
        return not any(tally.other for tally in self.counts.values())


@dataclass(frozen=True, slots=True)
class Encryption:
    """Envelopes of a project, by its choice; `runs` rewrites what is there already."""

    database: Database
    keyring: Keyring
    runs: Runs

    async def status(self, principal: Principal) -> Sealing:
        """What of the caller's project is sealed. Raises Forbidden without `manage`."""
        principal.require(Scope.MANAGE)
        async with self.database.control() as tx:
            key_id, master = await data_keys.active(tx, principal.project_id)
        async with self.database.transaction(principal.project_id) as tx:
            counts = await resealing.tally(tx)
        return Sealing(key_id, master, counts)

    async def enable(self, principal: Principal) -> Run:
        """Seal the bodies of the project, from now on and by a run what is there.

        Once more, it goes on with what is left to rewrite; Conflict where nothing is.
        """
        found = await self.status(principal)
        if found.key_id is not None and not found.is_done:
            return await self.runs.start(principal, KIND, {})
        return await self._renew(principal, "encryption.enable", was_sealed=False)

    async def rotate(self, principal: Principal) -> Run:
        """Seal them with a new data key; Conflict when they are not sealed."""
        return await self._renew(principal, "encryption.rotate", was_sealed=True)

    async def disable(self, principal: Principal) -> Run:
        """Keep them in the clear again; Conflict when they are."""
        principal.require(Scope.MANAGE)
        async with self.database.control() as tx:
            if not await data_keys.clear(tx, principal.project_id):
                raise Conflict("What this project keeps is not sealed.")
            await self._record(tx, principal, "encryption.disable")
        return await self.runs.start(principal, KIND, {})

    async def _renew(self, principal: Principal, action: str, *, was_sealed: bool) -> Run:
        principal.require(Scope.MANAGE)
        async with self.database.control() as tx:
            sealed = (await data_keys.active(tx, principal.project_id))[0] is not None
            if sealed != was_sealed:
                state = "sealed already" if sealed else "not sealed"
                raise Conflict(f"What this project keeps is {state}.")
            key = self.keyring.make()
            await data_keys.add_master(tx, key.master, self.keyring.files.current().check_value())
            await data_keys.put(tx, principal.project_id, key)
            await self._record(tx, principal, action)
        return await self.runs.start(principal, KIND, {})

    async def _record(self, tx: Transaction, principal: Principal, action: str) -> None:
        project = principal.project_id
        await audit.record(tx, principal.name, action, str(project), project_id=project)

    async def rotate_master(self, principal: Principal) -> tuple[str, bool]:
        """Wrap every data key with another master; its id, and whether its file is in place.

        No document is touched. The new master is what lies beside the old one as `.next`, else
        it is made. Raises Forbidden without `operate`.
        """
        principal.require(Scope.OPERATE)
        async with self.database.control() as tx:
            keys = await data_keys.locked(tx)
            self.keyring.files.current()
            successor = self.keyring.files.successor()
            anew = [self._rewrapped(key) for key in keys if key.master != successor.id]
            await data_keys.add_master(tx, successor.id, successor.check_value())
            await data_keys.rewrap(tx, anew)
            await audit.record(tx, principal.name, "encryption.rotate_master", successor.id)
        return successor.id, self.keyring.files.succeed()

    def _rewrapped(self, key: WrappedKey) -> WrappedKey:
        successor = self.keyring.files.successor()
        opened = self.keyring.admit(key.id, key.master, key.wrapped)
        return WrappedKey(key.id, successor.id, successor.wrap(key.id, opened.secret))


@dataclass(frozen=True, slots=True)
class Resealing:
    """The run that rewrites what a project keeps; broken off, it goes on with what is left."""

    database: Database
    settle_s: float = SETTLE_S

    async def __call__(self, context: RunContext) -> Mapping[str, JSON]:
        project_id = context.principal.project_id
        async with locks.only_one(self.database, f"seal.{project_id}"):
            wanted, before = await self._state(project_id)
            done = await self._pass(context, project_id)
            await self._ended(project_id, before)  # whoever knew of the form before has written
            done += await self._pass(context, project_id)
            await asyncio.sleep(self.settle_s)  # whoever has read a row has also read its key
            forgotten = await self._forget(project_id, wanted)
            return {"rewritten": done, "keys_forgotten": forgotten}

    async def _pass(self, context: RunContext, project_id: UUID) -> int:
        """Rewrite all that has another form; how many rows."""
        done, after = 0, resealing.START
        while True:
            async with self.database.transaction(project_id) as tx:
                last, count = await resealing.documents(tx, after)
            if last is None:
                break
            done, after = done + count, last
            await context.progress(done, done, "documents rewritten")
        for rewrite in (resealing.files, resealing.responses):
            while True:
                async with self.database.transaction(project_id) as tx:
                    count = await rewrite(tx)
                if not count:
                    break
                done += count
        return done

    async def _state(self, project_id: UUID) -> tuple[int | None, set[str]]:
        """The key that rows should be sealed with, and the units of work that are under way."""
        async with self.database.transaction(project_id) as tx:
            return tx.sealing, await resealing.under_way(tx)

    async def _ended(self, project_id: UUID, before: set[str]) -> None:
        """Wait until these units of work are over; DeadlineExceeded after PATIENCE_S."""
        deadline = time.monotonic() + PATIENCE_S
        while before & (await self._state(project_id))[1]:
            if time.monotonic() > deadline:
                raise DeadlineExceeded("A unit of work in the database does not end.")
            await asyncio.sleep(LOOK_S)

    async def _forget(self, project_id: UUID, wanted: int | None) -> int:
        """Forget the project's other keys, where every row is sealed with the one that is wanted.

        If the key was changed again meanwhile, the run of that change does it.
        """
        async with self.database.transaction(project_id) as tx:
            left = await resealing.tally(tx)
        if tx.sealing != wanted or any(tally.other for tally in left.values()):
            return 0
        async with self.database.control() as tx:
            return await data_keys.drop_others(tx, project_id, wanted)
