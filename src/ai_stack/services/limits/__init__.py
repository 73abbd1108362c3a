"""Limits: how much a key and a project may ask for, in requests, tokens, documents and bytes.

Rates (minute, hour) are counted in Redis, in windows of the clock, all of a request in one round
trip; budgets (day, month) are kept in PostgreSQL. What is refused by one limit counts for none.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import ceil

from ai_stack.caches.counters import Count, Counters, MemoryCounters, Taken
from ai_stack.errors import AIStackError, LimitExceeded, TooLarge, Unavailable
from ai_stack.models.principals import Principal
from ai_stack.services.limits.budgets import Budget, Budgets
from ai_stack.services.limits.rules import Rule, What, rules_of
from ai_stack.settings.limits import Policy

LOOK_S = 0.25
KNOWN = 10_000

log = logging.getLogger(__name__)

Amounts = Mapping[What, int]


@dataclass(frozen=True, slots=True)
class Quota:
    """How a limit stands, as far as this gateway knows."""

    rule: Rule
    left: int
    opens_in_s: int


@dataclass(frozen=True, slots=True)
class Share:
    """What was granted of one limit, and where it goes back to."""

    granted: int
    count: Count | None = None
    ends_at: float = 0.0
    budget: Budget | None = None


Held = list[Share]


@dataclass(frozen=True, slots=True)
class Plan:
    """The limits that a principal has in a group of paths, and what they were read from."""

    limits: Mapping[str, Mapping[str, int]]
    rules: tuple[Rule, ...]

    def of(self, amounts: Amounts, *, rates: bool) -> list[tuple[Rule, int]]:
        """The rates, or the budgets, that something counts for."""
        return [
            (rule, amount)
            for rule in self.rules
            if rule.is_rate is rates and (amount := amounts.get(rule.what, 0)) > 0
        ]


@dataclass(slots=True)
class Limits:
    """Admits what a principal asks for, or raises LimitExceeded.

    `degraded` counts the decisions that were made without Redis, `refused` those that went
    against a caller, by the kind of limit.
    """

    counters: Counters
    budgets: Budgets
    without_redis: Policy = "local"
    degraded: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    _here: MemoryCounters = field(default_factory=MemoryCounters)
    _plans: dict[tuple[object, ...], Plan] = field(default_factory=dict)
    _owed: dict[str, tuple[Count, float]] = field(default_factory=dict)

    def plan(self, principal: Principal, group: str | None) -> Plan:
        """The limits that hold for a principal in a group."""
        key = principal.key_id, principal.user_id, principal.project_id, group
        found = self._plans.get(key)
        if found is None or found.limits is not principal.limits:
            if len(self._plans) >= KNOWN:
                self._plans.clear()
            rules = tuple(rules_of(principal.limits, group))
            found = self._plans[key] = Plan(principal.limits, rules)
        return found

    async def take(self, plan: Plan, amounts: Amounts, *, partly: bool = False) -> Held:
        """Count something for every limit of a plan; `partly`: what is left of each will do.

        Raises LimitExceeded, and TooLarge for what no waiting admits, after which nothing is
        counted; DatabaseUnavailable where a budget cannot be asked for.
        """
        now = time.time()
        held = await self._rated(plan.of(amounts, rates=True), now, partly)
        try:
            for rule, amount in plan.of(amounts, rates=False):
                held.append(await self._budgeted(rule, amount, now, partly))
        except BaseException:
            self.settle(held, 0)
            raise
        return held

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
        now = time.time()
        for share in held:
            if share.budget is not None:
                self.budgets.settle(share.budget, share.granted, used)
            elif share.count is not None and now < share.ends_at:
                self._owe(share.count, used - share.granted, share.ends_at)

    def quotas(self, plan: Plan) -> list[Quota]:
        """How the limits of a plan stand."""
        now = time.time()
        return [Quota(rule, self._left(rule, now), _opens_in_s(rule, now)) for rule in plan.rules]

    def _left(self, rule: Rule, now: float) -> int:
        if not rule.is_rate:
            return self.budgets.of(rule, now).left
        return max(rule.most - self._here.used(_key(rule, now)), 0)

    async def _rated(self, rates: Sequence[tuple[Rule, int]], now: float, partly: bool) -> Held:
        if not rates:
            return []
        counts = [_count(rule, amount, now, partly) for rule, amount in rates]
        taken = await self._counted(counts, rates[0][0])
        for (rule, amount), one in zip(rates, taken, strict=True):
            if not one.granted:
                raise self._refusal(rule, amount, now, partly)
        return [
            Share(one.granted, count, rule.ends_at(now))
            for (rule, _), count, one in zip(rates, counts, taken, strict=True)
        ]

    async def _counted(self, counts: list[Count], rule: Rule) -> list[Taken]:
        try:
            taken = await self.counters.take(counts)
        except Unavailable:
            return self._uncounted(counts, rule)
        for count, one in zip(counts, taken, strict=True):
            self._here.note(count, one.used)
        return taken

    def _uncounted(self, counts: list[Count], rule: Rule) -> list[Taken]:
        """The decision without Redis: here alone, from where the counters stood last."""
        self.degraded += 1
        if self.without_redis == "refuse":
            self.refused[rule.what] += 1
            raise LimitExceeded("Limits cannot be counted now: Redis does not answer.")
        if self.without_redis == "allow":
            return [Taken(count.amount, 0) for count in counts]
        taken = self._here.taken(counts)
        if all(one.granted for one in taken):
            for count, one in zip(counts, taken, strict=True):
                self._owe(count, one.granted, time.time() + count.ttl_s / 2)
        return taken

    async def _budgeted(self, rule: Rule, amount: int, now: float, partly: bool) -> Share:
        budget = self.budgets.of(rule, now)
        granted = await self.budgets.take(budget, amount, partly=partly)
        if not granted:
            raise self._refusal(rule, amount, now, partly)
        return Share(granted, budget=budget)

    def _refusal(self, rule: Rule, amount: int, now: float, partly: bool) -> AIStackError:
        self.refused[rule.what] += 1
        whose = rule.subject.partition(":")[0]
        reached = f"The limit {rule.name} of this {whose}, {rule.most},"
        if 0 < rule.most < amount and not partly:
            reason = f"{reached} is below the {amount} that this request takes."
            return TooLarge(reason, fields={rule.title: reason})
        opens_in_s = _opens_in_s(rule, now)
        reason = f"{reached} is reached; it opens in {opens_in_s} s."
        return LimitExceeded(reason, fields={rule.title: reason}, opens_in_s=opens_in_s)

    def _owe(self, count: Count, amount: int, until: float) -> None:
        """Have a counter changed by and by."""
        if amount:
            known, _ = self._owed.get(count.key, (None, 0.0))
            total = amount + (0 if known is None else known.amount)
            changed = Count(count.key, count.most, total, count.ttl_s)
            self._owed[count.key] = changed, until

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Settle with Redis and PostgreSQL for as long as the block lasts."""
        task = asyncio.create_task(self._keep_settling())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            with suppress(AIStackError):
                await self._pay()
            with suppress(AIStackError):
                await self.budgets.close()

    async def _keep_settling(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            with suppress(Unavailable):
                await self._pay()
            try:
                await self.budgets.look()
            except AIStackError as error:
                log.warning("budgets cannot be settled now: %s", error.message)

    async def _pay(self) -> None:
        """Change the counters as they are owed; those whose window is over do not matter."""
        now, owed = time.time(), self._owed
        self._owed = {}
        counts = [count for count, until in owed.values() if until > now and count.amount]
        if not counts:
            return
        try:
            await self.counters.add(counts)
        except Unavailable:
            for count, until in owed.values():
                self._owe(count, count.amount, until)
            raise


@asynccontextmanager
async def spending(
    limits: Limits | None, principal: Principal, what: What, amount: int
) -> AsyncIterator[Held]:
    """Around something that may fail: then nothing is counted. It yields what is held."""
    held: Held = []
    if limits is not None and principal.limits:
        held += await limits.reserve(principal, what, amount)
    try:
        yield held
    except BaseException:
        if limits is not None:
            limits.settle(held, 0)
        raise


def _opens_in_s(rule: Rule, now: float) -> int:
    return max(ceil(rule.ends_at(now) - now), 1)


def _key(rule: Rule, now: float) -> str:
    """The counter of a window; another limit of the same name begins its own."""
    return f"{rule.subject}:{rule.name}:{rule.most}:{int(now // rule.window_s)}"


def _count(rule: Rule, amount: int, now: float, partly: bool) -> Count:
    """Kept for two windows, so that none ends while it is counted."""
    return Count(_key(rule, now), rule.most, amount, 2 * rule.window_s, partly)
