"""Signing a shell in by a browser (RFC 8628): it waits, a person approves, it gets its login."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from ai_stack.database import Database, audit, devices
from ai_stack.database.devices import Device
from ai_stack.errors import InvalidRequest, LimitExceeded, NotFound, TooBusy, Unauthenticated
from ai_stack.models.trust import Credential
from ai_stack.services.auth.credentials import hidden
from ai_stack.services.auth.logins import Logins
from ai_stack.services.auth.passwords import network
from ai_stack.services.auth.secrets import Secrets

# No vowels, so no words; no two that look or sound alike. Ten are 43 bits.
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
LETTERS = 10
LASTS = timedelta(minutes=10)
INTERVAL_S, LONGER_S = 5, 5
MOST_WAITING, MOST_HERE = 1000, 50  # of all, and of one address or network
WRONG_FREE, WRONG_WITHIN = 10, timedelta(minutes=10)
LONGEST_NAME = 100

Answer: TypeAlias = Literal[
    "approved", "authorization_pending", "slow_down", "access_denied", "expired_token"
]


@dataclass(frozen=True, slots=True, repr=False)
class Started:
    """What a shell waits with: `device_code` is its own, `user_code` is what a person compares."""

    device_code: str
    user_code: str
    lasts_s: int
    interval_s: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A shell that waits, as the person who approves it sees it."""

    user_code: str
    name: str
    address: str
    since: datetime


@dataclass(frozen=True, slots=True, repr=False)
class Polled:
    """How it stands; `token` is told this once, when it was approved."""

    answer: Answer
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Devices:
    """Shells that wait to be signed in."""

    database: Database
    secrets: Secrets
    logins: Logins

    async def start(self, name: str, address: str) -> Started:
        """Have a shell wait, under the name that it gives itself.

        Raises InvalidRequest, and TooBusy while too many wait, there or anywhere.
        """
        _check_name(name)
        device_code, user_code = f"aidb_device_{secrets.token_urlsafe(32)}", new_user_code()
        async with self.logins.lookups, self.database.control() as tx:
            here = network(address)
            waiting = [network(one) for one in await devices.addresses(tx)].count(here)
            added = waiting < MOST_HERE and await devices.insert(
                tx,
                self._hash(device_code),
                self._hash(user_code),
                name=name,
                address=address,
                interval_s=INTERVAL_S,
                lasts=LASTS,
                most=MOST_WAITING,
            )
        if not added:
            raise TooBusy("Too many shells wait to be signed in; try again in some minutes.")
        lasts_s = int(LASTS.total_seconds())
        return Started(device_code, _parted(user_code), lasts_s, INTERVAL_S)

    async def waiting(self, person: Credential, user_code: str) -> Waiting:
        """The shell of a code. Raises NotFound, and LimitExceeded after too many wrong codes."""
        code = plain(user_code)
        found = await self._guessed(person, code)
        return Waiting(_parted(code), found.name, found.address, found.created_at)

    async def settle(self, person: Credential, user_code: str, *, approved: bool) -> Waiting:
        """Let the shell of a code in as this person, or refuse it. Raises as `waiting` does."""
        assert person.owner is not None
        code = plain(user_code)
        await self._guessed(person, code)
        async with self.database.control() as tx:
            found = await devices.find(tx, self._hash(code))
            if found is None:  # another page was quicker
                raise NotFound(f"No shell waits with the code {_parted(code)} any more.")
            user_id = person.owner.id if approved else None
            state: devices.State = "approved" if approved else "denied"
            await devices.settle(tx, found.hash, state, user_id)
            action = "device.approve" if approved else "device.deny"
            told = {"name": found.name, "address": found.address}
            await audit.record(tx, person.name, action, str(person.owner.id), detail=told)
        return Waiting(_parted(code), found.name, found.address, found.created_at)

    async def poll(self, device_code: str) -> Polled:
        """How it stands with a shell, which gets its login once; of no shell's it is over."""
        async with self.logins.lookups, self.database.control() as tx:
            found = await devices.polled(tx, self._hash(device_code), LONGER_S)
        if found is None:
            return Polled("expired_token")
        device, answer = found[0], _answer(*found)
        if answer != "approved" or device.user_id is None:
            return Polled(answer)
        try:
            token = await self.logins.begin(device.user_id, "shell")
        except Unauthenticated:  # suspended meanwhile
            return Polled("access_denied")
        return Polled("approved", token)

    async def _guessed(self, person: Credential, code: str) -> Device:
        """The shell of a code, which counts against its guesser until it proves right."""
        assert person.owner is not None
        async with self.database.control() as tx:
            wrong = await devices.guess(tx, person.owner.id, WRONG_WITHIN)
            found = await devices.find(tx, self._hash(code)) if wrong <= WRONG_FREE else None
            if found is not None:
                await devices.guessed(tx, person.owner.id)
        if found is not None:
            return found
        if wrong > WRONG_FREE:
            seconds = int(WRONG_WITHIN.total_seconds())
            raise LimitExceeded(
                "Too many codes were wrong: try again in ten minutes.", opens_in_s=seconds
            )
        raise NotFound("No shell waits with this code. Compare it, or start again in the shell.")

    def _hash(self, code: str) -> bytes:
        return hidden(f"device {code}", self.secrets.pepper)


def new_user_code() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(LETTERS))


def plain(user_code: str) -> str:
    """A code as it is kept, however a person has typed it; what is none stays wrong."""
    return user_code[:100].upper().replace("-", "").replace(" ", "")


def _parted(code: str) -> str:
    half = LETTERS // 2
    return f"{code[:half]}-{code[half:]}"


def _check_name(name: str) -> None:
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or not name.strip():
        raise InvalidRequest(f"A shell's name has 1 to {LONGEST_NAME} printable characters.")


def _answer(device: Device, too_soon: bool) -> Answer:
    if too_soon:
        return "slow_down"
    if device.expires_at <= datetime.now(device.expires_at.tzinfo):
        return "expired_token"
    answers: Mapping[devices.State, Answer] = {
        "waiting": "authorization_pending",
        "approved": "approved",
        "denied": "access_denied",
    }
    return answers[device.state]
