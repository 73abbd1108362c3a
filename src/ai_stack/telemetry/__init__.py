"""What is counted, logged and traced; it knows no service and no face.

Who has something to count is given `Counted`; who looks at the stack from outside reads the
exposition of `Metrics`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ai_stack.models.inference import InferenceRecord
from ai_stack.settings import Settings
from ai_stack.telemetry.metrics import Counted, Metrics
from ai_stack.telemetry.observed import observe
from ai_stack.telemetry.process import Own
from ai_stack.telemetry.slow import SlowLog
from ai_stack.telemetry.statements import Statements
from ai_stack.telemetry.tracing import Tracing, open_tracing


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What one process of the stack tells of itself; without an endpoint it traces nothing."""

    metrics: Metrics
    own: Own
    slow: SlowLog
    statements: Statements
    tracing: Tracing | None

    @property
    def counted(self) -> Counted:
        return self.metrics.counted

    def inferences(self, records: Sequence[InferenceRecord]) -> None:
        """These have ended: count them, and trace them where that is wanted."""
        observe(self.counted, records)
        if self.tracing is not None:
            self.tracing.inferences(records)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch the process for as long as the block lasts, and send what is still to be sent."""
        try:
            async with self.own.running():
                yield
        finally:
            if self.tracing is not None:
                await self.tracing.aclose()


def open_telemetry(settings: Settings) -> Telemetry:
    """Raises SettingsError for traces that cannot be sent, since OpenTelemetry is missing."""
    metrics = Metrics()
    slow = SlowLog(settings.slow_s, metrics.counted.slow)
    statements = Statements(metrics.counted, slow)
    return Telemetry(metrics, Own(metrics), slow, statements, open_tracing(settings))
