"""Models as engines list them under /v1/models, in the forms that are about."""

from collections.abc import Iterator, Mapping
from typing import Any

from ai_stack.engines.wire import strange
from ai_stack.models.inference import GENERATION, Operation, ServedModel

CONTEXT_FIELDS = ("context_length", "max_model_len", "context_window", "max_context_length")


def entries(listed: Any) -> Iterator[Mapping[str, Any]]:
    """The entries that name a model; EngineFailed when it is no list of models."""
    data = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(data, list):
        raise strange()
    for entry in data:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str) and entry["id"]:
            yield entry


def served(entry: Mapping[str, Any]) -> ServedModel:
    """What an entry tells of a model; its operations are guessed from its name."""
    owner = entry.get("owned_by")
    return ServedModel(
        id=entry["id"],
        context_length=_first_number(entry),
        operations=operations(entry["id"]),
        owned_by=owner if isinstance(owner, str) and owner else "unknown",
        created=number(entry.get("created")) or 0,
    )


def operations(name: str) -> frozenset[Operation]:
    """By its name an embedder, a reranker or a generator: most servers do not tell."""
    lowered = name.lower()
    if "rerank" in lowered:
        return frozenset({"rerank"})
    return frozenset({"embedding"}) if "embed" in lowered else GENERATION


def number(value: object) -> int | None:
    """A count that a server told, None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _first_number(entry: Mapping[str, Any]) -> int | None:
    found = (number(entry.get(field)) for field in CONTEXT_FIELDS)
    return next((n for n in found if n is not None), None)
