"""One connection of the gateway and the requests on it: what uvicorn does, cheaper and bounded.

It knows neither the app nor the stack.
"""

import asyncio
import time
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import unquote

import httptools
from starlette.exceptions import HTTPException
from uvicorn._types import (
    ASGI3Application,
    ASGIReceiveEvent,
    ASGISendEvent,
    ASGIVersions,
    HTTPResponseStartEvent,
    HTTPScope,
)
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from ai_stack.errors import TooSlow
from ai_stack.models.departure import Departure
from ai_stack.rest.limits import LINES
from ai_stack.rest.standing import Standing
from ai_stack.telemetry.requests import LEFT, Requests

HEAD_BYTES = 64 << 10
SILENT_S, SLOWEST = 30.0, 1 << 10  # how long a body may stand still, and bytes/s over time
ASGI: ASGIVersions = {"version": "3.0", "spec_version": "2.3"}
CONTROLS = bytes({*range(0x20), 0x7F} - {0x09})  # what no header's value may have (RFC 9110, 5.5)
HEEDED = (b"content-length: ", b"transfer-encoding: ", b"connection: ")


class Signal:
    """What asyncio.Event does, at no cost until somebody waits."""

    __slots__ = ("_event", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._event: asyncio.Event | None = None

    def set(self) -> None:
        self.is_set = True
        if self._event is not None:
            self._event.set()

    def clear(self) -> None:
        self.is_set = False
        if self._event is not None:
            self._event.clear()

    async def wait(self) -> None:
        if not self.is_set:
            self._event = self._event or asyncio.Event()
            await self._event.wait()


class Exchange(RequestResponseCycle):
    """One request and its response, as uvicorn's own at a fraction of its cost.

    The head of a response goes out together with what follows it at once: each on its own costs
    a system call and wakes the client twice. A body is waited for as long as it comes: `patience_s`
    is what may still be waited, which waiting takes and bytes give back.
    """

    disconnected = response_started = response_complete = False
    more_body = True
    chunked_encoding: bool | None = None
    expected_content_length = 0
    _held = b""
    _tells_close = False
    _status = LEFT
    _standing: Standing | None = None
    message_event: Signal  # type: ignore[assignment]
    task: asyncio.Task[None]

    def __init__(self, connection: "Connection", *, keep_alive: bool) -> None:
        self.scope = connection.scope
        self.transport, self.flow = connection.transport, connection.flow
        self.loop, self.logger = connection.loop, connection.logger
        self.tasks = connection.tasks
        self.default_headers = connection.server_state.default_headers
        self.message_event = Signal()
        self.on_response = connection.on_response_complete
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = connection.expect_100_continue
        self.body, self.patience_s = bytearray(), SILENT_S
        self.meter, self._began_s = connection.meter, time.perf_counter()

    async def run_asgi(self, app: ASGI3Application) -> None:
        try:
            await app(self.scope, self.receive, self.send)
            if not self.response_complete and not self.disconnected:
                raise RuntimeError("The app has not answered to the end.")
        except BaseException as error:
            self.logger.error("Exception in ASGI application", exc_info=error)
            await self._break_off()
        finally:
            self.on_response = _nothing
            self.tasks.discard(self.task)
            if self.meter is not None:
                status = self._status if self.response_complete else LEFT
                self.meter.ended(self.scope, status, time.perf_counter() - self._began_s)

    async def receive(self) -> ASGIReceiveEvent:
        """What has come, or comes in time; HTTPException 408 for a body that does not."""
        if self.message_event.is_set or not self._owes_body:
            return await super().receive()
        began_at = self.loop.time()
        try:
            async with asyncio.timeout(self.patience_s):
                message = await super().receive()
        except TimeoutError:
            self.keep_alive = False
            raise HTTPException(TooSlow.status) from None
        left_s = self.patience_s - (self.loop.time() - began_at)
        if message["type"] == "http.request":
            self.patience_s = min(left_s + len(message["body"]) / SLOWEST, SILENT_S)
        return message

    @property
    def _owes_body(self) -> bool:
        """Whether its client has to go on; whoever takes a body as a stream watches that itself."""
        return self.more_body and not self.scope["state"].get("streamed")

    async def _break_off(self) -> None:
        if self.response_started:
            self._flush()
            self.transport.close()
        else:
            await self.send_500_response()

    async def send(self, message: ASGISendEvent) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        expected = "http.response.body" if self.response_started else "http.response.start"
        if self.response_complete or message["type"] != expected:
            raise RuntimeError(f"{message['type']} is not what has to be sent now.")
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body":
            self._continue(message.get("body", b""), more=message.get("more_body", False))

    def _start(self, message: HTTPResponseStartEvent) -> None:
        self.response_started, self.waiting_for_100_continue = True, False
        status, headers = message["status"], message.get("headers", ())
        self._status = status
        lines = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *headers):
            field = _field(name)
            lines += (field, value, b"\r\n")
            if field in HEEDED:
                self._heed(field, value)
        values = b"".join(lines[2::3])
        if len(values.translate(None, CONTROLS)) < len(values):  # a fraction of what a search costs
            raise RuntimeError("Invalid HTTP header value.")
        lines.append(message.get(LINES, b""))  # type: ignore[arg-type]
        self._held = b"".join((*lines, *self._framing(status), b"\r\n"))
        self.loop.call_soon(self._flush)

    def _heed(self, field: bytes, value: bytes) -> None:
        """Keep to what a header promises."""
        value = value.lower()
        if field == b"content-length: " and self.chunked_encoding is None:
            self.chunked_encoding, self.expected_content_length = False, int(value)
        elif field == b"transfer-encoding: " and value == b"chunked":
            self.chunked_encoding, self.expected_content_length = True, 0
        elif field == b"connection: " and b"close" in map(bytes.strip, value.split(b",")):
            self.keep_alive, self._tells_close = False, True

    def _framing(self, status: int) -> Iterator[bytes]:
        """The headers that say how the response ends, where the app has not."""
        if not self.keep_alive and not self._tells_close:
            yield b"connection: close\r\n"
        bodiless = self.scope["method"] == "HEAD" or status in (204, 304)
        if self.chunked_encoding is None and not bodiless:
            self.chunked_encoding = True
            yield b"transfer-encoding: chunked\r\n"

    def _continue(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length, data = 0, b""
        elif self.chunked_encoding:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            data = data if more else data + b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
            data = body
        left = self.expected_content_length
        if left < 0 or (left and not more):
            raise RuntimeError("The response has not the length that it has told.")
        self._write(data)
        if not more:
            self._complete()
        elif self._standing is None:
            self._standing = Standing(self.scope, self.transport.abort)

    def _write(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        self.transport.write(data)

    def _flush(self) -> None:
        if self._held and not self.transport.is_closing():
            self._write(b"")
            self._standing = Standing(self.scope, self.transport.abort)

    def _complete(self) -> None:
        self.response_complete = True
        if self._standing is not None:
            self._standing.close()
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class Connection(HttpToolsProtocol):
    """One connection; tells its requests when it is lost, and bounds what uvicorn keeps of one.

    A request line, headers or trailers without end would else fill the memory. The bytes are
    counted from one sign of a request's progress to the next. One timer watches for silence, and
    for heads that do not end, as long as the connection lasts: one for each request costs more
    than reading its head.
    """

    head_bytes = 0
    _idle_at = 0.0  # since when it owes a head
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.departure, self.closing = Departure(), Departure()
        self.meter: Requests | None = self.app_state.get("meter")
        super().connection_made(transport)
        self._idle_at = self.loop.time()
        self._watch = self.loop.call_later(self.timeout_keep_alive, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._watch is not None:
            self._watch.cancel()
        self.departure.happen()

    def shutdown(self) -> None:
        """The server ends: what would wait for as long as its client does is told to end too."""
        if not self.closing.gone:
            self.closing.happen()
        super().shutdown()

    def leave(self) -> None:
        """The server is about to end: the next answer tells so, and is the last one here.

        An answer whose head is gone already cannot tell it, so it leaves that to the one after it.
        """
        self.closing.happen()
        self._start_asgi_task = self._start_last  # type: ignore[method-assign]
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def _start_last(self, cycle: Exchange, app: ASGI3Application) -> None:
        cycle.keep_alive = False
        Connection._start_asgi_task(self, cycle, app)

    def on_message_begin(self) -> None:
        self.url, self.expect_100_continue, self.headers = b"", False, []
        self._idle_at = self.loop.time()

    def data_received(self, data: bytes) -> None:
        self.head_bytes += len(data)
        super().data_received(data)
        if self.head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of this request is too large.")

    def on_headers_complete(self) -> None:
        self.head_bytes = 0
        version, before = self.parser.get_http_version(), self.cycle
        self.scope = self._scope(version)
        keep_alive = version != "1.0" and self.parser.should_keep_alive()
        self.cycle = cycle = Exchange(self, keep_alive=keep_alive)
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:  # it waits for its turn
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _scope(self, version: str) -> HTTPScope:
        path, raw_path, query = _target(self.url)
        return {
            "type": "http",
            "asgi": ASGI,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": self.parser.get_method().decode("ascii"),
            "root_path": self.root_path,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
            "state": {
                **self.app_state,
                "departure": self.departure,
                "closing": self.closing,
                LINES: True,
            },
        }

    def _start_asgi_task(  # type: ignore[override]
        self, cycle: Exchange, app: ASGI3Application
    ) -> None:
        cycle.task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(cycle.task)

    def on_body(self, body: bytes) -> None:
        self.head_bytes, cycle = 0, self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        self.head_bytes, cycle = 0, self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_at = self.loop.time()
        if self._watch is None:
            self._watch = self.loop.call_later(self.timeout_keep_alive, self._look)

    def _look(self) -> None:
        """Close a connection that has not asked in time, or look again."""
        self._watch, cycle = None, self.cycle
        if self.transport.is_closing() or not (cycle is None or cycle.response_complete):
            return
        left_s = self._idle_at + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._watch = self.loop.call_later(left_s, self._look)
        else:
            self.timeout_keep_alive_handler()


@lru_cache(64)
def _target(url: bytes) -> tuple[str, bytes, bytes]:
    """The path of a request as text and as bytes, and its query; no other host's, nor `*`."""
    if not url.startswith(b"/"):
        raise ValueError("This is no path.")
    parsed = httptools.parse_url(url)
    return unquote(parsed.path.decode("ascii")), parsed.path, parsed.query or b""


@lru_cache(1024)
def _field(name: bytes) -> bytes:
    """A header's name as it is sent."""
    if HEADER_RE.search(name) is not None:
        raise RuntimeError("Invalid HTTP header name.")
    return name.lower() + b": "


def _nothing() -> None:
    """What an exchange that is over does when it is answered."""
