"""A BERT encoder's safetensors as one int8 ONNX graph; it runs once for each installation.

Weights are int8, one scale an output channel, and use 7 bits: without VNNI the products of two
bytes are added in 16 bits, which 8-bit weights would overflow. Activations are quantised as
they come, on one scale for the whole batch; before the feed-forward products, where they differ
most, each token is first divided by its largest value (cosine to float32: 0.992 without, 0.997
with it, and a text's neighbours in the batch hardly matter). Query, key and value are one
product, so that their input is quantised once. There is no mask: a batch's texts are all of one
length, which makes attention a fifth faster.
"""

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import orjson
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

Floats = npt.NDArray[np.float32]
FUSED = "com.microsoft"
LARGEST = 63
POSITIONS = 256


class Graph:
    """An ONNX graph that grows by operators; values are named by number."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._numbers = count()

    def constant(self, value: npt.NDArray[np.generic]) -> str:
        name = f"c{next(self._numbers)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        return self.split(operator, *inputs, outputs=1, domain=domain, **attributes)[0]

    def split(
        self, operator: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        names = [f"v{next(self._numbers)}" for _ in range(outputs)]
        self.nodes.append(
            helper.make_node(operator, list(inputs), names, domain=domain, **attributes)
        )
        return names

    def linear(self, x: str, weight: Floats, bias: Floats) -> str:
        """x · weightᵀ + bias with int8 weights; `weight` has the shape (outputs, inputs)."""
        scale = (np.abs(weight).max(axis=1) / LARGEST).astype(np.float32)
        rounded = np.rint(weight / scale[:, None]).astype(np.int8)
        inputs = (rounded.T, scale, np.zeros(len(scale), np.int8), bias)
        return self.add("DynamicQuantizeMatMul", x, *map(self.constant, inputs), domain=FUSED)

    def scaled_linear(self, x: str, weight: Floats, bias: Floats) -> str:
        """The same, with each row of x on a scale of its own."""
        largest = self.add("ReduceMax", self.add("Abs", x), self.integers(-1), keepdims=1)
        scaled = self.add("Div", x, largest)
        product = self.linear(scaled, weight, np.zeros_like(bias))
        return self.add("Add", self.add("Mul", product, largest), self.constant(bias))


class Encoder:
    """The layers of BERT over a graph, by the names of its weights."""

    def __init__(self, weights: dict[str, Floats], config: dict[str, int]) -> None:
        self.graph = Graph()
        self._weights = weights
        self._heads, self._layers = config["num_attention_heads"], config["num_hidden_layers"]
        self._epsilon = float(config["layer_norm_eps"])

    def build(self) -> None:
        """From input_ids to sentence_embedding, the mean of the tokens."""
        x = self._embedded()
        for number in range(self._layers):
            x = self._layer(x, f"encoder.layer.{number}.")
        axis = self.graph.integers(1)
        mean = helper.make_node("ReduceMean", [x, axis], ["sentence_embedding"], keepdims=0)
        self.graph.nodes.append(mean)

    def _embedded(self) -> str:
        graph, prefix = self.graph, "embeddings."
        words = self._weights[prefix + "word_embeddings.weight"]
        scale = (np.abs(words).max(axis=1, keepdims=True) / 127).astype(np.float32)
        rounded = np.rint(words / scale).astype(np.int8)
        gathered = graph.add("Gather", graph.constant(rounded), "input_ids")
        scales = graph.add("Gather", graph.constant(scale), "input_ids")
        word = graph.add("Mul", graph.add("Cast", gathered, to=TensorProto.FLOAT), scales)
        summed = graph.add("Add", word, self._positions())
        norm = self._norm(prefix + "LayerNorm")
        return graph.add("LayerNormalization", summed, *norm, axis=-1, epsilon=self._epsilon)

    def _positions(self) -> str:
        graph, prefix = self.graph, "embeddings."
        table = self._weights[prefix + "position_embeddings.weight"][:POSITIONS]
        table = table + self._weights[prefix + "token_type_embeddings.weight"][0]
        length = graph.add("Shape", "input_ids", start=1, end=2)
        zero = graph.integers(0)
        return graph.add("Slice", graph.constant(table), zero, length, zero)

    def _norm(self, name: str) -> tuple[str, str]:
        weights, constant = self._weights, self.graph.constant
        return constant(weights[name + ".weight"]), constant(weights[name + ".bias"])

    def _layer(self, x: str, prefix: str) -> str:
        graph = self.graph
        attended = graph.linear(
            self._attention(x, prefix), *self._dense(prefix + "attention.output.dense")
        )
        x = self._joined(attended, x, prefix + "attention.output.LayerNorm")
        inner = graph.scaled_linear(x, *self._dense(prefix + "intermediate.dense"))
        inner = graph.add("Gelu", inner, domain=FUSED)
        outer = graph.scaled_linear(inner, *self._dense(prefix + "output.dense"))
        return self._joined(outer, x, prefix + "output.LayerNorm")

    def _attention(self, x: str, prefix: str) -> str:
        parts = [self._dense(f"{prefix}attention.self.{n}") for n in ("query", "key", "value")]
        weight, bias = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        product = self.graph.linear(x, weight, bias)
        split = self.graph.split("Split", product, outputs=3, axis=-1, num_outputs=3)
        return self.graph.add("MultiHeadAttention", *split, domain=FUSED, num_heads=self._heads)

    def _dense(self, name: str) -> tuple[Floats, Floats]:
        return self._weights[name + ".weight"], self._weights[name + ".bias"]

    def _joined(self, x: str, skip: str, norm: str) -> str:
        joined = self.graph.add("Add", x, skip)
        return self.graph.add(
            "LayerNormalization", joined, *self._norm(norm), axis=-1, epsilon=self._epsilon
        )


def convert(source: Path, target: Path) -> None:
    """Write the model of the folder `source` (config.json, model.safetensors) to `target`."""
    config = orjson.loads((source / "config.json").read_bytes())
    encoder = Encoder(load_file(source / "model.safetensors"), config)
    encoder.build()
    shape = ["texts", "tokens"]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, shape)]
    output = helper.make_tensor_value_info(
        "sentence_embedding", TensorProto.FLOAT, ["texts", config["hidden_size"]]
    )
    graph = helper.make_graph(
        encoder.graph.nodes, target.stem, inputs, [output], encoder.graph.constants
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(FUSED, 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 9
    onnx.save(model, str(target))
