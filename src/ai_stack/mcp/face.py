"""MCP's transport: streamable HTTP in both eras of the protocol, without sessions.

It knows no tool. A request is answered with one JSON object; where the client asks for progress
it is answered with a stream, by a second manager over the same server.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import orjson
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import INVALID_REQUEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ai_stack.errors import (
    REFUSED_BODIES,
    AIStackError,
    Forbidden,
    LimitExceeded,
    MethodNotAllowed,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from ai_stack.mcp import PATH, Resolver, Weigh
from ai_stack.mcp.failures import told
from ai_stack.models.departure import Departure
from ai_stack.models.principals import Principal
from ai_stack.services.auth.resources import REALM, challenge, own_address
from ai_stack.stack import Stack

FOLLOWED = b'"progressToken"'
MAX_BODY = 8 << 20


class Face:
    """The ASGI app below `/mcp`; `caller` resolves who asks, as REST's does."""

    def __init__(
        self, server: Server[Any], caller: Resolver, weigh: Weigh, toolsets: Mapping[str, str]
    ) -> None:
        self.server, self.caller, self.weigh, self.toolsets = server, caller, weigh, toolsets
        self.plain = self._manager(json_response=True)
        self.followed = self._manager(json_response=False)

    def _manager(self, *, json_response: bool) -> StreamableHTTPSessionManager:
        return StreamableHTTPSessionManager(
            self.server, stateless=True, json_response=json_response, max_request_body_size=MAX_BODY
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What requests of the older era need; once in the life of this object."""
        async with self.plain.run(), self.followed.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._admit(scope)
            body = await read(receive)
            await self.weigh(body)
        except AIStackError as error:
            unknown = challenge_of(scope) if isinstance(error, Unauthenticated) else REALM
            await refusal(error, unknown)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        manager = self.followed if FOLLOWED in body else self.plain
        await attended(manager.asgi_app, scope, again(body, receive), send)

    async def _admit(self, scope: Scope) -> None:
        """The toolset and the principal, for what answers the request."""
        state, toolset = scope["state"], scope["path"].removeprefix(PATH).strip("/")
        if toolset not in self.toolsets:
            known = ", ".join(f"{PATH}/{name}" for name in self.toolsets if name)
            raise NotFound(f"There is no such toolset; {PATH} has all, and there are {known}.")
        self.check_method(scope["method"])
        state["toolset"], state["principal"] = toolset, await self._caller(scope, toolset)
        scope["headers"] = [(name, value.strip()) for name, value in scope["headers"]]

    async def _caller(self, scope: Scope, toolset: str) -> Principal:
        caller = await self.caller(scope)
        if toolset and caller.toolsets is not None and toolset not in caller.toolsets:
            raise Forbidden(f"This key has the toolsets {', '.join(sorted(caller.toolsets))}.")
        return caller

    def check_method(self, method: str) -> None:
        """Without sessions there is nothing to GET and nothing to DELETE."""
        if method != "POST":
            raise MethodNotAllowed("MCP is spoken by POST here; there are no sessions.")


async def attended(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request until its client leaves, which cancels what is done for it."""
    departure: Departure | None = scope["state"].get("departure")
    if departure is None:
        await app(scope, receive, send)
        return
    with anyio.CancelScope() as work:
        departure.add(work.cancel)
        try:
            await app(scope, receive, send)
        finally:
            departure.remove(work.cancel)


async def read(receive: Receive) -> bytes:
    """The whole body, which the gate bounds; ClientDisconnect where it does not come."""
    parts = []
    while True:
        try:
            message = await receive()
        except HTTPException as error:
            raise REFUSED_BODIES.get(error.status_code, AIStackError) from error
        if message["type"] != "http.request":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body in one piece, then what comes after it."""
    message: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def replayed() -> Message:
        nonlocal message
        given, message = message, None
        return given or await receive()

    return replayed


def challenge_of(scope: Scope) -> str:
    """What a client without valid credentials is told: where it learns who gives them."""
    stack: Stack = scope["state"]["stack"]
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    address = own_address(stack.settings.public_url, scope["scheme"], hosts[0].lower())
    return challenge(stack.issuers, address)


def refusal(error: AIStackError, unknown: str = REALM) -> Response:
    """A failure before MCP: HTTP's status, and a body that its clients can read."""
    fault = {"code": INVALID_REQUEST, "message": told(error)}
    headers = {"Allow": "POST"} if isinstance(error, MethodNotAllowed) else {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = unknown
    if isinstance(error, Unavailable | LimitExceeded):
        headers["Retry-After"] = str(getattr(error, "opens_in_s", 1))
    body = orjson.dumps({"jsonrpc": "2.0", "id": None, "error": fault})
    return Response(body, error.status, headers, "application/json")
