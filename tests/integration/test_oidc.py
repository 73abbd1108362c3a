"""Signing on at issuers, and all that must not sign anybody on."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge

import issuers
from ai_stack.models.principals import EVERY_SCOPE, Principal
from ai_stack.models.trust import NewUser
from ai_stack.services.auth.endpoints import Endpoints, Question
from ai_stack.services.auth.issuers import Issuer
from ai_stack.services.auth.key_sets import IssuerUnavailable
from ai_stack.settings import Settings
from ai_stack.stack import Stack, open_stack
from gateways import gateway
from issuers import Scripted
from stacks import free_port

COOKIE, SIGN_ON = "aidb_session", "aidb_sign_on"
WELCOME = {"newcomers": True, "grants": [{"project": "default", "role": "editor"}]}


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    with issuers.scripted(Scripted()) as issuer:
        yield issuer


@pytest.fixture(scope="module")
def other() -> Iterator[Scripted]:
    """One that promises to say whose its answers are, and does."""
    promised = {"authorization_response_iss_parameter_supported": True}
    with issuers.scripted(Scripted("other", described=promised)) as issuer:
        issuer.answer = lambda answer: {**answer, "iss": issuer.url}
        yield issuer


@pytest.fixture
def bad(scripted: Scripted) -> Scripted:
    """An issuer that behaves until a test has it do worse."""
    scripted.behave()
    return scripted


@pytest.fixture(scope="module")
async def opened(
    memory_settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
    scripted: Scripted,
    other: Scripted,
) -> AsyncIterator[str]:
    """The address of a gateway that trusts both, and lets whoever comes from there in."""
    folder = tmp_path_factory.mktemp("issuers")
    async with served(memory_settings, folder, scripted.entry(), other.entry()) as client:
        yield str(client.base_url)


@pytest.fixture
async def client(opened: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=opened, timeout=60) as client:
        yield client


@asynccontextmanager
async def served(
    settings: Settings, folder: Path, *entries: dict[str, Any], port: int = 0, **more: object
) -> AsyncIterator[httpx.AsyncClient]:
    told = {"issuers": issuers.written(folder, *entries), **more}
    async with gateway(settings.model_copy(update=told), port=port) as client:
        yield client


async def begin(client: httpx.AsyncClient, name: str = "scripted", next: str = "/login") -> str:
    """The address at the issuer; the client has the cookie of what it has begun."""
    answer = await client.get(f"/auth/oidc/{name}", params={"next": next})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def back(client: httpx.AsyncClient, address: str) -> str:
    """Where the scripted issuer sends a browser back to."""
    async with httpx.AsyncClient() as other:
        return (await other.get(address)).headers["location"]


async def sign_on(client: httpx.AsyncClient, name: str = "scripted") -> httpx.Response:
    return await client.get(await back(client, await begin(client, name)))


async def passed(browser: httpx.Client, address: str, subject: str, until: str) -> str:
    return await asyncio.to_thread(issuers.pass_forms, browser, address, subject, until)


async def whoami(client: httpx.AsyncClient) -> dict[str, Any] | None:
    answer = await client.get("/auth/me")
    return answer.json() if answer.status_code == 200 else None


def refused(answer: httpx.Response, status: int, client: httpx.AsyncClient) -> None:
    assert answer.status_code == status, answer.text
    assert COOKIE not in client.cookies
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def actions(url: str) -> list[tuple[str, dict[str, Any]]]:
    with psycopg.connect(url) as owner:
        return owner.execute("SELECT action, detail FROM control.audit ORDER BY id").fetchall()


# Two real issuers


@pytest.mark.parametrize("make", [issuers.panva, issuers.mock])
async def test_a_real_issuer_signs_people_on(
    memory_settings: Settings, tmp_path: Path, database_url: str, make: Any
) -> None:
    port, own = free_port(), free_port()
    here, name = f"http://127.0.0.1:{own}", make.__name__
    grants = [{"project": "default", "role": "editor"}]
    with make(port, here, domains=[f"{name}.example"], grants=grants) as entry:
        if make is issuers.mock:
            told = {"email": "alice@mock.example", "email_verified": True}
            await asyncio.to_thread(issuers.say_of, entry, "alice", **told)
        async with served(memory_settings, tmp_path, entry, port=own) as client:
            address = await begin(client, name, "/login")
            with httpx.Client() as browser:
                target = await passed(browser, address, "alice", here)
            answer = await client.get(target)
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")
            found = await whoami(client)
            assert found is not None
            assert found["name"] == f"alice@{name}.example"
            assert "write" in found["scopes"] and "manage" not in found["scopes"]
            shown = await client.get("/login")
            assert f"alice@{name}.example" in shown.text
            left = await client.post("/logout", headers={"Origin": here}, data={"a": "b"})
            assert left.status_code == 303
            assert await whoami(client) is None
    told = [action for action, detail in actions(database_url) if detail.get("issuer") == name]
    assert told == ["user.create", "sign_on"]


@pytest.mark.parametrize("make", [issuers.panva, issuers.mock])
async def test_a_real_issuers_strangers_stay_outside(
    memory_settings: Settings, tmp_path: Path, make: Any
) -> None:
    port, own = free_port(), free_port()
    here, name = f"http://127.0.0.1:{own}", make.__name__
    with make(port, here, domains=["elsewhere.example"]) as entry:
        async with served(memory_settings, tmp_path, entry, port=own) as client:
            address = await begin(client, name)
            with httpx.Client() as browser:
                target = await passed(browser, address, "mallory", here)
            refused(await client.get(target), 403, client)


async def test_a_token_of_an_issuer_opens_mcp(memory_settings: Settings, tmp_path: Path) -> None:
    """As a client of MCP does it: from the 401 to the metadata to the issuer and back."""
    port, own = free_port(), free_port()
    here = f"http://127.0.0.1:{own}"
    with issuers.panva(port, here, audience=[f"{here}/mcp"], **WELCOME) as entry:
        async with served(memory_settings, tmp_path, entry, port=own) as client:
            stranger = await client.post("/mcp", json=PING)
            assert stranger.status_code == 401
            told = re.search(r'resource_metadata="([^"]+)"', stranger.headers["www-authenticate"])
            assert told is not None
            described = (await client.get(told[1])).json()
            assert described["resource"] == f"{here}/mcp"
            assert described["authorization_servers"] == [entry["issuer"]]
            token = await asyncio.to_thread(access_token, entry, here, described["resource"])
            bearer = {"Authorization": f"Bearer {token}"}
            assert (await client.post("/mcp", json=PING, headers=bearer)).status_code == 401
            await sign_on_at(client, "panva", here)  # which makes the subject a user
            client.cookies.clear()
            assert (await client.post("/mcp", json=PING, headers=bearer)).status_code == 200
            other = await asyncio.to_thread(access_token, entry, here, None)
            bearer = {"Authorization": f"Bearer {other}"}
            assert (await client.post("/mcp", json=PING, headers=bearer)).status_code == 401


PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


async def sign_on_at(client: httpx.AsyncClient, name: str, here: str) -> None:
    address = await begin(client, name)
    with httpx.Client() as browser:
        target = await passed(browser, address, "alice", here)
    assert (await client.get(target)).status_code == 303


def access_token(entry: dict[str, Any], here: str, resource: str | None) -> str:
    """What a client of the issuer gets that wants a token for a resource."""
    own = {"resource": resource} if resource else {}
    back_to = issuers.callback(here, "panva")
    verifier = "v" * 43
    asked = {
        "response_type": "code",
        "client_id": entry["client_id"],
        "redirect_uri": back_to,
        "code_challenge": challenge(verifier),
        "code_challenge_method": "S256",
        "scope": "openid",
        "state": "s",
        **own,
    }
    with httpx.Client() as browser:
        address = str(httpx.URL(f"{entry['issuer']}/auth", params=asked))
        target = issuers.pass_forms(browser, address, "alice", here)
        body = {
            "grant_type": "authorization_code",
            "code": parse_qs(urlsplit(target).query)["code"],
            "redirect_uri": back_to,
            "code_verifier": verifier,
            **own,
        }
        pair = (entry["client_id"], entry["client_secret"])
        answer = browser.post(f"{entry['issuer']}/token", data=body, auth=pair)
    return str(answer.raise_for_status().json()["access_token"])


def challenge(verifier: str) -> str:
    return str(create_s256_code_challenge(verifier))


# What a bad issuer, or somebody in the middle, tries


async def test_the_scripted_issuer_signs_on_when_it_behaves(
    client: httpx.AsyncClient, bad: Scripted
) -> None:
    """Without this the refusals below would prove nothing."""
    address = await begin(client)
    asked = parse_qs(urlsplit(address).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == [issuers.callback(str(client.base_url), "scripted")]
    answer = await client.get(await back(client, address))
    assert answer.status_code == 303, answer.text
    assert (await whoami(client) or {})["name"] == "erin@scripted"
    sent = bad.exchanged[-1]
    assert challenge(sent["code_verifier"]) == asked["code_challenge"][0]


def later(seconds: int) -> Any:
    return lambda claims: {**claims, "exp": claims["exp"] + seconds, "iat": claims["iat"] + seconds}


def without(name: str) -> Any:
    return lambda claims: {key: value for key, value in claims.items() if key != name}


WORSE: dict[str, dict[str, Any]] = {
    "alg none": {"sign": issuers.unsigned},
    "the public key as a shared secret": {"sign": issuers.confused},
    "another key": {"sign": issuers.foreign},
    "no signature": {"sign": lambda issuer, claims: issuer.signed(claims).rpartition(".")[0] + "."},
    "a jku": {"sign": lambda i, c: i.signed(c, jku=f"{i.url}/jwks")},
    "no id_token": {"token": lambda token: {"access_token": "at", "token_type": "Bearer"}},
    "an id_token that is none": {"sign": lambda issuer, claims: ["x"]},
    "the nonce missing": {"claims": without("nonce")},
    "another nonce": {"claims": lambda claims: {**claims, "nonce": "another"}},
    "another audience": {"claims": lambda claims: {**claims, "aud": "another"}},
    "ours among others, for another": {
        "claims": lambda claims: {**claims, "aud": ["aidb", "another"], "azp": "another"}
    },
    "ours among others, for nobody": {"claims": lambda claims: {**claims, "aud": ["aidb", "b"]}},
    "another issuer": {"claims": lambda claims: {**claims, "iss": "https://another.example"}},
    "the issuer with a slash": {"claims": lambda claims: {**claims, "iss": claims["iss"] + "/"}},
    "no subject": {"claims": without("sub")},
    "an empty subject": {"claims": lambda claims: {**claims, "sub": ""}},
    "a subject that is no text": {"claims": lambda claims: {**claims, "sub": 7}},
    "no expiry": {"claims": without("exp")},
    "no moment of issue": {"claims": without("iat")},
    "expired": {"claims": later(-3600)},
    "of the future": {"claims": later(3600)},
    "another token's hash": {"claims": lambda claims: {**claims, "at_hash": "AAAA"}},
    "no JSON": {"token": lambda token: b"<html>"},
    "a list": {"token": lambda token: [token]},
}


@pytest.mark.parametrize("what", WORSE)
async def test_a_bad_token_signs_nobody_on(
    client: httpx.AsyncClient, bad: Scripted, what: str
) -> None:
    bad.behave(**WORSE[what])
    answer = await sign_on(client)
    refused(answer, 503 if what == "no JSON" else 401, client)
    assert len(bad.exchanged) == 1


async def test_an_answer_signs_on_once(client: httpx.AsyncClient, bad: Scripted) -> None:
    """The whole answer replayed, by the same browser and with its cookie."""
    target = await back(client, await begin(client))
    kept = client.cookies[SIGN_ON]
    assert (await client.get(target)).status_code == 303
    client.cookies.clear()
    bad.codes["code-0"] = {"nonce": "x"}  # an issuer that would take the code again
    answer = await client.get(target, headers={"Cookie": f"{SIGN_ON}={kept}"})
    refused(answer, 403, client)
    assert len(bad.exchanged) == 1


async def test_of_many_answers_at_once_one_signs_on(
    client: httpx.AsyncClient, bad: Scripted
) -> None:
    target = await back(client, await begin(client))
    kept = {"Cookie": f"{SIGN_ON}={client.cookies[SIGN_ON]}"}
    client.cookies.clear()
    several = await asyncio.gather(*(client.get(target, headers=kept) for _ in range(8)))
    assert sorted(answer.status_code for answer in several) == [303, *[403] * 7]


async def test_an_answer_signs_on_no_other_browser(
    client: httpx.AsyncClient, bad: Scripted
) -> None:
    """Login CSRF: an attacker's own answer, opened in a victim's browser."""
    target = await back(client, await begin(client))
    async with httpx.AsyncClient(base_url=client.base_url) as victim:
        refused(await victim.get(target), 403, victim)
        await begin(victim)  # with a sign-on of its own under way
        refused(await victim.get(target), 403, victim)
        assert bad.exchanged == []


async def test_a_code_cannot_be_injected(client: httpx.AsyncClient, bad: Scripted) -> None:
    """A stolen code under the attacker's own state fails by the nonce, and carries its verifier."""
    async with httpx.AsyncClient(base_url=client.base_url) as victim:
        stolen = parse_qs(urlsplit(await back(victim, await begin(victim))).query)["code"][0]
    own = parse_qs(urlsplit(await begin(client)).query)
    answer = await client.get(
        "/auth/oidc/scripted/callback", params={"code": stolen, "state": own["state"][0]}
    )
    refused(answer, 401, client)
    sent = bad.exchanged[-1]["code_verifier"]
    assert challenge(sent) == own["code_challenge"][0]


@pytest.mark.parametrize("cookie", ["", "x", "gAAAAAB" + "A" * 200, "é"])
async def test_a_cookie_that_is_not_ours_signs_nobody_on(
    client: httpx.AsyncClient, bad: Scripted, cookie: str
) -> None:
    target = await back(client, await begin(client))
    client.cookies.clear()
    headers = [(b"cookie", f"{SIGN_ON}={cookie}".encode())]
    refused(await client.get(target, headers=headers), 403, client)


async def test_issuers_are_not_mixed_up(
    client: httpx.AsyncClient, bad: Scripted, other: Scripted
) -> None:
    """An answer of one issuer at the address of another; a state that belongs to another."""
    other.exchanged.clear()
    target = await back(client, await begin(client, "other"))
    refused(await client.get(target.replace("/other/", "/scripted/")), 403, client)
    assert (bad.exchanged, other.exchanged) == ([], [])
    assert (await client.get(target)).status_code == 303


ANOTHER = "https://another.example"


@pytest.mark.parametrize(
    ("name", "told"), [("other", ""), ("other", ANOTHER), ("scripted", ANOTHER), ("scripted", "")]
)
async def test_an_answer_says_whose_it_is(
    client: httpx.AsyncClient, bad: Scripted, other: Scripted, name: str, told: str
) -> None:
    """RFC 9207: missing where it is promised, and another's, are both refused."""
    other.exchanged.clear()
    target = httpx.URL(await back(client, await begin(client, name)))
    target = target.copy_remove_param("iss")
    answer = await client.get(target.copy_add_param("iss", told) if told else target)
    if (name, told) == ("scripted", ""):
        assert answer.status_code == 303
        return
    refused(answer, 403, client)
    assert (bad.exchanged, other.exchanged) == ([], [])


async def test_an_answer_that_tells_something_twice_is_none(
    client: httpx.AsyncClient, bad: Scripted
) -> None:
    target = await back(client, await begin(client))
    refused(await client.get(f"{target}&state=other"), 403, client)
    refused(await client.get(f"{target}&code=other"), 401, client)


@pytest.mark.parametrize("answer", [{"error": "access_denied"}, {"code": "x", "error": "e"}, {}])
async def test_what_the_issuer_refuses_is_told(
    client: httpx.AsyncClient, bad: Scripted, answer: dict[str, str]
) -> None:
    bad.answer = lambda told: {**answer, "state": told["state"], "error_description": "<script>"}
    found = await sign_on(client)
    refused(found, 401, client)
    assert "<script>" not in found.text
    assert bad.exchanged == []


ELSEWHERE = [
    *("https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "evil"),
    *("/\t/evil.example", "/\n/evil.example", "javascript:alert(1)", "http:/evil", "", " /x"),
    *("/é", "/" + "a" * 3000, "/x\r\nSet-Cookie: a=b", "/\x00"),
]


@pytest.mark.parametrize("next", ELSEWHERE)
async def test_nobody_is_sent_elsewhere(
    client: httpx.AsyncClient, bad: Scripted, next: str
) -> None:
    for path in ("/auth/oidc/scripted", "/login"):
        answer = await client.get(path, params={"next": next})
        assert answer.status_code == 422, path
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    "described",
    [
        {"issuer": "https://another.example"},
        {"authorization_endpoint": "http://evil.example/auth"},
        {"authorization_endpoint": None},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"padding": "x" * (300 << 10)},
    ],
)
async def test_an_issuer_that_describes_another_is_not_followed(
    bad: Scripted, described: dict[str, Any]
) -> None:
    bad.behave(described=described)
    endpoints = Endpoints(Issuer.model_validate(bad.entry()))
    with pytest.raises(IssuerUnavailable):
        await endpoints.authorization(Question("http://127.0.0.1/back", "s", "n", "v" * 43))


async def test_an_issuer_that_is_down_or_unknown_is_told(
    memory_settings: Settings, tmp_path: Path, bad: Scripted
) -> None:
    entry = {**bad.entry(), "issuer": f"http://localhost:{free_port()}"}
    async with served(memory_settings, tmp_path, entry) as client:
        assert (await client.get("/auth/oidc/scripted")).status_code == 503
        assert (await client.get("/auth/oidc/nobody")).status_code == 404
        assert (await client.get("/health/live")).status_code == 200


async def test_the_way_back_is_the_public_address(
    memory_settings: Settings, tmp_path: Path, bad: Scripted
) -> None:
    public = "https://ai.example.org"
    async with served(memory_settings, tmp_path, bad.entry(), public_url=public) as client:
        answer = await client.get("/auth/oidc/scripted")
        asked = parse_qs(urlsplit(answer.headers["location"]).query)
        assert asked["redirect_uri"] == [issuers.callback(public, "scripted")]
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-aidb_sign_on=")
        assert all(word in cookie for word in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"))
        assert f'href="{public}/auth/oidc/scripted?' in (await client.get("/login")).text
        foreign = await client.get("/auth/oidc/scripted", headers={"Host": "evil.example"})
        assert foreign.status_code == 421


# Who becomes a user


async def test_nobody_becomes_a_user_unasked(
    memory_settings: Settings, tmp_path: Path, bad: Scripted, database_url: str
) -> None:
    entry = {**bad.entry(), "newcomers": False, "domains": ["team.example"]}
    bad.subject = "stranger"
    for claims in (
        {},
        {"email": "a@team.example"},
        {"email": "a@team.example", "email_verified": "true"},
        {"email": "a@team.example", "email_verified": False},
        {"email": "a@sub.team.example", "email_verified": True},
        {"email": "a@team.example@evil.example", "email_verified": True},
        {"email": "team.example", "email_verified": True},
        {"email": ["a@team.example"], "email_verified": True},
    ):
        bad.claims = lambda told, more=claims: {**told, **more}
        async with served(memory_settings, tmp_path, entry) as client:
            refused(await sign_on(client), 403, client)
    assert ("sign_on.refuse", "stranger") in [
        (a, d.get("subject")) for a, d in actions(database_url)
    ]
    bad.claims = lambda told: {**told, "email": "A@Team.Example", "email_verified": True}
    async with served(memory_settings, tmp_path, entry) as client:
        assert (await sign_on(client)).status_code == 303


async def test_userinfo_counts_for_its_own_subject_alone(
    memory_settings: Settings, tmp_path: Path, bad: Scripted
) -> None:
    entry = {**bad.entry(), "newcomers": False, "domains": ["info.example"]}
    bad.subject = "frank"
    address = {"email": "frank@info.example", "email_verified": True}
    bad.userinfo = {"sub": "another", **address}
    async with served(memory_settings, tmp_path, entry) as client:
        refused(await sign_on(client), 401, client)
    bad.userinfo = {"sub": "frank", **address}
    async with served(memory_settings, tmp_path, entry) as client:
        assert (await sign_on(client)).status_code == 303
        assert (await whoami(client) or {})["name"] == "frank@info.example"


async def test_a_name_or_an_address_is_nobodys_proof(
    memory_settings: Settings, tmp_path: Path, stack: Stack, bad: Scripted
) -> None:
    """Who calls itself as a user does, or has that user's address, is somebody else."""
    admin = Principal(scopes=EVERY_SCOPE)
    made, _ = await stack.accounts.users.create(admin, NewUser("boss@team.example", is_admin=True))
    bad.subject = "imposter"
    more = {"preferred_username": "boss@team.example", "email": "boss@team.example"}
    bad.claims = lambda claims: {**claims, **more, "email_verified": True}
    async with served(memory_settings, tmp_path, bad.entry(domains=["team.example"])) as client:
        assert (await sign_on(client)).status_code == 303
        found = await whoami(client)
        assert found is None or found["user_id"] != str(made.id)


async def test_whom_an_admin_has_bound_comes_in_and_whom_it_suspends_does_not(
    memory_settings: Settings, tmp_path: Path, stack: Stack, bad: Scripted
) -> None:
    admin = Principal(scopes=EVERY_SCOPE)
    bad.subject = "grace"
    new = NewUser("grace", is_admin=True, issuer=bad.url, subject="grace")
    await stack.accounts.users.create(admin, new)
    entry = {**bad.entry(), "newcomers": False}
    async with served(memory_settings, tmp_path, entry) as client:
        assert (await sign_on(client)).status_code == 303
        assert (await whoami(client) or {})["name"] == "grace"
        await stack.accounts.users.set_state(admin, "grace", "suspended")
        client.cookies.clear()
        refused(await sign_on(client), 401, client)


async def test_groups_bring_roles_and_take_them(
    memory_settings: Settings, tmp_path: Path, bad: Scripted
) -> None:
    roles = {
        "staff": [{"project": "default", "role": "reader"}],
        "leads": [{"project": "default", "role": "owner"}, {"project": "gone", "role": "owner"}],
    }
    bad.subject = "heidi"
    entry = bad.entry(roles=roles, roles_claim="groups")
    async with served(memory_settings, tmp_path, entry) as client:
        for groups, scopes in (
            (["staff", "leads"], {"manage", "read"}),
            (["staff"], {"read"}),
            ("staff", {"read"}),
            ([], set[str]()),
            ([["leads"], {"a": 1}, 7], set[str]()),
        ):
            bad.claims = lambda claims, groups=groups: {**claims, "groups": groups}
            assert (await sign_on(client)).status_code == 303
            found = set((await whoami(client) or {}).get("scopes", ()))
            assert scopes <= found, groups
            assert ("manage" in found) == ("manage" in scopes), groups


async def test_many_first_sign_ons_make_one_user(
    client: httpx.AsyncClient, bad: Scripted, database_url: str
) -> None:
    bad.subject = "ivan"

    async def once() -> int:
        async with httpx.AsyncClient(base_url=client.base_url) as own:
            return (await sign_on(own)).status_code

    assert await asyncio.gather(*(once() for _ in range(6))) == [303] * 6
    with psycopg.connect(database_url) as owner:
        found = owner.execute("SELECT count(*) FROM control.identities WHERE subject = 'ivan'")
        assert found.fetchone() == (1,)


# The protected resource


async def test_what_the_gateway_says_of_itself(
    memory_settings: Settings, tmp_path: Path, bad: Scripted, client: httpx.AsyncClient
) -> None:
    more = {"scopes_claim": "scope", "scopes_prefix": "aidb:"}
    entry = bad.entry(audience=["https://ai.example.org/mcp"], **more)
    public = "https://ai.example.org"
    async with served(memory_settings, tmp_path, entry, public_url=public) as named:
        found = (await named.get("/.well-known/oauth-protected-resource/mcp")).json()
        assert found["resource"] == f"{public}/mcp"
        assert found["authorization_servers"] == [bad.url]
        assert "aidb:read" in found["scopes_supported"]
        whole = (await named.get("/.well-known/oauth-protected-resource")).json()
        assert whole["resource"] == public
        stranger = await named.post("/mcp", json=PING)
        assert f'resource_metadata="{public}/.well-known' in stranger.headers["www-authenticate"]
    stranger = await client.post("/mcp", json=PING)
    assert stranger.headers["www-authenticate"] == 'Bearer realm="AI Stack"'


async def test_a_stack_without_issuers_opens(memory_settings: Settings) -> None:
    async with open_stack(memory_settings) as opened:
        assert opened.sign_on.issuers == []
