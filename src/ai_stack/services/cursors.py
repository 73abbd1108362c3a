"""Cursors of lists that are in the order of ids."""

import base64
from uuid import UUID

from ai_stack.errors import InvalidCursor


def cursor_of(last: UUID) -> str:
    """What a caller gives to go on after an id."""
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode()


def position_of(cursor: str) -> UUID:
    """The id that a cursor stands after; InvalidCursor."""
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    except ValueError as error:
        raise InvalidCursor from error
