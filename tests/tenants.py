"""A gateway that wants to know who asks, its operator, and callers with keys of their own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from ai_stack.services.auth.credentials import operator_token
from ai_stack.services.auth.secrets import open_secrets
from ai_stack.settings import Settings
from gateways import gateway

RIGHTS = ("read", "write", "infer", "skills", "agent")
MCP = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}


@dataclass
class Caller:
    """Asks with one key; `project` is the one that the key is for."""

    http: httpx.AsyncClient
    headers: Mapping[str, str]
    project: str = ""

    async def ask(self, method: str, path: str, body: Any = None, **given: Any) -> httpx.Response:
        headers = {**self.headers, **given.pop("headers", {})}
        return await self.http.request(method, path, json=body, headers=headers, **given)

    async def told(self, method: str, path: str, body: Any = None, **given: Any) -> Any:
        """The JSON of an answer that is no failure."""
        answer = await self.ask(method, path, body, **given)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def mcp(self, method: str, **params: Any) -> httpx.Response:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await self.ask("POST", "/mcp", body, headers=MCP)


@dataclass
class Gateway:
    http: httpx.AsyncClient
    settings: Settings

    @property
    def operator(self) -> Caller:
        token = operator_token(open_secrets(self.settings.secrets).operator)
        return Caller(self.http, {"Authorization": f"Bearer {token}"})

    async def project(self, name: str) -> str:
        return (await self.operator.told("POST", "/projects", {"name": name}))["id"]

    async def key(self, *projects: str, scopes: tuple[str, ...] = RIGHTS) -> Caller:
        body = {"name": "test", "scopes": scopes, "projects": projects}
        made = await self.operator.told("POST", "/keys", body)
        return Caller(self.http, {"Authorization": f"Bearer {made['key']}"}, projects[0])

    async def tenant(self, name: str, scopes: tuple[str, ...] = RIGHTS) -> Caller:
        """A new project, and a key for it."""
        return await self.key(await self.project(name), scopes=scopes)


@asynccontextmanager
async def guarded(settings: Settings) -> AsyncIterator[Gateway]:
    """A gateway with authentication over a test's servers."""
    required = settings.model_copy(update={"auth": "required"})
    async with gateway(required) as http:
        yield Gateway(http, required)
