"""Where a piece of work stands in a trace, as W3C Trace Context writes it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """One span of a trace, and the one that it is part of; ids are in lower hexadecimal."""

    trace_id: str
    span_id: str
    parent_id: str | None
    sampled: bool

    @property
    def header(self) -> str:
        """As `traceparent` tells it to whoever works for this."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"
