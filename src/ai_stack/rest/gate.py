"""What every request passes first: an id, a known Host and Origin, and a bounded body.

It also gathers what says who asks, since it reads the headers anyway; it decides nothing by it.

Plain ASGI, since it is on every request's way. Bytes are counted as they come: a chunked
body declares no length.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ai_stack.errors import TooBusy, TooLarge
from ai_stack.models.identifiers import new_hex
from ai_stack.rest import limits
from ai_stack.rest.problems import problem
from ai_stack.services.auth.credentials import CARRIERS, OVER_TLS
from ai_stack.telemetry.requests import REQUEST

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
STREAMED = (("POST", "/documents/import"), ("POST", "/skills/files"))
REQUEST_ID = b"x-request-id"
NOTHING: Mapping[str, object] = MappingProxyType({})
PORTS = {b"http": b":80", b"https": b":443"}
ABROAD = (b"cross-site", b"same-site")
SMALL = 64 << 10
TOGETHER = 8  # bodies of the largest size that are held at the same time


class Gate:
    """Wraps the app; `hosts` are the names that it answers to beside those of loopback.

    `public` is the address that people know it by, where a proxy asks by another name.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Collection[str], max_bytes: int, public: str | None = None
    ) -> None:
        self.app = app
        self.public = None if public is None else _origin(public)
        self.hosts = LOOPBACK | set(hosts)
        self.max_bytes = max_bytes
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = scope["state"]["request_id"] = new_hex()
        REQUEST.set(scope)
        head = Head.read(scope["headers"])
        scope["state"]["carried"] = head.carried_by(scope["scheme"])
        scope["state"]["declared"] = head.declared
        if head.is_abroad:
            scope["state"]["abroad"] = True
        if not self._is_known(head):
            refusal = problem(request_id, 421, "unknown_host", "This gateway has another name.")
            await refusal(scope, receive, identified(send, request_id))
            return
        if (scope["method"], scope["path"]) in STREAMED:
            scope["state"]["streamed"] = True
            await self.app(scope, receive, send)
            return
        size_bytes = int(head.declared) if head.declared.isdigit() else self.max_bytes
        if size_bytes <= SMALL and self.held_bytes <= self.max_bytes:
            await self.app(scope, receive, send)  # the server reads no more than was declared
            return
        body = Body(self, head.declared, receive, scope["state"])
        try:
            await self.app(scope, body.receive, send)
        finally:
            self.held_bytes -= body.counted_bytes

    def _is_known(self, head: "Head") -> bool:
        if len(head.hosts) != 1 or _name(head.hosts[0]) not in self.hosts:
            return False
        return all(self.public == o or _is_own(o, head.hosts[0]) for o in head.origins)


@dataclass(slots=True)
class Head:
    """What the gate reads of a request's headers."""

    hosts: list[bytes]
    origins: list[bytes]
    declared: bytes  # empty where the body comes in chunks
    carried: list[tuple[bytes, bytes]]
    site: bytes = b""
    mode: bytes = b""

    @property
    def is_abroad(self) -> bool:
        """Whether a page of another site, or of another port, has a browser ask for it."""
        return self.site in ABROAD and self.mode != b"navigate"

    def carried_by(self, scheme: str) -> tuple[tuple[bytes, bytes], ...]:
        """What says who asks; by https cookies go by another name."""
        if scheme != "https":
            return tuple(self.carried)
        return tuple((OVER_TLS if n == b"cookie" else n, value) for n, value in self.carried)

    @classmethod
    def read(cls, headers: Iterable[tuple[bytes, bytes]]) -> "Head":
        head, chunked = cls([], [], b"0", []), False
        for name, value in headers:
            if name == b"host":
                head.hosts.append(value)
            elif name == b"origin":
                head.origins.append(value)
            elif name == b"content-length":
                head.declared = value
            elif name == b"transfer-encoding":
                chunked = True
            elif name in CARRIERS:
                head.carried.append((name, value))
            elif name == b"sec-fetch-site":
                head.site = value
            elif name == b"sec-fetch-mode":
                head.mode = value
        if chunked:
            head.declared = b""
        return head


class Body:
    """One request's body on its way in; what all requests hold together is bounded too.

    What comes before anybody is known is small, and takes none of the room of those who are.
    """

    def __init__(
        self, gate: Gate, declared: bytes, receive: Receive, state: Mapping[str, object]
    ) -> None:
        self.gate = gate
        self.declared = declared
        self.taken_bytes = self.counted_bytes = 0
        self._receive, self._state = receive, state

    async def receive(self) -> Message:
        is_known = "caller" in self._state
        limit = self.gate.max_bytes if is_known else min(SMALL, self.gate.max_bytes)
        if self.declared.isdigit() and int(self.declared) > limit:
            raise HTTPException(TooLarge.status)
        message = await self._receive()
        size = len(message.get("body", b""))
        self.taken_bytes += size
        if self.taken_bytes > limit:
            raise HTTPException(TooLarge.status)
        if is_known:
            self._count(size)
        return message

    def _count(self, size: int) -> None:
        self.counted_bytes += size
        self.gate.held_bytes += size
        if self.gate.held_bytes > TOGETHER * self.gate.max_bytes:
            raise HTTPException(TooBusy.status)


class Identified:
    """Wraps the app; puts the request's id on every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = identified(send, scope["state"]["request_id"], scope["state"])
        await self.app(scope, receive, send)


def identified(send: Send, request_id: str, state: Mapping[str, object] = NOTHING) -> Send:
    """`send` with the id among the headers, and with how the caller's limits stand."""

    async def with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = (REQUEST_ID, request_id.encode())
            others = (h for h in message["headers"] if h[0] != REQUEST_ID)
            message["headers"] = [*others, own]
            limits.tell(message, state)
        await send(message)

    return with_id


@lru_cache(256)
def _name(told: bytes) -> str:
    host = told.decode("latin-1")
    name, _, port = host.rpartition(":")
    return (name if name and port.isdecimal() and port.isascii() else host).lower()


def _origin(url: str) -> bytes:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower().encode()


@lru_cache(256)
def _is_own(origin: bytes, host: bytes) -> bool:
    """Whether an origin is the place that the request is addressed to, its port included.

    Another port is another program: whoever serves it is not this gateway.
    """
    scheme, separator, authority = origin.lower().partition(b"://")
    port = PORTS.get(scheme)
    if port is None or not separator:
        return False
    return authority.removesuffix(port) == host.lower().removesuffix(port)
