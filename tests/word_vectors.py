"""A second real embedding model: MiniLM's word vectors alone, turned to fewer numbers, in ONNX.

It knows words and no order, so its rankings are its own, and it finds what shares or nearly
shares words with a question.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from ai_stack.embedders.weights import PACKAGE

NAME, WIDTH, MAX_TOKENS = "word-vectors", 128, 512
WORDS = "embeddings.word_embeddings.weight"


def make(folder: Path) -> Path:
    """The model in a folder; the file that describes it."""
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    (folder / "model.onnx").write_bytes(_graph(load_file(source / "model.safetensors")[WORDS]))
    described = {"name": NAME, "dimensions": WIDTH, "max_tokens": MAX_TOKENS}
    file = folder / "description.json"
    file.write_text(json.dumps({**described, "query_prefix": "q: ", "folder": str(folder)}))
    return file


def _graph(words: np.ndarray) -> bytes:
    """Ids in, one vector a token out."""
    axes = np.linalg.svd(words[::30] - words.mean(axis=0), full_matrices=False)[2][:WIDTH]
    turned = ((words - words.mean(axis=0)) @ axes.T).astype(np.float32)
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "l"])
    out = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "l", WIDTH])
    node = helper.make_node("Gather", ["words", "input_ids"], ["last_hidden_state"])
    known = [numpy_helper.from_array(turned, "words")]
    graph = helper.make_graph([node], "words", [ids], [out], known)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
