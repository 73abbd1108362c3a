"""`mcp`: MCP over standard input and output, for clients that start a program.

A bridge to the gateway's `/mcp`: each message is one request there, in the era that the client
speaks. It knows no tool, and a message that it does not know goes through as it is.
"""

import asyncio
import base64
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from ssl import SSLContext
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlsplit

import httpx
import typer

from ai_stack.cli.client import LOOPBACK
from ai_stack.cli.credentials import Credentials
from ai_stack.errors import AIStackError
from ai_stack.settings import load_settings
from ai_stack.tls import trust

Message: TypeAlias = dict[str, Any]
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
PLAIN = re.compile(r"[!-~]([ -~]*[!-~])?")
JSON, EVENTS = "application/json", "text/event-stream"
INTERNAL, UNPARSED = -32603, -32700
TIMEOUT = httpx.Timeout(None, connect=5.0)
LONGEST_LINE, GRACE_S = 16 << 20, 5.0

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def mcp(
    toolset: Annotated[
        str, typer.Option(help="documents, models, read-only or skills; all tools without it.")
    ] = "",
) -> None:
    """Serve MCP on standard input and output, by the gateway at AI_STACK_URL."""
    settings = load_settings()
    url = f"{settings.gateway_url.rstrip('/')}/mcp/{toolset}".rstrip("/")
    asyncio.run(_serve(url, Credentials.of(settings), trust(settings)))


async def _serve(url: str, auth: httpx.Auth, verify: SSLContext | bool) -> None:
    near = urlsplit(url).hostname in LOOPBACK
    async with httpx.AsyncClient(
        timeout=TIMEOUT, trust_env=not near, auth=auth, verify=verify
    ) as http:
        await Bridge(url, http, _write).serve(_lines())


async def _lines() -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await reader.readline():
        yield line


def _write(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


class Bridge:
    """One client's messages on their way to the gateway, and the answers back."""

    def __init__(self, url: str, http: httpx.AsyncClient, write: Callable[[bytes], None]) -> None:
        self.url, self.http, self.write = url, http, write
        self.version: str | None = None
        self._open: dict[str | int, asyncio.Task[None]] = {}

    async def serve(self, lines: AsyncIterator[bytes]) -> None:
        """Pass messages on until the client closes its end; what is under way may still end."""
        async for line in lines:
            if line.strip():
                await self._take(line)
        if self._open:
            _, late = await asyncio.wait(self._open.values(), timeout=GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self._fail(None, UNPARSED, "This line is not one JSON object.")
            return
        method, id = message.get("method"), message.get("id")
        if method == "notifications/cancelled":
            self._cancel((message.get("params") or {}).get("requestId"))
        elif method == "initialize":
            await self._ask(id, message)  # what comes after it depends on its answer
        elif method is not None and id is not None:
            task = self._open[id] = asyncio.create_task(self._ask(id, message))
            task.add_done_callback(lambda done: self._forget(id, done))

    def _cancel(self, id: str | int | None) -> None:
        """Leaving the connection is what stops the work at the gateway."""
        if id is not None and id in self._open:
            self._open[id].cancel()

    def _forget(self, id: str | int, task: asyncio.Task[None]) -> None:
        if self._open.get(id) is task:
            del self._open[id]

    async def _ask(self, id: str | int | None, message: Message) -> None:
        request = self.http.stream(
            "POST", self.url, content=json.dumps(message), headers=headers(message, self.version)
        )
        try:
            async with request as reply:
                async for answer in _answers(reply):
                    self._pass_on(id, message, answer)
        except httpx.ConnectError:
            told = f"The gateway at {self.url} does not answer: start it with `ai-stack up`."
            self._fail(id, INTERNAL, told)
        except httpx.HTTPError:
            self._fail(id, INTERNAL, f"The connection to the gateway at {self.url} broke off.")
        except AIStackError as error:
            self._fail(id, INTERNAL, error.message)

    def _pass_on(self, id: str | int | None, asked: Message, answer: Message) -> None:
        if "error" in answer and answer.get("id") is None:
            answer["id"] = id
        if asked["method"] == "initialize" and "result" in answer:
            self.version = answer["result"].get("protocolVersion")
        self.write(json.dumps(answer, ensure_ascii=False).encode())

    def _fail(self, id: str | int | None, code: int, told: str) -> None:
        fault = {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": told}}
        self.write(json.dumps(fault).encode())


def headers(message: Message, version: str | None) -> dict[str, str]:
    """What HTTP says of a message beside its body, which the newer era wants to be the same."""
    found = {"content-type": JSON, "accept": f"{JSON}, {EVENTS}"}
    params = message.get("params") or {}
    newer = (params.get("_meta") or {}).get(VERSION_KEY)
    if newer is not None:
        found |= {"mcp-method": str(message["method"])}
        name = params.get(NAMED.get(message["method"], ""))
        found |= {} if name is None else {"mcp-name": encoded(str(name))}
    spoken = newer or version
    return found if spoken is None else {**found, "mcp-protocol-version": str(spoken)}


def encoded(value: str) -> str:
    """A value as a header can carry it."""
    if PLAIN.fullmatch(value) and not value.startswith("=?base64?"):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


async def _answers(reply: httpx.Response) -> AsyncIterator[Message]:
    if reply.headers.get("content-type", "").startswith(EVENTS):
        async for line in reply.aiter_lines():
            if line.startswith("data:") and line[5:].strip():
                yield _message(line[5:], reply)
        return
    body = await reply.aread()
    if body:
        yield _message(body.decode(errors="replace"), reply)


def _message(text: str, reply: httpx.Response) -> Message:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict) and "jsonrpc" in found:
        return found
    if isinstance(found, dict) and "detail" in found:
        raise AIStackError(str(found["detail"]))
    raise AIStackError(f"What answers at {reply.url} is not an AIDB gateway; see AI_STACK_URL.")
