"""What tests of signing on do again and again, at a gateway that trusts the issuers they name."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
from authlib.oauth2.rfc7636 import create_s256_code_challenge

import issuers
from ai_stack.settings import Settings
from gateways import gateway

COOKIE, SIGN_ON = "aidb_session", "aidb_sign_on"


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


def challenge(verifier: str) -> str:
    return str(create_s256_code_challenge(verifier))
