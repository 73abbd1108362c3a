"""Rerankers for tests: tiny real cross-encoders, and a /v1/rerank server on loopback."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import onnx
import orjson
from onnx import TensorProto, helper, numpy_helper

import embedders
from ai_stack.embedders.weights import minilm
from ai_stack.rerankers import Reranker, open_reranker

LAST_SPECIAL = 998  # of MiniLM's vocabulary
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def sharing(outputs: int = 1) -> bytes:
    """A cross-encoder whose logit is how many tokens of the query the passage has, too."""
    node = helper.make_node
    nodes = [
        node("Cast", ["token_type_ids"], ["second"], to=TensorProto.FLOAT),
        node("Sub", ["one", "second"], ["first"]),
        node("Unsqueeze", ["input_ids", "axis_2"], ["down"]),
        node("Unsqueeze", ["input_ids", "axis_1"], ["across"]),
        node("Equal", ["down", "across"], ["same"]),
        node("Cast", ["same"], ["equal"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["second", "axis_1"], ["of_passage"]),
        node("Mul", ["equal", "of_passage"], ["there"]),
        node("ReduceMax", ["there", "axis_2"], ["found"], keepdims=0),
        node("Greater", ["input_ids", "special"], ["is_word"]),
        node("Cast", ["is_word"], ["word"], to=TensorProto.FLOAT),
        node("Mul", ["found", "first"], ["found_first"]),
        node("Mul", ["found_first", "word"], ["shared"]),
        node("ReduceSum", ["shared", "axis_1"], ["score"], keepdims=1),
        node("Tile", ["score", "outputs"], ["logits"]),
    ]
    numbers = {
        "one": np.float32(1),
        "special": np.int64(LAST_SPECIAL),
        "axis_1": np.array([1], np.int64),
        "axis_2": np.array([2], np.int64),
        "outputs": np.array([1, outputs], np.int64),
    }
    given = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "l"]) for n in INPUTS]
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", outputs])
    known = [numpy_helper.from_array(np.asarray(v), n) for n, v in numbers.items()]
    graph = helper.make_graph(nodes, "sharing", given, [made], known)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model.SerializeToString()


def heavy() -> bytes:
    """A cross-encoder that takes as long as one of MiniLM's size: MiniLM with a sum behind it."""
    model = onnx.load(str(minilm(embedders.CACHE).onnx))
    output = model.graph.output.pop()
    rank = len(output.type.tensor_type.shape.dim)
    axes = numpy_helper.from_array(np.arange(1, rank, dtype=np.int64), "all_axes")
    model.graph.initializer.append(axes)
    names = [output.name, "all_axes"]
    model.graph.node.append(helper.make_node("ReduceSum", names, ["logits"], keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b"]))
    return model.SerializeToString()


def describe(folder: Path, content: bytes | None = None, **fields: object) -> dict[str, str]:
    """A model and its description in `folder`: the variables by which a child knows it, `tiny`."""
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(sharing() if content is None else content)
    shutil.copyfile(minilm(embedders.CACHE).tokenizer, folder / "tokenizer.json")
    file = folder / "description.json"
    file.write_bytes(orjson.dumps({"name": "tiny", "folder": str(folder), **fields}))
    return {"AI_STACK_RERANK_DESCRIPTION": str(file)}


@asynccontextmanager
async def opened(
    rerank_url: str, embedder_url: str = "memory:", **fields: object
) -> AsyncIterator[Reranker]:
    reranker = open_reranker(embedders.settings(embedder_url, rerank_url=rerank_url, **fields))
    assert reranker is not None
    try:
        yield reranker
    finally:
        await reranker.aclose()


class RerankServer:
    """Answers /v1/rerank with the number of shared words, the best first; `replies` come first."""

    def __init__(self, *replies: bytes) -> None:
        self.replies = list(replies)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/rerank"
            server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            request = json.loads(await reader.readexactly(length))
            writer.write(self.replies.pop(0) if self.replies else answer(request))
            await writer.drain()
        finally:
            writer.close()


def answer(request: dict[str, object]) -> bytes:
    scores = shared(request["query"], request["documents"])
    results = [{"index": i, "relevance_score": s} for i, s in enumerate(scores)]
    results.sort(key=lambda one: -one["relevance_score"])
    return embedders.reply(200, {"results": results[: request["top_n"]]})


def shared(query: str, passages: Sequence[str]) -> list[float]:
    words = [*query.lower().split()]
    return [float(sum(word in passage.lower().split() for word in words)) for passage in passages]
