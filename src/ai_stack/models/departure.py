"""Whether the client of a request is still there, and what is to be done when it leaves."""

from collections.abc import Callable


class Departure:
    """The end of one client's connection; happens at most once."""

    __slots__ = ("_calls", "gone")

    def __init__(self) -> None:
        self.gone = False
        self._calls: list[Callable[[], object]] = []

    def happen(self) -> None:
        """The client has gone."""
        self.gone = True
        for call in tuple(self._calls):
            call()

    def add(self, call: Callable[[], object]) -> None:
        """Have something done then; at once when it has happened."""
        self._calls.append(call)
        if self.gone:
            call()

    def remove(self, call: Callable[[], object]) -> None:
        self._calls.remove(call)
