"""Where clients of MCP learn who gives them a token, and what such a token opens."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

import issuers
from ai_stack.settings import Settings
from ai_stack.stack import open_stack
from issuers import Scripted
from sign_ons import (
    begin,
    challenge,
    passed,
    served,
)
from stacks import free_port

WELCOME = {"newcomers": True, "grants": [{"project": "default", "role": "editor"}]}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@pytest.fixture
def bad() -> Iterator[Scripted]:
    with issuers.scripted(Scripted()) as issuer:
        yield issuer


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


async def test_what_the_gateway_says_of_itself(
    memory_settings: Settings, tmp_path: Path, bad: Scripted
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
    async with served(memory_settings, tmp_path, bad.entry()) as other:
        stranger = await other.post("/mcp", json=PING)
        assert stranger.headers["www-authenticate"] == 'Bearer realm="AI Stack"'


async def test_a_stack_without_issuers_opens(memory_settings: Settings) -> None:
    async with open_stack(memory_settings) as opened:
        assert opened.sign_on.issuers == []
