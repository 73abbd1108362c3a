"""Inferences by their records, counted a batch at a time."""

from collections.abc import Sequence

from ai_stack.models.inference import InferenceRecord, Usage
from ai_stack.telemetry.metrics import Metrics


def observe(metrics: Metrics, records: Sequence[InferenceRecord]) -> None:
    """Count inferences that have ended."""
    for record in records:
        _count(metrics, record)


def _count(metrics: Metrics, record: InferenceRecord) -> None:
    counted, model = metrics.counted, record.model
    counted.inferences.add(record.operation, model, record.outcome, _cache(record))
    if record.detail is not None:
        _mended(metrics, record)
    if record.cached:
        return
    engine = record.engine or "none"
    counted.inference_seconds.observe(record.total_ms / 1000, record.operation, model, engine)
    if record.first_token_ms is not None:
        counted.first_token.observe(record.first_token_ms / 1000, model, engine)
    if record.usage is not None:
        _tokens(metrics, model, record.usage)
    if record.cost:
        counted.cost.add(model, by=record.cost)


def _cache(record: InferenceRecord) -> str:
    """Whether it was kept, or drawn together with another; a `miss` is an engine's work."""
    if not record.cached:
        return "miss"
    return "shared" if record.engine is None else "hit"


def _tokens(metrics: Metrics, model: str, usage: Usage) -> None:
    tokens = metrics.counted.tokens
    tokens.add(model, "prompt", by=usage.prompt)
    tokens.add(model, "completion", by=usage.completion)
    tokens.add(model, "cached", by=usage.cached)


def _mended(metrics: Metrics, record: InferenceRecord) -> None:
    told = (record.detail or {}).get("tool_calls")
    if isinstance(told, dict):
        for outcome in ("repaired", "failed"):
            if count := told.get(outcome):
                metrics.counted.tool_calls.add(record.model, outcome, by=count)
