"""Filling in the middle with llama.cpp: a model's own form of it, learnt from the server.

llama.cpp's /infill cuts what is longer than its batch and answers in a form of its own. So the
prompt is put together here, from tokens, and completed like any other.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from ai_stack.engines.wire import Wire, strange
from ai_stack.errors import InvalidRequest
from ai_stack.models.inference import Body

BEFORE, AFTER = "uPREFIXu", "uSUFFIXu"
WITHOUT = {"suffix", "prompt"}


@dataclass(frozen=True, slots=True)
class Infill:
    """The tokens around the two texts of one model; some want the suffix first."""

    head: list[int]
    middle: list[int]
    tail: list[int]
    suffix_first: bool

    @classmethod
    async def learnt(cls, wire: Wire, model: str) -> "Infill":
        """InvalidRequest when the model was not trained for this."""
        asked = {"input_prefix": BEFORE, "input_suffix": AFTER, "n_predict": 0, "model": model}
        told = await wire.ask("/infill", asked)
        prompt = told.get("prompt") if isinstance(told, dict) else None
        if not isinstance(prompt, str) or BEFORE not in prompt or AFTER not in prompt:
            raise strange()
        suffix_first = prompt.index(AFTER) < prompt.index(BEFORE)
        first, second = (AFTER, BEFORE) if suffix_first else (BEFORE, AFTER)
        head, _, rest = prompt.partition(first)
        middle, _, tail = rest.partition(second)
        pieces = [await _tokens(wire, model, text, special=True) for text in (head, middle, tail)]
        return cls(pieces[0], pieces[1], pieces[2], suffix_first)

    async def body(self, wire: Wire, body: Body) -> dict[str, object]:
        """A completion's request with `suffix` as one without, its prompt in tokens."""
        before, after = body.get("prompt", ""), body["suffix"]
        if not isinstance(before, str) or not isinstance(after, str):
            raise InvalidRequest("With a suffix, the prompt is one text, and so is the suffix.")
        model = str(body["model"])
        prefix, suffix = await asyncio.gather(
            _tokens(wire, model, before, special=False), _tokens(wire, model, after, special=False)
        )
        first, second = (suffix, prefix) if self.suffix_first else (prefix, suffix)
        prompt = [*self.head, *first, *self.middle, *second, *self.tail]
        return {**{k: v for k, v in body.items() if k not in WITHOUT}, "prompt": prompt}


async def _tokens(wire: Wire, model: str, text: str, *, special: bool) -> list[int]:
    """Of a text alone; only with `special` are names of special tokens in it taken for them."""
    if not text:
        return []
    asked = {"content": text, "add_special": False, "parse_special": special, "model": model}
    told: Any = await wire.ask("/tokenize", asked)
    if not isinstance(told, dict) or not isinstance(told.get("tokens"), list):
        raise strange()
    tokens: list[int] = told["tokens"]
    return tokens
