"""What every request passes first: an id, a known Host and Origin, and a bounded body.

Plain ASGI, since it is on every request's way. Bytes are counted as they come: a chunked
body declares no length.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ai_stack.errors import TooLarge
from ai_stack.models.identifiers import uuid7
from ai_stack.rest.problems import problem

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
STREAMED = ("/documents/import",)


class Gate:
    """Wraps the app; `hosts` are the names that it answers to beside those of loopback."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], max_bytes: int) -> None:
        self.app = app
        self.hosts = LOOPBACK | set(hosts)
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = scope["state"]["request_id"] = uuid7().hex
        headers = Headers(scope=scope)
        if not self._is_known(headers):
            refusal = problem(request_id, 421, "unknown_host", "This gateway has another name.")
            await refusal(scope, receive, send)
            return
        bounded = receive if scope["path"] in STREAMED else self._bounded(headers, receive)
        await self.app(scope, bounded, _identified(send, request_id))

    def _is_known(self, headers: Headers) -> bool:
        host = _name(headers.get("host", ""))
        origin = headers.get("origin")
        return host in self.hosts and (origin is None or _origin_name(origin) in self.hosts)

    def _bounded(self, headers: Headers, receive: Receive) -> Receive:
        taken = 0
        declared = headers.get("content-length", "0")

        async def counted() -> Message:
            nonlocal taken
            if declared.isdigit() and int(declared) > self.max_bytes:
                raise HTTPException(TooLarge.status)
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.max_bytes:
                raise HTTPException(TooLarge.status)
            return message

        return counted


def _identified(send: Send, request_id: str) -> Send:
    async def with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
        await send(message)

    return with_id


def _name(host: str) -> str:
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()


def _origin_name(origin: str) -> str:
    try:
        return _name(urlsplit(origin).netloc)
    except ValueError:
        return ""
