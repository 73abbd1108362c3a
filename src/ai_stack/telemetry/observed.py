"""Inferences by their records, counted a batch at a time."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeAlias

from ai_stack.models.inference import InferenceRecord
from ai_stack.telemetry.metrics import Counted

# (operation, model, engine, outcome, whether it was kept or shared)
Kind: TypeAlias = tuple[str, str, str | None, str, bool]


def observe(counted: Counted, records: Sequence[InferenceRecord]) -> None:
    """Count inferences that have ended; those of one kind together, which costs a fifth."""
    groups = defaultdict[Kind, list[InferenceRecord]](list)
    for one in records:
        groups[one.operation, one.model, one.engine, one.outcome, one.cached].append(one)
        if one.detail is not None:
            _mended(counted, one)
    for kind, group in groups.items():
        _count(counted, kind, group)


def _count(counted: Counted, kind: Kind, group: Sequence[InferenceRecord]) -> None:
    operation, model, engine, outcome, cached = kind
    told = ("hit" if engine else "shared") if cached else "miss"
    counted.inferences.add(operation, model, outcome, told, by=len(group))
    if cached:
        return
    took = counted.inference_seconds.at(operation, model, engine or "none")
    for one in group:
        took.observe(one.total_ms * 0.001)
    firsts = [one.first_token_ms for one in group if one.first_token_ms is not None]
    if firsts:
        first = counted.first_token.at(model, engine or "none")
        for first_ms in firsts:
            first.observe(first_ms * 0.001)
    _tokens(counted, model, group)


def _tokens(counted: Counted, model: str, group: Sequence[InferenceRecord]) -> None:
    used = [one.usage for one in group if one.usage is not None]
    if used:
        counted.tokens.add(model, "prompt", by=sum([one.prompt for one in used]))
        counted.tokens.add(model, "completion", by=sum([one.completion for one in used]))
        counted.tokens.add(model, "cached", by=sum([one.cached for one in used]))
    cost = sum([one.cost for one in group])
    if cost:
        counted.cost.add(model, by=cost)


def _mended(counted: Counted, record: InferenceRecord) -> None:
    told = (record.detail or {}).get("tool_calls")
    if isinstance(told, dict):
        for outcome in ("repaired", "failed"):
            if count := told.get(outcome):
                counted.tool_calls.add(record.model, outcome, by=count)
