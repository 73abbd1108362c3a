"""What can be limited, and how a limit is named: `requests_per_minute`, `chat.tokens_per_day`.

A name that begins with a group counts what is asked of that group's paths alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias, cast, get_args

from ai_stack.errors import InvalidRequest
from ai_stack.models.trust import Limits

What: TypeAlias = Literal["requests", "tokens", "documents", "bytes"]
Period: TypeAlias = Literal["minute", "hour", "day", "month"]

GENERATING, EMBEDDING = "chat", "embeddings"
GROUPS = ("documents", "search", GENERATING, EMBEDDING, "skills", "agent", "mcp")
NARROWED: Mapping[What, tuple[str, ...]] = {
    "requests": GROUPS,
    "bytes": GROUPS,
    "tokens": (GENERATING, EMBEDDING),
    "documents": (),
}
SECONDS: Mapping[str, int] = {"minute": 60, "hour": 3600}  # these are rates; others are budgets
PLAIN = tuple(f"{what}_per_{period}" for what in get_args(What) for period in get_args(Period))
NAMES = frozenset(PLAIN) | {
    f"{group}.{what}_per_{period}"
    for what, groups in NARROWED.items()
    for group in groups
    for period in get_args(Period)
}
MOST = 10**15


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit of one subject: `most` of `what` in each `period`, of a `group` or of all.

    `title` is how answers call it: whose it is, `key` or `project`, and its name.
    """

    subject: str
    name: str
    most: int
    what: What
    period: Period
    group: str | None
    whose: str
    title: str

    @classmethod
    def read(cls, subject: str, name: str, most: int) -> "Rule":
        group, _, plain = name.rpartition(".")
        what, _, period = plain.partition("_per_")
        whose = subject.partition(":")[0]
        kind = cast(What, what), cast(Period, period), group or None
        return cls(subject, name, most, *kind, whose, f"{whose}.{name}")

    @property
    def is_rate(self) -> bool:
        """Whether it is counted in windows of the clock, and not as a budget."""
        return self.period in SECONDS

    @property
    def window_s(self) -> int:
        return SECONDS.get(self.period) or (86400 if self.period == "day" else 30 * 86400)

    def ends_at(self, now: float) -> float:
        """When the window or the period that is under way ends, in Unix time (UTC)."""
        if self.is_rate:
            return (now // self.window_s + 1) * self.window_s
        began = datetime.fromtimestamp(self.began_at(now), UTC)
        after = began + timedelta(days=1 if self.period == "day" else 32)
        return after.replace(day=after.day if self.period == "day" else 1).timestamp()

    def began_at(self, now: float) -> float:
        if self.is_rate:
            return now // self.window_s * self.window_s
        moment = datetime.fromtimestamp(now, UTC)
        began = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        return (began if self.period == "day" else began.replace(day=1)).timestamp()


def rules_of(limits: Mapping[str, Mapping[str, int]], group: str | None) -> Iterator[Rule]:
    """The limits that hold in a group; names that this version does not know limit nothing."""
    for subject, named in limits.items():
        for name, most in named.items():
            if name in NAMES:
                rule = Rule.read(subject, name, most)
                if rule.group in (None, group):
                    yield rule


def check_limits(limits: Limits) -> None:
    """Return for limits that can be kept; InvalidRequest names the others."""
    wrong = {name: "there is no such limit" for name in limits if name not in NAMES}
    wrong |= {n: f"must be 0 to {MOST}" for n, most in limits.items() if not 0 <= most <= MOST}
    if wrong:
        known = ", ".join(PLAIN)
        raise InvalidRequest(
            f"These limits cannot be kept; there are {known}, and chat.requests_per_minute and"
            " the like for one group of paths.",
            fields={name[:100]: reason for name, reason in wrong.items()},
        )
