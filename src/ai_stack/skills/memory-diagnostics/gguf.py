"""The header of a GGUF model: what decides how much memory it takes; the weights are not read.

The form is that of ggml's gguf.h. A file may come from anybody, so that every count is held
against what is left of the file before it is believed.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import TypeAlias

from ai_stack.skill import JSON, SkillFailed

Value: TypeAlias = int | float | bool | str | list[int]

MAGIC, VERSIONS = b"GGUF", (2, 3)
MAX_PAIRS, MAX_TENSORS, MAX_STRINGS = 1 << 12, 1 << 17, 1 << 22
MAX_KEY, MAX_KEPT, MAX_LAYERS = 1 << 10, 1 << 12, 1 << 10
MAX_COUNT = 1 << 31
U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
STRING, ARRAY, BOOL = 8, 9, 7
SCALARS = {
    number: struct.Struct(form)
    for number, form in {
        0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q",
        11: "<q", 12: "<d",
    }.items()
}  # fmt: skip
ENCODERS = ("bert", "nomic-bert", "jina-bert", "modern-bert", "neo-bert", "eurobert", "t5encoder")
RECURRENT = ("ssm.state_size", "wkv.head_size", "shortconv.l_cache")


@dataclass(frozen=True, slots=True)
class Model:
    """What an estimate needs; `kv_heads` has a number for each layer.

    `windowed` of the layers look back over `window` tokens only. `inner` is the width of the
    feed-forward part, of all experts that work at once.
    """

    architecture: str
    name: str
    weights_bytes: int
    context: int
    layers: int
    width: int
    inner: int
    is_gated: bool
    heads: int
    kv_heads: tuple[int, ...]
    key_length: int
    value_length: int
    vocabulary: int
    window: int = 0
    windowed: int = 0

    def without_cache(self) -> "Model":
        return replace(self, kv_heads=())

    def shown(self) -> dict[str, JSON]:
        return {
            "architecture": self.architecture,
            "name": self.name,
            "context": self.context,
            "layers": self.layers,
            "width": self.width,
            "heads": self.heads,
            "kv_heads": max(self.kv_heads, default=0),
            "vocabulary": self.vocabulary,
        }


class Malformed(Exception):
    """Why a file is refused, as the end of a sentence."""


@dataclass(slots=True)
class Header:
    """Pairs of a file, the lengths of its arrays, and the bytes of its weights."""

    values: dict[str, Value] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    weights_bytes: int = 0
    is_gated: bool = False


def read_model(files: Sequence[Path]) -> tuple[Model, list[str]]:
    """A model out of its parts, and notes; SkillFailed for what llama.cpp could not load."""
    headers = [_read(file) for file in files]
    first = headers[0]
    parts = _whole(first.values.get("split.count"), 1) or 1
    notes = []
    if parts > len(files):
        notes.append(f"The model has {parts} parts; the weights of {len(files)} are counted.")
    if any(key.endswith(RECURRENT) for key in first.values):
        notes.append("The model has recurrent layers, whose cache is smaller than told here.")
    whole = sum(header.weights_bytes for header in headers)
    gated = any(header.is_gated for header in headers)
    try:
        return _model(first, whole, gated), notes
    except Malformed as error:
        raise SkillFailed(f"This is no model that can be estimated: {error}.") from None


def _read(file: Path) -> Header:
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            return _Reader(opened, size).header()
    except OSError:
        raise SkillFailed("The model cannot be read.") from None
    except Malformed as error:
        raise SkillFailed(f"This is no GGUF file that can be loaded: {error}.") from None


class _Reader:
    """Reads a header from start to end, and never more than the file holds."""

    def __init__(self, opened: BufferedReader, size: int) -> None:
        self._opened, self._size, self._at, self._strings = opened, size, 0, 0

    def header(self) -> Header:
        tensors, pairs = self._counts()
        found = Header()
        for _ in range(pairs):
            self._pair(found)
        for _ in range(tensors):
            self._tensor(found)
        found.weights_bytes = max(0, self._size - self._at)
        return found

    def _counts(self) -> tuple[int, int]:
        if self._bytes(4) != MAGIC:
            raise Malformed("it does not begin with GGUF")
        version = self._number(U32)
        if version not in VERSIONS:
            raise Malformed(f"its version is {version}")
        tensors, pairs = self._number(U64), self._number(U64)
        if tensors > MAX_TENSORS or pairs > MAX_PAIRS:
            raise Malformed("it announces more than a model can have")
        return tensors, pairs

    def _pair(self, found: Header) -> None:
        key, kind = self._key(), self._number(U32)
        if kind == STRING:
            found.values[key] = self._text()
        elif kind == ARRAY:
            self._array(found, key, self._number(U32), self._number(U64))
        else:
            found.values[key] = self._number(_form(kind))

    def _array(self, found: Header, key: str, kind: int, count: int) -> None:
        found.lengths[key] = count
        if kind == STRING:
            self._strings += count
            self._room(count * U64.size)
            if self._strings > MAX_STRINGS:
                raise Malformed("it announces more than a model can have")
            for _ in range(count):
                self._skip(self._number(U64))
            return
        form = _form(kind)
        if count > MAX_KEPT:
            self._skip(count * form.size)
        else:
            packed = self._bytes(count * form.size)
            found.values[key] = [_whole(n, 0) for (n,) in form.iter_unpack(packed)]

    def _tensor(self, found: Header) -> None:
        found.is_gated |= "ffn_gate" in self._key()
        dimensions = self._number(U32)
        if not 1 <= dimensions <= 4:
            raise Malformed(f"one of its tensors has {dimensions} dimensions")
        self._skip(dimensions * U64.size + U32.size + U64.size)

    def _text(self) -> str:
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
        if count <= MAX_KEPT:
            self._opened.read(count)  # a seek would empty the buffer
        else:
            self._opened.seek(self._at)

    def _room(self, count: int) -> None:
        if count > self._size - self._at:
            raise Malformed("it is cut short")


def _form(kind: int) -> struct.Struct:
    if kind not in SCALARS:
        raise Malformed(f"it has a value of the unknown type {kind}")
    return SCALARS[kind]


def _model(header: Header, weights_bytes: int, is_gated: bool) -> Model:
    values = header.values
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise Malformed("it names no architecture")

    def number(key: str, default: int = 0) -> int:
        return _most(values.get(f"{architecture}.{key}"), default)

    layers, width = min(number("block_count"), MAX_LAYERS), number("embedding_length")
    if not layers or not width:
        raise Malformed("it has no layers")
    heads = number("attention.head_count")
    key_length = number("attention.key_length", width // (heads or 1))
    kv = values.get(f"{architecture}.attention.head_count_kv", heads)
    is_encoder = architecture.startswith(ENCODERS)
    return Model(
        architecture=_shown(architecture),
        name=_shown(str(values.get("general.name", ""))),
        weights_bytes=weights_bytes,
        context=number("context_length"),
        layers=layers,
        width=width,
        inner=max(number("feed_forward_length"), _of_experts(values, architecture)),
        is_gated=is_gated,
        heads=heads,
        kv_heads=() if is_encoder else tuple(_each(kv, layers)),
        key_length=key_length,
        value_length=number("attention.value_length", key_length),
        vocabulary=header.lengths.get("tokenizer.ggml.tokens", number("vocab_size")),
        window=number("attention.sliding_window"),
        windowed=_windowed(values.get(f"{architecture}.attention.sliding_window_pattern"), layers),
    )


def _of_experts(values: Mapping[str, Value], architecture: str) -> int:
    """The width of the experts that work at once."""
    each = _most(values.get(f"{architecture}.expert_feed_forward_length"), 0)
    return each * _most(values.get(f"{architecture}.expert_used_count"), 0)


def _windowed(pattern: Value | None, layers: int) -> int:
    """Layers with a window: a flag for each, or every n-th has none."""
    if isinstance(pattern, list):
        return sum(map(bool, pattern[:layers]))
    every = _whole(pattern, 0)
    return layers - layers // every if every > 0 else 0


def _each(value: Value, layers: int) -> list[int]:
    """One number for each layer, of a list or of one number for all of them."""
    return value[:layers] if isinstance(value, list) else [_whole(value, 0)] * layers


def _most(value: Value | None, default: int) -> int:
    """A count, the greatest where there is one for each layer."""
    if isinstance(value, list):
        return max(value, default=default)
    return _whole(value, default)


def _whole(value: object, default: int) -> int:
    """A count that can be one; a hostile file may say anything."""
    sane = isinstance(value, int) and 0 <= value < MAX_COUNT
    return int(value) if sane and isinstance(value, int) else default


def _shown(text: str) -> str:
    return "".join(letter for letter in text[:200] if letter.isprintable())
