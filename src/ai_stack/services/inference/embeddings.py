"""OpenAI's embeddings: by the models of the stack's own embedder, or by an engine that has one.

Whoever computes them, the vectors leave as they were asked for: cut to `dimensions` (and brought
back to length 1), as numbers or as base64 of little-endian float32.
"""

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import orjson

from ai_stack.errors import (
    AIStackError,
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    ModelNotFound,
)
from ai_stack.models.embedding import EmbeddingModel
from ai_stack.models.identifiers import uuid7_hex
from ai_stack.models.inference import InferenceRecord, Options, Outcome, ServedModel, Usage
from ai_stack.models.principals import Principal, Scope
from ai_stack.services.embedding import Array, Models, normalised
from ai_stack.services.inference import Inference
from ai_stack.services.inference.charging import BYTES_A_TOKEN, Charge, reserve_tokens
from ai_stack.services.inference.reading import Answer
from ai_stack.services.inference.requests import checked
from ai_stack.services.inference.room import attended
from ai_stack.services.limits.rules import EMBEDDING

OWN = "embedder"
SPECIAL_TOKENS = 2
KNOWN_S = 1.0


@dataclass
class Embeddings:
    """Vectors of texts, by the model that a request names; by the documents' own without one."""

    inference: Inference
    models: Models
    _served: list[ServedModel] = field(default_factory=list)
    _reading: asyncio.Task[None] | None = None

    async def served(self) -> list[ServedModel]:
        """The models of the stack's own embedder; those last seen while it does not answer."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        await asyncio.wait([self._reading], timeout=KNOWN_S)  # a cancelled query would take longer
        return self._served

    async def _read(self) -> None:
        with suppress(AIStackError):
            stored = [one.model for one in await self.models.stored()]
            found = stored or [(await self.models.configured()).model]
            self._served = [_served(m) for m in {model.name: model for model in found}.values()]

    async def open(self, body: Mapping[str, Any], principal: Principal, options: Options) -> Answer:
        """The vectors of `input`, in OpenAI's form; raises as Inference.open does."""
        return Answer(body=orjson.dumps(await self.vectors(body, principal, options)))

    async def vectors(
        self, body: Mapping[str, Any], principal: Principal, options: Options
    ) -> dict[str, Any]:
        """As `open`, as an object."""
        principal.require(Scope.INFER)
        asked = checked("embedding", body)
        own = await self._own(cast("str | None", asked.get("model")))
        if own is None:
            answer = await self._of_engine(asked, principal, options)
        else:
            answer = await self._logged(own, asked["input"], principal, options)
        return _shaped(answer, asked)

    async def _own(self, name: str | None) -> str | None:
        """The stack's model that is meant, None for one that an engine serves."""
        names = [model.id for model in await self.served()]
        if name is None:
            return names[0] if names else None
        return name if name in names else None

    async def _of_engine(
        self, asked: Mapping[str, Any], principal: Principal, options: Options
    ) -> dict[str, Any]:
        plain = {n: v for n, v in asked.items() if n not in ("encoding_format", "dimensions")}
        return await self.inference.complete("embedding", plain, principal, options)

    async def _logged(
        self, name: str, given: object, principal: Principal, options: Options
    ) -> dict[str, Any]:
        """By the stack's own embedder, which is an inference as any other."""
        record = InferenceRecord(
            id=uuid7_hex(),
            at=time.time(),
            project_id=principal.project_id,
            principal=principal.name,
            operation="embedding",
            model=name,
            engine=OWN,
            outcome="cancelled",
        )
        charge = await self._reserved(given, principal)
        began_s = time.perf_counter()
        try:
            async with attended(options, self.inference.timeout_s):
                answer = await self._of_ours(name, given)
            record.usage, record.outcome = Usage(answer["usage"]["prompt_tokens"]), "ok"
            return answer
        except AIStackError as error:
            record.outcome = _outcome(error)
            raise
        finally:
            record.total_ms = round((time.perf_counter() - began_s) * 1000, 3)
            self.inference.journal.add(record)
            if charge is not None:
                charge.settled(record)

    async def _reserved(self, given: object, principal: Principal) -> Charge | None:
        limits = self.inference.limits
        if limits is None or not principal.limits:
            return None
        plan = limits.plan(principal, EMBEDDING)
        if "tokens" not in plan.whats:
            return None
        return await reserve_tokens(limits, plan, len(orjson.dumps(given)) // BYTES_A_TOKEN + 1)

    async def _of_ours(self, name: str, given: object) -> dict[str, Any]:
        embedder = await self.models.named(name)
        if embedder.model.name != name:
            raise ModelNotFound
        texts = await self._texts(name, given)
        rows = await embedder.embed(texts, "passage") if texts else np.empty((0, 0), np.float32)
        tokens = sum(len(s) + SPECIAL_TOKENS for s in await embedder.spans(texts))
        data = [
            {"object": "embedding", "index": index, "embedding": row}
            for index, row in enumerate(rows)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": name, "usage": usage}

    async def _texts(self, name: str, given: object) -> Sequence[str]:
        """`input` as texts; lists of token ids are the model's own."""
        several: list[Any] = given if isinstance(given, list) else [given]
        if isinstance(several[0], int):
            several = [several]
        if isinstance(several[0], list):
            return await (await self.models.named(name)).decoded(several)
        return several


def _outcome(error: AIStackError) -> Outcome:
    if isinstance(error, DeadlineExceeded):
        return "late"
    return "refused" if error.status < 500 else "failed"


def _served(model: EmbeddingModel) -> ServedModel:
    return ServedModel(
        id=model.name,
        context_length=model.max_tokens,
        operations=frozenset({"embedding"}),
        revision=model.weights,
    )


def _shaped(answer: dict[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The answer with its vectors in the asked-for length and encoding."""
    try:
        rows = np.array([one["embedding"] for one in answer["data"]], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise EngineFailed("The engine's embeddings are none.") from error
    rows = _cut(rows, cast("int | None", asked.get("dimensions")))
    is_base64 = asked.get("encoding_format") == "base64"
    for one, row in zip(answer["data"], rows, strict=True):
        one["embedding"] = _base64(row) if is_base64 else row.tolist()
    return answer


def _cut(rows: Array, dimensions: int | None) -> Array:
    if dimensions is None or rows.size == 0 or dimensions == rows.shape[1]:
        return rows
    if dimensions > rows.shape[1]:
        raise InvalidRequest(
            f"dimensions must be at most {rows.shape[1]} for this model.",
            fields={"dimensions": f"at most {rows.shape[1]}"},
        )
    return normalised(rows[:, :dimensions])


def _base64(row: Array) -> str:
    return base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode()
