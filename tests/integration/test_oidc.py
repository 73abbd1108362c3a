"""Signing on at issuers, and all that must not sign anybody on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

import issuers
from ai_stack.services.auth.endpoints import Endpoints, Question
from ai_stack.services.auth.issuers import Issuer
from ai_stack.services.auth.key_sets import IssuerUnavailable
from ai_stack.settings import Settings
from issuers import Scripted
from sign_ons import (
    SIGN_ON,
    actions,
    back,
    begin,
    challenge,
    passed,
    refused,
    served,
    sign_on,
    whoami,
)
from stacks import free_port


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
    moved = httpx.URL(target.replace("/other/", "/scripted/"))
    for answer in (moved, moved.copy_remove_param("iss")):
        refused(await client.get(answer), 403, client)
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
