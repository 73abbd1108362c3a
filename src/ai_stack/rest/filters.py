"""Metadata filters as requests carry them."""

import orjson

from ai_stack.errors import InvalidFilter
from ai_stack.models.filters import Filter, parse_filter


def from_query(text: str | None) -> Filter | None:
    """The filter in a query parameter, which is JSON."""
    if text is None:
        return None
    try:
        return parse_filter(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise InvalidFilter("filter must be a JSON object.") from error
