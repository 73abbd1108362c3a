"""Which waiting texts run together; it knows neither threads nor models.

A padded place costs as much as a token, and rows of a batch are quantised on one scale, so a
batch holds texts of like length, and a long text runs alone.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Waiting(Protocol):
    """A text in a queue: the model it is for, and its tokens with the special ones."""

    @property
    def model(self) -> str: ...

    @property
    def length(self) -> int: ...


T = TypeVar("T", bound=Waiting)


def choose(waiting: Sequence[T], budget: int) -> list[T]:
    """The oldest text and those nearest to its length, within `budget` padded tokens.

    `waiting` is in order of arrival and not empty; the oldest always goes, so none starves.
    """
    oldest = waiting[0]
    alike = [text for text in waiting if text.model == oldest.model]
    alike.sort(key=lambda text: abs(text.length - oldest.length))
    batch: list[T] = []
    longest = 0
    for text in alike:
        longest = max(longest, text.length)
        if batch and longest * (len(batch) + 1) > budget:
            break
        batch.append(text)
    return batch
