"""JSON Web Tokens: ours, and those of an issuer, on a real PostgreSQL."""

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from accounts import BETTER, GOOD, OPERATOR, Publisher, logged_in, me, published, until
from ai_stack.cli.credentials import Credentials
from ai_stack.errors import Unauthenticated, Unavailable
from ai_stack.models.principals import DEFAULT_PROJECT, Principal, Scope
from ai_stack.models.trust import NewKey, NewUser
from ai_stack.services.auth import key_sets
from ai_stack.services.auth.issuers import Issuer
from ai_stack.services.auth.key_sets import KeySet
from ai_stack.services.auth.signing import SigningKeys
from ai_stack.services.auth.tokens import Tokens
from ai_stack.settings import Settings
from ai_stack.stack import Stack
from gateways import gateway

# Tokens of ours


async def test_a_token_does_what_its_maker_may_do_or_less(
    client: httpx.AsyncClient, name: str, memory_settings: Settings
) -> None:
    login = await logged_in(client, name)
    narrow = {"scopes": ["read"], "lasts_s": 60}
    made = (await client.post("/auth/token", json=narrow, headers=login)).json()
    assert (made["token_type"], made["expires_in"], made["scope"]) == ("Bearer", 60, "read")
    token = {"Authorization": f"Bearer {made['access_token']}"}
    shown = (await client.get("/auth/me", headers=token)).json()
    assert (shown["name"], shown["scopes"]) == (name, ["read"])
    for carrier in ({"x-api-key": made["access_token"]}, token):
        refused = await client.post("/documents", json={"content": "x"}, headers=carrier)
        assert refused.status_code == 403
    again = await client.post("/auth/token", json={}, headers=token)
    assert again.status_code == 403
    for body, status in (
        ({"scopes": ["operate"]}, 403),
        ({"scopes": ["nothing"]}, 422),
        ({"lasts_s": 59}, 422),
        ({"lasts_s": 3601}, 422),
    ):
        reply = await client.post("/auth/token", json=body, headers=login)
        assert reply.status_code == status
    own = Credentials(None, memory_settings.secrets / "operator")
    assert (await client.post("/auth/token", json={}, auth=own)).status_code == 403
    assert (await client.post("/auth/token", json={})).status_code == 401


async def test_anybody_can_verify_a_token_by_what_is_published(
    client: httpx.AsyncClient, name: str
) -> None:
    login = await logged_in(client, name)
    token = (await client.post("/auth/token", json={}, headers=login)).json()["access_token"]
    published = (await client.get("/.well-known/jwks.json")).json()["keys"]
    assert all(key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"} for key in published)
    verified = [
        jwt.decode(token, ECKey.import_key(key), ["ES256"]) for key in published if key["kid"]
    ]
    claims = verified[0].claims
    names = {"iss", "aud", "sub", "exp", "iat", "nbf", "jti", "project", "scope", "generation"}
    assert claims.keys() == names
    assert claims["iss"] == "nixos-ai-stack"


async def test_what_one_gateway_gives_another_knows_and_ends(
    client: httpx.AsyncClient, name: str, memory_settings: Settings
) -> None:
    login = await logged_in(client, name)
    made = (await client.post("/auth/token", json={}, headers=login)).json()["access_token"]
    token = {"Authorization": f"Bearer {made}"}
    async with gateway(memory_settings.model_copy(update={"auth": "required"})) as other:
        for headers in (login, token):
            assert await me(other, headers) == 200
        assert (await other.post("/auth/logout", headers=login)).status_code == 204
        await until(401, lambda: me(client, login))
        change = {"name": name, "password": GOOD, "new_password": BETTER}
        assert (await other.post("/auth/password", json=change)).status_code == 204
        for gate in (client, other):
            await until(401, lambda gate=gate: me(gate, token))


async def test_a_token_ends_with_the_key_that_made_it(
    client: httpx.AsyncClient, operator: Credentials
) -> None:
    new = {"name": "k", "scopes": ["read", "manage"]}
    key = (await client.post("/keys", json=new, auth=operator)).json()
    by_key = {"x-api-key": key["key"]}
    made = (await client.post("/auth/token", json={}, headers=by_key)).json()
    token = {"Authorization": f"Bearer {made['access_token']}"}
    assert (await client.get("/auth/me", headers=token)).json()["key_id"] == key["id"]
    await client.delete(f"/keys/{key['id']}", auth=operator)
    await until(401, lambda: me(client, token))


async def test_a_token_ends_no_later_than_what_made_it(
    stack: Stack, owner: psycopg.Connection[Any]
) -> None:
    key, secret = await stack.keys.create(OPERATOR, NewKey("soon", frozenset({Scope.READ})))
    owner.execute(
        "UPDATE control.keys SET expires_at = now() + interval '100s' WHERE id = %s", [key.id]
    )
    asking = Principal(name="k", scopes=frozenset({Scope.READ}), key_id=key.id)
    made = await stack.accounts.tokens.issue(asking, secret)
    assert 90 <= made.expires_in_s <= 100
    await stack.keys.revoke(OPERATOR, key.id)
    with pytest.raises(Unauthenticated):
        await stack.accounts.tokens.issue(asking, secret)


async def test_a_token_works_in_its_project_alone(
    client: httpx.AsyncClient, owner: psycopg.Connection[Any], stack: Stack
) -> None:
    other = stack.database.new_id()
    owner.execute("INSERT INTO aidb.projects (id, name) VALUES (%s, %s)", [other, f"p{other.hex}"])
    new = NewKey("two", frozenset({Scope.READ}), projects=("default", f"p{other.hex}"))
    _, key = await stack.keys.create(OPERATOR, new)
    both = {"x-api-key": key}
    there = {**both, "X-Project": f"p{other.hex}"}
    assert (await client.get("/auth/me", headers=there)).json()["project_id"] == str(other)
    made = (await client.post("/auth/token", json={}, headers=there)).json()["access_token"]
    token = {"Authorization": f"Bearer {made}"}
    assert (await client.get("/auth/me", headers=token)).json()["project_id"] == str(other)
    assert await me(client, {**token, "X-Project": "default"}) == 403


async def test_signing_keys_are_rotated_and_the_old_one_verifies_for_a_while(
    client: httpx.AsyncClient, operator: Credentials, name: str, stack: Stack
) -> None:
    login = await logged_in(client, name)
    made = (await client.post("/auth/token", json={}, headers=login)).json()["access_token"]
    token, path = {"Authorization": f"Bearer {made}"}, "/auth/signing-keys/rotate"
    kid = jwt_header(made)["kid"]
    assert (await client.post(path, json={}, headers=login)).status_code == 403
    new = (await client.post(path, json={}, auth=operator)).json()["kid"]
    assert new != kid
    published = (await client.get("/.well-known/jwks.json")).json()["keys"]
    assert published[0]["kid"] == new
    assert kid in {key["kid"] for key in published}
    assert await me(client, token) == 200
    again = (await client.post("/auth/token", json={}, headers=login)).json()["access_token"]
    assert jwt_header(again)["kid"] == new
    await client.post(path, json={"at_once": True}, auth=operator)
    for held in (made, again):
        bearer = {"Authorization": f"Bearer {held}"}
        await until(401, lambda bearer=bearer: me(client, bearer))
    assert len((await client.get("/.well-known/jwks.json")).json()["keys"]) == 1
    assert await stack.accounts.tokens.signing.sweep() >= 2
    assert await stack.accounts.tokens.signing.sweep() == 0


async def test_one_key_is_made_by_several_gateways_at_once(
    stack: Stack, owner: psycopg.Connection[Any]
) -> None:
    owner.execute("DELETE FROM control.signing_keys")
    ours = stack.accounts.tokens.signing
    others = [SigningKeys(stack.database, ours.sealing) for _ in range(4)]
    found = await asyncio.gather(*(other.current() for other in others))
    assert len({kid for kid, _ in found}) == 1


async def test_a_sealed_key_opens_in_its_own_place_with_its_own_secret(
    stack: Stack, owner: psycopg.Connection[Any]
) -> None:
    ours = stack.accounts.tokens.signing
    kid, _ = await ours.current()
    owner.execute(
        "INSERT INTO control.signing_keys (id, sealed, retires_at)"
        " SELECT 'moved', sealed, now() + interval '1h' FROM control.signing_keys WHERE id = %s",
        [kid],
    )
    assert await ours.find("moved") is None
    assert "moved" not in {key["kid"] for key in await ours.published()}
    strange = SigningKeys(stack.database, bytes(32))
    assert await strange.find(kid) is None
    assert (await strange.current())[0] != kid  # who lost the secret goes on with another key
    assert not await ours.stands(kid)


async def forged(stack: Stack, **changed: object) -> str:
    """A token signed by our own key, with claims that are not ours."""
    kid, key = await stack.accounts.tokens.signing.current()
    now = int(time.time())
    told = {"iss": "nixos-ai-stack", "aud": "aidb", "iat": now, "nbf": now, "exp": now + 60}
    return jwt.encode({"alg": "ES256", "kid": kid}, {**told, **changed}, key)


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "nixos-ai-stack2"},
        {"iss": "nixos-ai-stac"},
        {"iss": "https://elsewhere.example"},
        {"aud": "aidb2"},
        {"exp": time.time() - 5},
        {"sub": "key:abcdefgh"},
        {"sub": "user:00000000-0000-7000-8000-000000000009"},
    ],
)
async def test_claims_that_are_not_ours(stack: Stack, changed: dict[str, object]) -> None:
    key, _ = await stack.keys.create(OPERATOR, NewKey("k", frozenset({Scope.READ})))
    good = {"sub": f"key:{key.id}", "scope": "read", "project": str(DEFAULT_PROJECT)}
    assert (await stack.identity.credential(await forged(stack, **good))).key_id == key.id
    with pytest.raises(Unauthenticated):
        await stack.identity.credential(await forged(stack, **{**good, **changed}))


async def test_a_token_says_no_more_than_its_key_may_do(stack: Stack) -> None:
    key, _ = await stack.keys.create(OPERATOR, NewKey("k", frozenset({Scope.READ})))
    every = {"sub": f"key:{key.id}", "scope": "read write operate x", "project": str(uuid4())}
    found = await stack.identity.credential(await forged(stack, **every))
    assert found.scopes == {Scope.READ}
    assert found.projects == ()
    for scope in (None, 7, ["read", {}], {"read": 1}):
        told = {**every, "scope": scope}
        found = await stack.identity.credential(await forged(stack, **told))
        assert found.scopes <= {Scope.READ}


def jwt_header(token: str) -> dict[str, Any]:
    part = token.split(".", maxsplit=1)[0]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


# Tokens of others


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with published() as found:
        yield found


def trusting(stack: Stack, publisher: Publisher, **more: object) -> Tokens:
    told = {"name": "team", "issuer": publisher.url, "audience": "aidb", **more}
    accounts = stack.accounts
    issuers = [Issuer.model_validate(told)]
    return Tokens.of(accounts.tokens.signing, accounts.logins, "nixos-ai-stack", issuers)


async def known(stack: Stack, publisher: Publisher, owner: psycopg.Connection[Any]) -> str:
    new = NewUser(f"t-{uuid4().hex}", issuer=publisher.url, subject="s")
    made, _ = await stack.accounts.users.create(OPERATOR, new)
    member = (DEFAULT_PROJECT, made.id)
    owner.execute("INSERT INTO control.members VALUES (%s, %s, 'reader')", member)
    return made.name


async def test_a_token_of_an_issuer_is_its_users(
    stack: Stack, publisher: Publisher, owner: psycopg.Connection[Any]
) -> None:
    tokens = trusting(stack, publisher)
    with pytest.raises(Unauthenticated):  # nobody's
        await tokens.read(publisher.token())
    name = await known(stack, publisher, owner)
    found = await tokens.read(publisher.token())
    assert found is not None
    assert (found.name, found.owner and found.owner.name) == (name, name)
    for changed in (
        {"iss": publisher.url + "/"},
        {"iss": publisher.url[:-1]},
        {"aud": "aidbx"},
        {"sub": "S"},
        {"exp": time.time() - 61},
        {"nbf": time.time() + 61},
    ):
        with pytest.raises(Unauthenticated):
            await tokens.read(publisher.token(**changed))
    assert publisher.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_the_scopes_of_a_claim_bound_a_token(
    stack: Stack, publisher: Publisher, owner: psycopg.Connection[Any]
) -> None:
    await known(stack, publisher, owner)
    tokens = trusting(stack, publisher, scopes_claim="scp", scopes_prefix="aidb:")
    for told, scopes in (
        ("aidb:read openid write", {Scope.READ}),
        (["aidb:read", "aidb:infer", 5], {Scope.READ, Scope.INFER}),
        (None, set()),
        ({"aidb:read": True}, set()),
    ):
        found = await tokens.read(publisher.token(scp=told))
        assert found is not None
        assert found.scopes == scopes


async def test_an_issuer_without_an_audience_is_for_signing_on_alone(
    stack: Stack, publisher: Publisher, owner: psycopg.Connection[Any]
) -> None:
    await known(stack, publisher, owner)
    tokens = trusting(stack, publisher, audience=[], client_id="c")
    with pytest.raises(Unauthenticated):
        await tokens.read(publisher.token(aud="c"))
    assert publisher.asked == []


async def test_keys_that_are_new_are_asked_for_but_seldom(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeySet(Issuer(name="team", issuer=publisher.url, jwks_uri=f"{publisher.url}/keys"))
    assert await keys.find("one") is not None
    publisher.keys.append(RSAKey.generate_key(2048, {"kid": "two"}))
    found = await asyncio.gather(*(keys.find(f"invented-{n}") for n in range(50)))
    assert found == [None] * 50
    assert await keys.find("two") is None  # within the pause
    assert publisher.asked == ["/keys"]
    monkeypatch.setattr(key_sets, "PAUSE_S", 0.0)
    assert await keys.find("two") is not None
    del publisher.keys[0]
    monkeypatch.setattr(key_sets, "FRESH_S", 0.0)
    assert await keys.find("one") is None  # taken back by the issuer


async def test_an_issuer_that_is_away_is_not_one_that_lies(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_sets, "PAUSE_S", 0.0)
    keys = KeySet(Issuer(name="team", issuer=publisher.url))
    for status, says in (
        (500, None),
        (302, None),
        (200, {"issuer": "https://another.example", "jwks_uri": f"{publisher.url}/keys"}),
        (200, {"issuer": publisher.url, "jwks_uri": "http://192.0.2.1/keys"}),
        (200, {"issuer": publisher.url, "jwks_uri": 5}),
        (200, [1]),
        (200, "x" * (1 << 20)),
    ):
        publisher.status, publisher.says = status, says
        with pytest.raises(Unavailable):
            await keys.find("one")
    assert "/elsewhere" not in publisher.asked
    publisher.status, publisher.says = 200, None
    assert await keys.find("one") is not None
    publisher.status = 500
    monkeypatch.setattr(key_sets, "FRESH_S", 0.0)
    assert await keys.find("one") is not None  # known from before
    monkeypatch.setattr(key_sets, "USABLE_S", 0.0)
    with pytest.raises(Unavailable):
        await keys.find("one")


async def test_an_issuer_that_is_configured_makes_everybody_say_who_they_are(
    memory_settings: Settings,
    publisher: Publisher,
    stack: Stack,
    owner: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    file = tmp_path / "issuers.json"
    file.write_text(json.dumps([{"name": "t", "issuer": publisher.url, "audience": "aidb"}]))
    name = await known(stack, publisher, owner)
    async with gateway(memory_settings.model_copy(update={"issuers": file})) as client:
        assert await me(client, {}) == 401
        shown = await client.get(
            "/auth/me", headers={"Authorization": f"Bearer {publisher.token()}"}
        )
        assert shown.json()["name"] == name
        assert shown.json()["scopes"] == ["infer", "read"]
        await stack.accounts.users.set_state(OPERATOR, name, "suspended")
        bearer = {"Authorization": f"Bearer {publisher.token()}"}
        await until(401, lambda: me(client, bearer))
