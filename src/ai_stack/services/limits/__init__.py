"""Limits: how much a key and a project may ask for, in requests, tokens, documents and bytes.

Rates (minute, hour) are counted in Redis, in windows of the clock; budgets (day, month) in
PostgreSQL. Each process leases slices of both and decides by them without asking anybody. What is
refused by one limit counts for none.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import ceil
from typing import TypeAlias

from ai_stack.alongside import alongside, is_cancelled
from ai_stack.caches.counters import Counters
from ai_stack.database import Database
from ai_stack.errors import AIStackError, LimitExceeded, TooLarge, Unavailable
from ai_stack.models.principals import Principal, Scope
from ai_stack.services.limits.budgets import Budget, Budgets
from ai_stack.services.limits.ledgers import Periods, Windows
from ai_stack.services.limits.rules import Rule, What, rules_of
from ai_stack.settings.limits import Policy

LOOK_S = 0.5
KNOWN = 10_000
NOTHING: Mapping[str, Mapping[str, int]] = {}

log = logging.getLogger(__name__)

Amounts: TypeAlias = Mapping[What, int]
ONE: Amounts = {"requests": 1}
Held: TypeAlias = Sequence[tuple[Budget, int]]  # what was granted of each limit


@dataclass(slots=True, eq=False)
class Plan:
    """The limits that a principal has in a group of paths, and what they were read from."""

    limits: Mapping[str, Mapping[str, int]]
    rules: tuple[Rule, ...]
    whats: frozenset[What] = frozenset()
    _open: Sequence[Budget] = ()
    _until: float = float("-inf")
    _by_what: Mapping[What, Sequence[Budget]] = field(default_factory=dict)
    _one: Sequence[tuple[Budget, int]] = ()

    def open(self, budgets: Budgets, now: float) -> Sequence[Budget]:
        """What this process holds of them in their windows and periods of now."""
        if now >= self._until:
            self._open = [budgets.of(rule, now) for rule in self.rules]
            self._until = min((one.ends_at for one in self._open), default=float("inf"))
            self._by_what = {
                what: [one for one in self._open if one.rule.what == what] for what in self.whats
            }
            self._one = self._of(ONE)
        return self._open

    def wanted(self, budgets: Budgets, amounts: Amounts, now: float) -> Held:
        """What is to be taken of each of them."""
        self.open(budgets, now)
        return self._one if amounts is ONE else self._of(amounts)

    def _of(self, amounts: Amounts) -> Held:
        return [
            (budget, amount)
            for what, amount in amounts.items()
            if amount > 0 and what in self.whats
            for budget in self._by_what[what]
        ]


@dataclass(slots=True)
class Limits:
    """Admits what a principal asks for, or raises LimitExceeded.

    `refused` counts what went against a caller, by the name of the limit.
    """

    windows: Windows
    budgets: Budgets
    refused: Counter[str] = field(default_factory=Counter)
    _plans: dict[tuple[int, str | None], Plan] = field(default_factory=dict)

    @classmethod
    def over(cls, counters: Counters, database: Database, without: Policy) -> "Limits":
        """Those that are counted there, with the policy for as long as counters are away."""
        windows = Windows(counters, without)
        return cls(windows, Budgets(windows, Periods(database)))

    @property
    def degraded(self) -> int:
        """Decisions that were made without Redis."""
        return self.windows.degraded

    def plan(self, principal: Principal, group: str | None) -> Plan:
        """The limits that hold for a principal in a group."""
        limits = _limits_of(principal)
        found = self._plans.get((id(limits), group))
        if found is None:
            if len(self._plans) >= KNOWN:
                self._plans.clear()
            # A plan keeps what it was read from, so that nothing else gets its id meanwhile.
            rules = tuple(rules_of(limits, group))
            found = Plan(limits, rules, frozenset(rule.what for rule in rules))
            self._plans[id(limits), group] = found
        return found

    def take_held(self, plan: Plan, amounts: Amounts) -> Held | None:
        """As `take`, by what is held already; None where more has to be leased for it."""
        now = time.time()
        wanted = plan.wanted(self.budgets, amounts, now)
        for budget, amount in wanted:
            if budget.held < amount:
                return None
        for budget, amount in wanted:
            budget.held -= amount
            budget.used_at = now
        return wanted

    async def take(self, plan: Plan, amounts: Amounts, *, partly: bool = False) -> Held:
        """Count something for every limit of a plan; `partly`: what is left of each will do.

        Raises LimitExceeded, and TooLarge for what no waiting admits, after which nothing is
        counted; DatabaseUnavailable where a budget cannot be asked for.
        """
        if (held := self.take_held(plan, amounts)) is not None:
            return held
        now = time.time()
        wanted = plan.wanted(self.budgets, amounts, now)
        while short := [one for one in wanted if one[0].lacks(one[1], 1 if partly else one[1])]:
            for budget, amount in short:
                if budget.refuses(1 if partly else amount):
                    raise self._refusal(budget, amount, partly)
            await _filled(short, partly)
        return [_taken(budget, amount, now) for budget, amount in wanted]

    async def reserve(
        self,
        principal: Principal,
        what: What,
        amount: int,
        *,
        group: str | None = None,
        partly: bool = False,
    ) -> Held:
        """As `take`, for one kind of thing: to be settled when it is known what it came to."""
        return await self.take(self.plan(principal, group), {what: amount}, partly=partly)

    def settle(self, held: Held, used: int) -> None:
        """What was reserved came to so much: the rest goes back, what is beyond it is charged."""
        for budget, granted in held:
            budget.held += granted - used

    def standing(self, plan: Plan, now: float) -> Sequence[Budget]:
        """How the limits of a plan stand, as far as this process knows."""
        return plan.open(self.budgets, now)

    def _refusal(self, budget: Budget, amount: int, partly: bool) -> AIStackError:
        rule = budget.rule
        self.refused[rule.name] += 1
        reached = f"The limit {rule.name} of this {rule.whose}, {rule.most},"
        if 0 < rule.most < amount and not partly:
            reason = f"{reached} is below the {amount} that this request takes."
            return TooLarge(reason, fields={rule.title: reason})
        opens_in_s = max(ceil(budget.ends_at - time.time()), 1)
        reason = f"{reached} is reached; it opens in {opens_in_s} s."
        return LimitExceeded(reason, fields={rule.title: reason}, opens_in_s=opens_in_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Settle with Redis and PostgreSQL for as long as the block lasts."""
        try:
            async with alongside(self._keep_settling()):
                yield
        finally:
            with suppress(AIStackError):
                await self.budgets.close()

    async def _keep_settling(self) -> None:
        while not is_cancelled():
            await asyncio.sleep(LOOK_S)
            try:
                await self.budgets.look()
            except Unavailable:
                continue  # what is not settled is settled later
            except AIStackError as error:
                log.error("limits cannot be settled: %s", error.message)


@asynccontextmanager
async def spending(
    limits: Limits | None, principal: Principal, what: What, amount: int
) -> AsyncIterator[Held]:
    """Around something that may fail: then nothing is counted. It yields what is held."""
    held: Held = ()
    if limits is not None and principal.limits:
        held = await limits.reserve(principal, what, amount)
    try:
        yield held
    except BaseException:
        if limits is not None:
            limits.settle(held, 0)
        raise


async def _filled(short: Sequence[tuple[Budget, int]], partly: bool) -> None:
    """Lease of several limits at once: what is asked of Redis goes there in one piece."""
    fills = [budget.fill(amount, 1 if partly else amount) for budget, amount in short]
    if len(fills) == 1:
        await fills[0]
        return
    for came in await asyncio.gather(*fills, return_exceptions=True):
        if isinstance(came, BaseException):
            raise came


def _taken(budget: Budget, amount: int, now: float) -> tuple[Budget, int]:
    """What an amount comes to of what is held: all, or what there is."""
    granted = min(amount, budget.held)
    budget.held -= granted
    budget.used_at = now
    return budget, granted


def _limits_of(principal: Principal) -> Mapping[str, Mapping[str, int]]:
    """None for the operator of the machine, who could else not raise one that is used up."""
    if principal.key_id is not None or principal.user_id is not None:
        return principal.limits
    return NOTHING if principal.allows(Scope.OPERATE) else principal.limits
