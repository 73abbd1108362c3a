"""A stretch of a document that a statement rests on, and whether it is there."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ai_stack.skill import JSON

MARKER = re.compile(r"\[(\d{1,3}(?:\s?[,;]\s?\d{1,3})*)\]")
CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Citation:
    """`start` and `end` count code points of the document's content."""

    number: int
    document_id: str
    start: int
    end: int
    text: str
    score: float | None = None

    def shown(self) -> dict[str, JSON]:
        found: dict[str, JSON] = {
            "number": self.number,
            "document_id": self.document_id,
            "start": self.start,
            "end": self.end,
            "text": self.text,
        }
        return found if self.score is None else {**found, "score": round(self.score, 4)}


async def existing(
    citations: Sequence[Citation], content_of: Callable[[str], Awaitable[str | None]]
) -> tuple[list[Citation], list[Citation]]:
    """Those whose document has these words in this place, and those whose has not."""
    contents: dict[str, str | None] = {}
    there: list[Citation] = []
    not_there: list[Citation] = []
    for one in citations:
        if one.document_id not in contents:
            contents[one.document_id] = await content_of(one.document_id)
        content = contents[one.document_id]
        holds = content is not None and content[one.start : one.end] == one.text
        (there if holds and one.text else not_there).append(one)
    return there, not_there


def numbers_in(text: str) -> set[int]:
    """The passages that a text names, outside of code."""
    markers = MARKER.findall(CODE.sub("", text))
    return {int(n) for marker in markers for n in re.findall(r"\d+", marker)}
