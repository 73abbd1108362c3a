"""What is counted, logged and traced: its forms and bounds, and that every name is documented."""

import io
import json
import logging
import re
from datetime import datetime
from pathlib import Path

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ai_stack.models.identifiers import uuid7
from ai_stack.models.inference import InferenceRecord, Usage
from ai_stack.models.traces import Place
from ai_stack.telemetry import logs, traces
from ai_stack.telemetry.exposition import series_of, text_of
from ai_stack.telemetry.instruments import OTHER, Counter, Gauge, Histogram, Instrument
from ai_stack.telemetry.masking import MASK, masked
from ai_stack.telemetry.metrics import Metrics
from ai_stack.telemetry.observed import observe
from ai_stack.telemetry.requests import LEFT, REQUEST, Requests
from ai_stack.telemetry.slow import KEPT, SlowLog

ROOT = Path(__file__).parents[2]
DEPLOYED = sorted(
    [*(ROOT / "deploy/grafana").rglob("*.json"), *(ROOT / "deploy/prometheus").glob("*.yml")]
)
NAME = re.compile(r"aidb_(?:[a-z]+_)*(?:seconds|bytes|total|[a-z]+)")
SERIES = re.compile(r"\baidb_[a-z_]+")


def instruments(metrics: Metrics) -> list[Instrument]:
    return [*metrics.own(), *metrics.shared()]


def read(text: str) -> dict[str, float]:
    """Every sample by its name and labels, as the client library reads them."""
    return {
        f"{sample.name}{dict(sorted(sample.labels.items()))}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def record(**given: object) -> InferenceRecord:
    about = {"engine": "http://e:1", "usage": Usage(10, 5, 3), "total_ms": 20.0, **given}
    return InferenceRecord("1", 1.0, uuid7(), "somebody", "chat", "m", **about)


def requests(metrics: Metrics, slow_s: float = 1.0, **given: object) -> Requests:
    return Requests(metrics, SlowLog(slow_s, metrics.counted.slow), fixed={"/hot"}, **given)


def scope(path: str, method: str = "GET", route: str | None = None) -> dict[str, object]:
    found = {"path": path, "method": method, "state": {"request_id": "r1"}, "headers": []}
    return found if route is None else {**found, "route": Route(route)}


class Route:
    def __init__(self, path: str) -> None:
        self.path = path


def test_what_is_exposed_is_what_was_counted() -> None:
    counter, gauge = Counter("c_total", "Counts.", "kind"), Gauge("g", "Level.")
    spread = Histogram("h_seconds", "Times.", "route", bounds=(0.1, 1))
    counter.add("a")
    counter.add("a", by=2)
    gauge.set(2.5)
    for took in (0.05, 0.1, 0.5, 7):
        spread.observe(took, 'quoted "\\\n')
    found = read(text_of([counter, gauge, spread], "gateway"))
    route = {"process": "gateway", "route": 'quoted "\\\n'}
    assert found["c_total{'kind': 'a', 'process': 'gateway'}"] == 3
    assert found["g{'process': 'gateway'}"] == 2.5
    reached = [found[f"h_seconds_bucket{ {'le': le, **route} }"] for le in ("0.1", "1", "+Inf")]
    assert reached == [2, 3, 4]
    assert found[f"h_seconds_sum{route}"] == pytest.approx(7.65)


def test_series_of_other_processes_stand_beside_ones_own() -> None:
    here, there = Counter("c_total", "Counts.", "kind"), Counter("c_total", "Counts.", "kind")
    here.add("a")
    there.add("a", by=5)
    others = {**series_of([there], "worker"), 'unknown_total{process="worker"}': 1.0}
    found = read(text_of([here], "gateway", (), others))
    assert found == {
        "c_total{'kind': 'a', 'process': 'gateway'}": 1,
        "c_total{'kind': 'a', 'process': 'worker'}": 5,
    }


def test_labels_have_a_bounded_number_of_values() -> None:
    """Whatever clients call, the exposition does not grow with it; nothing is left uncounted."""
    metrics = Metrics()
    for n in range(5000):
        metrics.counted.inferences.add("chat", f"model-{n}", "ok", "miss")
        metrics.counted.mcp_calls.observe(0.1, f"tool-{n}", "ok")
    cells = metrics.counted.inferences.cells
    assert len(cells) == metrics.counted.inferences.most + 1
    assert sum(cells.values()) == 5000
    assert cells[(OTHER,) * 4] == 4000
    assert len(metrics.counted.mcp_calls.cells) == metrics.counted.mcp_calls.most + 1


def test_a_wrong_number_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="c_total"):
        Counter("c_total", "Counts.", "kind").add()


def test_no_label_names_a_person_a_key_or_a_project() -> None:
    labels = {label for one in instruments(Metrics()) for label in one.labels}
    assert labels.isdisjoint({"user", "user_id", "principal", "key", "key_id", "project", "owner"})
    assert labels <= {
        *("route", "method", "status", "verdict", "limit", "tool", "outcome", "mode", "result"),
        *("kind", "then", "skill", "operation", "model", "cache", "engine", "version", "python"),
        *("part", "state", "queue", "place", "store"),
    }


def test_names_say_what_they_measure() -> None:
    names = [one.name for one in instruments(Metrics())]
    assert len(names) == len(set(names))
    for one in instruments(Metrics()):
        assert NAME.fullmatch(one.name), one.name
        assert one.name.endswith("_total") == (one.kind == "counter"), one.name
        assert one.kind != "histogram" or one.name.endswith("_seconds"), one.name
        assert one.about.endswith(".")


def test_requests_are_measured_by_their_route() -> None:
    metrics = Metrics()
    meter = requests(metrics)
    meter.ended(scope("/documents/7", route="/documents/{id}"), 200, 0.01)
    meter.ended(scope("/documents/8", route="/documents/{id}"), 200, 0.01)
    meter.ended(scope("/documents/8", route="/documents/{id}"), 404, 0.01)
    meter.ended(scope("/hot", "POST"), 200, 0.01)
    meter.ended(scope("/mcp/skills", "POST"), LEFT, 0.01)
    for n in range(50):
        meter.ended(scope(f"/nothing/{n}", f"METHOD{n}"), 404, 0.01)
    counts = {labels: sum(c.counts) for labels, c in metrics.counted.requests.cells.items()}
    assert counts == {
        ("/documents/{id}", "GET", "2xx"): 2,
        ("/documents/{id}", "GET", "4xx"): 1,
        ("/hot", "POST", "2xx"): 1,
        ("/mcp", "POST", "left"): 1,
        (OTHER, OTHER, "4xx"): 50,
    }


def test_slow_operations_are_kept_by_their_worst() -> None:
    metrics = Metrics()
    meter = requests(metrics, slow_s=0.5)
    meter.ended(scope("/hot"), 200, 0.4)
    for took_s in (0.6, 2.0, 0.7):
        meter.ended(scope("/hot"), 200, took_s)
    (slow,) = meter._slow.worst(10)
    assert (slow.kind, slow.label, slow.count, slow.worst_s) == ("request", "GET /hot", 3, 2.0)
    assert slow.request_id == "r1"
    assert metrics.counted.slow.cells == {("request",): 3}


def test_the_slow_log_is_bounded_and_keeps_the_slowest() -> None:
    slow = SlowLog(0.0, Counter("s_total", "Slow.", "kind"))
    for n in range(10 * KEPT):
        slow.note("statement", f"SELECT {n}", n / 1000, None)
    assert len(slow.kept) == KEPT
    assert slow.worst(1)[0].label == f"SELECT {10 * KEPT - 1}"
    slow.note("statement", "SELECT again", 0.0, None)
    assert ("statement", "SELECT again") not in slow.kept


def test_inferences_are_counted_by_what_came_of_them() -> None:
    metrics = Metrics()
    observe(
        metrics.counted,
        [
            record(first_token_ms=4.0, cost=0.5),
            record(),
            record(cached=True),
            record(cached=True, engine=None, usage=None),
            record(outcome="failed", engine=None, usage=None),
            record(detail={"tool_calls": {"repaired": 2, "failed": 1}}),
        ],
    )
    counted = metrics.counted
    assert counted.inferences.cells == {
        ("chat", "m", "ok", "miss"): 3,
        ("chat", "m", "ok", "hit"): 1,
        ("chat", "m", "ok", "shared"): 1,
        ("chat", "m", "failed", "miss"): 1,
    }
    assert counted.tokens.cells == {
        ("m", "prompt"): 30,
        ("m", "completion"): 15,
        ("m", "cached"): 9,
    }
    assert counted.cost.cells == {("m",): 0.5}
    assert sum(counted.first_token.at("m", "http://e:1").counts) == 1
    assert sum(counted.inference_seconds.at("chat", "m", "http://e:1").counts) == 3
    assert counted.tool_calls.cells == {("m", "repaired"): 2, ("m", "failed"): 1}


SECRETS = (
    ("the key aidb_1a2b3c4d_x9Y8z7W6v5U4t3 is mine", "x9Y8z7W6v5U4t3"),
    ("Authorization: Bearer sk-abc.DEF_123-456", "sk-abc"),
    ("basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
    ("cannot reach postgresql://stack:p@ss:w/ord@db.local:5432/aidb", "p@ss:w/ord"),
    ("redis://:hunter22@cache:6379/0 is down", "hunter22"),
    ("password=hunter22&x=1", "hunter22"),
    ('{"api_key": "hunter22"}', "hunter22"),
    ("client_secret: hunter22", "hunter22"),
    ("Set-Cookie: aidb_session=hunter22hunter", "hunter22"),
    ("refresh_token='hunter 22'", "hunter 22"),
)


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_secrets_are_masked(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in masked(text)
    assert MASK in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "12 tokens were embedded",
        "see https://example.org/a:b for more",
        "GET /documents 200 1.2 ms",
        "max_tokens=12 of token count: unknown",
        "aidb_up 1",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


@pytest.fixture
def log() -> io.StringIO:
    """A stream that the root logger writes to, put back afterwards."""
    root = logging.getLogger()
    before, level, stream = root.handlers, root.level, io.StringIO()
    yield stream
    root.handlers, root.level = before, level


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_planted_secret_reaches_the_log(log: io.StringIO, form: str) -> None:
    logs.begin("info", form, log)
    logger = logging.getLogger("ai_stack.test")
    for text, secret in SECRETS:
        logger.warning("it said: %s", text)
        try:
            raise RuntimeError(text)
        except RuntimeError:
            logger.exception("it failed", extra={"detail": {"given": [text]}})
        assert secret not in log.getvalue()
    assert MASK in log.getvalue().encode().decode()


def test_json_lines_hold_the_request_and_whatever_a_record_brings(log: io.StringIO) -> None:
    logs.begin("info", "json", log)
    token = REQUEST.set({"state": {"request_id": "r-17"}})
    try:
        logging.getLogger("ai_stack.x").info("two\nlines \ud800", extra={"took_s": 1.5, "n": 2**80})
    finally:
        REQUEST.reset(token)
    (line,) = log.getvalue().splitlines()
    found = orjson.loads(line)
    assert found["message"] == "two\nlines ?"
    assert (found["level"], found["logger"], found["request_id"]) == ("info", "ai_stack.x", "r-17")
    assert (found["took_s"], found["n"]) == (1.5, str(2**80))
    assert datetime.fromisoformat(found["time"]).utcoffset() is not None
    assert [*found][:2] == ["time", "level"]


def test_text_lines_name_the_request_once(log: io.StringIO) -> None:
    logs.begin("info", "text", log)
    token = REQUEST.set({"state": {"request_id": "r-17"}})
    try:
        logging.getLogger("ai_stack.x").info("hello")
        logging.getLogger("ai_stack.x").info("r-17: hello")
    finally:
        REQUEST.reset(token)
    logging.getLogger("ai_stack.x").info("bye")
    first, second, third = log.getvalue().splitlines()
    assert first.endswith("INFO ai_stack.x: [r-17] hello")
    assert second.endswith("INFO ai_stack.x: r-17: hello")
    assert third.endswith("INFO ai_stack.x: bye")


def test_the_access_log_has_no_query(log: io.StringIO) -> None:
    logs.begin("info", "text", log)
    given = {**scope("/documents"), "query_string": b"search=secret"}
    requests(Metrics()).ended(given, 200, 0.01)
    assert log.getvalue() == ""
    requests(Metrics(), logged=True).ended(given, 200, 0.01)
    assert log.getvalue().endswith("INFO ai_stack.access: GET /documents 200 10.0 ms\n")


CLIENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_trace_of_the_client_is_continued() -> None:
    place = traces.began([(b"traceparent", CLIENT.encode())], 0.0)
    assert (place.trace_id, place.parent_id) == (CLIENT[3:35], CLIENT[36:52])
    assert place.sampled
    inner = traces.below(place)
    assert (inner.trace_id, inner.parent_id) == (place.trace_id, place.span_id)
    assert inner.header.startswith(f"00-{CLIENT[3:35]}-{inner.span_id}-01")
    assert not traces.began([(b"traceparent", CLIENT[:-1].encode() + b"0")], 1.0).sampled


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "ff" + CLIENT[2:],
        CLIENT.upper(),
        CLIENT + "-more",
        "00-" + "0" * 32 + CLIENT[35:],
        CLIENT[:36] + "0" * 16 + "-01",
        CLIENT[:-1],
        "\x00" * 55,
    ],
)
def test_a_trace_that_cannot_be_understood_begins_anew(wrong: str) -> None:
    place = traces.began([(b"traceparent", wrong.encode())], 1.0)
    assert place.parent_id is None
    assert place.trace_id != CLIENT[3:35]
    assert traces.began([(b"traceparent", CLIENT.encode())] * 2, 1.0).parent_id is None


def test_a_place_is_told_in_the_form_of_the_standard() -> None:
    place = Place("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", None, True)
    assert place.header == CLIENT


def test_every_metric_is_documented() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    assert [one.name for one in instruments(Metrics()) if f"| `{one.name}` |" not in page] == []


@pytest.mark.parametrize("file", DEPLOYED, ids=lambda file: file.name)
def test_what_is_deployed_names_only_metrics_that_there_are(file: Path) -> None:
    assert unknown(file.read_text()) == []


def test_a_metric_that_is_not_there_is_found() -> None:
    assert unknown("sum(rate(aidb_request_seconds_count[5m])) / aidb_nothing_total") == [
        "aidb_nothing_total"
    ]


def unknown(text: str) -> list[str]:
    known = {
        f"{one.name}{suffix}"
        for one in instruments(Metrics())
        for suffix in (("_bucket", "_sum", "_count") if one.kind == "histogram" else ("",))
    }
    return sorted(set(SERIES.findall(text)) - known)


def test_dashboards_are_whole() -> None:
    """Each has a title, an identity of its own, and panels that ask something."""
    boards = [json.loads(file.read_text()) for file in DEPLOYED if file.suffix == ".json"]
    assert len({board["uid"] for board in boards}) == len(boards) == 5
    for board in boards:
        asked = [panel for panel in board["panels"] if panel["type"] != "row"]
        assert asked
        assert all(panel["targets"] and panel["title"] for panel in asked)
