"""A collector of OpenTelemetry's: takes OTLP over HTTP on loopback and keeps what it was sent."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """A span as it was sent, its ids in hexadecimal."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    took_s: float
    failed: bool
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What has come: spans, the service that sent them, the names and counts of histograms."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    histograms: dict[str, int] = field(default_factory=dict)
    bytes: bytearray = field(default_factory=bytearray)

    def take(self, path: str, body: bytes) -> None:
        self.bytes += body
        if path == "/v1/traces":
            self._traces(ExportTraceServiceRequest.FromString(body))
        elif path == "/v1/metrics":
            self._metrics(ExportMetricsServiceRequest.FromString(body))

    def _traces(self, sent: Any) -> None:
        for group in sent.resource_spans:
            self.services.add(_values(group.resource.attributes)["service.name"])
            for scope in group.scope_spans:
                self.spans += [_span(span) for span in scope.spans]

    def _metrics(self, sent: Any) -> None:
        for group in sent.resource_metrics:
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    points = metric.histogram.data_points
                    self.histograms[metric.name] = sum(point.count for point in points)

    def until(self, condition: Callable[["Collector"], bool], within_s: float = 20) -> None:
        deadline = time.monotonic() + within_s
        while not condition(self):
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(0.05)


def _span(sent: Any) -> Span:
    took_s = (sent.end_time_unix_nano - sent.start_time_unix_nano) / 1e9
    ids = sent.trace_id.hex(), sent.span_id.hex(), sent.parent_span_id.hex()
    failed = sent.status.code == 2
    return Span(sent.name, sent.kind, *ids, took_s, failed, _values(sent.attributes))


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def collector() -> Iterator[Collector]:
    """One that listens on a free port."""
    made = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            packed = self.headers.get("content-encoding") == "gzip"
            made.take(self.path, gzip.decompress(body) if packed else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
