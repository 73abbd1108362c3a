"""What Slack takes, and in what a GIF breaks it. Knows nothing of how one is made."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ai_stack.skill import JSON

Kind: TypeAlias = Literal["emoji", "message"]
SLOWEST_BROWSER_MS = 20  # browsers play what is shorter than this at 100 ms


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one place in Slack takes."""

    side: int
    size_bytes: int
    frames: int
    square: bool


LIMITS: dict[Kind, Limits] = {
    "emoji": Limits(side=128, size_bytes=128 << 10, frames=50, square=True),
    "message": Limits(side=480, size_bytes=2 << 20, frames=150, square=False),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What was measured of a GIF; `loops` is 0 for without end, None for once."""

    width: int
    height: int
    frames: int
    size_bytes: int
    duration_ms: int
    shortest_ms: int
    loops: int | None

    def told(self) -> dict[str, JSON]:
        """For the output."""
        return {
            "width": self.width,
            "height": self.height,
            "frames": self.frames,
            "size_bytes": self.size_bytes,
            "duration_ms": self.duration_ms,
            "loops_forever": self.loops == 0,
        }


def faults(facts: Facts, kind: Kind) -> list[str]:
    """Each limit of `kind` that the GIF breaks, in words."""
    return [*_too_much(facts, LIMITS[kind]), *_wrong(facts, LIMITS[kind])]


def _too_much(facts: Facts, limits: Limits) -> Iterator[str]:
    if max(facts.width, facts.height) > limits.side:
        yield f"{facts.width}x{facts.height} pixels; at most {limits.side}x{limits.side}"
    if facts.size_bytes > limits.size_bytes:
        yield f"{facts.size_bytes} bytes; at most {limits.size_bytes}"
    if facts.frames > limits.frames:
        yield f"{facts.frames} frames; at most {limits.frames}"


def _wrong(facts: Facts, limits: Limits) -> Iterator[str]:
    if limits.square and facts.width != facts.height:
        yield f"{facts.width}x{facts.height} is not square"
    if facts.frames > 1 and facts.loops != 0:
        yield "it does not loop without end"
    if facts.frames > 1 and facts.shortest_ms < SLOWEST_BROWSER_MS:
        yield f"a frame lasts {facts.shortest_ms} ms; below {SLOWEST_BROWSER_MS} ms it plays slower"
