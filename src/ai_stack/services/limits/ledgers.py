"""Where limits are counted for all gateways: windows of the clock in Redis, budgets in PostgreSQL.

Redis may be away. Then a window is granted by a stated policy: `local`, from where it stood last,
which is told to Redis when it is back; `refuse`; or `allow`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ai_stack.caches.counters import Count, Counters
from ai_stack.database import Database, budgets
from ai_stack.database.budgets import Account
from ai_stack.errors import LimitExceeded, Unavailable
from ai_stack.services.limits.budgets import Budget
from ai_stack.settings.limits import Policy

SLICES, SHRINKING = 64, 16


@dataclass(slots=True)
class Windows:
    """Rates; `degraded` counts the decisions that were made without Redis."""

    counters: Counters
    without: Policy = "local"
    degraded: int = 0
    idle_s: float = 2.0

    async def lease(self, budget: Budget, needed: int, wanted: int) -> tuple[int, int]:
        """As Ledger says. Raises LimitExceeded by the policy `refuse`."""
        most = budget.rule.most
        asked = max(wanted, min(most // SLICES, max(most - budget.spent, 0) // SHRINKING))
        try:
            while True:
                taken = await self.counters.take(_count(budget, asked))
                room = most - taken.used
                if taken.granted or room < max(needed, 1):
                    return taken.granted, taken.used
                asked = min(asked, room)
        except Unavailable:
            return self._without(budget, needed, wanted)

    async def adjust(self, changes: Sequence[tuple[Budget, int]]) -> None:
        """Of a window that is over nothing has to be told."""
        now = time.time()
        counts = [_count(budget, amount) for budget, amount in changes if now < budget.ends_at]
        if counts:
            await self.counters.add(counts)

    def _without(self, budget: Budget, needed: int, wanted: int) -> tuple[int, int]:
        self.degraded += 1
        if self.without == "refuse":
            raise LimitExceeded("Limits cannot be counted now: Redis does not answer.")
        if self.without == "allow":
            return wanted, budget.spent
        room = max(budget.rule.most - budget.spent, 0)
        granted = min(wanted, room) if room >= needed else 0
        budget.owed += granted
        return granted, budget.spent + granted


@dataclass(slots=True)
class Periods:
    """Budgets: a slice costs more here, and goes back later."""

    database: Database
    idle_s: float = 10.0

    async def lease(self, budget: Budget, needed: int, wanted: int) -> tuple[int, int]:
        """As Ledger says; raises DatabaseUnavailable."""
        most, account = budget.rule.most, _account(budget)
        return await budgets.lease(self.database, account, most=most, needed=needed, wanted=wanted)

    async def adjust(self, changes: Sequence[tuple[Budget, int]]) -> None:
        given = [(_account(budget), amount) for budget, amount in changes]
        await budgets.adjust(self.database, given)


def _count(budget: Budget, amount: int) -> Count:
    """Kept for two windows, so that none ends while it is counted.

    Another limit of the same name begins a counter of its own.
    """
    rule = budget.rule
    key = f"{rule.subject}:{rule.name}:{rule.most}:{int(budget.began_at)}"
    return Count(key, rule.most, amount, 2 * rule.window_s)


def _account(budget: Budget) -> Account:
    day = datetime.fromtimestamp(budget.began_at, UTC).date()
    return Account(budget.rule.subject, budget.rule.name, day)
