"""Rights that change, seen by two gateways of one database, while it answers and while not."""

import asyncio
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
from pydantic import SecretStr

import gateways
import servers
from ai_stack.database import credentials as rows
from ai_stack.database.migrating import migrate
from ai_stack.errors import Unauthenticated
from ai_stack.models.principals import DEFAULT_PROJECT, EVERY_SCOPE, Principal, Scope
from ai_stack.models.trust import NewKey
from ai_stack.services import withdrawal
from ai_stack.services.auth import identity as identities
from ai_stack.services.auth.credentials import new_key, operator_token
from ai_stack.services.auth.secrets import open_secrets
from ai_stack.settings import Settings
from ai_stack.stack import Stack, open_stack

pytestmark = pytest.mark.alone

SOON_S = 5.0
READING = frozenset({Scope.READ})


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """A PostgreSQL of this file's own, which is stopped and killed here."""
    with servers.postgres() as url:
        with psycopg.connect(url.format(database="postgres"), autocommit=True) as admin:
            admin.execute("CREATE DATABASE trust")
        migrate(url.format(database="trust"))
        yield url.format(database="trust")


@pytest.fixture(scope="module")
def settings(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("stack")
    return Settings(
        data_dir=folder / "data",
        config_dir=folder / "config",
        database_url=SecretStr(server_url),
        redis_url=SecretStr("memory:"),
        vectors_url=SecretStr("memory:"),
        embedder_url=SecretStr("memory:"),
        engines=SecretStr("memory:"),
        auth="required",
        auth_grace_s=10,
    )


@pytest.fixture(scope="module")
async def stack(settings: Settings) -> AsyncIterator[Stack]:
    async with open_stack(settings) as opened, opened.identity.running():
        yield opened


@pytest.fixture(scope="module")
async def two(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    async with AsyncExitStack() as exits:
        one = await exits.enter_async_context(gateways.gateway(settings))
        yield one, await exits.enter_async_context(gateways.gateway(settings))


@pytest.fixture(scope="module")
async def admin(stack: Stack) -> dict[str, str]:
    return bearer((await made(stack, EVERY_SCOPE))[1])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def made(stack: Stack, scopes: frozenset[Scope] = READING) -> tuple[str, str]:
    key, token = await stack.keys.create(Principal(), NewKey("a test's", scopes))
    return key.id, token


async def status(client: httpx.AsyncClient, token: str, path: str = "/auth/me") -> int:
    return (await client.get(path, headers=bearer(token))).status_code


async def until(wanted: Callable[[], Awaitable[bool]], within_s: float = SOON_S) -> float:
    began = time.perf_counter()
    while not await wanted():
        assert time.perf_counter() - began < within_s
        await asyncio.sleep(0.001)
    return time.perf_counter() - began


async def test_strangers_learn_of_health_without_its_details(
    two: tuple[httpx.AsyncClient, httpx.AsyncClient], admin: dict[str, str]
) -> None:
    shown = (await two[0].get("/health")).json()["services"]
    assert shown["jobs"]["status"] == "healthy"
    assert not any("detail" in part for part in shown.values())
    shown = (await two[0].get("/health", headers=admin)).json()["services"]
    assert "changes waiting" in shown["jobs"]["detail"]


async def test_a_key_that_is_revoked_is_refused_at_every_gateway_at_once(
    two: tuple[httpx.AsyncClient, httpx.AsyncClient], stack: Stack, admin: dict[str, str]
) -> None:
    one, other = two
    delays = []
    for _ in range(100):
        id, token = await made(stack)
        assert await status(one, token) == await status(other, token) == 200

        async def refused(token: str = token) -> bool:
            return await status(other, token) == 401

        answer = await one.delete(f"/keys/{id}", headers=admin)
        assert (answer.status_code, await status(one, token)) == (200, 401)
        delays.append(await until(refused))
    p99 = statistics.quantiles(delays, n=100)[98]
    print(f"revoked at another gateway after {p99 * 1000:.1f} ms (p99 of {len(delays)})")
    assert p99 < 1.0


async def test_a_key_that_is_rotated_is_refused_and_its_successor_is_not(
    two: tuple[httpx.AsyncClient, httpx.AsyncClient], stack: Stack, admin: dict[str, str]
) -> None:
    one, other = two
    id, token = await made(stack)
    assert await status(other, token) == 200
    new = (await one.post(f"/keys/{id}/rotate", headers=admin)).json()["key"]

    async def moved() -> bool:
        return [await status(other, t) for t in (token, new)] == [401, 200]

    await until(moved)


async def test_of_two_who_rotate_at_once_one_does_and_none_after_a_revocation(
    two: tuple[httpx.AsyncClient, httpx.AsyncClient], stack: Stack, admin: dict[str, str]
) -> None:
    one, other = two
    id, _ = await made(stack)
    rotations = (client.post(f"/keys/{id}/rotate", headers=admin) for client in (one, other) * 3)
    revocation = one.delete(f"/keys/{id}", headers=admin)
    answers = await asyncio.gather(*rotations, revocation)
    assert sum(answer.status_code == 201 for answer in answers) <= 1


async def test_a_suspended_project_is_shut_at_every_gateway(
    two: tuple[httpx.AsyncClient, httpx.AsyncClient], stack: Stack, server_url: str
) -> None:
    _, token = await made(stack)
    assert await status(two[1], token) == 200
    with psycopg.connect(server_url, autocommit=True) as sql:
        for state, expected in (("suspended", 403), ("active", 200)):
            sql.execute(
                "UPDATE aidb.projects SET state = %s WHERE id = %s", (state, DEFAULT_PROJECT)
            )

            async def told(expected: int = expected) -> bool:
                return await status(two[1], token) == expected

            await until(told)


async def test_another_project_is_not_reached_by_name_or_id(
    two: tuple[httpx.AsyncClient, httpx.AsyncClient], stack: Stack, server_url: str
) -> None:
    _, token = await made(stack, EVERY_SCOPE)
    with psycopg.connect(server_url, autocommit=True) as sql:
        sql.execute("INSERT INTO aidb.projects (id, name) VALUES (gen_random_uuid(), 'theirs')")
        row = sql.execute("SELECT id FROM aidb.projects WHERE name = 'theirs'").fetchone()
    assert row is not None
    for project in ("theirs", str(row[0]), str(row[0]).upper(), "", "x' OR '1'='1", "%"):
        answer = await two[0].get("/documents", headers=bearer(token) | {"X-Project": project})
        assert answer.status_code == 403, project


async def test_a_thousand_keys_at_once(stack: Stack) -> None:
    """Each gets its own verdict, and who was known before does not wait for those who were not."""
    _, known = await made(stack)
    good = [(await made(stack))[1] for _ in range(50)]
    strange = [new_key()[1] for _ in range(950)]
    await verdict(stack, known)
    asked = [asyncio.create_task(verdict(stack, token)) for token in good + strange]
    await asyncio.sleep(0)
    began = time.perf_counter()
    assert await verdict(stack, known)
    assert time.perf_counter() - began < 0.1
    assert await asyncio.gather(*asked) == [True] * 50 + [False] * 950


async def verdict(stack: Stack, token: str) -> bool:
    try:
        await stack.identity.resolve(((b"x-api-key", token.encode()),))
    except Unauthenticated:
        return False
    return True


async def test_what_is_remembered_is_bounded(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "KNOWN", 20)
    _, token = await made(stack)
    pair = (b"authorization", f"Bearer {token}".encode())
    for number in range(100):
        await stack.identity.resolve((pair, (b"cookie", b"n=%d" % number)))
        assert len(stack.identity._known) <= 20


async def test_an_operators_token_is_good_for_a_minute(
    two: tuple[httpx.AsyncClient, httpx.AsyncClient], settings: Settings
) -> None:
    secret = open_secrets(settings.secrets).operator
    assert await status(two[0], operator_token(secret), "/audit") == 200
    assert await status(two[0], operator_token(secret, time.time() - 62)) == 401
    assert await status(two[0], operator_token(secret, time.time() + 62)) == 401


async def test_nobody_keeps_the_rights_that_all_had_before_anybody_needed_them(
    settings: Settings, server_url: str
) -> None:
    """Whoever was let in unknown is not remembered when rights begin to matter meanwhile."""
    async with open_stack(settings.model_copy(update={"auth": "off"})) as opened:
        identity = opened.identity
        await identity.renew()
        pairs = ((b"x-project", b"default"),)
        with psycopg.connect(server_url) as sql:
            row = sql.execute(
                "SELECT name FROM aidb.projects WHERE id = %s", (DEFAULT_PROJECT,)
            ).fetchone()
        assert row is not None
        pairs = ((b"x-project", row[0].encode()),)
        identity.mode = "auto"
        await asyncio.gather(identity.renew(), *(identity.resolve(pairs) for _ in range(20)))
        assert identity.is_required
        assert identity.known(pairs) is None


@asynccontextmanager
async def stream(
    client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> AsyncIterator[asyncio.Task[float]]:
    """A stream that is read to its end; how long that took."""

    async def read() -> float:
        began = time.perf_counter()
        try:
            async with client.stream("GET", path, headers=headers) as answer:
                assert answer.status_code == 200
                async for _ in answer.aiter_raw():
                    pass
        except httpx.HTTPError:
            pass
        return time.perf_counter() - began

    task = asyncio.create_task(read())
    await asyncio.sleep(0.5)
    assert not task.done()
    yield task
    task.cancel()


async def test_a_stream_ends_with_the_rights_to_it(
    two: tuple[httpx.AsyncClient, httpx.AsyncClient], stack: Stack, admin: dict[str, str]
) -> None:
    run = await stack.runs.start(Principal(), "import", {})
    id, token = await made(stack)
    path = f"/runs/{run.id}/events"
    async with (
        stream(two[1], path, bearer(token)) as ended,
        stream(two[1], path, admin) as going,
    ):
        await two[0].delete(f"/keys/{id}", headers=admin)
        assert await asyncio.wait_for(ended, SOON_S) < SOON_S
        await asyncio.sleep(3)
        assert not going.done()


async def test_a_run_ends_with_the_rights_of_who_started_it(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that waits is not begun, and one that goes on is ended."""
    monkeypatch.setattr(withdrawal, "LOOK_S", 0.1)
    begun = asyncio.Event()

    async def work(_: object) -> dict[str, object]:
        begun.set()
        await asyncio.sleep(60)
        return {}

    runs = replace(stack.runs, handlers={"import": work})
    for early in (True, False):
        begun.clear()
        id, token = await made(stack, frozenset({Scope.WRITE}))
        principal = await stack.identity.resolve(((b"x-api-key", token.encode()),))
        run = await runs.start(principal, "import", {})
        if early:
            await stack.keys.revoke(Principal(), id)
        doing = asyncio.create_task(runs.execute(run.id))
        if not early:
            await asyncio.wait_for(begun.wait(), 5)
            await stack.keys.revoke(Principal(), id)
        await asyncio.wait_for(doing, 5)
        found = await runs.get(Principal(), run.id)
        assert (found.status, found.error) == (
            "failed",
            "Who started this run may not do it any more.",
        )
        assert begun.is_set() is not early


async def test_a_key_makes_no_key_that_outlives_or_outdoes_it(stack: Stack) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=5)
    given = NewKey("a maker", EVERY_SCOPE, toolsets=frozenset({"documents"}), expires_at=soon)
    _, token = await stack.keys.create(Principal(), given)
    maker = await stack.identity.resolve(((b"x-api-key", token.encode()),))
    child, _ = await stack.keys.create(maker, NewKey("a child", READING))
    assert child.expires_at == soon
    assert child.toolsets == ("documents",)


# What follows stops the database, so it comes last.


def postmaster(server_url: str) -> int:
    folder = Path(server_url.partition("host=")[2])
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


def children(pid: int) -> list[int]:
    told = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in told.split()]


async def test_while_the_database_stands_still_the_known_are_known_for_a_while(
    two: tuple[httpx.AsyncClient, httpx.AsyncClient],
    stack: Stack,
    server_url: str,
    settings: Settings,
) -> None:
    id, revoked = await made(stack)
    _, known = await made(stack)
    _, unknown = await made(stack)
    for client in two:
        assert await status(client, revoked) == 200
    await stack.keys.revoke(Principal(), id)
    for client in two:
        assert await status(client, known) == 200
    await asyncio.sleep(0.2)
    for client in two:
        assert await status(client, known) == 200  # what is asked now is remembered
    pid = postmaster(server_url)
    stopped = [pid, *children(pid)]
    for one in stopped:
        os.kill(one, signal.SIGSTOP)
    began = time.monotonic()
    try:
        assert await status(two[1], known) == 200
        assert await asyncio.gather(*(status(two[1], t) for t in (revoked, unknown))) == [503, 503]
        assert await status(two[1], new_key()[1]) == 503
        while time.monotonic() - began < settings.auth_grace_s + rows.HEARD_S + 2:
            assert await status(two[1], known) in (200, 503)
            assert await status(two[1], revoked) in (401, 503)
            await asyncio.sleep(0.5)
        assert await status(two[1], known) == 503
    finally:
        for one in stopped:
            os.kill(one, signal.SIGCONT)

    async def back() -> bool:
        answers = [await status(two[1], t) for t in (known, unknown, revoked)]
        return answers == [200, 200, 401]

    await until(back, 20)


async def test_what_was_revoked_while_nobody_listened_is_refused(
    two: tuple[httpx.AsyncClient, httpx.AsyncClient], stack: Stack, server_url: str
) -> None:
    id, token = await made(stack)
    assert await status(two[1], token) == 200
    with psycopg.connect(server_url, autocommit=True) as sql:
        sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            " OR (query = 'SELECT 1' AND state = 'idle')"
        )
        sql.execute("UPDATE control.keys SET revoked_at = now() WHERE id = %s", (id,))

    async def refused() -> bool:
        return await status(two[1], token) == 401

    print(f"refused after {await until(refused):.2f} s")


async def test_a_revocation_just_before_the_database_dies_holds(
    two: tuple[httpx.AsyncClient, httpx.AsyncClient],
    stack: Stack,
    server_url: str,
    admin: dict[str, str],
) -> None:
    id, token = await made(stack)
    assert await status(two[1], token) == 200
    assert (await two[0].delete(f"/keys/{id}", headers=admin)).status_code == 200
    await asyncio.sleep(0.05)
    for one in children(postmaster(server_url)):
        with suppress(ProcessLookupError):  # the first one's death ends the others
            os.kill(one, signal.SIGKILL)
    for _ in range(20):
        assert await status(two[1], token) in (401, 503)
        await asyncio.sleep(0.1)
