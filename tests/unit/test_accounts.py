"""Passwords, cookies and tokens: all of accounts that needs no server."""

import asyncio
import base64
import hmac
import json
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ai_stack.database.attempts import Rule
from ai_stack.errors import Forbidden, InvalidRequest, SettingsError, TooBusy, Unauthenticated
from ai_stack.rest import cookies
from ai_stack.services.auth.hashing import Hashing, chosen, new_password, typed
from ai_stack.services.auth.issuers import open_issuers
from ai_stack.services.auth.key_sets import usable
from ai_stack.services.auth.passwords import network
from ai_stack.services.auth.proofs import Unproven, proven
from ai_stack.services.auth.tokens import Tokens
from ai_stack.services.auth.users import checked_name

ISSUER, AUDIENCE = "https://issuer.example", "aidb"
RSA, EC, ED = (
    RSAKey.generate_key(2048, {"kid": "one"}),
    ECKey.generate_key("P-256", {"kid": "two"}),
    OKPKey.generate_key("Ed25519", {"kid": "three"}),
)
GOOD = "correct horse battery"


# Passwords


async def test_passwords_are_kept_as_argon2id_of_the_agreed_costs() -> None:
    hashing = Hashing()
    hash = await hashing.hash(GOOD)
    costs = extract_parameters(hash)
    assert (costs.time_cost, costs.memory_cost, costs.parallelism) == (2, 19456, 1)
    assert hash.startswith("$argon2id$")
    assert await hashing.hash(GOOD) != hash
    assert await hashing.matches(hash, GOOD)
    assert not await hashing.matches(hash, GOOD + "x")
    assert not hashing.is_dated(hash)


async def test_what_is_no_hash_matches_nothing() -> None:
    hashing = Hashing()
    for hash in (None, "", "$argon2id$v=19$m=1", "plain"):
        assert not await hashing.matches(hash, GOOD)
        assert not await hashing.matches(hash, "")


def test_a_hash_of_other_costs_is_dated() -> None:
    assert Hashing().is_dated(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("x"))


async def test_nobody_takes_as_long_as_somebody() -> None:
    hashing = Hashing()
    hash = await hashing.hash(GOOD)

    async def took(kept: str | None) -> float:
        begun = time.perf_counter()
        await hashing.matches(kept, "wrong password")
        return time.perf_counter() - begun

    await took(None)
    pairs = [(await took(hash), await took(None)) for _ in range(5)]
    known, unknown = (statistics.median(times) for times in zip(*pairs, strict=True))
    assert 0.4 < unknown / known < 2.5


async def test_few_passwords_are_looked_at_at_once_and_few_wait() -> None:
    hashing = Hashing(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    asked = [asyncio.create_task(hashing.hash(GOOD)) for _ in range(40)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, TooBusy) for one in found) == 8
    assert isinstance(await hashing.hash(GOOD), str)


@pytest.mark.parametrize(
    "password", ["", "short", "a" * 11, "a" * 40, "abcdabcdabcd", "x" * 1025, "né" * 600]
)
def test_passwords_that_will_not_do(password: str) -> None:
    with pytest.raises(InvalidRequest):
        chosen(password)


@pytest.mark.parametrize("password", ["a\nbcdefghijklmn", "\0" * 20, "abcdefgh\ud800ijklmn"])
def test_passwords_have_no_control_characters(password: str) -> None:
    with pytest.raises(InvalidRequest):
        typed(password)


def test_a_password_is_the_same_however_it_was_composed() -> None:
    assert chosen("cafe\u0301 au lait") == chosen("caf\u00e9 au lait") == "caf\u00e9 au lait"


def test_passwords_that_are_made_up_will_do_and_differ() -> None:
    made = {new_password() for _ in range(100)}
    assert len(made) == 100
    assert all(chosen(password) == password for password in made)


def test_pauses_grow_up_to_a_bound() -> None:
    rule = Rule(free=5, most_s=60)
    assert [rule.pause_s(n) for n in range(1, 13)] == [0] * 5 + [1, 2, 4, 8, 16, 32, 60]
    assert rule.pause_s(10**9) == 60


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1%eth0", "2001:db8:1:2::/64"),
        ("", ""),
        ("socket", "socket"),
    ],
)
def test_whose_attempts_count_together(address: str, counted: str) -> None:
    assert network(address) == counted


@pytest.mark.parametrize("name", ["alice", "a", "a.b+c@example.org", "0x", "z" * 255])
def test_names(name: str) -> None:
    assert checked_name(f" {name.upper()} ") == name


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", ".", "-a", "a b", "a/b", "ä", "a\0", "z" * 256, "аlice", "a\u200bb"),
        *("operator", "LOCAL", "00000000-0000-7000-8000-000000000001"),
    ],
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidRequest):
        checked_name(name)


# Cookies

PAIRS = ((b"cookie", b"other=1; aidb_session=aidb_login_x"),)


def asked(method: str = "POST", scheme: str = "http", **headers: str) -> dict[str, Any]:
    told = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "scheme": scheme, "headers": told}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "http://127.0.0.1"},
        {"origin": "https://127.0.0.1:8091"},
        {"origin": "http://localhost:8091"},
        {"origin": "http://127.0.0.1:80910"},
        {"origin": "http://127.0.0.1:8091.evil.example"},
        {"origin": "http://evil.example", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "none"},
    ],
)
def test_a_cookie_changes_nothing_from_elsewhere(headers: dict[str, str]) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "QUERY"):
        with pytest.raises(Forbidden):
            cookies.check_origin(asked(method, host="127.0.0.1:8091", **headers), PAIRS, None)


@pytest.mark.parametrize(
    "headers", [{"origin": "http://127.0.0.1:8091"}, {"sec_fetch_site": "same-origin"}]
)
def test_a_cookie_holds_on_a_page_of_the_gateway(headers: dict[str, str]) -> None:
    cookies.check_origin(asked(host="127.0.0.1:8091", **headers), PAIRS, None)


def test_the_public_address_is_the_gateways_own() -> None:
    scope = asked(host="10.0.0.1:8091", origin="https://ai.example")
    cookies.check_origin(scope, PAIRS, "https://ai.example/stack")
    with pytest.raises(Forbidden):
        cookies.check_origin(scope, PAIRS, "https://ai.example:8443")


def test_what_reads_and_what_is_explicit_needs_no_origin() -> None:
    cookies.check_origin(asked("GET", host="x"), PAIRS, None)
    cookies.check_origin(asked(host="x"), ((b"authorization", b"Bearer x"), *PAIRS), None)
    cookies.check_origin(asked(host="x"), ((b"x-api-key", b"x"), *PAIRS), None)
    cookies.check_origin(asked(host="x"), ((b"cookie", b"other=1"),), None)


def test_nobody_is_logged_in_by_another_page() -> None:
    for headers in ({}, {"sec_fetch_site": "none"}, {"origin": "http://x:1"}):
        cookies.check_page(asked(host="x:1", **headers), None)
    for headers in ({"sec_fetch_site": "cross-site"}, {"origin": "http://x:2"}):
        with pytest.raises(Forbidden):
            cookies.check_page(asked(host="x:1", **headers), None)


def test_the_cookie_is_for_this_gateway_and_no_script() -> None:
    plain = cookies.begun("aidb_login_x", asked(), 60.5)
    assert plain == "aidb_session=aidb_login_x; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
    safe = cookies.begun("t", asked(scheme="https"), 1)
    assert safe == "__Host-aidb_session=t; Path=/; Max-Age=1; HttpOnly; SameSite=Lax; Secure"
    assert cookies.ended(asked(scheme="https")).startswith("__Host-aidb_session=; Path=/; Max-Age")
    assert "aidb_session=; Path=/; Max-Age=0;" in cookies.ended(asked())


# Tokens


def claims(**changed: object) -> dict[str, Any]:
    now = int(time.time())
    told = {"iss": ISSUER, "aud": AUDIENCE, "sub": "s", "exp": now + 300, "nbf": now, "iat": now}
    return {name: value for name, value in {**told, **changed}.items() if value is not None}


def signed(content: dict[str, Any], key: Any = RSA, algorithm: str = "RS256", **header: Any) -> str:
    head = {"alg": algorithm, "kid": key.kid, **header}
    return jwt.encode(head, content, key, [algorithm], JWSRegistry(None, [algorithm], False))


def read(token: str, key: Any = RSA, algorithms: tuple[str, ...] = ("RS256",)) -> dict[str, Any]:
    unproven = Unproven.read(token)
    assert unproven is not None
    return proven(unproven, key, algorithms, audiences=[AUDIENCE], now=time.time())


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def by_hand(header: dict[str, Any]) -> str:
    """A token that the right key has signed, whatever its header says."""
    told = f"{part(header)}.{part(claims())}"
    mark = RSA.private_key.sign(told.encode(), PKCS1v15(), SHA256())
    return f"{told}.{base64.urlsafe_b64encode(mark).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA, "RS256"), (RSA, "PS512"), (EC, "ES256"), (ED, "Ed25519")]
)
def test_a_token_that_is_right(key: Any, algorithm: str) -> None:
    assert read(signed(claims(), key, algorithm), key, (algorithm,))["sub"] == "s"


class FromNow(float):
    """Seconds from the moment that a test runs, which is long after it is collected."""


def moments(changed: dict[str, object]) -> dict[str, object]:
    now = time.time()
    return {n: now + v if isinstance(v, FromNow) else v for n, v in changed.items()}


def test_the_old_name_of_ed25519_is_known() -> None:
    head = part({"alg": "EdDSA", "kid": "three"})
    told = f"{head}.{part(claims())}"
    mark = ED.private_key.sign(told.encode())
    token = f"{told}.{base64.urlsafe_b64encode(mark).rstrip(b'=').decode()}"
    assert read(token, ED, ("EdDSA",))["sub"] == "s"


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": None},
        {"aud": "aidb2"},
        {"aud": "aid"},
        {"aud": ["other"]},
        {"aud": {"aidb": 1}},
        {"aud": 7},
        {"exp": None},
        {"exp": FromNow(-61)},
        {"exp": "never"},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": float("-inf")},
        {"nbf": FromNow(120)},
        {"nbf": "now"},
        {"iat": FromNow(120)},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"sub": "x" * 256},
    ],
)
def test_claims_that_are_wrong(changed: dict[str, object]) -> None:
    with pytest.raises(Unauthenticated):
        read(signed(claims(**moments(changed))))


@pytest.mark.parametrize("changed", [{"exp": FromNow(-30)}, {"nbf": FromNow(30)}])
def test_clocks_may_differ_a_little(changed: dict[str, object]) -> None:
    assert read(signed(claims(**moments(changed))))


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/keys"},
        {"jwk": RSA.as_dict(private=False)},
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"b64": True, "crit": ["b64"]},
        {"kid": ""},
        {"kid": "x" * 256},
        {"kid": "../../etc/passwd\0"},
        {"kid": None},
        {"kid": ["one"]},
        {"alg": ["RS256"]},
        {"alg": None},
    ],
)
def test_headers_that_lead_astray(header: dict[str, object]) -> None:
    assert read(by_hand({"alg": "RS256", "kid": "one", "x5t": "ignored"}))
    with pytest.raises(Unauthenticated):
        read(by_hand({"alg": "RS256", "kid": "one", **header}))


def test_the_algorithm_is_the_issuers_to_choose() -> None:
    told = f"{part({'alg': 'HS256', 'kid': 'one'})}.{part(claims())}"
    mark = hmac.digest(RSA.as_pem(private=False), told.encode(), "sha256")
    forged = [
        f"{told}.{base64.urlsafe_b64encode(mark).rstrip(b'=').decode()}",
        f"{part({'alg': 'none', 'kid': 'one'})}.{part(claims())}.AAAA",
        f"{part({'alg': 'None', 'kid': 'one'})}.{part(claims())}.AAAA",
        signed(claims(), EC, "ES256", kid="one"),
        signed(claims(), RSA, "RS384"),
    ]
    for token in forged:
        with pytest.raises(Unauthenticated):
            read(token)
        with pytest.raises(Unauthenticated):  # even where an issuer had been told to allow it
            read(token, RSA, ("HS256", "none", "ES256"))


def test_no_bit_of_a_token_can_be_changed() -> None:
    token = signed(claims())
    head, body, mark = token.split(".")
    other = signed(claims(sub="admin"))
    stranger = signed(claims(), RSAKey.generate_key(2048, {"kid": "one"}))
    forged = [
        f"{head}.{other.split('.')[1]}.{mark}",
        f"{head}.{body}.{mark[:-8]}AAAAAAAA",
        f"{head}.{body}.A",
        stranger,
    ]
    for one in forged:
        with pytest.raises(Unauthenticated):
            read(one)


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c.d", "a.b.", ".b.c", "a.b.c\n", "a..c"])
def test_what_is_no_token_is_for_others_to_read(token: str) -> None:
    assert Unproven.read(token) is None


@pytest.mark.parametrize(
    "segments",
    [
        ("[]", "{}"),
        ("{}", "[]"),
        ("1", "1"),
        ("{", "{}"),
        ("[" * 700, "{}"),
        ("{}", "[" * 3000),
        ("\xff", "{}"),
    ],
)
def test_what_is_no_json_is_refused(segments: tuple[str, str]) -> None:
    head, body = (
        base64.urlsafe_b64encode(one.encode("latin-1")).rstrip(b"=").decode() for one in segments
    )
    with pytest.raises(Unauthenticated):
        Unproven.read(f"{head}.{body}.AAAA")


def test_only_keys_that_verify_are_taken_from_a_set() -> None:
    good = [key.as_dict(private=False) for key in (RSA, EC, ED)]
    with pytest.warns(SecurityWarning):
        weak = RSAKey.generate_key(1024, {"kid": "weak"}).as_dict(private=False)
    bad: list[object] = [
        OctKey.generate_key(256, {"kid": "secret"}).as_dict(),
        weak,
        {**EC.as_dict(private=False), "kid": "enc", "use": "enc"},
        {**EC.as_dict(private=False), "kid": None},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        {"kty": ["RSA"], "kid": "odd"},
        {"kty": "none", "kid": "none"},
        "text",
        None,
    ]
    assert set(usable([*good, *bad])) == {"one", "two", "three"}
    assert set(usable([*good, {**good[1], "kid": "one"}])) == {"two", "three"}
    assert not usable([]) and len(usable([{**good[1], "kid": str(n)} for n in range(300)])) == 100


def test_a_key_for_one_algorithm_is_for_no_other() -> None:
    key = usable([{**RSA.as_dict(private=False), "alg": "RS256"}])["one"]
    assert read(signed(claims()), key)
    with pytest.raises(Unauthenticated):
        read(signed(claims(), RSA, "PS256"), key, ("PS256",))


# The file of issuers

ENTRY = {"name": "team", "issuer": ISSUER, "audience": "aidb"}


def test_issuers_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "issuers.json"
    file.write_text(json.dumps([ENTRY, {**ENTRY, "name": "two", "issuer": f"{ISSUER}/two"}]))
    one, two = open_issuers(file)
    assert (one.audience, one.algorithms) == (("aidb",), ("RS256",))
    assert two.discovery == f"{ISSUER}/two/.well-known/openid-configuration"
    assert open_issuers(None) == ()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "{}",
        "[1]",
        "[" * 2000,
        json.dumps([ENTRY, ENTRY]),
        json.dumps([ENTRY, {**ENTRY, "name": "two"}]),
        *(
            json.dumps([{**ENTRY, **changed}])
            for changed in (
                {"issuer": "http://issuer.example"},
                {"issuer": "https://user@issuer.example"},
                {"issuer": "https://issuer.example?x"},
                {"issuer": "https://["},
                {"issuer": "ftp://issuer.example"},
                {"algorithms": ["HS256"]},
                {"algorithms": ["none"]},
                {"algorithms": []},
                {"jwks_uri": "http://issuer.example/keys"},
                {"name": "Team"},
                {"name": "../x"},
                {"colour": "red"},
            )
        ),
    ],
)
def test_a_file_of_issuers_that_is_wrong_is_told_by_its_name(content: str, tmp_path: Path) -> None:
    file = tmp_path / "issuers.json"
    file.write_text(content)
    with pytest.raises(SettingsError, match="AI_STACK_ISSUERS"):
        open_issuers(file)


def test_a_secret_in_a_file_that_is_wrong_is_not_told(tmp_path: Path) -> None:
    file = tmp_path / "issuers.json"
    file.write_text(json.dumps([{**ENTRY, "client_secret": ["very-secret"]}]))
    with pytest.raises(SettingsError) as raised:
        open_issuers(file)
    assert "very-secret" not in raised.value.message
    with pytest.raises(SettingsError):
        open_issuers(tmp_path / "nowhere.json")


def test_no_issuer_has_the_stacks_own_name() -> None:
    signing: Any = SimpleNamespace(database=None)
    other: Any = SimpleNamespace(issuer=ISSUER, audience=("aidb",))
    with pytest.raises(SettingsError):
        Tokens.of(signing, signing, ISSUER, [other])
