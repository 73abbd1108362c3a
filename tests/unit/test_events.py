"""The quick way through a stream: a chunk that is like the one before is not read."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_stack.errors import EngineBroken
from ai_stack.services.inference.events import Mould, Stream

HEAD = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"'
TAIL = b'"},"finish_reason":null}]}'


def event(text: bytes) -> bytes:
    return HEAD + text + TAIL + b"\n\n"


def begun() -> Stream:
    """A stream that has had two chunks, so that it knows their form."""
    stream = Stream(keeps_usage=False)
    for text in (b"one", b"two"):
        assert stream.feed(event(text)) == event(text)
    return stream


@given(st.one_of(st.binary(), st.text().map(str.encode)))
def test_what_fits_a_mould_is_json_of_its_form(text: bytes) -> None:
    mould = Mould.of(HEAD + b"known" + TAIL)
    assert mould is not None
    if mould.fits(HEAD + text + TAIL):
        found = orjson.loads((HEAD + text + TAIL)[6:])
        assert found["choices"][0].pop("delta") == {"content": text.decode()}
        assert found == {"id": "1", "choices": [{"index": 0, "finish_reason": None}]}


@pytest.mark.parametrize("text", [b"plain text", b"", b"caf\xc3\xa9", rb"a \"quote\" \\", rb"\n"])
def test_a_text_of_any_form_passes_as_it_came(text: bytes) -> None:
    assert begun().feed(event(text)) == event(text)


@pytest.mark.parametrize("text", [b'"', b"\\", b"\x01", b"\xff", b'","usage":{"a":1},"b":"\\'])
def test_what_is_no_json_is_refused_whatever_came_before(text: bytes) -> None:
    with pytest.raises(EngineBroken):
        begun().feed(event(text))


def test_what_looks_like_a_chunk_and_is_more_is_read() -> None:
    stream = begun()
    used = b'x"},"finish_reason":null}],"usage":{"prompt_tokens":7,"z":"'
    told = HEAD + used + b'"}}' + b"\n\n"
    assert b"usage" not in stream.feed(told)
    assert stream.usage is not None
    assert stream.usage.prompt == 7
    with pytest.raises(EngineBroken):
        stream.feed(b'data: {"error":{"message":"content":"' + b'"}}\n\n')


def test_a_mould_needs_a_text_without_escapes() -> None:
    assert Mould.of(HEAD + rb"a \" b" + TAIL) is None
    assert Mould.of(b'data: {"choices":[{"delta":{}}]}') is None
    assert Mould.of(HEAD) is None
