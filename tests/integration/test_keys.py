"""Keys that make and rotate keys: none escapes what bounds it, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from accounts import GOOD, HERE, OPERATOR, logged_in
from ai_stack.database import credentials as rows
from ai_stack.errors import Forbidden, InvalidRequest, Unauthenticated
from ai_stack.models.principals import DEFAULT_PROJECT, Principal, Scope
from ai_stack.models.trust import Key, NewKey, NewUser
from ai_stack.services.auth import keys
from ai_stack.services.auth.credentials import new_key
from ai_stack.services.auth.identity import principal_of
from ai_stack.settings import Settings
from ai_stack.stack import Stack
from gateways import gateway

MANAGING = frozenset({Scope.READ, Scope.MANAGE})
DOCUMENTS = frozenset({"documents"})
TOMORROW = datetime.now(UTC) + timedelta(days=1)
LIMITED = {"requests_per_day": 4}


@pytest.fixture(scope="module")
async def client(memory_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(memory_settings.model_copy(update={"auth": "required"})) as opened:
        yield opened


@pytest.fixture
async def user(stack: Stack, database_url: str) -> str:
    """An owner of the default project, with the password GOOD."""
    made, _ = await stack.accounts.users.create(OPERATOR, NewUser(f"user-{uuid4().hex}", GOOD))
    with psycopg.connect(database_url, autocommit=True) as sql:
        sql.execute("DELETE FROM control.attempts")
        member = (DEFAULT_PROJECT, made.id)
        sql.execute("INSERT INTO control.members VALUES (%s, %s, 'owner')", member)
    return made.name


async def caller(stack: Stack, token: str) -> Principal:
    return principal_of(await stack.identity.credential(token), None)


async def login(stack: Stack, name: str) -> tuple[Principal, str]:
    token = await stack.accounts.passwords.login(name, GOOD, HERE, "shell")
    return await caller(stack, token), token


async def made(stack: Stack, by: Principal = OPERATOR, **given: Any) -> tuple[Key, Principal, str]:
    new = replace(NewKey("k", MANAGING), **given)
    key, token = await stack.keys.create(by, new)
    return key, await caller(stack, token), token


async def state(stack: Stack, key: Key) -> str:
    found = await stack.keys.get(OPERATOR, key.id)
    return "active" if found.revoked_at is None else "revoked"


# Rotation


async def test_a_key_of_a_service_rotates_itself_and_no_other(stack: Stack) -> None:
    _, a, _ = await made(stack, limits=LIMITED, toolsets=DOCUMENTS, expires_at=TOMORROW)
    sibling, _, secret = await made(stack)
    equal, _, _ = await made(stack, limits=LIMITED, toolsets=DOCUMENTS, expires_at=TOMORROW)
    for other in (sibling, equal):
        with pytest.raises(Forbidden):
            await stack.keys.rotate(a, other.id)
    assert (await caller(stack, secret)).key_id == sibling.id
    assert a.key_id is not None
    moved, token = await stack.keys.rotate(a, a.key_id)
    assert (moved.limits, moved.toolsets, moved.expires_at) == (LIMITED, ("documents",), TOMORROW)
    assert (moved.root, moved.maker) == (a.key_id, None)
    with pytest.raises(Forbidden):  # what was rotated is not in its successor's place
        await stack.keys.rotate(a, moved.id)
    again, _ = await stack.keys.rotate(await caller(stack, token), moved.id)
    assert again.root == a.key_id


async def test_a_user_rotates_their_own_keys_and_nobody_elses(
    stack: Stack, user: str, database_url: str
) -> None:
    own, _ = await login(stack, user)
    key, by_key, _ = await made(stack, own)
    twin, _, _ = await made(stack, own)
    service, _, _ = await made(stack)
    assert (await stack.keys.rotate(own, key.id))[0].user_id == own.user_id
    with pytest.raises(Unauthenticated):
        await stack.keys.rotate(by_key, twin.id)
    by_twin = replace(by_key, key_id=twin.id)
    third, _, _ = await made(stack, own)
    assert (await stack.keys.rotate(by_twin, third.id))[0].root == third.id
    for who in (own, by_twin):
        with pytest.raises(Forbidden):
            await stack.keys.rotate(who, service.id)


@pytest.mark.parametrize(
    ("wider", "told"),
    [
        ({"scopes": MANAGING | {Scope.WRITE}}, "write"),
        ({"toolsets": None}, "toolsets"),
        ({"toolsets": DOCUMENTS | {"search"}}, "toolsets"),
        ({"limits": {}}, "limits"),
        ({"limits": {"requests_per_day": 5}}, "limits"),
        ({"limits": {"requests_per_hour": 1}}, "limits"),
        ({"expires_at": None}, "time"),
        ({"expires_at": TOMORROW + timedelta(seconds=1)}, "time"),
    ],
)
async def test_no_key_rotates_one_that_has_more(
    stack: Stack, user: str, wider: dict[str, Any], told: str
) -> None:
    own, _ = await login(stack, user)
    same = {"limits": LIMITED, "toolsets": DOCUMENTS, "expires_at": TOMORROW}
    _, narrow, _ = await made(stack, own, **same)
    equal, _, _ = await made(stack, own, **same)
    key, _, secret = await made(stack, own, **same | wider)
    with pytest.raises(Forbidden, match=told):
        await stack.keys.rotate(narrow, key.id)
    assert await caller(stack, secret)
    await stack.keys.rotate(narrow, equal.id)


async def test_who_operates_rotates_any_key_that_has_no_more(stack: Stack) -> None:
    scopes = MANAGING | {Scope.OPERATE}
    _, bounded, _ = await made(stack, scopes=scopes, expires_at=TOMORROW)
    lasting, _, _ = await made(stack)
    short, _, _ = await made(stack, expires_at=TOMORROW)
    with pytest.raises(Forbidden, match="time"):
        await stack.keys.rotate(bounded, lasting.id)
    assert (await stack.keys.rotate(bounded, short.id))[0].root == short.id
    assert (await stack.keys.rotate(OPERATOR, lasting.id))[0].root == lasting.id


# Limits


async def asked(client: httpx.AsyncClient, token: str) -> int:
    return (await client.get("/documents", headers={"x-api-key": token})).status_code


async def test_what_is_used_up_stays_so_when_a_key_is_rotated_or_copied(
    client: httpx.AsyncClient, stack: Stack
) -> None:
    key, principal, token = await made(stack, limits=LIMITED)
    _, copy, clone = await made(stack, principal)
    copies = [clone, *[(await made(stack, copy))[2] for _ in range(2)]]
    assert copy.limits == principal.limits == {f"key:{key.root}": LIMITED}
    assert [await asked(client, one) for one in (token, *copies)] == [200] * 4
    assert {await asked(client, one) for one in (token, *copies)} == {429}
    moved, successor = await stack.keys.rotate(principal, key.id)
    assert (await caller(stack, successor)).limits == {f"key:{key.id}": LIMITED}
    assert await asked(client, successor) == 429
    assert {await asked(client, one) for one in copies} == {429}
    _, _, late = await made(stack, await caller(stack, successor))
    assert await asked(client, late) == 429
    assert moved.root == key.id


async def test_keys_with_limits_of_their_own_have_them_within_their_makers(
    client: httpx.AsyncClient, stack: Stack
) -> None:
    maker, principal, token = await made(stack, limits={"requests_per_day": 5})
    (one, of_one, first), (_, _, second) = [
        await made(stack, principal, limits={"requests_per_day": 2}) for _ in range(2)
    ]
    assert of_one.limits == {
        f"key:{maker.id}": {"requests_per_day": 5},
        f"key:{one.id}": {"requests_per_day": 2},
    }
    assert [await asked(client, first) for _ in range(3)] == [200, 200, 429]
    assert [await asked(client, second) for _ in range(3)] == [200, 200, 429]
    assert [await asked(client, token) for _ in range(2)] == [200, 429]
    _, successor = await stack.keys.rotate(of_one, one.id)
    assert await asked(client, successor) == 429


async def test_keys_of_a_maker_without_limits_do_not_share_theirs(
    client: httpx.AsyncClient, stack: Stack
) -> None:
    _, principal, token = await made(stack)
    tokens = [(await made(stack, principal, limits={"requests_per_day": 1}))[2] for _ in range(2)]
    for one in tokens:
        assert [await asked(client, one) for _ in range(2)] == [200, 429]
    assert await asked(client, token) == 200


async def test_the_line_of_makers_has_an_end(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "DEEPEST", 3)
    _, principal, _ = await made(stack)
    for _ in range(2):
        _, principal, _ = await made(stack, principal)
    with pytest.raises(Forbidden):
        await made(stack, principal)


# Time


async def test_what_a_token_makes_ends_with_the_token(
    client: httpx.AsyncClient, stack: Stack, user: str
) -> None:
    key, _, secret = await made(stack)
    for headers in ({"x-api-key": secret}, await logged_in(client, user)):
        short = {"scopes": ["read", "manage"], "lasts_s": 60}
        issued = await client.post("/auth/token", json=short, headers=headers)
        token = {"Authorization": f"Bearer {issued.json()['access_token']}"}
        for asked_for in (None, TOMORROW.isoformat()):
            body = {"name": "k", "scopes": ["read", "manage"], "expires_at": asked_for}
            born = (await client.post("/keys", json=body, headers=token)).json()
            ends = datetime.fromisoformat(born["expires_at"])
            assert ends <= datetime.now(UTC) + timedelta(seconds=60)
        by_child = {"x-api-key": born["key"]}
        body = {"name": "k", "scopes": ["read"]}
        grandchild = (await client.post("/keys", json=body, headers=by_child)).json()
        assert grandchild["expires_at"] == born["expires_at"]
    issued = await client.post("/auth/token", json={}, headers={"x-api-key": secret})
    token = {"Authorization": f"Bearer {issued.json()['access_token']}"}
    refused = await client.post(f"/keys/{key.id}/rotate", headers=token)
    assert (refused.status_code, await state(stack, key)) == (403, "active")


async def test_a_token_of_a_user_rotates_no_key_that_outlives_it(
    client: httpx.AsyncClient, stack: Stack, user: str
) -> None:
    own, _ = await login(stack, user)
    lasting, _, _ = await made(stack, own)
    headers = await logged_in(client, user)
    issued = await client.post("/auth/token", json={}, headers=headers)
    token = {"Authorization": f"Bearer {issued.json()['access_token']}"}
    refused = await client.post(f"/keys/{lasting.id}/rotate", headers=token)
    assert (refused.status_code, refused.json()["detail"]) == (
        403,
        "This key has more than you have: time.",
    )


async def test_what_a_login_makes_outlives_it_and_ends_with_the_user(
    stack: Stack, user: str
) -> None:
    own, token = await login(stack, user)
    key, _, secret = await made(stack, own)
    assert (own.expires_at, key.expires_at) == (None, None)
    await stack.accounts.logins.end(token)
    assert (await caller(stack, secret)).user_id == own.user_id
    await stack.accounts.users.set_state(OPERATOR, user, "suspended")
    with pytest.raises(Unauthenticated):
        await caller(stack, secret)


async def test_rights_that_are_looked_up_again_end_no_later_than_before(stack: Stack) -> None:
    _, principal, _ = await made(stack, expires_at=TOMORROW)
    soon = datetime.now(UTC) + timedelta(seconds=60)
    assert principal.expires_at == TOMORROW
    by_token = replace(principal, expires_at=soon)
    kept = Principal.restored(by_token.project_id, by_token.kept())
    assert (await stack.identity.renewed(kept)).expires_at == soon
    assert (await stack.identity.renewed(principal)).expires_at == TOMORROW


# Revocation


async def test_a_key_takes_what_it_made_with_it(stack: Stack) -> None:
    a, by_a, _ = await made(stack)
    b, by_b, _ = await made(stack, by_a)
    c, _, of_c = await made(stack, by_b)
    beside, _, _ = await made(stack, by_a)
    stranger, _, _ = await made(stack)
    moved, token = await stack.keys.rotate(by_b, b.id)  # what B made stays with its successor
    assert await caller(stack, of_c)
    d, _, of_d = await made(stack, await caller(stack, token))
    for _ in range(2):
        await stack.keys.revoke(OPERATOR, moved.id)
    assert [await state(stack, k) for k in (moved, c, d)] == ["revoked"] * 3
    assert [await state(stack, k) for k in (a, beside, stranger)] == ["active"] * 3
    for gone in (of_c, of_d):
        with pytest.raises(Unauthenticated):
            await caller(stack, gone)
    told = {e.subject: e.detail for e in await audited(stack) if e.action == "key.revoke"}
    assert {k.id for k in (moved, c, d)} <= told.keys()
    assert told[c.id]["made_by"] == told[d.id]["made_by"] == b.id
    await stack.keys.revoke(OPERATOR, a.id)
    assert [await state(stack, k) for k in (beside, stranger)] == ["revoked", "active"]
    revocations = [e.subject for e in await audited(stack) if e.action == "key.revoke"]
    assert sorted(map(revocations.count, (k.id for k in (a, moved, c, d, beside)))) == [1] * 5
    with pytest.raises(InvalidRequest):
        await stack.keys.rotate(OPERATOR, beside.id)


async def audited(stack: Stack) -> Any:
    return (await stack.audit.page(OPERATOR, limit=50)).items


@pytest.mark.parametrize("rotated", [True, False])
async def test_what_is_under_way_when_its_maker_is_revoked_is_revoked_too(
    stack: Stack, rotated: bool
) -> None:
    a, by_a, _ = await made(stack)
    b, _, _ = await made(stack, by_a)
    id = new_key()[0]
    async with stack.database.control() as tx:
        await rows.lock(tx, b.id)
        if rotated:
            await rows.replace_secret(tx, b.id, id, id.encode())
        else:
            await rows.insert_key(tx, replace(b, id=id, root=id, maker=b.id), id.encode())
        revoking = asyncio.create_task(stack.keys.revoke(OPERATOR, a.id))
        await asyncio.sleep(0.3)
        assert not revoking.done()
    await revoking
    assert (await stack.keys.get(OPERATOR, id)).revoked_at is not None


async def test_no_key_escapes_that_is_made_or_rotated_meanwhile(stack: Stack) -> None:
    for _ in range(10):
        a, by_a, _ = await made(stack)
        b, by_b, _ = await made(stack, by_a)
        c, by_c, _ = await made(stack, by_b)
        work = [
            *(made(stack, who) for who in (by_a, by_b, by_c) * 2),
            stack.keys.rotate(by_b, b.id),
            stack.keys.rotate(by_c, c.id),
            *(stack.keys.revoke(OPERATOR, key.id) for key in (a, c)),
        ]
        done = await asyncio.gather(*work, return_exceptions=True)
        failures = [one for one in done if isinstance(one, BaseException)]
        assert all(isinstance(one, Unauthenticated | InvalidRequest) for one in failures)
        born = [one[0] for one in done if isinstance(one, tuple)]
        assert [await state(stack, key) for key in (a, b, c, *born)] == ["revoked"] * (
            3 + len(born)
        )
