"""What is spent of budgets, and the slices that gateways lease of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from ai_stack.database import Database

LEASE = """
SELECT granted, leased FROM control.lease(
  %(subject)s, %(rule)s, %(period)s, %(most)s, %(needed)s, %(wanted)s)"""
ADJUST = """
UPDATE spent SET amount = greatest(amount + %(amount)s, 0)
WHERE subject = %(subject)s AND rule = %(rule)s AND period = %(period)s"""


@dataclass(frozen=True, slots=True)
class Account:
    """One budget in one period, which is named by its first day."""

    subject: str
    rule: str
    period: date

    def named(self) -> dict[str, object]:
        return {"subject": self.subject, "rule": self.rule, "period": self.period}


async def lease(
    database: Database, account: Account, *, most: int, needed: int, wanted: int
) -> tuple[int, int]:
    """What is granted, 0 where less than is needed is left, and what is spent then by all."""
    given = {**account.named(), "most": most, "needed": needed, "wanted": wanted}
    async with database.control() as tx:
        row = await tx.row(LEASE, given)
    assert row is not None
    return int(row[0]), int(row[1])


async def adjust(database: Database, changes: Sequence[tuple[Account, int]]) -> None:
    """Add what was spent beyond a lease; a negative amount gives the rest of one back."""
    ordered = sorted(changes, key=lambda one: (one[0].subject, one[0].rule, one[0].period))
    async with database.control() as tx:
        for account, amount in ordered:
            await tx.execute(ADJUST, {**account.named(), "amount": amount})


async def sweep(database: Database, older: timedelta) -> int:
    """Forget periods that began longer ago; how many there were."""
    async with database.control() as tx:
        done = await tx.execute(
            "DELETE FROM spent WHERE period < (now() - %(older)s)::date", {"older": older}
        )
    return done.rowcount
