"""What can be stored as a document; pure."""

import json
import re
from collections.abc import Mapping, Sequence

import numpy as np

from ai_stack.errors import InvalidRequest, TooLarge
from ai_stack.models.documents import JSON, Metadata, NewDocument

MAX_CONTENT = 32 << 20
MAX_BATCH = 1000
MAX_METADATA = 1 << 20
MAX_NESTING = 64  # orjson writes 254 levels, and answers add some of their own
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # as JSON has it, and not after a backslash


def check(new: Sequence[NewDocument]) -> None:
    """Raise InvalidRequest or TooLarge for documents that cannot be stored."""
    if not 1 <= len(new) <= MAX_BATCH:
        raise InvalidRequest(f"A batch has 1 to {MAX_BATCH} documents.")
    for n, document in enumerate(new):
        _check_one(document, f"documents[{n}]" if len(new) > 1 else "The document")


def _check_one(document: NewDocument, name: str) -> None:
    if not document.content.strip():
        raise InvalidRequest(f"{name} has no content.")
    if len(document.content) > MAX_CONTENT:
        raise TooLarge(f"{name} is longer than {MAX_CONTENT} characters.")
    require_storable(document.content, name)
    require_storable(document.key or "", name)
    if document.key is not None and not 1 <= len(document.key) <= 1024:
        raise InvalidRequest(f"{name}: an id has 1 to 1024 characters.")
    check_metadata(document.metadata, name)
    if document.vector is not None:
        _check_vector(document.vector, name)


def check_metadata(metadata: Metadata, name: str) -> None:
    """Raise InvalidRequest or TooLarge for metadata that cannot be stored."""
    check_nesting(metadata, name)
    try:
        text = json.dumps(metadata, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"{name}: its metadata cannot be stored as JSON.") from error
    if len(text) > MAX_METADATA:
        raise TooLarge(f"{name}: its metadata is larger than {MAX_METADATA} bytes.")
    if NUL.search(text):
        raise InvalidRequest(f"{name}: its metadata has a NUL character, which cannot be stored.")


def check_nesting(value: JSON, name: str) -> None:
    if _is_deeper(value, MAX_NESTING):
        raise InvalidRequest(f"{name}: its metadata nests deeper than {MAX_NESTING} levels.")


def _is_deeper(value: JSON, levels: int) -> bool:
    if isinstance(value, str) or not isinstance(value, Mapping | Sequence):
        return False
    inner = value.values() if isinstance(value, Mapping) else value
    return levels == 0 or any(_is_deeper(one, levels - 1) for one in inner)


def _check_vector(vector: Sequence[float], name: str) -> None:
    numbers = np.asarray(vector, dtype=np.float32)
    if not 1 <= len(numbers) <= 4000 or not np.isfinite(numbers).all() or not numbers.any():
        raise InvalidRequest(f"{name}: a vector has 1 to 4000 finite numbers, not all of them 0.")
    if np.abs(numbers).max() > 65504:
        raise InvalidRequest(f"{name}: a vector's numbers lie within ±65504.")
    if not numbers.astype(np.float16).any():  # as which they are stored
        raise InvalidRequest(f"{name}: a vector's numbers are not all nearer to 0 than 6e-8.")


def require_storable(text: str, name: str) -> None:
    if "\x00" in text:
        raise InvalidRequest(f"{name} has a NUL character, which cannot be stored.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{name} has a lone surrogate, which is no character.") from error
