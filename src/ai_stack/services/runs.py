"""Runs: long work that is done in the worker, followed from anywhere, cancelled and retried.

A run knows nothing of what it does: a Handler does that, by the run's kind. Handlers are
idempotent, since a run whose worker died is taken up again from its beginning.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID

from ai_stack.database import Database, Transaction, jobs, run_files
from ai_stack.database import runs as rows
from ai_stack.database.notices import Notices
from ai_stack.errors import (
    AIStackError,
    Conflict,
    Forbidden,
    InvalidCursor,
    InvalidRequest,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from ai_stack.models.documents import JSON
from ai_stack.models.principals import Principal, Scope
from ai_stack.models.runs import (
    ENDED,
    Event,
    EventKind,
    FileState,
    Run,
    RunFilePage,
    RunPage,
    RunStatus,
)
from ai_stack.services.cursors import cursor_of, position_of
from ai_stack.services.handlers import Handler, Paused, RunContext
from ai_stack.services.withdrawal import while_allowed
from ai_stack.telemetry.metrics import Counted

CONCURRENCY = 4
MAX_TRIES = 20
GUARDED = (Scope.OPERATE, Scope.MANAGE)  # runs of these are not stopped by who may not start them
WITHDRAWN = "Who started this run may not do it any more."
PAGE_LIMIT = 1000
EVENTS_AT_ONCE = 500
LOOK_S = 5.0

log = logging.getLogger(__name__)


async def unchanged(principal: Principal) -> Principal:
    """The rights that a run was started with."""
    return principal


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a project; `handlers` do the work of each kind, in the worker.

    Of each kind in `alone` one run is done at a time, whatever its project. Kinds in `queues` have
    a queue of their own, all others share one. `rights` tells what the principal of a run may
    still do when it begins.
    """

    database: Database
    notices: Notices
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    alone: Collection[str] = ()
    queues: Mapping[str, str] = field(default_factory=dict)
    rights: Callable[[Principal], Awaitable[Principal]] = unchanged
    scopes: Mapping[str, Scope] = field(default_factory=dict)
    counted: Counted = field(default_factory=Counted)

    async def start(self, principal: Principal, kind: str, input: Mapping[str, JSON]) -> Run:
        """Queue a run for the worker; Forbidden without the scope that its kind needs."""
        async with self.database.transaction(principal.project_id) as tx:
            return await _found(tx, await self.enqueue(tx, principal, kind, input))

    async def enqueue(
        self, tx: Transaction, principal: Principal, kind: str, input: Mapping[str, JSON]
    ) -> UUID:
        """Queue a run with all else that its unit of work does; Forbidden as for `start`."""
        self._require(principal, kind)
        id = await rows.insert(tx, principal, kind, input)
        await self._defer(tx, id, kind)
        return id

    async def get(self, principal: Principal, id: UUID) -> Run:
        """The run of an id; NotFound."""
        async with self.database.transaction(principal.project_id) as tx:
            return await _found(tx, id)

    async def page(
        self,
        principal: Principal,
        *,
        limit: int = 100,
        cursor: str | None = None,
        kind: str | None = None,
    ) -> RunPage:
        """Runs, newest first."""
        _check_limit(limit)
        if kind is not None and "\x00" in kind:
            raise InvalidRequest("There is no such kind of run.")
        before = None if cursor is None else position_of(cursor)
        async with self.database.transaction(principal.project_id) as tx:
            found = await rows.page(tx, before=before, limit=limit + 1, kind=kind)
        items = found[:limit]
        return RunPage(items, cursor_of(items[-1].id) if len(found) > limit else None)

    async def files(
        self,
        principal: Principal,
        id: UUID,
        *,
        limit: int = 100,
        cursor: str | None = None,
        state: FileState | None = None,
    ) -> RunFilePage:
        """The files of an import with the state and error of each, in their order."""
        _check_limit(limit)
        after = -1 if cursor is None else _number(cursor)
        async with self.database.transaction(principal.project_id) as tx:
            await _found(tx, id)
            found = await run_files.page(tx, id, after=after, limit=limit + 1, state=state)
        items = found[:limit]
        return RunFilePage(items, str(items[-1].number) if len(found) > limit else None)

    async def cancel(self, principal: Principal, id: UUID) -> Run:
        """Cancel a run: at once when it is waiting, soon when it runs.

        Conflict when it ended; Forbidden for work on the stack or the project itself by who may
        not start it.
        """
        async with self.database.transaction(principal.project_id) as tx:
            status, _ = await _locked(tx, id)
            kind = (await _found(tx, id)).kind
            if self.scopes.get(kind) in GUARDED:
                self._require(principal, kind)
            if status in ENDED:
                raise Conflict(f"This run has ended already: it {_phrase(status)}.")
            if status in ("queued", "waiting"):
                await _end(tx, id, "cancelled", "cancelled", {})
            else:
                await rows.ask_to_cancel(tx, id)
            await jobs.cancel(tx, id)
            return await _found(tx, id)

    async def retry(self, principal: Principal, id: UUID) -> Run:
        """Queue a run again that failed or was cancelled, with the rights of who retries it.

        Conflict for any other; Forbidden for one of a kind that needs more.
        """
        async with self.database.transaction(principal.project_id) as tx:
            status, _ = await _locked(tx, id)
            if status not in ("failed", "cancelled"):
                raise Conflict(
                    f"Only a run that failed or was cancelled is retried: it {_phrase(status)}."
                )
            await rows.set_status(tx, id, "queued")
            await rows.hand_over(tx, id, principal)
            run = await _found(tx, id)
            self._require(principal, run.kind)
            await self._defer(tx, id, run.kind)
            return run

    async def resume(self, principal: Principal, id: UUID, step: Mapping[str, JSON]) -> Run:
        """Let a run that waits go on, with a step that holds the answer.

        Conflict for any other; Forbidden for who may do less than its starter, with whose rights
        it goes on.
        """
        async with self.database.transaction(principal.project_id) as tx:
            status, _ = await _locked(tx, id)
            _check_answer(principal, await rows.principal_of(tx, id))
            if status != "waiting":
                raise Conflict(f"Only a run that waits is answered: it {_phrase(status)}.")
            await rows.append(tx, id, "step", step)
            await rows.set_status(tx, id, "queued")
            run = await _found(tx, id)
            await self._defer(tx, id, run.kind)
            return run

    def _require(self, principal: Principal, kind: str) -> None:
        if kind in self.scopes:
            principal.require(self.scopes[kind])

    async def _defer(self, tx: Transaction, id: UUID, kind: str) -> None:
        lock = kind if kind in self.alone else None
        await jobs.defer(tx, id, lock, self.queues.get(kind, jobs.QUEUE))

    async def follow(self, principal: Principal, id: UUID, after: int = 0) -> AsyncIterator[Event]:
        """The events of a run after a number, as they come, until the run has ended."""
        async with self.notices.of(str(id)) as bell:
            while True:
                bell.clear()
                async with self.database.transaction(principal.project_id) as tx:
                    run = await _found(tx, id)
                    events = await rows.events(tx, id, after, EVENTS_AT_ONCE)
                for event in events:
                    after = event.number
                    yield event
                if not events:
                    if run.status in ENDED:
                        return
                    await _rung(bell, LOOK_S)

    async def wait(self, principal: Principal, id: UUID, timeout_s: float) -> Run:
        """The run when it has ended, or as it is after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                async for _ in self.follow(principal, id):
                    pass
        except TimeoutError:
            log.debug("run %s takes longer than %s s", id, timeout_s)
        return await self.get(principal, id)

    async def execute(self, id: UUID, tries: int = 0) -> None:
        """Do a run, in the worker. Raises what is to be tried again, and CancelledError."""
        project = await rows.project_of(self.database, id)
        if project is None:
            return
        begun = await self._begin(project, id, tries)
        if begun is None:
            return
        context = RunContext(*begun, self.database, tries)
        allow = partial(self._allow, context)
        try:
            await allow()
            async with while_allowed(allow):
                await self._do(context, tries)
        except (Unauthenticated, Forbidden):
            await self._close(context, "failed", "failed", {"error": WITHDRAWN})

    async def _allow(self, context: RunContext) -> None:
        """Leave the run what rights its principal has now; raises where they do not suffice."""
        context.principal = await self.rights(context.principal)
        self._require(context.principal, context.run.kind)

    async def perform(
        self,
        principal: Principal,
        kind: str,
        input: Mapping[str, JSON],
        prepare: Callable[[Transaction, UUID], Awaitable[None]],
        handler: Handler,
    ) -> Run:
        """Do a run here and now, without the queue; `prepare` shares its first transaction.

        A run whose process dies is left behind: whoever performs its kind next abandons it.
        """
        async with self.database.transaction(principal.project_id) as tx:
            id = await rows.insert(tx, principal, kind, input, "running")
            await prepare(tx, id)
            await rows.append(tx, id, "started", {})
            run = await _found(tx, id)
        context = RunContext(principal, run, self.database)
        try:
            await replace(self, handlers={kind: handler})._do(context, 0)
        except Unavailable as error:
            await self._close(context, "failed", "failed", {"error": error.message})
        return await self.get(principal, id)

    async def abandon(self, principal: Principal, kind: str) -> None:
        """End the runs of a kind whose process died."""
        async with self.database.transaction(principal.project_id) as tx:
            for id in await rows.unended(tx, kind):
                await _locked(tx, id)
                await _end(tx, id, "failed", "failed", {"error": "It was interrupted."})

    async def _begin(self, project: UUID, id: UUID, tries: int) -> tuple[Principal, Run] | None:
        async with self.database.transaction(project) as tx:
            status, cancelling = await _locked(tx, id)
            if status in ENDED:
                return None
            if cancelling:
                await _end(tx, id, "cancelled", "cancelled", {})
                return None
            await rows.set_status(tx, id, "running")
            await rows.append(tx, id, "started", {"tries": tries})
            return await rows.principal_of(tx, id), await _found(tx, id)

    async def _do(self, context: RunContext, tries: int) -> None:
        handler = self.handlers.get(context.run.kind)
        try:
            if handler is None:
                raise NotFound(f"This version does not know runs of kind {context.run.kind}.")
            if tries >= MAX_TRIES:
                raise AIStackError(f"The run was taken up {tries} times and did not end.")
            output = await handler(context)
        except asyncio.CancelledError:
            if not await asyncio.shield(self._stop(context)):
                raise
        except Paused as paused:
            await self._pause(context, paused)
        except Unavailable as error:
            await self._postpone(context, error, tries)
        except AIStackError as error:
            await self._close(context, "failed", "failed", {"error": error.message})
        except Exception:
            log.exception("run %s failed unexpectedly", context.run.id)
            reason = f"{AIStackError().message} (run {context.run.id})"
            await self._close(context, "failed", "failed", {"error": reason})
        else:
            await self._close(context, "succeeded", "done", output)

    async def _stop(self, context: RunContext) -> bool:
        """The task is cancelled: by a caller (true), or because the worker stops."""
        async with self.database.transaction(context.principal.project_id) as tx:
            status, cancelling = await _locked(tx, context.run.id)
            if cancelling and status not in ENDED:
                self.counted.runs.observe(context.took_s, context.run.kind, "cancelled")
                await _end(tx, context.run.id, "cancelled", "cancelled", {})
            elif status not in ENDED:
                await rows.set_status(tx, context.run.id, "queued")
            return cancelling

    async def _pause(self, context: RunContext, paused: Paused) -> None:
        async with self.database.transaction(context.principal.project_id) as tx:
            _, cancelling = await _locked(tx, context.run.id)
            if cancelling:
                await _end(tx, context.run.id, "cancelled", "cancelled", {})
                return
            await rows.set_status(tx, context.run.id, "waiting")
            await rows.append(tx, context.run.id, "ask", paused.ask)

    async def _postpone(self, context: RunContext, error: Unavailable, tries: int) -> None:
        if tries + 1 >= MAX_TRIES:
            await self._close(context, "failed", "failed", {"error": error.message})
            return
        async with self.database.transaction(context.principal.project_id) as tx:
            await _locked(tx, context.run.id)
            await rows.set_status(tx, context.run.id, "queued")
            data: dict[str, JSON] = {"waiting": error.message, "tries": tries + 1}
            await rows.append(tx, context.run.id, "step", data)
        raise error

    async def _close(
        self, context: RunContext, status: RunStatus, kind: EventKind, data: Mapping[str, JSON]
    ) -> None:
        self.counted.runs.observe(context.took_s, context.run.kind, status)
        async with self.database.transaction(context.principal.project_id) as tx:
            if (await _locked(tx, context.run.id))[0] not in ENDED:
                await _end(tx, context.run.id, status, kind, data)


async def _end(
    tx: Transaction, id: UUID, status: RunStatus, kind: EventKind, data: Mapping[str, JSON]
) -> None:
    error = data.get("error") if status == "failed" else None
    output = data if status == "succeeded" else None
    await rows.finish(tx, id, status, output, None if error is None else str(error))
    await rows.append(tx, id, kind, data)


def _check_answer(principal: Principal, starter: Principal) -> None:
    own = principal.user_id or principal.key_id
    if own is not None and own == (starter.user_id or starter.key_id):
        return
    if not principal.scopes >= starter.scopes:
        raise Forbidden("Who answers may do no less than who has started this run.")


async def _found(tx: Transaction, id: UUID) -> Run:
    run = await rows.find(tx, id)
    if run is None:
        raise NotFound("There is no run with this id.")
    return run


async def _locked(tx: Transaction, id: UUID) -> tuple[RunStatus, bool]:
    found = await rows.lock(tx, id)
    if found is None:
        raise NotFound("There is no run with this id.")
    return found


async def _rung(bell: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await bell.wait()
    except TimeoutError:
        return


def _phrase(status: RunStatus) -> str:
    phrases = {"queued": "is queued", "running": "runs", "waiting": "waits for an answer"}
    return {**phrases, "cancelled": "was cancelled"}.get(status, status)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= PAGE_LIMIT:
        raise InvalidRequest(f"limit must be between 1 and {PAGE_LIMIT}.")


def _number(cursor: str) -> int:
    if not cursor.isdecimal() or not cursor.isascii() or int(cursor) >= 2**31:
        raise InvalidCursor
    return int(cursor)
