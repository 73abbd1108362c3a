"""The work on one call: an engine is found and asked, another if it fails before the first byte."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
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
from ai_stack.models.inference import Call, InferenceRecord, Priority
from ai_stack.services.inference.events import Stream, usage_of
from ai_stack.services.inference.fleet import Member, Pool
from ai_stack.services.inference.relay import Relay
from ai_stack.services.inference.routing import Router, blocks_of

LARGEST = 64 << 20
NO_BLOCKS: list[bytes] = []


@dataclass(slots=True)
class Work:
    """One call's way through the engines; `ended` takes its record, whatever came of it."""

    call: Call
    pool: Pool
    router: Router
    record: InferenceRecord
    ended: Callable[[InferenceRecord], None]
    timeout_s: float
    priority: Priority = "interactive"
    keeps_usage: bool = False
    _began_s: float = field(default_factory=time.perf_counter)

    async def __call__(self, relay: Relay) -> None:
        """Feed the relay with the answer; raises AIStackError for one that fails or breaks off."""
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._answer(relay)
        except TimeoutError as error:
            self.record.outcome = "late"
            raise DeadlineExceeded("The inference did not finish within its time.") from error
        except asyncio.CancelledError:
            self.record.outcome = "cancelled"
            raise
        except AIStackError as error:
            kind = "refused" if error.status < 500 else "broken" if relay.count else "failed"
            self.record.outcome = kind  # type: ignore[assignment]
            raise
        finally:
            self.record.engine = relay.engine
            self.record.total_ms = self._since_ms()
            self.ended(self.record)

    def _since_ms(self) -> float:
        return round((time.perf_counter() - self._began_s) * 1000, 3)

    async def _answer(self, relay: Relay) -> None:
        blocks = blocks_of(self.call.body) if len(self.pool.members) > 1 else NO_BLOCKS
        tried, failure = frozenset[Member](), None
        while True:
            try:
                member = await self.router.acquire(self.pool, blocks, self.priority, tried)
            except EngineUnavailable as error:
                raise failure or error from error
            try:
                return await self._ask(member, relay)
            except (EngineUnavailable, EngineFailed, TooBusy) as error:
                if not isinstance(error, TooBusy):
                    member.failed(asyncio.get_running_loop().time())
                if relay.count:
                    raise
                tried, failure = tried | {member}, error
            finally:
                self.router.release(member)

    async def _ask(self, member: Member, relay: Relay) -> None:
        reply = await member.engine.send(self.call)
        relay.engine = member.engine.name
        try:
            if self.call.streamed:
                await self._stream(reply, relay)
            else:
                await self._whole(reply, relay)
        finally:
            await reply.aclose()
        member.succeeded()

    async def _stream(self, reply: Reply, relay: Relay) -> None:
        stream = Stream(self.keeps_usage, self._first_token)
        async for data in reply:
            if passed := stream.feed(data):
                await relay.feed(passed)
        self.record.usage = stream.usage
        stream.end()

    def _first_token(self) -> None:
        self.record.first_token_ms = self._since_ms()

    async def _whole(self, reply: Reply, relay: Relay) -> None:
        body = await _collected(reply)
        answer = _read(body)
        self.record.usage = usage_of(answer)
        await relay.feed(body)


async def _collected(reply: Reply) -> bytes:
    parts, size_bytes = [], 0
    async for data in reply:
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
    return answer
