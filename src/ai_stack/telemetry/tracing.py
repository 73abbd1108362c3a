"""Traces and metrics by OpenTelemetry's GenAI conventions, made of records off every path.

It knows no service: it is told what has ended. Nothing that was said to a model is in it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, Literal

from ai_stack import __version__
from ai_stack.errors import SettingsError
from ai_stack.models.inference import InferenceRecord
from ai_stack.models.traces import Place
from ai_stack.settings import Settings
from ai_stack.telemetry import traces
from ai_stack.telemetry.requests import LEFT, REQUEST

NAMES = {
    "chat": "chat",
    "completion": "text_completion",
    "embedding": "embeddings",
    "rerank": "rerank",
}
PROVIDER = "ai-stack"
PATIENCE_S = 3
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
MISSING = (
    "AI_STACK_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: "
    "pip install 'nixos-ai-stack[tracing]', or unset it."
)


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of work that has ended, at `end` in Unix time; `fault` is why it failed."""

    kind: Literal["SERVER", "CLIENT"]
    name: str
    place: Place
    end: float
    took_s: float
    attributes: Mapping[str, Any]
    fault: str | None


class Tracing:
    """Makes spans of requests and of inferences, and hands them to an exporter's own thread."""

    def __init__(self, exporter: "Exporter", share: float) -> None:
        self._exporter, self._share = exporter, share

    def place(self, scope: Any) -> Place:
        """Where a request stands; found out once."""
        found: Place | None = scope["state"].get("trace")
        if found is None:
            found = scope["state"]["trace"] = traces.began(scope["headers"], self._share)
        return found

    def begun(self) -> Place:
        """The place of an inference: part of the request that it is for, if there is one."""
        scope = REQUEST.get()
        return traces.began((), self._share) if scope is None else traces.below(self.place(scope))

    def request(self, scope: Mapping[str, Any], route: str, status: int, took_s: float) -> None:
        """A request has ended just now."""
        place = self.place(scope)
        if not place.sampled:
            return
        attributes: dict[str, Any] = {
            "http.request.method": scope["method"],
            "http.route": route,
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
            "ai_stack.request_id": scope["state"].get("request_id", ""),
        }
        if status != LEFT:
            attributes["http.response.status_code"] = status
        fault = str(status) if status >= 500 else "client left" if status == LEFT else None
        name = f"{scope['method']} {route}"
        self._exporter.span(Span("SERVER", name, place, time.time(), took_s, attributes, fault))

    def inferences(self, records: Sequence[InferenceRecord]) -> None:
        """These inferences have ended."""
        for record in records:
            attributes = attributes_of(record)
            fault = None if record.outcome == "ok" else record.outcome
            if record.trace is not None and record.trace.sampled:
                took_s = record.total_ms / 1000
                name = f"{attributes['gen_ai.operation.name']} {record.model}"
                end = record.at + took_s
                span = Span("CLIENT", name, record.trace, end, took_s, attributes, fault)
                self._exporter.span(span)
            if not record.cached:
                self._exporter.measure(record, _labels(attributes, fault))

    async def aclose(self) -> None:
        """Send what is still there; takes some seconds where nobody answers."""
        await asyncio.gather(*(asyncio.to_thread(close) for close in self._exporter.closing()))


def attributes_of(record: InferenceRecord) -> dict[str, Any]:
    """An inference in the words of the GenAI conventions."""
    found: dict[str, Any] = {
        "gen_ai.operation.name": NAMES[record.operation],
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": record.model,
        "gen_ai.response.model": record.model,
        "ai_stack.cached": record.cached,
        "ai_stack.outcome": record.outcome,
    }
    if record.engine is not None:
        found |= _address(record.engine)
    if record.usage is not None:
        found["gen_ai.usage.input_tokens"] = record.usage.prompt
        found["gen_ai.usage.output_tokens"] = record.usage.completion
        found["gen_ai.usage.cache_read.input_tokens"] = record.usage.cached
    if record.first_token_ms is not None:
        found["gen_ai.response.time_to_first_chunk"] = record.first_token_ms / 1000
    return found


def _address(engine: str) -> dict[str, Any]:
    """Where an engine is, by its name."""
    host, _, port = engine.rpartition("//")[2].partition("/")[0].rpartition(":")
    if not host or not port.isdecimal():
        return {"server.address": engine}
    return {"server.address": host, "server.port": int(port)}


def _labels(attributes: Mapping[str, Any], fault: str | None) -> dict[str, Any]:
    kept = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")
    address = {n: attributes[n] for n in ("server.address", "server.port") if n in attributes}
    labels = {**{name: attributes[name] for name in kept}, **address}
    return labels if fault is None else {**labels, "error.type": fault}


class Exporter:
    """OpenTelemetry's SDK with OTLP over HTTP, as far as it is needed; bounded, and never waited
    for: what its queue has no room for is dropped."""

    def __init__(self, endpoint: str) -> None:
        self._ids = Ids()
        self._resource = _resource()
        self._traces, self._tracer = self._tracer_of(endpoint)
        self._metrics, meter = self._meter_of(endpoint)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._usage = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )

    def _tracer_of(self, endpoint: str) -> tuple[Any, Any]:
        sdk, export = _load("sdk.trace"), _load("sdk.trace.export")
        otlp = _load("exporter.otlp.proto.http.trace_exporter")
        provider = sdk.TracerProvider(
            resource=self._resource,
            id_generator=self._ids,
            sampler=_load("sdk.trace.sampling").ALWAYS_ON,
            shutdown_on_exit=False,
        )
        sent = otlp.OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=PATIENCE_S)
        provider.add_span_processor(export.BatchSpanProcessor(sent))
        return provider, provider.get_tracer("ai_stack", __version__)

    def _meter_of(self, endpoint: str) -> tuple[Any, Any]:
        sdk, export = _load("sdk.metrics"), _load("sdk.metrics.export")
        otlp = _load("exporter.otlp.proto.http.metric_exporter")
        sent = otlp.OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics", timeout=PATIENCE_S)
        provider = sdk.MeterProvider(
            metric_readers=[export.PeriodicExportingMetricReader(sent)],
            resource=self._resource,
            shutdown_on_exit=False,
        )
        return provider, provider.get_meter("ai_stack", __version__)

    def span(self, ended: Span) -> None:
        """One span under the ids that it has already."""
        self._ids.next = ended.place
        span = self._tracer.start_span(
            ended.name,
            context=self._above(ended.place),
            kind=getattr(self._api.SpanKind, ended.kind),
            attributes=ended.attributes,
            start_time=int((ended.end - ended.took_s) * 1e9),
        )
        if ended.fault is not None:
            span.set_attribute("error.type", ended.fault)
            span.set_status(self._api.StatusCode.ERROR)
        span.end(int(ended.end * 1e9))

    def measure(self, record: InferenceRecord, labels: Mapping[str, Any]) -> None:
        """One inference in the metrics of the conventions."""
        self._duration.record(record.total_ms / 1000, labels)
        if record.usage is not None:
            counts = {"input": record.usage.prompt, "output": record.usage.completion}
            for kind, count in counts.items():
                self._usage.record(count, {**labels, "gen_ai.token.type": kind})

    def closing(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """What sends the rest of each kind."""
        return self._traces.shutdown, self._metrics.shutdown

    @cached_property
    def _api(self) -> Any:
        return _load("trace")

    def _above(self, place: Place) -> Any:
        """The context of the span above; without one the beginning of a trace."""
        context = _load("context").Context()
        if place.parent_id is None:
            return context
        flags = self._api.TraceFlags(self._api.TraceFlags.SAMPLED)
        ids = int(place.trace_id, 16), int(place.parent_id, 16)
        above = self._api.SpanContext(*ids, True, flags)
        return self._api.set_span_in_context(self._api.NonRecordingSpan(above), context)


class Ids:
    """Gives a span the ids that were given away for it before it was made."""

    next: Place

    def generate_span_id(self) -> int:
        return int(self.next.span_id, 16)

    def generate_trace_id(self) -> int:
        return int(self.next.trace_id, 16)

    def is_trace_id_random(self) -> bool:
        return True


def open_tracing(settings: Settings) -> Tracing | None:
    """What sends traces to the endpoint of the settings, None without one.

    Raises SettingsError where OpenTelemetry is not installed.
    """
    if settings.otlp_endpoint is None:
        return None
    try:
        exporter = Exporter(settings.otlp_endpoint)
    except ImportError as error:
        raise SettingsError(MISSING) from error
    return Tracing(exporter, settings.otlp_sample)


def _resource() -> Any:
    named = {"service.name": "ai-stack", "service.version": __version__}
    return _load("sdk.resources").Resource.create(named)


def _load(name: str) -> Any:
    return import_module(f"opentelemetry.{name}")
