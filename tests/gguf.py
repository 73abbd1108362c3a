"""Tiny GGUF models, made on the spot: a chat model, a scripted one, an embedder, a reranker.

All load in llama.cpp within a tenth of a second and are smaller than 1 MB. The format is written
here by hand, so a test of a reader of GGUF does not check the reader against its own kind.

    python tests/gguf.py out.gguf --say "Hello there."
"""

import argparse
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float16] | npt.NDArray[np.float32]
Value = str | bool | int | float | Sequence[str] | Sequence[int]

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
UINT32, FLOAT32, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5
F32, F16 = 0, 1
ALL_F32, MOSTLY_F16 = 0, 1
NORMAL, CONTROL = 1, 3
MEAN, RANK = 1, 4

LETTERS = """The quick brown fox reads a book about small models. What is the capital of France?
Paris is the capital of France. You are a helpful assistant. Write a function that adds two
numbers and returns the result: def add(first, second): return first + second. Answer in one
sentence with the name of the city, the number of people, and where the tool should be called."""

CHAT = """{%- if tools %}<|im_start|>system
# Tools
You may call functions. Their signatures are within <tools></tools>:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
For each function call, return a json object within <tool_call></tool_call>:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{{- '\n<tool_call>\n' + {"name": call.function.name, "arguments": call.function.arguments} | tojson
 + '\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a model; the defaults stay below 1 MB."""

    context: int = 4096
    layers: int = 2
    width: int = 128
    heads: int = 4
    kv_heads: int = 2
    inner: int = 128


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens in GPT-2's letters; the last ones are the pieces that a scripted model says."""

    tokens: list[str]
    merges: list[str]
    special: dict[str, int]
    said: list[int]

    @property
    def types(self) -> list[int]:
        control = set(self.special.values())
        return [CONTROL if i in control else NORMAL for i in range(len(self.tokens))]


def write_chat(
    path: Path,
    *,
    say: str | None = None,
    name: str = "tiny",
    shape: Shape | None = None,
    seed: int = 0,
    template: str | None = CHAT,
) -> Path:
    """A chat model of the llama architecture, with tool calls in the way of Hermes and Qwen.

    With `say`, greedy decoding answers exactly this to every prompt, and ends. Without, it
    answers gibberish and hardly ever ends, so that `max_tokens` decides the length.
    """
    shape = shape or Shape()
    vocabulary = _vocabulary(say or "")
    fields: dict[str, Value] = {
        **_llama(name, shape, len(vocabulary.tokens)),
        **_tokenizer(vocabulary),
    }
    if template is not None:
        fields["tokenizer.chat_template"] = template
    write(path, fields, dict(_decoder(shape, vocabulary, seed)))
    return path


def write_embedder(
    path: Path, *, name: str = "tiny-embedder", shape: Shape | None = None, seed: int = 0
) -> Path:
    """A BERT that embeds texts; equal texts get equal vectors, what they mean is nothing."""
    return _write_bert(path, name, shape or Shape(context=512, heads=4), seed, MEAN)


def write_reranker(
    path: Path, *, name: str = "tiny-reranker", shape: Shape | None = None, seed: int = 0
) -> Path:
    """A BERT with a classifying head, which llama.cpp serves at /v1/rerank."""
    return _write_bert(path, name, shape or Shape(context=512, heads=4), seed, RANK)


def write(path: Path, fields: Mapping[str, Value], tensors: Mapping[str, Array]) -> None:
    """A GGUF file of these metadata and tensors; rows of a tensor are its last dimension."""
    head = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(fields))]
    head += [_text(key) + _typed(value) for key, value in fields.items()]
    offset = 0
    for name, tensor in tensors.items():
        sizes = struct.pack(f"<I{tensor.ndim}Q", tensor.ndim, *reversed(tensor.shape))
        kind = F16 if tensor.dtype == np.float16 else F32
        head.append(_text(name) + sizes + struct.pack("<IQ", kind, offset))
        offset += _padded(tensor.nbytes)
    encoded = b"".join(head)
    with path.open("wb") as file:
        file.write(encoded.ljust(_padded(len(encoded)), b"\0"))
        for tensor in tensors.values():
            file.write(tensor.tobytes().ljust(_padded(tensor.nbytes), b"\0"))


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _typed(value: Value) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _text(value)
    if value and isinstance(value[0], int):
        return struct.pack(f"<IIQ{len(value)}i", ARRAY, INT32, len(value), *value)
    return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_text, value))  # type: ignore[arg-type]


def _llama(name: str, shape: Shape, tokens: int) -> dict[str, Value]:
    return {
        "general.architecture": "llama",
        "general.name": name,
        "general.file_type": MOSTLY_F16,
        "llama.vocab_size": tokens,
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.width,
        "llama.block_count": shape.layers,
        "llama.feed_forward_length": shape.inner,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": shape.width // shape.heads,
        "llama.rope.freq_base": 10000.0,
    }


def _tokenizer(vocabulary: Vocabulary) -> dict[str, Value]:
    special = vocabulary.special
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": vocabulary.tokens,
        "tokenizer.ggml.token_type": vocabulary.types,
        "tokenizer.ggml.merges": vocabulary.merges,
        "tokenizer.ggml.bos_token_id": special["<|endoftext|>"],
        "tokenizer.ggml.eos_token_id": special["<|im_end|>"],
        "tokenizer.ggml.eot_token_id": special["<|im_end|>"],
        "tokenizer.ggml.padding_token_id": special["<|endoftext|>"],
        "tokenizer.ggml.fim_pre_token_id": special["<|fim_prefix|>"],
        "tokenizer.ggml.fim_suf_token_id": special["<|fim_suffix|>"],
        "tokenizer.ggml.fim_mid_token_id": special["<|fim_middle|>"],
        "tokenizer.ggml.add_bos_token": False,
    }


def _vocabulary(say: str) -> Vocabulary:
    letters = _letters()
    merges = _merges(LETTERS, 300, letters)
    plain = [letters[byte] for byte in range(256)]
    plain += dict.fromkeys(a + b for a, b in merges)
    pieces = _pieces(say, set(plain), letters)
    special = {text: len(plain) + i for i, text in enumerate(SPECIAL)}
    first = len(plain) + len(SPECIAL)
    return Vocabulary(
        tokens=[*plain, *SPECIAL, *pieces],
        merges=[f"{a} {b}" for a, b in merges],
        special=special,
        said=[*range(first, first + len(pieces))],
    )


def _letters() -> dict[int, str]:
    """GPT-2's printable letter for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {byte: chr(256 + i) for i, byte in enumerate(others)}
    return {byte: chr(byte) for byte in printable} | shifted


def _merges(text: str, count: int, letters: Mapping[int, str]) -> list[tuple[str, str]]:
    """The most frequent pairs of neighbours, one after the other, as byte-pair encoding learns."""
    found = re.findall(r" ?\w+|[^\w\s]", text)
    words = Counter(tuple(letters[byte] for byte in word.encode()) for word in found)
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                pairs[pair] += times
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = Counter({tuple(_joined(word, best)): times for word, times in words.items()})
    return merges


def _joined(word: Sequence[str], pair: tuple[str, str]) -> Iterator[str]:
    i = 0
    while i < len(word):
        both = tuple(word[i : i + 2]) == pair
        yield "".join(pair) if both else word[i]
        i += 2 if both else 1


def _pieces(say: str, known: set[str], letters: Mapping[int, str]) -> list[str]:
    """The text cut into tokens that no other text has, so that each decides what follows it."""
    pieces: list[str] = []
    held = ""
    for word in re.findall(r"\s*\S+|\s+$", say):
        held += "".join(letters[byte] for byte in word.encode())
        if held not in known and held not in pieces:
            pieces.append(held)
            held = ""
    if held and not pieces:
        raise ValueError(f"{say!r} is too short to be said: take a longer word")
    if held:
        pieces[-1] += held
    return pieces


def _decoder(shape: Shape, vocabulary: Vocabulary, seed: int) -> Iterator[tuple[str, Array]]:
    random = np.random.default_rng(seed)
    embedding = random.standard_normal((len(vocabulary.tokens), shape.width))
    output = random.standard_normal(embedding.shape) / shape.width**0.5
    output[list(vocabulary.special.values())] = 0  # hardly ever the likeliest
    if vocabulary.said:
        output = _script(embedding, vocabulary)
    yield "token_embd.weight", embedding.astype(np.float16)
    yield "output.weight", output.astype(np.float16)
    yield "output_norm.weight", np.ones(shape.width, np.float32)
    for layer in range(shape.layers):
        for name, tensor in _decoder_layer(shape, random, silent=bool(vocabulary.said)):
            yield f"blk.{layer}.{name}.weight", tensor


def _script(embedding: npt.NDArray[np.float64], vocabulary: Vocabulary) -> npt.NDArray[np.float64]:
    """Output weights by which any token of a prompt begins the text, and each piece the next.

    One dimension of the embedding, changed in place, tells prompt tokens from pieces.
    """
    said, width = vocabulary.said, embedding.shape[1]
    embedding[:, 0] = width**0.5
    embedding[said, 0] = 0
    output = np.zeros(embedding.shape)
    output[said[0], 0] = 8
    direction = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    for piece, following in zip(said, [*said[1:], vocabulary.special["<|im_end|>"]], strict=True):
        output[following] += direction[piece] * 8
    return output


def _decoder_layer(
    shape: Shape, random: np.random.Generator, *, silent: bool
) -> Iterator[tuple[str, Array]]:
    """A `silent` layer adds nothing to what passes through it."""
    kept, loud = shape.kv_heads * shape.width // shape.heads, 0.0 if silent else 1.0

    def matrix(rows: int, columns: int, scale: float = 1.0) -> Array:
        values = random.standard_normal((rows, columns)) * columns**-0.5 * scale
        return values.astype(np.float16)

    yield "attn_norm", np.ones(shape.width, np.float32)
    yield "ffn_norm", np.ones(shape.width, np.float32)
    yield "attn_q", matrix(shape.width, shape.width)
    yield "attn_k", matrix(kept, shape.width)
    yield "attn_v", matrix(kept, shape.width)
    yield "attn_output", matrix(shape.width, shape.width, loud)
    yield "ffn_gate", matrix(shape.inner, shape.width)
    yield "ffn_up", matrix(shape.inner, shape.width)
    yield "ffn_down", matrix(shape.width, shape.inner, loud)


def _write_bert(path: Path, name: str, shape: Shape, seed: int, pooling: Literal[1, 4]) -> Path:
    tokens = _word_pieces()
    fields: dict[str, Value] = {
        "general.architecture": "bert",
        "general.name": name,
        "general.file_type": MOSTLY_F16,
        "bert.context_length": shape.context,
        "bert.embedding_length": shape.width,
        "bert.block_count": shape.layers,
        "bert.feed_forward_length": shape.inner,
        "bert.attention.head_count": shape.heads,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": pooling,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL] * 5 + [NORMAL] * (len(tokens) - 5),
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.mask_token_id": 4,
    }
    write(path, fields, dict(_encoder(shape, len(tokens), seed, ranks=pooling == RANK)))
    return path


def _word_pieces() -> list[str]:
    """Words begin with U+2581, as llama.cpp keeps BERT's vocabulary; what follows does not."""
    letters = [chr(code) for code in range(33, 127)]
    words = sorted({word for word in re.findall(r"[a-z]+", LETTERS.lower()) if len(word) > 1})
    begins = [f"\u2581{piece}" for piece in (*letters, *words)]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *begins, *letters]


def _encoder(shape: Shape, tokens: int, seed: int, *, ranks: bool) -> Iterator[tuple[str, Array]]:
    random, width = np.random.default_rng(seed), shape.width

    def linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, Array]]:
        weights = random.standard_normal((rows, columns)) * columns**-0.5
        yield f"{name}.weight", weights.astype(np.float16)
        yield f"{name}.bias", np.zeros(rows, np.float32)

    def norm(name: str) -> Iterator[tuple[str, Array]]:
        yield f"{name}.weight", np.ones(width, np.float32)
        yield f"{name}.bias", np.zeros(width, np.float32)

    yield "token_embd.weight", random.standard_normal((tokens, width)).astype(np.float16)
    yield "token_types.weight", np.zeros((2, width), np.float32)
    yield "position_embd.weight", np.zeros((shape.context, width), np.float32)
    yield from norm("token_embd_norm")
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield from linear(block + name, width, width)
        yield from norm(block + "attn_output_norm")
        yield from linear(block + "ffn_up", shape.inner, width)
        yield from linear(block + "ffn_down", width, shape.inner)
        yield from norm(block + "layer_output_norm")
    if ranks:
        yield from linear("cls", width, width)
        yield from linear("cls.output", 1, width)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--say", help="what it answers; without it: gibberish")
    parser.add_argument("--kind", choices=("chat", "embedder", "reranker"), default="chat")
    given = parser.parse_args()
    if given.kind == "chat":
        write_chat(given.out, say=given.say)
    else:
        (write_embedder if given.kind == "embedder" else write_reranker)(given.out)
    print(f"{given.out} ({given.out.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
