"""Copies of what a Redis must not lose: each key with its value and the time it has left.

Values travel as Redis's own dumps, so a server takes them that is as new as the one they are of.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import cast
from urllib.parse import urlsplit

from ai_stack.caches import conversations, counters
from ai_stack.caches.pipeline import Address, Answer, Down, Part, Pipeline
from ai_stack.errors import StackError, Unavailable

OLDER = "DUMP payload"
PATTERNS = (f"{conversations.PREFIX}*", "aidb:conversations:*", f"{counters.PREFIX}*")
AT_ONCE = 100
TRIES, PAUSE_S = 5, 0.6  # a server that is busy is asked again: nobody waits for a copy


async def copy(url: str) -> AsyncIterator[bytes]:
    """A line for each key that is kept; raises Unavailable when the server does not answer."""
    if urlsplit(url).scheme == "memory":
        return
    pipeline = Pipeline(Address.read(url))
    try:
        for pattern in PATTERNS:
            async for keys in _scan(pipeline, pattern):
                yield b"".join(await _lines(pipeline, keys))
    except Down as error:
        raise Unavailable("Redis does not answer, and what it keeps is not backed up.") from error
    finally:
        await pipeline.aclose()


async def _scan(pipeline: Pipeline, pattern: str) -> AsyncIterator[list[bytes]]:
    position: bytes | int = 0
    while True:
        scan = ("SCAN", position, "MATCH", pattern, "COUNT", AT_ONCE)
        answer = (await _patiently(pipeline, [scan]))[0]
        position, keys = cast(tuple[bytes, list[bytes]], answer)
        yield keys
        if position == b"0":
            return


async def _lines(pipeline: Pipeline, keys: list[bytes]) -> list[bytes]:
    commands = [(name, key) for key in keys for name in ("DUMP", "PTTL")]
    answers = await _patiently(pipeline, commands)
    pairs = zip(keys, answers[::2], answers[1::2], strict=True)
    return [_line(k, v, max(0, cast(int, t))) for k, v, t in pairs if isinstance(v, bytes)]


async def _patiently(pipeline: Pipeline, commands: Sequence[tuple[Part, ...]]) -> list[Answer]:
    for _ in range(TRIES - 1):
        try:
            return await pipeline.together(commands)
        except Down as error:
            if OLDER in str(error):
                raise
            await asyncio.sleep(PAUSE_S)
    return await pipeline.together(commands)


def _line(key: bytes, value: bytes, ttl_ms: int) -> bytes:
    fields = [base64.b64encode(key).decode(), base64.b64encode(value).decode(), ttl_ms]
    return json.dumps(fields).encode() + b"\n"


async def put(url: str, lines: Iterable[bytes]) -> int:
    """Put copies back, over what stands under their keys; how many there were.

    Raises Unavailable when the server does not answer, StackError when it is too old for them.
    """
    if urlsplit(url).scheme == "memory":
        return 0
    pipeline, count = Pipeline(Address.read(url)), 0
    try:
        for line in lines:
            key, value, ttl_ms = json.loads(line)
            name, dumped = base64.b64decode(key), base64.b64decode(value)
            await _patiently(pipeline, [("RESTORE", name, ttl_ms, dumped, "REPLACE")])
            count += 1
    except Down as error:
        if OLDER in str(error):
            raise StackError("This Redis is older than the one that the backup is of.") from error
        raise Unavailable("Redis does not take what the backup has for it.") from error
    finally:
        await pipeline.aclose()
    return count
