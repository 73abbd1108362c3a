"""Prompts and answers in the log of inferences, where the settings ask for them."""

from collections.abc import Mapping

import orjson

from ai_stack.models.inference import Call, InferenceRecord

LONGEST = 64 << 10  # bytes of each that are kept


def add(record: InferenceRecord, call: Call, answer: bytes | None) -> InferenceRecord:
    """The record with what was asked, and what was answered where that came whole."""
    told = {"request": _told(call.encoded), "answer": None if answer is None else _told(answer)}
    record.detail = {**(record.detail or {}), **told}
    return record


def _told(body: bytes) -> object:
    """A body as JSON where it is that and short, else its beginning as text."""
    if len(body) <= LONGEST:
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError:
            return _storable(body.decode(errors="replace"))
        return _storable(found)
    return _storable(body[:LONGEST].decode(errors="replace"))


def _storable(value: object) -> object:
    """Without NUL, which jsonb refuses, and which would cost the batch its other rows."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, Mapping):
        return {_storable(name): _storable(below) for name, below in value.items()}
    return [_storable(below) for below in value] if isinstance(value, list) else value
