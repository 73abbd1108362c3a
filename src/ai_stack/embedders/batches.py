"""Which waiting texts run together; it knows neither threads nor models.

Texts of one length only: padding costs as much as tokens, attention without a mask is faster,
and on a CPU a batch of short texts is hardly faster than one after the other.
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
    """The oldest text and others of its model and length, within `budget` tokens.

    `waiting` is in order of arrival and not empty; the oldest always goes, so none starves.
    """
    oldest = waiting[0]
    alike = [w for w in waiting if w.length == oldest.length and w.model == oldest.model]
    return alike[: max(1, budget // max(1, oldest.length))]
