"""Runs on a real PostgreSQL: queued, done by a worker, followed, cancelled, taken up again."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest

from ai_stack.database import Database, job_worker, jobs
from ai_stack.database.notices import Notices
from ai_stack.database.runs import CHANNEL
from ai_stack.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unavailable
from ai_stack.models.principals import EDITOR, Principal, Scope
from ai_stack.models.runs import Event
from ai_stack.services.handlers import RunContext
from ai_stack.services.runs import Runs

ME = Principal()


class Deeds:
    """Handlers that do what a test wants, and what they were asked."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.tries = 0

    async def count(self, context: RunContext) -> Mapping[str, object]:
        total = int(str(context.input["total"]))
        for done in range(1, total + 1):
            await context.event("step", {"done": done})
        return {"counted": total}

    async def endless(self, context: RunContext) -> Mapping[str, object]:
        self.begun.set()
        await asyncio.sleep(600)
        return {}

    async def wrong(self, context: RunContext) -> Mapping[str, object]:
        raise InvalidRequest("The input makes no sense.")

    async def broken(self, context: RunContext) -> Mapping[str, object]:
        raise ZeroDivisionError("a secret of the library")

    async def shy(self, context: RunContext) -> Mapping[str, object]:
        self.tries += 1
        if self.tries < 2:
            raise Unavailable("The engine sleeps.")
        return {"tries": self.tries}


@pytest.fixture
def deeds() -> Deeds:
    return Deeds()


@pytest.fixture
async def runs(database: Database, deeds: Deeds) -> AsyncIterator[Runs]:
    notices = Notices(database, CHANNEL)
    names = ("count", "endless", "wrong", "broken", "shy")
    yield Runs(database, notices, {name: getattr(deeds, name) for name in names})
    await notices.aclose()


@asynccontextmanager
async def worker(runs: Runs) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(job_worker.work(runs.database, runs.execute, 4))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def followed(runs: Runs, run_id: object, after: int = 0) -> list[Event]:
    async with asyncio.timeout(20):
        return [event async for event in runs.follow(ME, run_id, after)]  # type: ignore[arg-type]


async def test_a_run_is_done_and_its_events_are_numbered(runs: Runs) -> None:
    async with worker(runs):
        run = await runs.start(ME, "count", {"total": 3})
        assert run.status == "queued"
        events = await followed(runs, run.id)
    assert [e.number for e in events] == [1, 2, 3, 4, 5]
    assert [e.kind for e in events] == ["started", "step", "step", "step", "done"]
    ended = await runs.get(ME, run.id)
    assert (ended.status, ended.output) == ("succeeded", {"counted": 3})
    assert ended.finished_at is not None
    assert [e.number for e in await followed(runs, run.id, after=3)] == [4, 5]


async def test_fifty_followers_see_the_same(runs: Runs) -> None:
    run = await runs.start(ME, "count", {"total": 5})
    following = [asyncio.create_task(followed(runs, run.id)) for _ in range(50)]
    async with worker(runs):
        seen = await asyncio.gather(*following)
    assert all(events == seen[0] for events in seen)


async def test_a_waiting_run_is_cancelled_at_once(runs: Runs) -> None:
    run = await runs.start(ME, "endless", {})
    cancelled = await runs.cancel(ME, run.id)
    assert cancelled.status == "cancelled"
    with pytest.raises(Conflict):
        await runs.cancel(ME, run.id)
    assert [e.kind for e in await followed(runs, run.id)] == ["cancelled"]


async def test_work_on_the_stack_is_stopped_by_no_editor(runs: Runs) -> None:
    guarded = replace(runs, scopes={"endless": Scope.OPERATE, "count": Scope.SKILLS})
    run = await guarded.start(ME, "endless", {})
    editor = replace(ME, scopes=EDITOR)
    with pytest.raises(Forbidden):
        await guarded.cancel(editor, run.id)
    assert (await guarded.cancel(ME, run.id)).status == "cancelled"
    other = await guarded.start(ME, "count", {"total": 1})
    assert (await guarded.cancel(replace(editor, scopes=EDITOR), other.id)).status == "cancelled"


async def test_a_running_run_is_cancelled_and_retried(runs: Runs, deeds: Deeds) -> None:
    async with worker(runs):
        run = await runs.start(ME, "endless", {})
        await asyncio.wait_for(deeds.begun.wait(), 10)
        await runs.cancel(ME, run.id)
        assert (await followed(runs, run.id))[-1].kind == "cancelled"
        deeds.begun.clear()
        assert (await runs.retry(ME, run.id)).status == "queued"
        await asyncio.wait_for(deeds.begun.wait(), 10)
        await runs.cancel(ME, run.id)
        assert (await runs.wait(ME, run.id, 10)).status == "cancelled"


async def test_runs_that_are_done_alone_leave_room_for_others(runs: Runs, deeds: Deeds) -> None:
    one_by_one = replace(runs, alone=("endless",))
    waiting = [await one_by_one.start(ME, "endless", {}) for _ in range(5)]
    other = await one_by_one.start(ME, "count", {"total": 1})
    async with worker(one_by_one):
        assert (await runs.wait(ME, other.id, 10)).status == "succeeded"
        states = [(await runs.get(ME, run.id)).status for run in waiting]
        assert states == ["running", "queued", "queued", "queued", "queued"]
        await runs.cancel(ME, waiting[1].id)
        await runs.cancel(ME, waiting[0].id)
        async with asyncio.timeout(10):
            while (await runs.get(ME, waiting[2].id)).status != "running":
                await asyncio.sleep(0.05)
        for run in waiting[2:]:
            await runs.cancel(ME, run.id)
            assert (await runs.wait(ME, run.id, 10)).status == "cancelled"
    assert (await runs.get(ME, waiting[1].id)).status == "cancelled"


async def test_what_fails_tells_its_reason_and_no_library_speaks(runs: Runs) -> None:
    async with worker(runs):
        wrong = await runs.start(ME, "wrong", {})
        broken = await runs.start(ME, "broken", {})
        unknown = await runs.start(ME, "unheard-of", {})
        assert (await runs.wait(ME, wrong.id, 10)).error == "The input makes no sense."
        assert "secret" not in str((await runs.wait(ME, broken.id, 10)).error)
        assert "unheard-of" in str((await runs.wait(ME, unknown.id, 10)).error)


async def test_a_passing_failure_is_tried_again(runs: Runs) -> None:
    async with worker(runs):
        run = await runs.start(ME, "shy", {})
        events = await followed(runs, run.id)
    assert [e.kind for e in events] == ["started", "step", "started", "done"]
    assert events[1].data["waiting"] == "The engine sleeps."


async def test_a_stopped_worker_leaves_its_run_to_the_next(
    runs: Runs, deeds: Deeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_worker, "GRACE_S", 0.1)
    async with worker(runs):
        run = await runs.start(ME, "endless", {})
        await asyncio.wait_for(deeds.begun.wait(), 10)
    assert (await runs.get(ME, run.id)).status == "queued"
    done = replace(runs, handlers={"endless": deeds.count})
    async with worker(done):
        assert (await runs.wait(ME, run.id, 10)).status == "failed"  # it has no total


async def test_a_dead_workers_run_is_rescued(runs: Runs, deeds: Deeds) -> None:
    run = await runs.start(ME, "count", {"total": 1})
    async with runs.database.transaction(None) as tx:
        await tx.execute(jobs.SEARCH_PATH)
        await tx.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 h')"
        )
        await tx.execute(
            "UPDATE procrastinate_jobs SET status = 'doing',"
            " worker_id = (SELECT max(id) FROM procrastinate_workers) WHERE lock = %(run)s",
            {"run": str(run.id)},
        )
    async with worker(runs):
        assert (await runs.wait(ME, run.id, 10)).status == "succeeded"


async def test_runs_are_listed_newest_first(runs: Runs) -> None:
    mine = [(await runs.start(ME, "listed", {"n": n})).id for n in range(3)]
    page = await runs.page(ME, limit=2, kind="listed")
    assert [r.id for r in page.items] == mine[:0:-1]
    rest = await runs.page(ME, limit=2, kind="listed", cursor=page.next_cursor)
    assert [r.id for r in rest.items] == mine[:1]
    assert rest.next_cursor is None


async def test_a_foreign_project_sees_no_run(runs: Runs) -> None:
    run = await runs.start(ME, "count", {"total": 1})
    with pytest.raises(NotFound):
        await runs.get(Principal(uuid4()), run.id)
    with pytest.raises(NotFound):
        await runs.cancel(Principal(uuid4()), run.id)
