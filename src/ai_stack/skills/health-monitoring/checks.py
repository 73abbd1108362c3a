"""One thing that was looked at, and how it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ai_stack.skill import JSON

Status: TypeAlias = Literal["ok", "warning", "fault"]
ORDER: tuple[Status, ...] = ("ok", "warning", "fault")


@dataclass(frozen=True, slots=True)
class Checked:
    """`value` is what was measured and `limit` what it was held against, where there is one."""

    check: str
    subject: str
    status: Status
    told: str
    value: float | None = None
    limit: float | None = None

    def shown(self) -> dict[str, JSON]:
        return {
            "check": self.check,
            "subject": self.subject,
            "status": self.status,
            "value": None if self.value is None else round(self.value, 2),
            "limit": self.limit,
            "told": self.told,
        }


def worst(checks: Sequence[Checked]) -> Status:
    """The worst status of all; ok for none."""
    return max((one.status for one in checks), key=ORDER.index, default="ok")


def graded(value: float, warning: float, fault: float) -> Status:
    """The status of a value that is worse the higher it is."""
    return "fault" if value > fault else "warning" if value > warning else "ok"
