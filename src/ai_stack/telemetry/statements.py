"""The statements that a process has the database do, measured one by one."""

from dataclasses import dataclass, field

from ai_stack.telemetry.instruments import Cell
from ai_stack.telemetry.metrics import Counted
from ai_stack.telemetry.requests import request_id
from ai_stack.telemetry.slow import SlowLog


@dataclass(slots=True)
class Statements:
    """Takes every statement that has ended; its text holds no values, since these are bound."""

    counted: Counted = field(default_factory=Counted)
    slow: SlowLog | None = None
    _cell: Cell = field(init=False)

    def __post_init__(self) -> None:
        self._cell = self.counted.queries.at()

    def ended(self, sql: str, took_s: float) -> None:
        self._cell.observe(took_s)
        if self.slow is not None and took_s > self.slow.threshold_s:
            self.slow.note("statement", sql, took_s, request_id())
