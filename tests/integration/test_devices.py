"""Shells that are signed in by a browser: once, by whom they were shown to, not by who guesses."""

import asyncio
import math
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest

from ai_stack.errors import TooBusy
from ai_stack.models.principals import EVERY_SCOPE, Principal, Scope
from ai_stack.models.trust import NewKey, NewUser, User
from ai_stack.services.auth.devices import ALPHABET, LETTERS, MOST_HERE, MOST_WAITING, WRONG_FREE
from ai_stack.settings import Settings
from ai_stack.stack import Stack
from gateways import gateway

ADMIN = Principal(scopes=EVERY_SCOPE)
GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture(scope="module")
async def opened(memory_settings: Settings) -> AsyncIterator[str]:
    required = memory_settings.model_copy(update={"auth": "required"})
    async with gateway(required) as client:
        yield str(client.base_url)


@pytest.fixture
async def shell(opened: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=opened, timeout=60) as client:
        yield client


@pytest.fixture
async def user(stack: Stack) -> User:
    name = f"u{stack.database.new_id().hex}"
    return (await stack.accounts.users.create(ADMIN, NewUser(name, is_admin=True)))[0]


@pytest.fixture
async def browser(opened: str, stack: Stack, user: User) -> AsyncIterator[httpx.AsyncClient]:
    """A browser in which the user has signed in."""
    token = await stack.accounts.logins.begin(user.id, "browser")
    own = {"cookies": {"aidb_session": token}, "headers": {"Origin": opened}, "timeout": 60}
    async with httpx.AsyncClient(base_url=opened, **own) as client:
        yield client


async def start(shell: httpx.AsyncClient, name: str = "a shell") -> dict[str, Any]:
    answer = await shell.post("/auth/device", data={"client_id": name})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def poll(shell: httpx.AsyncClient, device_code: str) -> dict[str, Any]:
    body = {"grant_type": GRANT, "device_code": device_code}
    answer = await shell.post("/auth/device/token", data=body)
    assert answer.headers["cache-control"] == "no-store"
    assert (answer.status_code == 200) == ("access_token" in answer.json())
    return answer.json()


async def form(browser: httpx.AsyncClient, code: str) -> dict[str, str]:
    """The fields of the page that approves a code."""
    shown = await browser.get("/device", params={"code": code})
    assert shown.status_code == 200, shown.text
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', shown.text))


async def decide(browser: httpx.AsyncClient, code: str, decision: str) -> httpx.Response:
    fields = await form(browser, code)
    return await browser.post("/device", data={**fields, "decision": decision})


def sql(url: str, text: str) -> None:
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(text)


async def test_a_shell_gets_its_login_once(
    shell: httpx.AsyncClient, browser: httpx.AsyncClient, user: User, database_url: str
) -> None:
    waits = await start(shell, "ai-stack of ann on box")
    assert waits["verification_uri_complete"].endswith(f"/device?code={waits['user_code']}")
    assert (await poll(shell, waits["device_code"]))["error"] == "authorization_pending"
    shown = (await browser.get(waits["verification_uri_complete"])).text
    assert all(told in shown for told in (waits["user_code"], "ai-stack of ann on box", user.name))
    assert (await decide(browser, waits["user_code"], "approve")).status_code == 200
    sql(database_url, "UPDATE control.devices SET polled_at = NULL")
    token = (await poll(shell, waits["device_code"]))["access_token"]
    mine = await shell.get("/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert mine.json()["name"] == user.name
    assert (await poll(shell, waits["device_code"]))["error"] == "expired_token"
    assert (await browser.get(waits["verification_uri_complete"])).status_code == 404
    with psycopg.connect(database_url) as owner:
        found = owner.execute(
            "SELECT action, detail->>'name' FROM control.audit WHERE actor = %s", [user.name]
        ).fetchall()
    assert ("device.approve", "ai-stack of ann on box") in found


async def test_of_many_polls_at_once_one_gets_the_login(
    shell: httpx.AsyncClient, browser: httpx.AsyncClient
) -> None:
    waits = await start(shell)
    await decide(browser, waits["user_code"], "approve")
    several = await asyncio.gather(*(poll(shell, waits["device_code"]) for _ in range(10)))
    assert sum("access_token" in one for one in several) == 1
    assert {one["error"] for one in several if "error" in one} == {"expired_token"}


async def test_who_polls_too_often_waits_longer(
    shell: httpx.AsyncClient, browser: httpx.AsyncClient, database_url: str
) -> None:
    waits = await start(shell)
    found = [(await poll(shell, waits["device_code"]))["error"] for _ in range(3)]
    assert found == ["authorization_pending", "slow_down", "slow_down"]
    await decide(browser, waits["user_code"], "approve")
    assert (await poll(shell, waits["device_code"]))["error"] == "slow_down"
    sql(database_url, "UPDATE control.devices SET polled_at = polled_at - interval '19s'")
    assert (await poll(shell, waits["device_code"]))["error"] == "slow_down"  # 5 s, 4 times longer
    sql(database_url, "UPDATE control.devices SET polled_at = polled_at - interval '31s'")
    assert "access_token" in await poll(shell, waits["device_code"])


async def test_a_shell_that_is_denied_or_too_late_gets_nothing(
    shell: httpx.AsyncClient, browser: httpx.AsyncClient, database_url: str
) -> None:
    denied, late = await start(shell), await start(shell)
    assert (await decide(browser, denied["user_code"], "deny")).status_code == 200
    assert (await poll(shell, denied["device_code"]))["error"] == "access_denied"
    assert (await poll(shell, denied["device_code"]))["error"] == "expired_token"
    fields = await form(browser, late["user_code"])
    sql(database_url, "UPDATE control.devices SET expires_at = now() - interval '1s'")
    answer = await browser.post("/device", data={**fields, "decision": "approve"})
    assert answer.status_code == 404
    assert (await poll(shell, late["device_code"]))["error"] == "expired_token"


async def test_who_is_suspended_meanwhile_lets_nobody_in(
    shell: httpx.AsyncClient, browser: httpx.AsyncClient, stack: Stack, user: User
) -> None:
    waits = await start(shell)
    await decide(browser, waits["user_code"], "approve")
    await stack.accounts.users.set_state(ADMIN, user.name, "suspended")
    assert (await poll(shell, waits["device_code"]))["error"] == "expired_token"


async def test_nobody_approves_who_was_not_shown_the_page(
    shell: httpx.AsyncClient, browser: httpx.AsyncClient, opened: str
) -> None:
    """CSRF: by another page, without the page's proof, and with that of another code."""
    waits, other = await start(shell), await start(shell)
    fields = {**await form(browser, waits["user_code"]), "decision": "approve"}
    foreign = {**await form(browser, other["user_code"]), "code": waits["user_code"]}
    attempts = [
        ({**fields, "proof": ""}, {}),
        ({**foreign, "decision": "approve"}, {}),
        (fields, {"Origin": "null"}),
        (fields, {"Origin": "http://127.0.0.1:1"}),
        (fields, {"Origin": "https://evil.example"}),
        ({**fields, "decision": "maybe"}, {}),
    ]
    for body, headers in attempts:
        answer = await browser.post("/device", data=body, headers=headers)
        assert answer.status_code in (403, 404, 421), answer.text
    del browser.headers["Origin"]
    assert (await browser.post("/device", data=fields)).status_code == 403
    assert (await poll(shell, waits["device_code"]))["error"] == "authorization_pending"
    browser.headers["Origin"] = opened
    assert (await browser.post("/device", data=fields)).status_code == 200


async def test_only_a_person_who_has_signed_in_approves(
    shell: httpx.AsyncClient, stack: Stack, user: User, opened: str
) -> None:
    """A key could else become all that its user may do."""
    waits = await start(shell)
    own = Principal(scopes=EVERY_SCOPE, user_id=user.id, name=user.name)
    key = (await stack.keys.create(own, NewKey("k", frozenset({Scope.READ}))))[1]
    login = await stack.accounts.logins.begin(user.id, "browser")
    for headers in (
        {},
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"Bearer {login}"},
        {"X-API-Key": key},
        {"Cookie": f"aidb_session={key}"},
        {"Cookie": "aidb_session=aidb_login_x"},
    ):
        shown = await shell.get("/device", params={"code": waits["user_code"]}, headers=headers)
        assert (shown.status_code, shown.headers["location"][:7]) == (303, "/login?")
        body = {"code": waits["user_code"], "proof": "", "decision": "approve"}
        sent = {**headers, "Origin": opened}
        assert (await shell.post("/device", data=body, headers=sent)).status_code == 403
    assert (await poll(shell, waits["device_code"]))["error"] == "authorization_pending"


async def test_codes_cannot_be_guessed(
    shell: httpx.AsyncClient, browser: httpx.AsyncClient, database_url: str
) -> None:
    assert math.log2(len(ALPHABET)) * LETTERS >= 40
    assert not set(ALPHABET) & set("AEIOUY01")
    waits = await start(shell)
    assert re.fullmatch(f"[{ALPHABET}]{{5}}-[{ALPHABET}]{{5}}", waits["user_code"])
    wrong = [f"BCDFG-{a}{b}BCD" for a in ALPHABET for b in ALPHABET[:2]]
    tried = [browser.get("/device", params={"code": code}) for code in wrong]
    found = [answer.status_code for answer in await asyncio.gather(*tried)]
    assert found.count(404) == WRONG_FREE
    assert found.count(429) == len(wrong) - WRONG_FREE
    right = await browser.get("/device", params={"code": waits["user_code"]})
    assert right.status_code == 429
    assert int(right.headers.get("retry-after", "600")) > 0
    assert "approve" not in right.text
    sql(database_url, "UPDATE control.guesses SET since = now() - interval '11 minutes'")
    assert "proof" in await form(browser, waits["user_code"])


async def test_right_codes_do_not_count(
    shell: httpx.AsyncClient, browser: httpx.AsyncClient
) -> None:
    waits = await start(shell)
    for typed in (waits["user_code"], waits["user_code"].lower().replace("-", " ")) * WRONG_FREE:
        assert (await form(browser, typed))["code"] == waits["user_code"]


async def test_only_so_many_wait(shell: httpx.AsyncClient, database_url: str) -> None:
    sql(
        database_url,
        "INSERT INTO control.devices (hash, code, name, address, interval_s, expires_at)"
        " SELECT sha256(n::text::bytea), sha256(n::text::bytea), 'x', '', 5,"
        f" now() + interval '1 minute' FROM generate_series(1, {MOST_WAITING}) n",
    )
    answer = await shell.post("/auth/device", data={"client_id": "one more"})
    assert answer.status_code == 429
    sql(database_url, "UPDATE control.devices SET expires_at = now() - interval '1s'")
    await start(shell)
    with psycopg.connect(database_url) as owner:
        assert owner.execute("SELECT count(*) FROM control.devices").fetchone() == (1,)


@pytest.mark.parametrize(
    ("theirs", "same", "other"),
    [
        ("192.0.2.7", ["192.0.2.7", "::ffff:192.0.2.7"], ["192.0.2.8", ""]),
        ("2001:db8::1", ["2001:db8::ffff", "2001:db8:0:0:9::1"], ["2001:db8:0:1::1", "::1"]),
    ],
)
async def test_one_address_does_not_take_the_place_of_others(
    stack: Stack, database_url: str, theirs: str, same: list[str], other: list[str]
) -> None:
    sql(database_url, "DELETE FROM control.devices")
    for n in range(MOST_HERE):
        address = theirs if n % 2 else same[0]
        await stack.devices.start("a stranger's", address)
    for address in (theirs, *same):
        with pytest.raises(TooBusy):
            await stack.devices.start("one more", address)
    for address in other:
        await stack.devices.start("another's", address)
    sql(database_url, "UPDATE control.devices SET expires_at = now() - interval '1s'")
    await stack.devices.start("later", theirs)


async def test_what_a_shell_calls_itself_is_shown_as_text(
    shell: httpx.AsyncClient, browser: httpx.AsyncClient
) -> None:
    waits = await start(shell, '<script>alert(1)</script>"><b>')
    shown = await browser.get("/device", params={"code": waits["user_code"]})
    assert "<script>" not in shown.text and "<b>" not in shown.text
    for name in ("", " ", "a\nb", "\u202eevil", "x" * 101):
        assert (await shell.post("/auth/device", data={"client_id": name})).status_code == 422


@pytest.mark.parametrize("path", ["/login", "/device", "/device?code=x", "/login?next=x"])
async def test_no_page_can_be_framed_or_run_a_script(browser: httpx.AsyncClient, path: str) -> None:
    found = await browser.get(path)
    policy = found.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in policy and "script-src" not in policy
    assert "unsafe" not in policy
    assert found.headers["x-frame-options"] == "DENY"
    assert found.headers["cache-control"] == "no-store"
    assert "<script" not in found.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"%ff=%ff",
        b"name=x&" * 30,
        b"a" * (20 << 10),
        b'{"name": "x"}',
        b"name=alice&password=wrong&next=//evil.example",
    ],
)
async def test_bad_forms_are_told(browser: httpx.AsyncClient, body: bytes) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/login", "/device"):
        answer = await browser.post(path, content=body, headers=kind)
        assert 400 <= answer.status_code < 500, path
        assert "set-cookie" not in answer.headers


async def test_a_password_signs_in_on_the_page(
    shell: httpx.AsyncClient, stack: Stack, opened: str
) -> None:
    password = "a long and good password"
    name = f"u{stack.database.new_id().hex}"
    await stack.accounts.users.create(ADMIN, NewUser(name, password))
    body = {"name": name, "password": password, "next": "/device?code=X"}
    assert (await shell.post("/login", data=body)).status_code == 403  # from no page of ours
    shell.headers["Origin"] = opened
    wrong = await shell.post("/login", data={**body, "password": "wrong"})
    assert wrong.status_code == 401
    assert name in wrong.text and "wrong" not in wrong.text
    right = await shell.post("/login", data=body)
    assert (right.status_code, right.headers["location"]) == (303, "/device?code=X")
    assert name in (await shell.get("/login")).text
    left = await shell.post("/logout", data={"x": "y"})
    assert (left.status_code, dict(shell.cookies)) == (303, {})


async def test_a_gateway_that_asks_nobody_signs_nobody_in(memory_settings: Settings) -> None:
    open_to_all = memory_settings.model_copy(update={"auth": "off"})
    async with gateway(open_to_all) as client:
        answer = await client.post("/auth/device", data={"client_id": "x"})
        assert answer.status_code == 409
