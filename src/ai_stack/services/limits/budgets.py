"""What a process holds of a limit: leased in slices from where all count it, spent here at once.

The leases of all gateways together are never more than a limit allows. A slice is a 64th of the
limit at most, and shrinks with what is left, down to what is asked for: then every request is
counted where all see it. What a gateway has leased and does not use goes back after a while, at the
end of a period, and when the gateway ends; one that is killed loses its slice until then.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ai_stack.services.limits.rules import Rule

REFUSED_S = 1.0  # what is used up is asked about again after it


class Ledger(Protocol):
    """Where a limit is counted for all gateways; after `idle_s` an unused slice goes back."""

    idle_s: float

    async def lease(self, budget: "Budget", needed: int, wanted: int) -> tuple[int, int]:
        """What is granted, 0 where less than is needed is left, and what all have leased then."""

    async def adjust(self, changes: Sequence[tuple["Budget", int]]) -> None:
        """Count more, or less, than was leased."""


@dataclass(slots=True, eq=False)
class Budget:
    """One limit in the window or period that is under way.

    `held` is leased and not used; below 0 it is owed, as is what was granted while nobody else
    could be told. `spent` is what all have leased, as it was last told.
    """

    rule: Rule
    ledger: Ledger
    began_at: float
    ends_at: float
    held: int = 0
    spent: int = 0
    owed: int = 0
    waiting: int = 0
    used_at: float = 0.0
    _refuses_until: float = float("-inf")
    _leasing: asyncio.Task[None] | None = None

    @classmethod
    def begun(cls, rule: Rule, ledger: Ledger, now: float) -> "Budget":
        return cls(rule, ledger, rule.began_at(now), rule.ends_at(now))

    @property
    def left(self) -> int:
        """What is left to this process, as far as it knows."""
        left = self.rule.most - self.spent + self.held
        return left if left > 0 else 0

    def lacks(self, amount: int, least: int) -> bool:
        """Whether more has to be leased for an amount, of which the least will do."""
        return self.held < amount and (self.held < least or not self._is_used_up())

    def refuses(self, least: int) -> bool:
        """Whether it is known that there is less than the least."""
        return self._is_used_up() and least > self.left

    def _is_used_up(self) -> bool:
        return time.monotonic() < self._refuses_until

    def is_due(self, now: float) -> bool:
        """Whether it is time to settle what is held or owed."""
        return self.held < 0 or self.owed > 0 or self.used_at < now - self.ledger.idle_s

    async def fill(self, amount: int, least: int) -> None:
        """Lease more, once for all who wait for it; not lost with who asked for it first."""
        self.waiting += amount
        try:
            if self._leasing is None:
                self._leasing = asyncio.create_task(self._lease(least))
            await asyncio.shield(self._leasing)
        finally:
            self.waiting -= amount

    async def _lease(self, least: int) -> None:
        try:
            needed = least - self.held
            wanted = max(self.waiting - self.held, needed)
            granted, self.spent = await self.ledger.lease(self, needed, wanted)
            self.held += granted
            if granted < wanted:
                self._refuses_until = time.monotonic() + REFUSED_S
        finally:
            self._leasing = None


@dataclass(slots=True)
class Budgets:
    """The limits of which this process holds something, rates and budgets alike."""

    rates: Ledger
    budgets: Ledger
    _open: dict[tuple[str, str, int], Budget] = field(default_factory=dict)
    _over: list[Budget] = field(default_factory=list)

    def of(self, rule: Rule, now: float) -> Budget:
        """The window or period of a rule that is under way."""
        key = rule.subject, rule.name, rule.most
        found = self._open.get(key)
        if found is None or now >= found.ends_at:
            if found is not None:
                self._over.append(found)
            ledger = self.rates if rule.is_rate else self.budgets
            found = self._open[key] = Budget.begun(rule, ledger, now)
        return found

    async def look(self) -> None:
        """Give back what lies idle, pay what is owed, forget what is over."""
        now = time.time()
        for key in [key for key, one in self._open.items() if now >= one.ends_at]:
            self._over.append(self._open.pop(key))
        over, self._over = self._over, []
        due = [one for one in self._open.values() if one.held != one.owed and one.is_due(now)]
        try:
            await self._settle([*due, *over])
        finally:
            self._over += [budget for budget in over if budget.held and not budget.rule.is_rate]

    async def close(self) -> None:
        """Give everything back."""
        await self._settle([*self._open.values(), *self._over])

    async def _settle(self, budgets: Sequence[Budget]) -> None:
        for ledger in (self.budgets, self.rates):
            changes = [
                (one, one.owed - one.held)
                for one in budgets
                if one.ledger is ledger and one.owed != one.held
            ]
            if changes:
                await _change(ledger, changes)


async def _change(ledger: Ledger, changes: Sequence[tuple[Budget, int]]) -> None:
    kept = [(budget, budget.held, budget.owed) for budget, _ in changes]
    for budget, held, _ in kept:
        budget.held, budget.owed, budget.spent = 0, 0, budget.spent - held
    try:
        await ledger.adjust(changes)
    except BaseException:
        for budget, held, owed in kept:
            budget.held += held
            budget.owed += owed
            budget.spent += held
        raise
