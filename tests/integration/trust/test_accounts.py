"""Users and their logins, on a real PostgreSQL behind a real gateway."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from argon2 import PasswordHasher

from accounts import BETTER, GOOD, HERE, OPERATOR, away, logged_in, me, until
from ai_stack.cli.credentials import Credentials
from ai_stack.database import credentials
from ai_stack.errors import AIStackError, Forbidden, LimitExceeded, Unauthenticated
from ai_stack.models.principals import EVERY_SCOPE, Principal, Scope
from ai_stack.models.trust import NewKey, NewUser
from ai_stack.services.auth.credentials import new_key, new_login
from ai_stack.services.auth.hashing import Hashing
from ai_stack.services.auth.passwords import Passwords
from ai_stack.settings import Settings
from ai_stack.stack import Stack

# Users


async def test_users_are_made_listed_changed_and_removed(
    client: httpx.AsyncClient, operator: Credentials
) -> None:
    made = await client.post("/users", json={"name": "Alice.One"}, auth=operator)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    user = made.json()
    assert (user["name"], user["state"], user["temporary"]) == ("alice.one", "active", True)
    again = await client.post("/users", json={"name": "ALICE.one"}, auth=operator)
    assert again.status_code == 409
    for called in ("alice.one", "Alice.One", user["id"]):
        shown = await client.get(f"/users/{called}", auth=operator)
        assert shown.json()["id"] == user["id"]
        assert "password" not in shown.json()
    change = {"state": "suspended"}
    assert (await client.patch("/users/alice.one", json=change, auth=operator)).json()[
        "state"
    ] == "suspended"
    promoted = await client.patch("/users/alice.one", json={"is_admin": True}, auth=operator)
    assert promoted.json()["is_admin"]
    assert (await client.delete("/users/alice.one", auth=operator)).status_code == 204
    for method in ("GET", "DELETE"):
        gone = await client.request(method, f"/users/{user['id']}", auth=operator)
        assert gone.status_code == 404
    audit = (await client.get("/audit", auth=operator)).json()["items"]
    told = [e["action"] for e in audit if e["subject"] == user["id"]]
    assert told == ["user.delete", "user.promote", "user.suspend", "user.create"]
    assert user["password"] not in json.dumps(audit)


async def test_users_are_listed_a_page_at_a_time(
    client: httpx.AsyncClient, operator: Credentials, stack: Stack
) -> None:
    made = []
    for _ in range(3):
        new = NewUser(f"p-{uuid4().hex}", issuer="https://i.example", subject=uuid4().hex)
        made.append((await stack.accounts.users.create(OPERATOR, new))[0].name)
    seen, cursor = [], None
    while True:
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await client.get("/users", params=params, auth=operator)).json()
        seen += [user["name"] for user in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [name for name in seen if name in made] == made
    bad = await client.get("/users", params={"cursor": "nonsense"}, auth=operator)
    assert bad.status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "a b"},
        {"name": "operator"},
        {"name": "x" * 300},
        {"name": "a\0b"},
        {"name": "good", "password": "short"},
        {"name": "good", "password": "x" * 2000},
        {"name": "good", "password": GOOD + "\0"},
        {"name": "good", "issuer": "https://i.example"},
        {"name": "good", "subject": "s"},
        {"name": "good", "issuer": "", "subject": ""},
        {"name": "good", "issuer": "a\0", "subject": "b"},
        {"name": "good", "colour": "red"},
        {"name": 5},
        [],
    ],
)
async def test_users_that_cannot_be(
    client: httpx.AsyncClient, operator: Credentials, body: object
) -> None:
    assert (await client.post("/users", json=body, auth=operator)).status_code == 422


@pytest.mark.parametrize("called", ["%00", "a%20b", "..%2F..", "x" * 3000, "%FF", "'--"])
async def test_users_that_are_not_there(
    client: httpx.AsyncClient, operator: Credentials, called: str
) -> None:
    for method in ("GET", "DELETE"):
        reply = await client.request(method, f"/users/{called}", auth=operator)
        assert reply.status_code == 404


@pytest.mark.parametrize("body", [{}, {"state": "deleted"}, {"state": "active", "is_admin": True}])
async def test_changes_that_cannot_be(
    client: httpx.AsyncClient, operator: Credentials, name: str, body: object
) -> None:
    reply = await client.patch(f"/users/{name}", json=body, auth=operator)
    assert reply.status_code == 422


async def test_two_of_one_name_at_once_are_one(stack: Stack) -> None:
    new = NewUser(f"twin-{uuid4().hex}", GOOD)
    tries = (stack.accounts.users.create(OPERATOR, new) for _ in range(4))
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(one, tuple) for one in found) == 1
    assert all(isinstance(one, tuple) or one.code == "already_exists" for one in found)


async def test_a_subject_is_one_user(stack: Stack) -> None:
    subject = uuid4().hex
    first = NewUser(f"s-{uuid4().hex}", issuer="https://i.example", subject=subject)
    made, password = await stack.accounts.users.create(OPERATOR, first)
    assert (made.issuers, made.has_password, password) == (("https://i.example",), False, None)
    second = NewUser(f"s-{uuid4().hex}", issuer="https://i.example", subject=subject)
    with pytest.raises(AIStackError) as raised:
        await stack.accounts.users.create(OPERATOR, second)
    assert raised.value.code == "already_exists"
    with pytest.raises(AIStackError):
        await stack.accounts.users.get(OPERATOR, second.name)


async def test_who_may_not_do_everything_gives_nobody_everything(stack: Stack, name: str) -> None:
    users = stack.accounts.users
    partly = Principal(name="scraper", scopes=frozenset({Scope.OPERATE}))
    with pytest.raises(Forbidden):
        await users.create(partly, NewUser("mallory", GOOD, is_admin=True))
    with pytest.raises(Forbidden):
        await users.set_admin(partly, name, True)
    with pytest.raises(Forbidden):
        await users.set_password(partly, name, BETTER)
    lacking = Principal(name="manager", scopes=EVERY_SCOPE - {Scope.OPERATE})
    for call in (
        users.create(lacking, NewUser("mallory", GOOD)),
        users.get(lacking, name),
        users.page(lacking),
        users.set_state(lacking, name, "suspended"),
        users.set_admin(lacking, name, True),
        users.set_password(lacking, name, BETTER),
        users.delete(lacking, name),
    ):
        with pytest.raises(Forbidden):
            await call


# Logins


async def test_a_browser_logs_in_and_out(client: httpx.AsyncClient, name: str) -> None:
    url = str(client.base_url).rstrip("/")
    own, foreign = {"Origin": url}, {"Origin": "http://127.0.0.1:1"}
    async with httpx.AsyncClient(base_url=url) as browser:
        body = {"name": name.upper(), "password": GOOD}
        reply = await browser.post("/auth/login", json=body, headers=own)
        assert reply.status_code == 200
        assert "aidb_login" not in reply.text
        cookie = reply.headers["set-cookie"]
        assert cookie.endswith("; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax")
        assert (await browser.get("/auth/me")).json()["name"] == name
        for headers in ({}, foreign, {"Sec-Fetch-Site": "same-site"}):
            refused = await browser.post("/documents", json={"content": "x"}, headers=headers)
            assert refused.status_code in (403, 421), headers
            refused = await browser.post("/mcp", json={}, headers=headers)
            assert refused.status_code in (403, 421), headers
            refused = await browser.post("/auth/logout", headers=headers)
            assert refused.status_code in (403, 421), headers
        for headers in (own, {"Sec-Fetch-Site": "same-origin"}):
            taken = await browser.post("/auth/token", json={}, headers=headers)
            assert taken.status_code == 201, taken.text
        held = dict(browser.cookies)
        assert (await browser.post("/auth/logout", headers=own)).status_code == 204
        assert not browser.cookies
        stolen = {"Cookie": f"aidb_session={held['aidb_session']}"}
        await until(401, lambda: me(client, stolen))


async def test_a_cookie_of_a_neighbour_locks_nobody_out(
    client: httpx.AsyncClient, name: str
) -> None:
    """A page on another port, or another path, can plant one beside that of a login."""
    body = {"name": name, "password": GOOD}
    own = {"Origin": str(client.base_url).rstrip("/")}
    stale = (await client.post("/auth/login", json=body)).cookies["aidb_session"]
    fresh = (await client.post("/auth/login", json=body)).cookies["aidb_session"]
    client.cookies.clear()
    for planted in ("x", new_login(), new_key()[1], stale):
        for pair in ((planted, fresh), (fresh, planted)):
            both = {"Cookie": "; ".join(f"aidb_session={one}" for one in pair), **own}
            assert (await client.get("/auth/me", headers=both)).json()["name"] == name
            made = await client.post("/auth/token", json={}, headers=both)
            assert made.status_code == 201, made.text
            assert name in (await client.get("/login", headers=both)).text
    assert (await client.post("/auth/logout", headers=both)).status_code == 204
    for token in (stale, fresh):
        await until(401, lambda token=token: me(client, {"Cookie": f"aidb_session={token}"}))


async def test_another_page_logs_nobody_in(client: httpx.AsyncClient, name: str) -> None:
    body = {"name": name, "password": GOOD}
    for headers in ({"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site": "cross-site"}):
        reply = await client.post("/auth/login", json=body, headers=headers)
        assert reply.status_code in (403, 421)
        assert "set-cookie" not in reply.headers


async def test_a_shell_logs_in_and_out(client: httpx.AsyncClient, name: str) -> None:
    headers = await logged_in(client, name)
    assert (await client.get("/auth/me", headers=headers)).json()["name"] == name
    for _ in range(2):
        assert (await client.post("/auth/logout", headers=headers)).status_code == 204
    await until(401, lambda: me(client, headers))
    assert (await client.post("/auth/logout")).status_code == 204


async def test_what_is_wrong_answers_the_same(
    client: httpx.AsyncClient, name: str, stack: Stack
) -> None:
    suspended, _ = await stack.accounts.users.create(OPERATOR, NewUser(f"s{uuid4().hex}", GOOD))
    await stack.accounts.users.set_state(OPERATOR, suspended.name, "suspended")
    by_issuer = NewUser(f"i{uuid4().hex}", issuer="https://i.example", subject=uuid4().hex)
    await stack.accounts.users.create(OPERATOR, by_issuer)
    told = set()
    for tried, password in (
        (name, BETTER),
        ("nobody", GOOD),
        (suspended.name, GOOD),
        (by_issuer.name, GOOD),
        ("ä\u200b", GOOD),
        ("a\0b", GOOD),
        ("' OR 1=1 --", "' OR 1=1 --"),
    ):
        body = {"name": tried, "password": password, "kind": "shell"}
        reply = await client.post("/auth/login", json=body)
        problem = reply.json()
        del problem["request_id"]
        told.add((reply.status_code, json.dumps(problem)))
    assert len(told) == 1
    assert told.pop()[0] == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "a", "password": ""},
        {"name": "", "password": GOOD},
        {"name": None, "password": None},
        {"name": "a", "password": "x" * 1025},
        {"name": "a" * 256, "password": GOOD},
        {"name": "a", "password": GOOD, "kind": "root"},
        {"name": ["a"], "password": GOOD},
        [],
    ],
)
async def test_logins_that_have_no_form(client: httpx.AsyncClient, body: object) -> None:
    for path in ("/auth/login", "/auth/password"):
        reply = await client.post(path, json=body)
        assert reply.status_code == 422
        assert GOOD not in reply.text


async def test_failures_bring_pauses_that_grow(client: httpx.AsyncClient, name: str) -> None:
    for tried in (name, f"nobody-{uuid4().hex}"):
        body = {"name": tried, "password": BETTER, "kind": "shell"}
        statuses = [(await client.post("/auth/login", json=body)).status_code for _ in range(7)]
        assert statuses == [401] * 6 + [429]
        refused = await client.post("/auth/login", json={**body, "password": GOOD})
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    await asyncio.sleep(1.1)
    await logged_in(client, name)
    body = {"name": name, "password": BETTER}
    assert (await client.post("/auth/login", json=body)).status_code == 401  # it counts anew


async def test_attempts_at_once_do_not_slip_through(stack: Stack, name: str) -> None:
    tries = (stack.accounts.passwords.login(name, BETTER, HERE, "shell") for _ in range(30))
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(one, Unauthenticated) for one in found) == 6
    assert sum(isinstance(one, LimitExceeded) for one in found) == 24


async def test_failures_of_an_address_count_whatever_the_names(stack: Stack, name: str) -> None:
    passwords = stack.accounts.passwords
    for n in range(21):
        with pytest.raises(Unauthenticated):
            await passwords.login(f"nobody-{n}", BETTER, "2001:db8::1", "shell")
    with pytest.raises(LimitExceeded) as raised:
        await passwords.login(name, GOOD, "2001:db8::2", "shell")
    assert raised.value.opens_in_s == 1
    assert await passwords.login(name, GOOD, "2001:db8:1::1", "shell")


async def test_who_logs_in_often_is_not_held_up(stack: Stack, name: str) -> None:
    for _ in range(25):
        assert await stack.accounts.passwords.login(name, GOOD, HERE, "shell")


async def test_attempts_are_kept_without_names_and_swept(
    stack: Stack, name: str, owner: psycopg.Connection[Any]
) -> None:
    with pytest.raises(Unauthenticated):
        await stack.accounts.passwords.login(name, BETTER, HERE, "shell")
    kept = owner.execute("SELECT attempts::text FROM control.attempts").fetchall()
    assert len(kept) == 2
    assert not any(name in row[0] or HERE in row[0] for row in kept)
    owner.execute("UPDATE control.attempts SET last_at = now() - interval '2h'")
    assert await stack.accounts.passwords.sweep() == 2


async def test_two_logins_at_once_are_two(client: httpx.AsyncClient, name: str) -> None:
    one, two = await asyncio.gather(logged_in(client, name), logged_in(client, name))
    assert one != two
    assert [await me(client, headers) for headers in (one, two)] == [200, 200]
    assert (await client.post("/auth/logout", headers=one)).status_code == 204
    await until(401, lambda: me(client, one))
    assert await me(client, two) == 200


async def test_a_first_password_is_good_for_another_alone(
    client: httpx.AsyncClient, operator: Credentials
) -> None:
    name = f"first-{uuid4().hex}"
    made = (await client.post("/users", json={"name": name}, auth=operator)).json()
    body = {"name": name, "password": made["password"]}
    refused = await client.post("/auth/login", json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "password_expired")
    for new, status in ((made["password"], 422), ("short", 422), (GOOD, 204), (BETTER, 401)):
        change = {**body, "new_password": new}
        assert (await client.post("/auth/password", json=change)).status_code == status
    assert (await client.post("/auth/login", json=body)).status_code == 401
    assert (await client.post("/auth/login", json={**body, "password": GOOD})).status_code == 200
    client.cookies.clear()


async def test_a_change_of_password_ends_every_login_and_token(
    client: httpx.AsyncClient, name: str
) -> None:
    logins = [await logged_in(client, name) for _ in range(2)]
    made = (await client.post("/auth/token", json={}, headers=logins[0])).json()
    token = {"Authorization": f"Bearer {made['access_token']}"}
    assert await me(client, token) == 200
    change = {"name": name, "password": GOOD, "new_password": BETTER}
    assert (await client.post("/auth/password", json=change)).status_code == 204
    for headers in (*logins, token):
        await until(401, lambda headers=headers: me(client, headers))
    assert await me(client, await logged_in(client, name, BETTER)) == 200


async def test_changes_of_a_password_at_once_are_one(stack: Stack, name: str) -> None:
    change = stack.accounts.passwords.change
    tries = (change(name, GOOD, f"{BETTER} {n}", HERE) for n in range(3))
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(one is None for one in found) == 1
    assert sum(isinstance(one, Unauthenticated) for one in found) == 2


async def test_an_operator_sets_a_password(
    client: httpx.AsyncClient, operator: Credentials, name: str
) -> None:
    headers = await logged_in(client, name)
    path = f"/users/{name}/password"
    made_up = (await client.put(path, json={}, auth=operator)).json()
    assert made_up["temporary"]
    await until(401, lambda: me(client, headers))
    body = {"name": name, "password": made_up["password"]}
    assert (await client.post("/auth/login", json=body)).status_code == 403
    given = (await client.put(path, json={"password": BETTER}, auth=operator)).json()
    assert "password" not in given
    assert await me(client, await logged_in(client, name, BETTER)) == 200


async def test_a_dated_hash_is_made_anew_at_the_next_login(
    stack: Stack, name: str, owner: psycopg.Connection[Any]
) -> None:
    dated = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(GOOD)
    owner.execute("UPDATE control.users SET password = %s WHERE name = %s", [dated, name])
    assert await stack.accounts.passwords.login(name, GOOD, HERE, "shell")
    found = owner.execute("SELECT password FROM control.users WHERE name = %s", [name]).fetchone()
    assert found is not None
    assert not Hashing().is_dated(found[0])
    assert await stack.accounts.passwords.login(name, GOOD, HERE, "shell")


async def test_who_is_suspended_in_the_middle_gets_no_login(stack: Stack, name: str) -> None:
    class Slow(Hashing):
        async def matches(self, hash: str | None, password: str) -> bool:
            right = await Hashing.matches(self, hash, password)
            await stack.accounts.users.set_state(OPERATOR, name, "suspended")
            return right

    accounts = stack.accounts
    passwords = Passwords(stack.database, accounts.passwords.secrets, Slow(), accounts.logins)
    with pytest.raises(Unauthenticated):
        await passwords.login(name, GOOD, HERE, "shell")
    with pytest.raises(Unauthenticated):
        await passwords.change(name, GOOD, BETTER, HERE)


async def test_whose_password_changes_in_the_middle_gets_no_login(stack: Stack, name: str) -> None:
    class Slow(Hashing):
        async def matches(self, hash: str | None, password: str) -> bool:
            right = await Hashing.matches(self, hash, password)
            await stack.accounts.users.set_password(OPERATOR, name, BETTER)
            return right

    accounts = stack.accounts
    passwords = Passwords(stack.database, accounts.passwords.secrets, Slow(), accounts.logins)
    with pytest.raises(Unauthenticated):
        await passwords.login(name, GOOD, HERE, "shell")
    assert await accounts.passwords.login(name, BETTER, HERE, "shell")


async def test_who_ever_asked_for_accounts_keeps_asking(stack: Stack, name: str) -> None:
    assert await credentials.are_any(stack.database)
    async with stack.database.control() as tx:
        await tx.execute("DELETE FROM users")
        await tx.execute("DELETE FROM keys")
    assert await credentials.are_any(stack.database)


async def test_a_suspended_user_is_out_with_logins_keys_and_tokens(
    client: httpx.AsyncClient, operator: Credentials, name: str, stack: Stack
) -> None:
    login = await logged_in(client, name)
    user = await stack.accounts.users.get(OPERATOR, name)
    its = Principal(name=name, user_id=user.id)
    _, key = await stack.keys.create(its, NewKey("its", frozenset({Scope.READ})))
    by_key = {"x-api-key": key}
    made = [
        (await client.post("/auth/token", json={}, headers=headers)).json()["access_token"]
        for headers in (login, by_key)
    ]
    held = [login, by_key, *({"Authorization": f"Bearer {token}"} for token in made)]
    assert [await me(client, headers) for headers in held] == [200] * 4
    path = f"/users/{name}"
    await client.patch(path, json={"state": "suspended"}, auth=operator)
    for headers in held:
        await until(401, lambda headers=headers: me(client, headers))
    await client.patch(path, json={"state": "active"}, auth=operator)
    await until(200, lambda: me(client, by_key))
    assert [await me(client, headers) for headers in held] == [401, 200, 401, 200]
    await client.delete(path, auth=operator)
    for headers in held:
        await until(401, lambda headers=headers: me(client, headers))


async def test_a_login_holds_until_it_is_ended(stack: Stack, name: str) -> None:
    user = await stack.accounts.users.get(OPERATOR, name)
    token = await stack.accounts.logins.begin(user.id, "shell")
    found = await stack.identity.credential(token)
    assert found.owner is not None
    assert found.owner.id == user.id
    assert await stack.accounts.logins.end(token) == user.id
    assert await stack.accounts.logins.end(token) is None
    with pytest.raises(Unauthenticated):
        await stack.identity.credential(token)
    tokens = [await stack.accounts.logins.begin(user.id, "browser") for _ in range(3)]
    await stack.accounts.users.set_state(OPERATOR, name, "suspended")
    assert [await stack.accounts.logins.read(token) for token in tokens] == [None] * 3
    with pytest.raises(Unauthenticated):
        await stack.accounts.logins.begin(uuid4(), "browser")


async def test_neither_logins_nor_signing_keys_can_be_read_in_the_database(
    stack: Stack, name: str, owner: psycopg.Connection[Any]
) -> None:
    token = await stack.accounts.passwords.login(name, GOOD, HERE, "shell")
    await stack.accounts.tokens.signing.current()
    for table in ("logins", "signing_keys", "users", "audit"):
        kept = owner.execute(f"SELECT t::text FROM control.{table} t").fetchall()
        assert kept
        for secret in (token[12:], GOOD, "PRIVATE KEY", b"PRIVATE KEY".hex()):
            assert not any(secret in row[0] for row in kept)


async def test_logins_that_are_over_hold_no_more_and_are_swept(
    stack: Stack, name: str, owner: psycopg.Connection[Any]
) -> None:
    token = await stack.accounts.passwords.login(name, GOOD, HERE, "shell")
    owner.execute("UPDATE control.logins SET expires_at = now() - interval '1s'")
    with pytest.raises(Unauthenticated):
        await stack.identity.credential(token)
    assert await stack.accounts.logins.sweep() > 0
    assert await stack.accounts.logins.sweep() == 0
    assert await stack.retention.sweep() >= 0


# The command line


class Shell:
    """The real command, without a terminal, at the gateway of the tests."""

    def __init__(self, settings: Settings, url: str, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "AI_STACK_DATA_DIR": str(settings.data_dir),
            "AI_STACK_PORT": str(httpx.URL(url).port),
        }

    async def __call__(self, *arguments: str, typed: str = "", status: int = 0) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "ai_stack", *arguments],
            env=self.environment,
            input=typed,
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=60,
        )
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


async def test_the_command_line_makes_a_user_who_logs_in(
    client: httpx.AsyncClient, memory_settings: Settings, tmp_path: Path
) -> None:
    operating = Shell(memory_settings, str(client.base_url), tmp_path / "operator")
    shell, name = Shell(memory_settings, str(client.base_url), tmp_path / "home"), "cli-user"
    first = (await operating("users", "create", name, "--admin")).splitlines()[0]
    typed = f"{name}\n{first}\n{GOOD}\n{GOOD}\n"
    assert "has to be changed" in await shell("login", typed=typed)
    assert f"{name} in project" in await shell("whoami")
    kept = tmp_path / "home" / ".config" / "nixos-ai-stack" / "credentials.json"
    assert kept.stat().st_mode & 0o077 == 0
    assert GOOD not in kept.read_text()
    given = ("login", "--name", name, "--password-stdin")
    assert "do not go together" in await shell(*given, typed=f"{BETTER}\n", status=1)
    assert "Logged out" in await shell("logout")
    assert f"as {name}" in await shell(*given, typed=f"{GOOD}\n")
    assert "is suspended" in await operating("users", "suspend", name)
    assert "credentials" in await shell("whoami", status=1)
    assert "not shown again" in await operating("users", "password", name, "--generate")
    assert "is removed" in await operating("users", "delete", name, "--yes")
    assert "signed with key" in await operating("keys", "rotate-signing", "--at-once")


# Without a database


async def test_nobody_gets_in_while_the_database_is_away(
    client: httpx.AsyncClient,
    name: str,
    database_url: str,
    postgres_url: str,
    operator: Credentials,
) -> None:
    user = {"name": name, "password": GOOD, "kind": "shell"}
    change = {"name": name, "password": GOOD, "new_password": BETTER}
    with away(postgres_url, database_url):
        for path, body in (("/auth/login", user), ("/auth/password", change)):
            assert (await client.post(path, json=body)).status_code == 503
        unknown = {"Authorization": "Bearer aidb_login_" + "a" * 52}
        for path in ("/auth/me", "/users", "/.well-known/jwks.json"):
            assert (await client.get(path, headers=unknown)).status_code == 503
        assert (await client.post("/auth/logout", headers=unknown)).status_code == 503
    await until(401, lambda: me(client, unknown))
    await logged_in(client, name)
