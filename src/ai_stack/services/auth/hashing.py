"""Passwords as argon2id keeps them: hashed in threads, few at a time, each for the same time."""

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from ai_stack.errors import InvalidRequest, TooBusy

SHORTEST, FEWEST, LONGEST_BYTES = 12, 5, 1024
AT_ONCE, WAITING = 2, 30  # each takes 19 MiB and about 70 ms of one core

T = TypeVar("T")


class Door:
    """Lets few in at once and a bounded number wait; who comes then is refused with TooBusy."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._slots, self._most, self._here = asyncio.Semaphore(at_once), at_once + waiting, 0

    async def __aenter__(self) -> None:
        if self._here >= self._most:
            raise TooBusy
        self._here += 1
        try:
            await self._slots.acquire()
        except BaseException:
            self._here -= 1
            raise

    async def __aexit__(self, *_: object) -> None:
        self._here -= 1
        self._slots.release()


@dataclass(slots=True)
class Hashing:
    """argon2id; more than WAITING passwords at a time are refused with TooBusy."""

    hasher: PasswordHasher = field(
        default_factory=lambda: PasswordHasher(
            time_cost=2, memory_cost=19 << 10, parallelism=1, type=Type.ID
        )
    )
    _door: Door = field(default_factory=lambda: Door(AT_ONCE, WAITING))
    _nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """The hash to keep, with its own salt and the costs that it was made with."""
        return await self._apart(lambda: self.hasher.hash(password))

    async def matches(self, hash: str | None, password: str) -> bool:
        """Whether it is this password; where there is none, no, after just as long."""
        return await self._apart(lambda: self._matches(hash, password))

    def is_dated(self, hash: str) -> bool:
        """Whether a hash was made with other costs than are asked for now."""
        return self.hasher.check_needs_rehash(hash)

    async def _apart(self, work: Callable[[], T]) -> T:
        async with self._door:
            return await asyncio.to_thread(work)

    def _matches(self, hash: str | None, password: str) -> bool:
        nobodys = self._nobodys = self._nobodys or self.hasher.hash(secrets.token_bytes(16))
        try:
            return self.hasher.verify(hash or nobodys, password) and hash is not None
        except (VerificationError, InvalidHashError):
            return False


def new_password() -> str:
    """One that nobody has chosen, of 100 bits, which can be read out."""
    digits = "abcdefghijkmnpqrstuvwxyz23456789"
    groups = ("".join(secrets.choice(digits) for _ in range(5)) for _ in range(4))
    return "-".join(groups)


def typed(password: str) -> str:
    """A password in the one form that it is hashed in, however its characters were composed."""
    found = unicodedata.normalize("NFC", password)
    if len(found.encode("utf-8", "replace")) > LONGEST_BYTES or not found.isprintable():
        raise InvalidRequest(
            f"A password has at most {LONGEST_BYTES} bytes, and no control characters.",
            fields={"password": "too long, or not printable"},
        )
    return found


def chosen(password: str) -> str:
    """The same of a password that is to be; InvalidRequest for one that is too short."""
    found = typed(password)
    if len(found) < SHORTEST or len(set(found)) < FEWEST:
        raise InvalidRequest(
            f"A password has {SHORTEST} characters at least, {FEWEST} different ones among them.",
            fields={"password": "too short"},
        )
    return found
