"""Asks a live server for its tools over HTTP: on this machine, or one that the settings name.

It starts nothing: servers that are programs are the skill mcp-server's to start.
"""

import ipaddress
import json
import math
import re
import unicodedata
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import anyio
import httpx2
from mcp import Client, MCPError
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client
from mcp_types import METHOD_NOT_FOUND, PaginatedRequestParams, Tool
from pydantic import ValidationError

from ai_stack.skill import JSON, SkillFailed

MAX_BYTES, MAX_EVENT_BYTES, MAX_PAGES, MAX_TOOLS = 16 << 20, 4 << 20, 32, 256
MAX_SHOWN_BYTES, MAX_DESCRIPTION, MAX_SCHEMA_BYTES, CLOSING_S = 1 << 20, 1000, 32 << 10, 2.0
NAME = re.compile(r"[A-Za-z0-9_./-]{1,128}")
FAILURES = (
    MCPError, OSError, ValueError, RuntimeError, LookupError, TypeError, ExceptionGroup,
    httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, anyio.EndOfStream,
    anyio.BrokenResourceError, anyio.ClosedResourceError,
)  # fmt: skip


@dataclass(slots=True)
class Seen:
    """What one server showed; `fault` is why it was cut off."""

    error: str = ""
    name: str = ""
    protocol: str = ""
    tools: list[Tool] = field(default_factory=list)
    fault: str = ""
    status: int = 0
    secrets: tuple[str, ...] = ()

    def json(self) -> dict[str, JSON]:
        """As callers get it."""
        if self.error:
            return {"ready": False, "error": self.told(self.error, 300), "tools": []}
        shown = [self._tool(tool) for tool in self.tools if NAME.fullmatch(tool.name)]
        while len(json.dumps(shown)) > MAX_SHOWN_BYTES:
            shown = shown[: len(shown) // 2]
        about: dict[str, JSON] = {"ready": True, "server": self.told(self.name, 100)}
        return {**about, "protocol": self.protocol, "count": len(self.tools), "tools": [*shown]}

    def told(self, text: str, longest: int) -> str:
        """A server's text: what can be seen of it, in one line, without its entry's secrets."""
        for secret in self.secrets:
            text = text.replace(secret, "•••")
        plain = "".join(
            c if unicodedata.category(c)[0] != "C" else " " for c in text[: 4 * longest]
        )
        return " ".join(plain.split())[:longest]

    def _tool(self, tool: Tool) -> dict[str, JSON]:
        fits = len(json.dumps(tool.input_schema)) <= MAX_SCHEMA_BYTES
        parameters = self._shown(tool.input_schema) if fits else {"type": "object"}
        hints = tool.annotations
        return {
            "name": tool.name, "description": self.told(tool.description or "", MAX_DESCRIPTION),
            "parameters": parameters,
            "read_only": hints is not None and hints.read_only_hint is True,
        }  # fmt: skip

    def _shown(self, value: object) -> JSON:
        """A part of a schema, its texts as they are told."""
        if isinstance(value, str):
            return self.told(value, MAX_DESCRIPTION)
        if isinstance(value, Mapping):
            return {self.told(str(k), 200): self._shown(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self._shown(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value if isinstance(value, bool | int | float) else None


def require_loopback(url: str) -> None:
    """SkillFailed for an address that is not this machine's own."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise SkillFailed("`url` must be one of http or https, as in http://127.0.0.1:8091/mcp.")
    if parts.username or not _is_loopback(host):
        raise SkillFailed(
            "Only addresses of this machine (127.0.0.1, ::1, localhost) are probed by URL; others"
            " are those that the settings' mcp.json names: probe them by `name`."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def probed(url: str, headers: Mapping[str, str], wait_s: float) -> Seen:
    """What the server at a URL shows, or why it shows nothing."""
    seen = Seen(error=f"It did not answer within {wait_s:g} s.", secrets=_secrets(url, headers))
    with anyio.move_on_after(wait_s) as scope:
        try:
            async with Client(_reached(url, headers, seen, wait_s), cache=None) as client:
                await _ask(client, seen)
                seen.error = ""
                scope.deadline = min(scope.deadline, anyio.current_time() + CLOSING_S)
        except FAILURES as error:
            if seen.error:
                seen.error = _why(seen, error)
    return seen


async def _ask(client: Client, seen: Seen) -> None:
    about = client.server_info
    seen.name, seen.protocol = about.name if about else "", str(client.protocol_version)
    cursor, asked = None, set[str | None]()
    while cursor not in asked and len(asked) < MAX_PAGES and len(seen.tools) < MAX_TOOLS:
        asked.add(cursor)
        try:
            page = await client.session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        except MCPError as error:
            if error.error.code != METHOD_NOT_FOUND:
                raise
            return  # a server of resources or prompts alone
        seen.tools = [*seen.tools, *page.tools][:MAX_TOOLS]
        cursor = page.next_cursor
        if cursor is None:
            return


@asynccontextmanager
async def _reached(
    url: str, headers: Mapping[str, str], seen: Seen, wait_s: float
) -> AsyncIterator[TransportStreams]:
    """A connection whose answers together have a bound."""
    async with (
        httpx2.AsyncClient(transport=Bounded(seen), headers=headers, timeout=wait_s) as client,
        streamable_http_client(
            url, http_client=client, max_sse_event_size=MAX_EVENT_BYTES
        ) as streams,
    ):
        yield streams


class Bounded(httpx2.AsyncHTTPTransport):
    """Takes answers up to a size, none that is packed, and reads no proxy from the environment."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen, self.left = seen, MAX_BYTES

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["Accept-Encoding"] = "identity"
        found = await super().handle_async_request(request)
        self.seen.status = found.status_code
        packed = found.headers.get("content-encoding", "identity") != "identity"
        return httpx2.Response(
            found.status_code, headers=found.headers, stream=Counted(found, self, packed),
            extensions=found.extensions,
        )  # fmt: skip

    def stop(self, why: str) -> httpx2.ReadError:
        self.seen.fault = why
        return httpx2.ReadError(why)


@dataclass(frozen=True, slots=True)
class Counted(httpx2.AsyncByteStream):
    """The body of one answer."""

    response: httpx2.Response
    transport: Bounded
    packed: bool

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.packed:
            raise self.transport.stop("It packs its answers, though it was asked not to.")
        assert isinstance(self.response.stream, httpx2.AsyncByteStream)
        async for data in self.response.stream:
            self.transport.left -= len(data)
            if self.transport.left < 0:
                raise self.transport.stop(f"It sent more than {MAX_BYTES >> 20} MiB.")
            yield data

    async def aclose(self) -> None:
        assert isinstance(self.response.stream, httpx2.AsyncByteStream)
        await self.response.stream.aclose()


def _why(seen: Seen, error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if seen.fault or seen.status >= 300:
        return seen.fault or f"It answered with HTTP {seen.status}."
    if isinstance(error, httpx2.ConnectError):
        return "Nothing answers at this address."
    if isinstance(error, MCPError):
        return f"It refused: {error.error.message}"
    if isinstance(error, ValidationError):
        return "It answers with what the protocol does not know."
    return f"Speaking with it failed ({type(error).__name__})."


def _secrets(url: str, headers: Mapping[str, str]) -> tuple[str, ...]:
    """What is never shown, the longest first."""
    values = [part for value in headers.values() for part in (value, *value.split()[1:])]
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    values += [parts.password or "", *(p.partition("=")[2] for p in parts.query.split("&"))]
    return tuple(sorted({v for v in values if len(v) >= 4}, key=len, reverse=True))
