"""`ai-stack serve` that measures none of its requests: what metrics cost is the difference.

    python benchmarks/bare.py

It replaces pieces of the product, and fails where one of them is not there any more.
"""

import contextvars
import sys

from ai_stack import __main__, server
from ai_stack.rest import gate
from ai_stack.services.inference.journal import Journal

PIECES: tuple[tuple[object, str, object], ...] = (
    (server, "_meter", lambda stack: None),
    (Journal, "_tell", lambda self: None),
)


class Untold:
    """Takes what a context variable would."""

    def set(self, value: object) -> None:
        """Forget it."""


def main() -> None:
    for owner, name, piece in PIECES:
        getattr(owner, name)
        setattr(owner, name, piece)
    assert isinstance(gate.REQUEST, contextvars.ContextVar)
    gate.REQUEST = Untold()  # type: ignore[assignment]
    sys.argv = ["ai-stack", "serve"]
    __main__.main()


if __name__ == "__main__":
    main()
