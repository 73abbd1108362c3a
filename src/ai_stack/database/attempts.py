"""Failed logins as rows, by what they are counted for: a name, an address."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from ai_stack.database import Database, Transaction

FORGOTTEN = timedelta(hours=1)
# Rows are made and locked in one order, so that two attempts never wait for each other.
MAKE = """
INSERT INTO attempts SELECT subject, 0, clock_timestamp(), clock_timestamp()
FROM unnest(%(subjects)s::bytea[]) AS subject ORDER BY subject ON CONFLICT DO NOTHING"""
LOCK = """
SELECT subject, CASE WHEN last_at < clock_timestamp() - %(forgotten)s THEN 0 ELSE failures END,
       extract(epoch FROM until - clock_timestamp())::float
FROM attempts WHERE subject = ANY(%(subjects)s::bytea[]) ORDER BY subject FOR UPDATE"""
COUNT = """
UPDATE attempts SET failures = %(failures)s, last_at = clock_timestamp(),
       until = clock_timestamp() + make_interval(secs => %(pause)s)
WHERE subject = %(subject)s"""


@dataclass(frozen=True, slots=True)
class Rule:
    """How many failures bring no pause, and how long a pause becomes at most."""

    free: int
    most_s: float

    def pause_s(self, failures: int) -> float:
        """1 s after the last failure that is free, and twice as much after each further one."""
        beyond = failures - self.free
        return 0.0 if beyond <= 0 else min(2.0 ** min(beyond - 1, 30), self.most_s)


async def take(tx: Transaction, rules: Mapping[bytes, Rule]) -> float:
    """Count a failure for each subject before it is known to be one, so that attempts at once
    do not slip through; or, in a pause, count nothing and return how long that lasts."""
    asked = {"subjects": list(rules), "forgotten": FORGOTTEN}
    await tx.execute(MAKE, asked)
    found = await tx.rows(LOCK, asked)
    left_s = max((left for _, _, left in found), default=0.0)
    if left_s > 0:
        return float(left_s)
    for subject, failures, _ in found:
        pause_s = rules[bytes(subject)].pause_s(failures + 1)
        told = {"subject": subject, "failures": failures + 1, "pause": pause_s}
        await tx.execute(COUNT, told)
    return 0.0


async def forgive(database: Database, whole: bytes, once: bytes) -> None:
    """After a success: forget one subject's failures, and of the other's the one just counted."""
    async with database.control() as tx:
        await tx.execute("DELETE FROM attempts WHERE subject = %(it)s", {"it": whole})
        await tx.execute(
            "UPDATE attempts SET failures = greatest(failures - 1, 0), until = clock_timestamp()"
            " WHERE subject = %(it)s",
            {"it": once},
        )


async def sweep(database: Database) -> int:
    """Forget failures that count no more."""
    async with database.control() as tx:
        done = await tx.execute(
            "DELETE FROM attempts WHERE last_at < clock_timestamp() - %(old)s", {"old": FORGOTTEN}
        )
    return done.rowcount
