"""Embedding models: what belongs to a model rather than to the program that runs it."""

from dataclasses import dataclass
from typing import Literal

TextKind = Literal["query", "passage"]


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """One model at one revision.

    `weights` is the sha256 of the weight file (of the model's name where the weights are
    out of reach, behind a URL); `dimensions` is the length of a vector, `max_tokens` the
    longest input in tokens, special tokens included.
    """

    name: str
    weights: str
    dimensions: int
    max_tokens: int
    query_prefix: str = ""
    passage_prefix: str = ""
    pooling: Literal["mean", "cls", "last"] = "mean"

    @property
    def key(self) -> str:
        """The identity of its vectors: name and weights, e.g. `all-MiniLM-L6-v2@53aa51172d14`."""
        return f"{self.name}@{self.weights[:12]}"

    def prefixed(self, text: str, kind: TextKind) -> str:
        return (self.query_prefix if kind == "query" else self.passage_prefix) + text
