"""What llama.cpp allocates for a model: its weights, its cache, the buffers of one batch.

The buffers were measured on llama.cpp's log over models of many shapes: of attention they are
about seven activations of the model's width, of the feed-forward part three (two without a gate)
of its own width and four of the model's; the larger of the two is what is reserved. Its mask has
two bytes for each token of a batch and of the context.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ai_stack.skill import JSON

from .gguf import Model

CacheType: TypeAlias = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
ELEMENT_BYTES: Mapping[CacheType, float] = {
    "f32": 4,
    "f16": 2,
    "bf16": 2,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
}
DEFAULT_CONTEXT = 4096
PADDING = 256
FLOAT_BYTES, MASK_BYTES = 4, 2
PROCESS_BYTES = 40 << 20
TRIED = (1 << 17, 1 << 16, 1 << 15, 1 << 14, 1 << 13, 1 << 12, 1 << 11)
TRIED_TYPES: tuple[CacheType, ...] = ("f16", "q8_0", "q4_0")


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes of one llama.cpp server."""

    context: int
    slots: int
    cache_type: CacheType
    weights_bytes: int
    cache_bytes: int
    compute_bytes: int
    process_bytes: int = PROCESS_BYTES

    @property
    def llama_bytes(self) -> int:
        """What llama.cpp itself tells."""
        return self.weights_bytes + self.cache_bytes + self.compute_bytes

    @property
    def total_bytes(self) -> int:
        return self.llama_bytes + self.process_bytes

    def shown(self) -> dict[str, JSON]:
        return {
            "context": self.context,
            "slots": self.slots,
            "cache_type": self.cache_type,
            "weights_bytes": self.weights_bytes,
            "cache_bytes": self.cache_bytes,
            "compute_bytes": self.compute_bytes,
            "process_bytes": self.process_bytes,
            "total_bytes": self.total_bytes,
        }


def estimate(
    model: Model, context: int, slots: int, cache_type: CacheType, ubatch: int
) -> Estimate:
    """The memory for `slots` requests of `context` tokens each; 0: the model's own context."""
    asked = context or model.context or DEFAULT_CONTEXT
    held = -(-asked // PADDING) * PADDING
    return Estimate(
        asked,
        slots,
        cache_type,
        model.weights_bytes,
        _cache_bytes(model, held, slots, cache_type, ubatch),
        _compute_bytes(model, held, slots, min(ubatch, held)),
    )


def choices(model: Model, slots: int, ubatch: int, available: int) -> Iterator[dict[str, JSON]]:
    """For each type of cache the largest context that fits, none where nothing does."""
    tried = [n for n in TRIED if n <= (model.context or TRIED[0])] or [model.context]
    for cache_type in TRIED_TYPES if model.kv_heads else TRIED_TYPES[:1]:
        for context in tried:
            made = estimate(model, context, slots, cache_type, ubatch)
            if made.total_bytes <= available:
                yield {
                    "cache_type": cache_type,
                    "context": context,
                    "total_bytes": made.total_bytes,
                }
                break


def _cache_bytes(model: Model, context: int, slots: int, cache_type: CacheType, ubatch: int) -> int:
    """Keys and values of all layers; a layer with a window keeps that and one batch."""
    row = (model.key_length + model.value_length) * ELEMENT_BYTES[cache_type]
    whole = sum(model.kv_heads) * row * context * slots
    if not model.window or not model.windowed:
        return int(whole)
    kept = min(context, model.window + ubatch) / context
    return int(whole * (1 - model.windowed / model.layers * (1 - kept)))


def _compute_bytes(model: Model, context: int, slots: int, ubatch: int) -> int:
    shared = max(model.kv_heads, default=model.heads) / (model.heads or 1)
    attention = model.width * (6 + shared)
    forward = model.inner * (3 if model.is_gated else 2) + model.width * (
        4 if model.is_gated else 2
    )
    activations = int(max(attention, forward) * ubatch * FLOAT_BYTES)
    logits = model.vocabulary * slots * FLOAT_BYTES
    return activations + context * ubatch * MASK_BYTES + logits
