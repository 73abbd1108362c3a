"""One cross-encoder in ONNX Runtime: pairs to tokens, tokens to scores. It knows no queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ai_stack.embedders.cross_encoders import CrossEncoder
from ai_stack.embedders.session import open_weights
from ai_stack.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a passage as the model reads them: token ids, and which text each is of."""

    ids: Sequence[int]
    types: Sequence[int]


class PairSession:
    """Calls may run in several threads at once, each on the core of its caller."""

    def __init__(self, model: CrossEncoder, weights: Path, tokenizer: Path) -> None:
        self.model = model
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._specials = self._tokenizer.num_special_tokens_to_add(True)
        self._session = open_weights(weights)
        self._inputs = {one.name for one in self._session.get_inputs()}
        self._output = next(
            (o.name for o in self._session.get_outputs() if o.name == "logits"),
            self._session.get_outputs()[0].name,
        )

    def pairs(self, query: str, passages: Sequence[str]) -> list[Pair]:
        """Each passage behind the query, with the model's own special tokens.

        A pair that is too long loses the end of its passage, never of its query; a query that
        takes more than half of the model's tokens raises InvalidRequest.
        """
        first = self._tokenizer.encode(query, add_special_tokens=False)
        if 2 * len(first) > self.model.max_tokens:
            raise InvalidRequest(
                f"The reranker takes a query of at most {self.model.max_tokens // 2} tokens: "
                f"this one has {len(first)}."
            )
        room = self.model.max_tokens - self._specials - len(first)
        found = []
        for second in self._tokenizer.encode_batch(list(passages), add_special_tokens=False):
            second.truncate(room)
            pair = self._tokenizer.post_process(first, second)
            found.append(Pair(pair.ids, pair.type_ids))
        return found

    def run(self, batch: Sequence[Pair]) -> npt.NDArray[np.float32]:
        """One score a pair, shape (len(batch), 1); all pairs are of one length."""
        ids = np.array([pair.ids for pair in batch], np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        feed["token_type_ids"] = np.array([pair.types for pair in batch], np.int64)
        given = {name: value for name, value in feed.items() if name in self._inputs}
        (found,) = self._session.run([self._output], given)
        scores = np.asarray(found, np.float32).reshape(len(batch), -1)
        if scores.shape[1] != 1 or not np.isfinite(scores).all():
            raise ValueError(f"{self.model.name} does not give one number a pair")
        return scores if self.model.score == "logit" else _sigmoid(scores)


def _sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)
