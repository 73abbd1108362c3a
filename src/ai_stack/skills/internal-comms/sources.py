"""Where statements come from: numbered places, each with what it says there."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ai_stack.skill import JSON

Kind: TypeAlias = Literal["commit", "line"]
LONGEST_QUOTE = 400


@dataclass(frozen=True, slots=True)
class Source:
    """A place and what it says."""

    kind: Kind
    place: str
    quote: str
    detail: str = ""

    @property
    def told(self) -> str:
        """For the list at a report's end."""
        extra = f" ({self.detail})" if self.detail else ""
        return f"{self.place}{extra}: “{plain(self.quote)}”"


@dataclass(slots=True)
class Ledger:
    """Numbers sources from 1, in the order in which they are first used."""

    numbers: dict[Source, int] = field(default_factory=dict)

    def number(self, source: Source) -> int:
        return self.numbers.setdefault(source, len(self.numbers) + 1)

    def told(self) -> list[JSON]:
        """All of them, for the output."""
        return [
            {"id": n, "kind": s.kind, "place": s.place, "quote": s.quote, "detail": s.detail}
            for s, n in self.numbers.items()
        ]


def plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, and no reference that is not ours."""
    flat = " ".join(text.split())[:LONGEST_QUOTE]
    for mark in ("\\", "[", "]", "<", "*", "_", "`", "#", "|"):
        flat = flat.replace(mark, f"\\{mark}")
    return flat
