"""The work on one call: an engine is found and asked, another if it fails before the first byte."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from ai_stack.engines import Reply
from ai_stack.errors import (
    AIStackError,
    DeadlineExceeded,
    EngineFailed,
    EngineUnavailable,
    TooBusy,
)
from ai_stack.models.inference import Call, InferenceRecord, Outcome, Priority
from ai_stack.services.inference.events import Stream, usage_of
from ai_stack.services.inference.fleet import Member, Pool
from ai_stack.services.inference.mending import Mending
from ai_stack.services.inference.routing import Router, blocks_of

LARGEST = 64 << 20
DRAINED_S = 0.2
NO_BLOCKS: list[bytes] = []
LATE = "The inference did not finish within its time."
NOBODY = frozenset[Member]()


@dataclass(slots=True)
class Work:
    """One call's way through the engines: drawn from until it ends, or closed before.

    `ended` takes its record, whatever came of it.
    """

    call: Call
    pool: Pool
    router: Router
    record: InferenceRecord
    ended: Callable[[InferenceRecord], None]
    priority: Priority = "interactive"
    keeps_usage: bool = False
    expired: bool = False
    _begun: bool = False
    _over: bool = False
    _member: Member | None = None
    _reply: Reply | None = None
    _chunks: AsyncIterator[bytes] | None = None
    _stream: Stream | None = None
    _mending: Mending | None = None
    _began_s: float = field(default_factory=time.perf_counter)

    async def draw(self) -> bytes | None:
        """What comes next of the answer, None at its clean end.

        Raises AIStackError for an answer that fails or breaks off, and DeadlineExceeded when it
        was cancelled because it had `expired`.
        """
        try:
            if self.expired:
                raise DeadlineExceeded(LATE)
            data = await (self._next() if self._begun else self._first())
        except AIStackError as error:
            if self._member is not None:
                self._blame(self._member, error)
            await self._end(self._outcome(error))
            raise
        except asyncio.CancelledError as error:
            await self.aclose()
            task = asyncio.current_task()
            if not self.expired or task is None or task.uncancel():
                raise
            raise DeadlineExceeded(LATE) from error
        if data is None or self._stream is None:
            await self._end("ok")
        self._begun = True
        return data

    @property
    def over(self) -> bool:
        """Whether nothing more can be drawn."""
        return self._over

    async def aclose(self) -> None:
        """Nobody draws from it any more; harmless after its end."""
        await self._end("late" if self.expired else "cancelled")

    async def _end(self, outcome: Outcome) -> None:
        if self._over:
            return
        self._over = True
        await self._drop()
        self.record.outcome = outcome
        if self._mending is not None and (told := self._mending.told()) is not None:
            self.record.detail = {"tool_calls": told}
        self.record.total_ms = self._since_ms()
        self.ended(self.record)

    async def _drop(self) -> None:
        """Give back the engine that has been asked."""
        reply, self._reply = self._reply, None
        member, self._member = self._member, None
        if reply is not None:
            await reply.aclose()
        if member is not None:
            self.router.release(member, self.pool)

    def _outcome(self, error: AIStackError) -> Outcome:
        if isinstance(error, DeadlineExceeded):
            return "late"
        if error.status < 500:
            return "refused"
        return "broken" if self._begun else "failed"

    def _since_ms(self) -> float:
        """To the microsecond; `round` takes ten times as long."""
        return int((time.perf_counter() - self._began_s) * 1e6) / 1e3

    async def _first(self) -> bytes | None:
        """The beginning of the answer, by the first engine that gives one."""
        project, several = self.record.project_id, len(self.pool.members) > 1
        blocks = blocks_of(self.call.body, project) if several else NO_BLOCKS
        tried, failure = NOBODY, None
        while True:
            wanted = (self.pool, blocks, self.priority, tried)
            try:
                member = self.router.free(*wanted) or await self.router.acquire(*wanted)
            except EngineUnavailable as error:
                raise failure or error from error
            self._member = member
            try:
                return await self._ask(member)
            except (EngineUnavailable, EngineFailed, TooBusy) as error:
                self._blame(member, error)
                await self._drop()
                tried, failure = tried | {member}, error

    def _blame(self, member: Member, error: AIStackError) -> None:
        if isinstance(error, EngineUnavailable | EngineFailed):
            member.failed()

    async def _ask(self, member: Member) -> bytes | None:
        self._reply = reply = await member.engine.send(self.call)
        self.record.engine = member.engine.name
        self._chunks = aiter(reply)
        if self.call.operation == "chat" and "tools" in self.call.body:
            self._mending = Mending(self.call, partial(_completed, member))
        if self.call.streamed:
            self._stream = Stream(self.keeps_usage, self._first_token)
            return await self._next()
        body = await _collected(self._chunks)
        answer = _read(body)
        self.record.usage = usage_of(answer)
        member.succeeded()
        return body if self._mending is None else await self._mending.whole(answer, body)

    async def _next(self) -> bytes | None:
        stream, chunks = self._stream, self._chunks
        if stream is None or chunks is None:
            return None
        if stream.finished:
            await _drained(chunks)
            self._finish(stream)
            return None
        async for data in chunks:
            if self._mending is None:
                passed = stream.feed(data)
            else:
                passed = await self._mending.events(stream.events(data))
            if passed:
                return passed
        stream.end()
        self._finish(stream)
        return None

    def _finish(self, stream: Stream) -> None:
        self.record.usage = stream.usage
        if self._member is not None:
            self._member.succeeded()

    def _first_token(self) -> None:
        self.record.first_token_ms = self._since_ms()


async def _drained(chunks: AsyncIterator[bytes]) -> None:
    """Read to the end what an engine has ended already, so that its connection serves again."""
    with suppress(TimeoutError, EngineFailed):
        async with asyncio.timeout(DRAINED_S):
            async for _ in chunks:
                pass


async def _completed(member: Member, call: Call) -> dict[str, Any]:
    """The answer of an engine that is ours already to a call that is not streamed."""
    reply = await member.engine.send(call)
    try:
        return _read(await _collected(aiter(reply)))
    finally:
        await reply.aclose()


async def _collected(chunks: AsyncIterator[bytes]) -> bytes:
    parts, size_bytes = [], 0
    async for data in chunks:
        parts.append(data)
        size_bytes += len(data)
        if size_bytes > LARGEST:
            raise EngineFailed("The engine's answer is too large.")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise EngineFailed("The engine's answer is not JSON.") from error
    if not isinstance(answer, dict):
        raise EngineFailed("The engine's answer is no object.")
    if answer.get("error") is not None or not _has_choices(answer):
        raise EngineFailed("The engine answered with a failure, or what is no answer.")
    return answer


def _has_choices(answer: dict[str, Any]) -> bool:
    """Whether its choices are what they should be, where it has any."""
    choices = answer.get("choices", [])
    if not isinstance(choices, list):
        return False
    return all(map(_is_object, choices))


def _is_object(value: object) -> bool:
    return isinstance(value, dict)
