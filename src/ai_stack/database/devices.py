"""Shells that wait to be signed in, as rows: both of their codes are kept as hashes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias
from uuid import UUID

from ai_stack.database import Transaction

State: TypeAlias = Literal["waiting", "approved", "denied"]
COLUMNS = "hash, name, address, state, user_id, interval_s, created_at, expires_at"


@dataclass(frozen=True, slots=True)
class Device:
    """A shell that waits; `hash` is its device code's."""

    hash: bytes
    name: str
    address: str
    state: State
    user_id: UUID | None
    interval_s: int
    created_at: datetime
    expires_at: datetime


async def addresses(tx: Transaction) -> list[str]:
    """From where each shell waits. Those that are over go."""
    await tx.execute("DELETE FROM devices WHERE expires_at < now()")
    return [row[0] for row in await tx.rows("SELECT address FROM devices")]


async def insert(
    tx: Transaction,
    hash: bytes,
    code: bytes,
    *,
    name: str,
    address: str,
    interval_s: int,
    lasts: timedelta,
    most: int,
) -> bool:
    """Add a shell that waits; False while as many wait as may."""
    done = await tx.execute(
        "INSERT INTO devices (hash, code, name, address, interval_s, expires_at)"
        " SELECT %(hash)s, %(code)s, %(name)s, %(address)s, %(interval)s, now() + %(lasts)s"
        " WHERE (SELECT count(*) FROM devices) < %(most)s",
        {
            "hash": hash,
            "code": code,
            "name": name,
            "address": address,
            "interval": interval_s,
            "lasts": lasts,
            "most": most,
        },
    )
    return done.rowcount == 1


async def find(tx: Transaction, code: bytes) -> Device | None:
    """The shell that waits by the code which its person has, held until this unit of work ends."""
    row = await tx.row(
        f"SELECT {COLUMNS} FROM devices"
        " WHERE code = %(code)s AND state = 'waiting' AND expires_at > now() FOR UPDATE",
        {"code": code},
    )
    return None if row is None else Device(bytes(row[0]), *row[1:])


async def settle(tx: Transaction, hash: bytes, state: State, user_id: UUID | None) -> None:
    """Note what the person has said."""
    await tx.execute(
        "UPDATE devices SET state = %(state)s, user_id = %(user)s WHERE hash = %(hash)s",
        {"hash": hash, "state": state, "user": user_id},
    )


async def polled(tx: Transaction, hash: bytes, longer_s: int) -> tuple[Device, bool] | None:
    """A shell that asks how it stands, and whether it asks too soon, which costs it `longer_s`.

    One that is settled or over is taken out: it is told so once.
    """
    row = await tx.row(
        f"SELECT {COLUMNS}, coalesce(polled_at + make_interval(secs => interval_s) > now(), false),"
        " expires_at <= now() FROM devices WHERE hash = %(hash)s FOR UPDATE",
        {"hash": hash},
    )
    if row is None:
        return None
    device, soon, over = Device(bytes(row[0]), *row[1:8]), row[8], row[9]
    if over or (device.state != "waiting" and not soon):
        await tx.execute("DELETE FROM devices WHERE hash = %(hash)s", {"hash": hash})
        return device, False
    await tx.execute(
        "UPDATE devices SET polled_at = now(), interval_s = interval_s + %(longer)s"
        " WHERE hash = %(hash)s",
        {"hash": hash, "longer": longer_s if soon else 0},
    )
    return device, soon


async def guess(tx: Transaction, user_id: UUID, within: timedelta) -> int:
    """How many wrong codes a user has typed lately, this one counted until it proves right."""
    row = await tx.row(
        "INSERT INTO guesses AS g (user_id, wrong, since) VALUES (%(user)s, 1, now())"
        " ON CONFLICT (user_id) DO UPDATE SET"
        " wrong = CASE WHEN g.since < now() - %(within)s THEN 1 ELSE g.wrong + 1 END,"
        " since = CASE WHEN g.since < now() - %(within)s THEN now() ELSE g.since END"
        " RETURNING wrong",
        {"user": user_id, "within": within},
    )
    assert row is not None
    return int(row[0])


async def guessed(tx: Transaction, user_id: UUID) -> None:
    """The code was right: it does not count."""
    await tx.execute("UPDATE guesses SET wrong = wrong - 1 WHERE user_id = %(id)s", {"id": user_id})
