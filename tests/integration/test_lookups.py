"""What strangers can have looked up: few things at once, however they send their tokens."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest

from ai_stack.database import credentials, logins, signing_keys
from ai_stack.models.principals import EVERY_SCOPE, Principal
from ai_stack.models.trust import NewKey
from ai_stack.services.auth.credentials import new_key, new_login
from ai_stack.services.auth.lookups import AT_ONCE
from ai_stack.settings import Settings
from ai_stack.stack import Stack
from gateways import gateway

ADMIN = Principal(scopes=EVERY_SCOPE)


@pytest.fixture(scope="module")
async def client(memory_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(memory_settings.model_copy(update={"auth": "required"})) as opened:
        yield opened


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each question is asked, and the `most` of them at once, each taking a while."""
    seen: Counter[str] = Counter()

    def watch(module: object, name: str) -> None:
        ask = getattr(module, name)

        async def slowly(*arguments: object) -> object:
            seen[name] += 1
            seen["now"] += 1
            seen["most"] = max(seen["most"], seen["now"])
            try:
                await asyncio.sleep(0.05)
                return await ask(*arguments)
            finally:
                seen["now"] -= 1

        monkeypatch.setattr(module, name, slowly)

    watch(credentials, "find_key")
    watch(logins, "find")
    watch(logins, "delete")
    watch(signing_keys, "keys")
    return seen


async def forged(stack: Stack, key: str, kid: str | None = None) -> str:
    """A token of ours with a signature that is none, of a key that there is or is not."""
    maker = await stack.identity.resolve(((b"x-api-key", key.encode()),))
    token = (await stack.accounts.tokens.issue(maker, key)).token
    head, claims, signature = token.split(".")
    if kid is not None:
        content = json.dumps({"alg": "ES256", "kid": kid}).encode()
        head = base64.urlsafe_b64encode(content).decode().rstrip("=")
    return f"{head}.{claims}.{signature[:-8]}{'A' * 8}"


async def flood(client: httpx.AsyncClient, *requests: tuple[str, str, dict[str, str]]) -> set[int]:
    tried = (client.request(method, path, headers=told) for method, path, told in requests)
    return {answer.status_code for answer in await asyncio.gather(*tried)}


async def test_tokens_of_every_kind_wait_in_one_line(
    client: httpx.AsyncClient, asked: Counter[str]
) -> None:
    own = {"Origin": str(client.base_url).rstrip("/")}
    requests = [("GET", "/documents", {"x-api-key": new_key()[1]}) for _ in range(8)]
    requests += [("GET", "/login", {"Cookie": f"aidb_session={new_login()}"}) for _ in range(8)]
    requests += [("GET", "/health", {"Cookie": f"aidb_session={new_login()}"}) for _ in range(8)]
    requests += [
        ("POST", "/auth/logout", {"Cookie": f"aidb_session={new_login()}", **own}) for _ in range(8)
    ]
    assert await flood(client, *requests) == {200, 204, 401}
    assert asked["find"] and asked["find_key"] and asked["delete"]
    assert asked["most"] <= AT_ONCE


async def test_forged_tokens_and_published_keys_are_not_asked_for_each_time(
    client: httpx.AsyncClient, stack: Stack, asked: Counter[str]
) -> None:
    _, key = await stack.keys.create(ADMIN, NewKey("maker", EVERY_SCOPE))
    tokens = [await forged(stack, key), *[await forged(stack, key, f"k{n}") for n in range(3)]]
    asked.clear()
    requests = [
        ("GET", "/documents", {"Authorization": f"Bearer {token}", "X-Project": f"p{n}"})
        for n in range(10)
        for token in tokens
    ]
    assert await flood(client, *requests) == {401}
    assert await flood(client, *[("GET", "/.well-known/jwks.json", {})] * 20) == {200}
    assert asked["keys"] <= 3
    assert asked["find_key"] == 0


async def test_health_does_not_wait_for_the_strangers_before(
    client: httpx.AsyncClient, asked: Counter[str]
) -> None:
    tokens = [new_key()[1] for _ in range(60)]
    strangers = asyncio.gather(
        *(client.get("/documents", headers={"x-api-key": token}) for token in tokens)
    )
    await asyncio.sleep(0.1)
    async with asyncio.timeout(0.9), httpx.AsyncClient(base_url=client.base_url) as other:
        answer = await other.get("/health", headers={"x-api-key": new_key()[1]})
    assert answer.status_code == 200
    assert not any("detail" in part for part in answer.json()["services"].values())
    assert {one.status_code for one in await strangers} == {401}
    assert asked["most"] <= AT_ONCE
