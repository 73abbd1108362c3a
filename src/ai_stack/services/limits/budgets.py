"""Budgets of days and months: leased from PostgreSQL in slices, spent here without asking it.

The leases of all gateways together are never more than a budget. What a gateway has leased and
does not use goes back after IDLE_S, at the end of the period, and when the gateway ends. One that
is killed loses at most its slice: a 64th of the budget.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ai_stack.database import Database, budgets
from ai_stack.database.budgets import Account
from ai_stack.services.limits.rules import Rule

IDLE_S = 2.0
REFUSED_S = 1.0  # a refusal stands for so long, unless less is asked for
KEPT = 10_000


@dataclass(slots=True)
class Budget:
    """What this process has of one budget in one period.

    `held` is leased and not used; below 0 it is owed. `spent` is what all have leased, as it was
    last told.
    """

    account: Account
    most: int
    ends_at: float
    held: int = 0
    spent: int = 0
    waiting: int = 0
    used_at: float = field(default_factory=time.monotonic)
    refuses_until: float = float("-inf")
    leasing: asyncio.Task[None] | None = None

    @property
    def left(self) -> int:
        """What is left to this process, as far as it knows."""
        return max(self.most - self.spent + self.held, 0)

    def refuses(self, amount: int) -> bool:
        """Whether it is known without asking that so much is not left."""
        if time.monotonic() >= self.refuses_until:
            return False
        return amount > self.left


@dataclass(slots=True)
class Budgets:
    """The budgets that this process spends of."""

    database: Database
    _open: dict[tuple[str, str, int], Budget] = field(default_factory=dict)
    _over: list[Budget] = field(default_factory=list)

    def of(self, rule: Rule, now: float) -> Budget:
        """The budget of a rule in the period that is under way."""
        key = rule.subject, rule.name, rule.most
        found = self._open.get(key)
        if found is None or now >= found.ends_at:
            if found is not None:
                self._over.append(found)
            began = datetime.fromtimestamp(rule.began_at(now), UTC).date()
            account = Account(rule.subject, rule.name, began)
            found = self._open[key] = Budget(account, rule.most, rule.ends_at(now))
        return found

    async def take(self, budget: Budget, amount: int, *, partly: bool = False) -> int:
        """What is granted: the amount or nothing; `partly`, what is left of it.

        Raises DatabaseUnavailable when a lease is used up and there is no other to be had.
        """
        budget.used_at = time.monotonic()
        if budget.held < amount:
            await self._fill(budget, amount, 1 if partly else amount)
        granted = min(amount, budget.held) if partly else amount
        if not 0 < granted <= budget.held:
            return 0
        budget.held -= granted
        return granted

    async def _fill(self, budget: Budget, amount: int, least: int) -> None:
        """Lease until so much is held, or it is known that there is no more."""
        budget.waiting += amount
        try:
            while budget.held < amount and not budget.refuses(least):
                if budget.leasing is None:
                    budget.leasing = asyncio.create_task(self._lease(budget, least))
                # A lease that has been asked for is not lost with whoever asked for it.
                await asyncio.shield(budget.leasing)
                if budget.held >= least and time.monotonic() < budget.refuses_until:
                    return
        finally:
            budget.waiting -= amount

    async def _lease(self, budget: Budget, least: int) -> None:
        try:
            needed = least - budget.held
            wanted = max(budget.waiting - budget.held, needed)
            granted, budget.spent = await budgets.lease(
                self.database, budget.account, most=budget.most, needed=needed, wanted=wanted
            )
            budget.held += granted
            if granted < wanted:
                budget.refuses_until = time.monotonic() + REFUSED_S
        finally:
            budget.leasing = None

    def settle(self, budget: Budget, granted: int, used: int) -> None:
        """Something that was granted came to be another amount."""
        budget.held += granted - used

    async def look(self) -> None:
        """Give back what lies idle, and pay what is owed."""
        now, idle_since = time.time(), time.monotonic() - IDLE_S
        for key in [key for key, one in self._open.items() if now >= one.ends_at]:
            self._over.append(self._open.pop(key))
        idle = [b for b in self._open.values() if b.held < 0 or b.used_at < idle_since]
        await self._return([*idle, *self._over])
        self._over = [budget for budget in self._over if budget.held]
        if len(self._open) > KEPT:
            self._open = {k: b for k, b in self._open.items() if b.held or b.leasing}

    async def close(self) -> None:
        """Give everything back."""
        await self._return([*self._open.values(), *self._over])

    async def _return(self, those: Iterable[Budget]) -> None:
        changes = [(budget, budget.held) for budget in those if budget.held]
        if not changes:
            return
        for budget, held in changes:
            budget.held -= held
            budget.spent -= held
        try:
            given = [(budget.account, -held) for budget, held in changes]
            await budgets.adjust(self.database, given)
        except BaseException:
            for budget, held in changes:
                budget.held += held
                budget.spent += held
            raise
