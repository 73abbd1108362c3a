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


TEXTS = st.one_of(st.binary(), st.text().map(str.encode), st.just(b"plain"), st.just(TAIL + HEAD))


@given(st.lists(TEXTS, min_size=1))
def test_what_fits_a_mould_are_events_of_its_form(texts: list[bytes]) -> None:
    mould, told = Mould.of(HEAD + b"known" + TAIL), b"".join(map(event, texts))
    assert mould is not None
    if not mould.fits(told):
        return
    for text, passed in zip(texts, told.split(b"\n\n")[:-1], strict=True):
        found = orjson.loads(passed[6:])
        assert found["choices"][0].pop("delta") == {"content": text.decode()}
        assert found == {"id": "1", "choices": [{"index": 0, "finish_reason": None}]}


def test_several_events_that_came_at_once_pass_as_they_came() -> None:
    several = b"".join(map(event, (b"three", b"", b"four")))
    mould = Mould.of(HEAD + b"known" + TAIL)
    assert mould is not None
    assert mould.fits(several)
    assert begun().feed(several) == several
    stream = begun()
    assert stream.feed(several + HEAD) == several
    assert stream.feed(b"five" + TAIL + b"\n\n" + event(b"six")) == event(b"five") + event(b"six")


@pytest.mark.parametrize("between", [b"", b"\n", TAIL, HEAD, HEAD + TAIL, b'"', b"\n\n" + TAIL])
def test_what_lies_between_two_events_is_nothing_else(between: bytes) -> None:
    mould = Mould.of(HEAD + b"known" + TAIL)
    assert mould is not None
    assert not mould.fits(HEAD + b"one" + TAIL + between + HEAD + b"two" + TAIL + b"\n\n")


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
