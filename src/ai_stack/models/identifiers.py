"""Ids: UUIDv7 (RFC 9562), which sort by the time they were made, and short-lived random ones."""

import os
import random
import time
from uuid import UUID


def uuid7() -> UUID:
    """48 bits of Unix milliseconds, 12 of the millisecond's fraction, 62 random."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    time_ms = seconds * 1000 + milliseconds
    fraction = rest * 4096 // 1_000_000
    dice = int.from_bytes(os.urandom(8)) & (1 << 62) - 1
    return UUID(int=time_ms << 80 | 7 << 76 | fraction << 64 | 2 << 62 | dice)


def uuid7_hex() -> str:
    """A UUIDv7 as its 32 digits, of dice that are no secret: many times quicker to make."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    head = milliseconds << 16 | 7 << 12 | rest * 4096 // 1_000_000
    dice = 2 << 62 | random.getrandbits(62)
    return (head << 64 | dice).to_bytes(16).hex()


def new_hex() -> str:
    """32 random hexadecimal digits, quickly made: unlike any other, but no secret."""
    return random.getrandbits(128).to_bytes(16).hex()
