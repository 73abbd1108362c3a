"""One model in ONNX Runtime: texts to tokens, tokens to vectors. It knows no queue."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from ai_stack.embedders.texts import pieces
from ai_stack.errors import InvalidRequest
from ai_stack.models.embedding import EmbeddingModel


class Session:
    """Calls may run in several threads at once, each on the core of its caller.

    Running texts side by side on single threads has no barrier to wait at, so it keeps its
    pace when other processes take a core, where threads inside one call would stall.
    """

    def __init__(self, model: EmbeddingModel, weights: Path, tokenizer: Path) -> None:
        self.model = model
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._session = open_weights(weights)
        self._inputs = {one.name for one in self._session.get_inputs()}
        self._output = next(
            (o.name for o in self._session.get_outputs() if o.name == "sentence_embedding"),
            self._session.get_outputs()[0].name,
        )

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, special tokens included."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def spans(self, text: str) -> npt.NDArray[np.int32]:
        """(start, end) code point offsets of each token, shape (tokens, 2), without specials."""
        found = [np.empty((0, 2), np.int32)]
        for start, piece in pieces(text):
            encoding = self._tokenizer.encode_batch([piece], add_special_tokens=False)[0]
            flat = chain.from_iterable(encoding.offsets)
            offsets = np.fromiter(flat, np.int32, 2 * len(encoding)).reshape(-1, 2)
            found.append(offsets + np.int32(start))
        return np.concatenate(found)

    def decoded(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """The texts of lists of ids; raises InvalidRequest for an id that is none."""
        most = self._tokenizer.get_vocab_size()
        if any(not 0 <= token < most for one in tokens for token in one):
            raise InvalidRequest(f"The tokens of this model are 0 to {most - 1}.")
        return [str(text) for text in self._tokenizer.decode_batch([list(one) for one in tokens])]

    def run(self, batch: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """One L2-normalised row for each list of token ids; all are of one length."""
        ids = np.array(batch, np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        feed["token_type_ids"] = np.zeros_like(ids)
        given = {name: value for name, value in feed.items() if name in self._inputs}
        (found,) = self._session.run([self._output], given)
        pooled = self._pooled(np.asarray(found, np.float32))
        lengths = np.linalg.norm(pooled, axis=1, keepdims=True)
        rows: npt.NDArray[np.float32] = pooled / np.maximum(lengths, 1e-12)
        return rows

    def _pooled(self, found: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """From one vector a text, or one a token, to one a text."""
        if found.ndim == 2:
            return found
        if self.model.pooling == "mean":
            mean: npt.NDArray[np.float32] = found.mean(axis=1)
            return mean
        return found[:, 0] if self.model.pooling == "cls" else found[:, -1]


def open_weights(weights: Path) -> onnxruntime.InferenceSession:
    """An ONNX file, to be run on the caller's own thread."""
    onnxruntime.disable_telemetry_events()
    return onnxruntime.InferenceSession(
        str(weights),
        _options(),
        providers=["CPUExecutionProvider"],
        # The fused kernel takes seven times as long as the two that it stands for.
        disabled_optimizers=["SkipLayerNormFusion"],
    )


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # An arena keeps the largest of every odd shape it ever saw; malloc gives memory back.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options
