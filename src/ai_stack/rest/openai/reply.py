"""One HTTP response in plain ASGI: a whole answer, a stream of events, or what went wrong."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeAlias

import orjson
from starlette.types import Message, Send

from ai_stack.errors import AIStackError
from ai_stack.rest import limits
from ai_stack.rest.openai import errors
from ai_stack.services.inference.reading import Answer

SILENCE_S = 10.0
KEEP_ALIVE = b": keep-alive\n\n"
EVENTS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
JSON = (b"content-type", b"application/json")

Fault: TypeAlias = Callable[[AIStackError, str], dict[str, object]]


class Reply:
    """The response to one request; `fault` shapes what goes wrong.

    A stream's head goes out with its first event, so that a failure before it has a status of
    its own; after SILENCE_S without any it goes out all the same, with a comment.
    """

    fault_type = JSON

    def __init__(self, send: Send, state: Mapping[str, object], fault: Fault) -> None:
        self.request_id = str(state.get("request_id", ""))
        self._state = state
        self._send, self._fault = send, fault
        self._begun = self._spoke = False
        self._silence: asyncio.TimerHandle | None = None
        self._comments: set[asyncio.Task[None]] = set()

    async def whole(self, answer: Answer) -> None:
        """A JSON answer in one piece."""
        body = await answer.whole()
        await self._whole(200, body, [JSON, _cache(answer)])

    async def stream(self, answer: Answer) -> None:
        """The events as they come. A failure is the last event, and then there is no [DONE]."""
        send = self._send
        async for data in answer:
            if not self._begun:
                await self._begin(answer)
            self._spoke = True
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(self, error: AIStackError) -> None:
        """A failure: the response itself, or the last event of a stream that has begun."""
        errors.tell(error, self.request_id)
        told = self._fault(error, self.request_id)
        if self._begun:
            last = b"data: " + orjson.dumps(self.last_event(told)) + b"\n\n"
            await self._send({"type": "http.response.body", "body": last, "more_body": False})
        else:
            headers = [self.fault_type, *errors.headers_of(error)]
            await self._whole(self.status_of(error), orjson.dumps(told), headers)

    def status_of(self, error: AIStackError) -> int:
        """The status that a failure has here."""
        return errors.status_of(error)

    def last_event(self, fault: dict[str, object]) -> dict[str, object]:
        """How a failure ends a stream that has begun."""
        return fault

    def expect_silence(self) -> None:
        """Send a comment whenever nothing else is sent for a while."""
        self._silence = asyncio.get_running_loop().call_later(SILENCE_S, self._look)

    def close(self) -> None:
        """Nothing more is sent."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _look(self) -> None:
        if not self._spoke and not self._comments:
            task = asyncio.create_task(self._comment())
            self._comments.add(task)
            task.add_done_callback(self._comments.discard)
        self._spoke = False
        self.expect_silence()

    async def _comment(self) -> None:
        if not self._begun:
            await self._begin(None)
        await self._send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})

    async def _begin(self, answer: Answer | None) -> None:
        self._begun = True
        await self._send(self._head(200, [*EVENTS, _cache(answer)]))

    async def _whole(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self._begun = True
        headers.append((b"content-length", b"%d" % len(body)))
        await self._send(self._head(status, headers))
        await self._send({"type": "http.response.body", "body": body})

    def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> Message:
        headers.append((b"x-request-id", self.request_id.encode()))
        head = {"type": "http.response.start", "status": status, "headers": headers}
        if limits.STATE in self._state:
            limits.tell(head, self._state)
        return head


def _cache(answer: Answer | None) -> tuple[bytes, bytes]:
    return (b"x-cache", b"HIT" if answer is not None and answer.cached else b"MISS")
