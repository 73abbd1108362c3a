"""One model in ONNX Runtime: texts to tokens, tokens to vectors. It knows no queue."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from ai_stack.embedders.texts import pieces
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
        self._session = onnxruntime.InferenceSession(
            str(weights), _options(), providers=["CPUExecutionProvider"]
        )
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
            offsets = np.asarray(encoding.offsets, np.int32).reshape(-1, 2)
            found.append(offsets + np.int32(start))
        return np.concatenate(found)

    def run(self, batch: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """One L2-normalised row for each list of token ids."""
        longest = max(map(len, batch))
        ids = np.zeros((len(batch), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        given = {name: value for name, value in feed.items() if name in self._inputs}
        (found,) = self._session.run([self._output], given)
        pooled = self._pooled(np.asarray(found, np.float32), mask)
        lengths = np.linalg.norm(pooled, axis=1, keepdims=True)
        rows: npt.NDArray[np.float32] = pooled / np.maximum(lengths, 1e-12)
        return rows

    def _pooled(
        self, found: npt.NDArray[np.float32], mask: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        if found.ndim == 2:
            return found
        pooled: npt.NDArray[np.float32]
        if self.model.pooling == "mean":
            weight = mask[:, :, None].astype(np.float32)
            pooled = (found * weight).sum(axis=1) / weight.sum(axis=1)
        else:
            last = mask.sum(axis=1) - 1 if self.model.pooling == "last" else 0
            pooled = found[np.arange(len(found)), last]
        return pooled


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # An arena keeps the largest of every odd shape it ever saw; malloc gives memory back.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options
