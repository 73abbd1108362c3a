"""What the header of a GGUF file tells about its model; the weights themselves are not read.

The form is llama.cpp's (ggml/include/gguf.h). A file may come from anybody: every count is
checked against what is left of the file before it is believed.
"""

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Literal

from ai_stack.errors import Unsupported
from ai_stack.weights.quantizations import FILE_TYPES, TENSOR_TYPES

Kind = Literal["generation", "embedding", "rerank"]
Value = str | int | float | bool | list[int] | list[float] | list[bool] | None

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_PAIRS = 1 << 12
MAX_TENSORS = 1 << 17
MAX_STRINGS = 1 << 22
MAX_KEY = 1 << 10
MAX_KEPT = 1 << 10
MAX_DIMENSIONS = 4
ALIGNMENT = 32

U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
STRING, ARRAY = 8, 9
SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: U32,
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: U64,
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
POOLED: Mapping[int, Kind] = {1: "embedding", 2: "embedding", 3: "embedding", 4: "rerank"}
ENCODERS = ("bert", "nomic-bert", "jina-bert", "modern-bert", "neo-bert", "eurobert", "t5encoder")
NOT_MODELS = {"adapter": "a LoRA adapter", "mmproj": "a projector of images"}


@dataclass(frozen=True, slots=True)
class Facts:
    """A model as its file describes it; a count that the file does not give is 0.

    `context_length` is what it was trained for, in tokens. `kv_heads` has one number for each
    layer; `windowed` are the layers that look back over `window` tokens only.
    """

    architecture: str
    name: str = ""
    kind: Kind = "generation"
    quantization: str = ""
    parameters: int = 0
    context_length: int = 0
    layers: int = 0
    embedding_length: int = 0
    feed_forward_length: int = 0
    vocabulary: int = 0
    heads: int = 0
    kv_heads: tuple[int, ...] = ()
    key_length: int = 0
    value_length: int = 0
    window: int = 0
    windowed: int = 0
    experts: int = 0
    chat_template: bool = False
    parts: int = 1


def read_facts(file: Path) -> Facts:
    """The facts of a file, or of the first part of a split one.

    Raises Unsupported, whose message names the file, for what llama.cpp could not load: another
    format, a damaged header, a file that is cut short.
    """
    try:
        if not file.is_file():
            raise Unsupported(f"{file} is not a file.")
        size = file.stat().st_size
        with file.open("rb") as opened:
            return _facts(_Reader(opened, size).header())
    except OSError as error:
        raise Unsupported(f"{file} cannot be read: {error.strerror}.") from None
    except Malformed as error:
        raise Unsupported(f"{file.name} is no GGUF file that can be served: {error}.") from None


class Malformed(Exception):
    """Why a file is refused, as the end of a sentence."""


@dataclass(slots=True)
class _Header:
    values: dict[str, Value] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    tensors: Counter[int] = field(default_factory=Counter)
    parameters: int = 0


class _Reader:
    """Reads a header from start to end, and never more than the file holds."""

    def __init__(self, opened: BufferedReader, size: int) -> None:
        self._opened, self._size, self._at = opened, size, 0
        self._strings = 0

    def header(self) -> _Header:
        tensors, pairs = self._counts()
        header = _Header()
        for _ in range(pairs):
            key = self._key()
            self._value(header, key, self._number(U32))
        self._tensors(header, tensors)
        return header

    def _counts(self) -> tuple[int, int]:
        magic = self._bytes(4)
        if magic != MAGIC:
            raise Malformed("it does not begin with GGUF")
        version = self._number(U32)
        if version not in VERSIONS:
            swapped = int.from_bytes(U32.pack(version), "big") in VERSIONS
            raise Malformed("it is big-endian" if swapped else f"its version is {version}")
        tensors, pairs = self._number(U64), self._number(U64)
        if tensors > MAX_TENSORS or pairs > MAX_PAIRS:
            raise Malformed("it announces more than a model can have")
        return tensors, pairs

    def _value(self, header: _Header, key: str, kind: int) -> None:
        if kind == STRING:
            header.values[key] = self._kept_string()
        elif kind == ARRAY:
            self._array(header, key, self._number(U32), self._number(U64))
        else:
            header.values[key] = self._number(_scalar(kind))

    def _array(self, header: _Header, key: str, kind: int, count: int) -> None:
        header.lengths[key] = count
        if kind == STRING:
            self._skip_strings(count)
            return
        form = _scalar(kind)
        self._room(count * form.size)
        if count > MAX_KEPT:
            self._skip(count * form.size)
        else:
            packed = self._bytes(count * form.size)
            header.values[key] = [found for (found,) in form.iter_unpack(packed)]

    def _tensors(self, header: _Header, count: int) -> None:
        end = 0
        for _ in range(count):
            self._key()
            dimensions = self._number(U32)
            if not 1 <= dimensions <= MAX_DIMENSIONS:
                raise Malformed(f"one of its tensors has {dimensions} dimensions")
            elements = 1
            for _ in range(dimensions):
                elements *= self._number(U64)
            kind, offset = self._number(U32), self._number(U64)
            header.tensors[kind] += elements
            header.parameters += elements
            end = max(end, offset + _size_bytes(kind, elements))
        self._check_whole(header, end)

    def _check_whole(self, header: _Header, end: int) -> None:
        alignment = header.values.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            raise Malformed("its alignment is none")
        needed = -(-self._at // alignment) * alignment + end
        if end and needed > self._size:
            raise Malformed(f"it is cut short, {self._size:,} bytes of {needed:,}")

    def _skip_strings(self, count: int) -> None:
        self._strings += count
        self._room(count * U64.size)
        if self._strings > MAX_STRINGS:
            raise Malformed("it announces more than a model can have")
        for _ in range(count):
            self._skip(self._number(U64))

    def _kept_string(self) -> str:
        """A short string; of a long one, as templates are, only that it is there."""
        length = self._number(U64)
        if length <= MAX_KEPT:
            return self._bytes(length).decode(errors="replace")
        self._skip(length)
        return ""

    def _key(self) -> str:
        length = self._number(U64)
        if length > MAX_KEY:
            raise Malformed("it announces more than a model can have")
        return self._bytes(length).decode(errors="replace")

    def _number(self, form: struct.Struct) -> int:
        number: int = form.unpack(self._bytes(form.size))[0]
        return number

    def _bytes(self, count: int) -> bytes:
        self._room(count)
        found = self._opened.read(count)
        if len(found) != count:
            raise Malformed("it is cut short")
        self._at += count
        return found

    def _skip(self, count: int) -> None:
        self._room(count)
        self._at += count
        if count <= 1 << 12:
            self._opened.read(count)  # a seek would empty the buffer
        else:
            self._opened.seek(self._at)

    def _room(self, count: int) -> None:
        if count > self._size - self._at:
            raise Malformed("it is cut short")


def _scalar(kind: int) -> struct.Struct:
    if kind not in SCALARS:
        raise Malformed(f"it has a value of the unknown type {kind}")
    return SCALARS[kind]


def _size_bytes(kind: int, elements: int) -> int:
    """Bytes of a tensor; none that are known for a type that is newer than this."""
    _, block, size = TENSOR_TYPES.get(kind, ("", 1, 0))
    return -(-elements // block) * size


def _facts(header: _Header) -> Facts:
    values = header.values
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise Malformed("it names no architecture")
    _check_is_model(values, architecture)

    def number(key: str, default: int = 0) -> int:
        return _whole(values.get(f"{architecture}.{key}"), default)

    layers = min(number("block_count"), MAX_KEPT)
    heads = max(_listed(values.get(f"{architecture}.attention.head_count"), layers), default=0)
    key_length = number("attention.key_length", number("embedding_length") // (heads or 1))
    kv = values.get(f"{architecture}.attention.head_count_kv", heads)
    return Facts(
        architecture=architecture,
        name=_text(values.get("general.name")),
        kind=_kind(architecture, number("pooling_type", -1)),
        quantization=_quantization(header),
        parameters=header.parameters,
        context_length=number("context_length"),
        layers=layers,
        embedding_length=number("embedding_length"),
        feed_forward_length=max(
            _listed(values.get(f"{architecture}.feed_forward_length"), 1), default=0
        ),
        vocabulary=header.lengths.get("tokenizer.ggml.tokens", number("vocab_size")),
        heads=heads,
        kv_heads=tuple(_listed(kv, layers)),
        key_length=key_length,
        value_length=number("attention.value_length", key_length),
        window=number("attention.sliding_window"),
        windowed=_windowed(values.get(f"{architecture}.attention.sliding_window_pattern"), layers),
        experts=number("expert_count"),
        chat_template="tokenizer.chat_template" in values,
        parts=max(1, _whole(values.get("split.count"), 1)),
    )


def _check_is_model(values: Mapping[str, Value], architecture: str) -> None:
    kind = "mmproj" if architecture == "clip" else values.get("general.type")
    if isinstance(kind, str) and kind in NOT_MODELS:
        raise Malformed(f"it is {NOT_MODELS[kind]}, not a model")


def _kind(architecture: str, pooling: int) -> Kind:
    encoder = architecture.startswith(ENCODERS)
    return POOLED.get(pooling, "embedding" if encoder else "generation")


def _quantization(header: _Header) -> str:
    """The name of what most of the file is: the file's own word, else its tensors'."""
    stated = FILE_TYPES.get(_whole(header.values.get("general.file_type"), -1))
    if stated is not None:
        return stated
    largest = header.tensors.most_common(1)
    return TENSOR_TYPES.get(largest[0][0], ("", 1, 0))[0] if largest else ""


def _windowed(pattern: Value, layers: int) -> int:
    """Layers with a window: a flag for each, or every n-th has none."""
    if isinstance(pattern, list):
        return sum(map(bool, pattern[:layers]))
    every = _whole(pattern, 0)
    return layers - layers // every if every > 0 else 0


def _listed(value: Value, layers: int) -> list[int]:
    """One number for each layer, of a list or of one number for all of them."""
    if isinstance(value, list):
        return [_whole(each, 0) for each in value[: layers or None]]
    return [_whole(value, 0)] * layers


def _whole(value: object, default: int) -> int:
    """A count that can be one; a hostile file may say anything."""
    sane = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40
    return int(value) if sane and isinstance(value, int) else default


def _text(value: Value) -> str:
    text = value if isinstance(value, str) else ""
    return "".join(letter for letter in text[:200] if letter.isprintable())
