"""Traces and GenAI metrics, sent to a real OTLP receiver on loopback."""

import subprocess
import sys
import time

import pytest
from pydantic import SecretStr

import collectors
import engines
from ai_stack.errors import SettingsError
from ai_stack.settings import Settings, load_settings
from ai_stack.telemetry import tracing
from gateways import gateway

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SERVER, CLIENT = 2, 3
CHAT = {"model": "memory", "messages": [{"role": "user", "content": "the planted question"}]}


def asked(head: bytes) -> dict[str, str]:
    """The headers of a request that an engine has got."""
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


async def test_a_request_and_its_inference_are_one_trace(memory_settings: Settings) -> None:
    engine = engines.StandIn()
    with collectors.collector() as collector:
        async with engine.serving() as port:
            given = {
                "otlp_endpoint": collector.url,
                "engines": SecretStr(engine.url.format(port)),
            }
            async with gateway(memory_settings.model_copy(update=given)) as client:
                headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
                answer = await client.post("/v1/chat/completions", json=CHAT, headers=headers)
                assert answer.status_code == 200
                stream = {**CHAT, "stream": True}
                await client.post("/v1/chat/completions", json=stream, headers=headers)
                await client.get("/documents/none")
    spans = {span.span_id: span for span in collector.spans}
    ours = [span for span in collector.spans if span.trace_id == TRACE]
    server = [span for span in ours if span.kind == SERVER]
    inner = [span for span in ours if span.kind == CLIENT]
    assert [span.name for span in server] == ["POST /v1/chat/completions"] * 2
    assert {span.parent_id for span in server} == {PARENT}
    assert [span.name for span in inner] == ["chat memory"] * 2
    assert {spans[span.parent_id].name for span in inner} == {"POST /v1/chat/completions"}
    posts = [asked(head) for head, _ in engine.requests if head.startswith(b"POST")]
    told = [one["traceparent"] for one in posts if "traceparent" in one]
    assert told == [f"00-{TRACE}-{span.span_id}-01" for span in inner]
    first, second = (span.attributes for span in inner)
    assert first["gen_ai.operation.name"] == "chat"
    assert first["gen_ai.provider.name"]
    assert first["gen_ai.request.model"] == first["gen_ai.response.model"] == "memory"
    assert first["gen_ai.usage.input_tokens"] > 0
    assert first["gen_ai.usage.output_tokens"] > 0
    assert (first["server.address"], first["server.port"]) == ("127.0.0.1", port)
    assert second["gen_ai.response.time_to_first_chunk"] > 0
    (other,) = [span for span in collector.spans if span.trace_id != TRACE]
    assert (other.name, other.parent_id) == ("GET /documents/{id:path}", "")
    assert other.attributes["http.response.status_code"] == 404
    assert all(0 < span.took_s < 10 for span in collector.spans)
    assert collector.services == {"ai-stack"}
    assert collector.histograms["gen_ai.client.operation.duration"] == 2
    assert collector.histograms["gen_ai.client.token.usage"] == 4
    assert b"planted question" not in collector.bytes


async def test_what_a_client_does_not_sample_is_not_sent(memory_settings: Settings) -> None:
    with collectors.collector() as collector:
        given = {"otlp_endpoint": collector.url, "otlp_sample": 0.0}
        async with gateway(memory_settings.model_copy(update=given)) as client:
            await client.post(
                "/v1/chat/completions",
                json=CHAT,
                headers={"traceparent": f"00-{TRACE}-{PARENT}-00"},
            )
            await client.get("/health/live")
            await client.get("/health/live", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert [span.name for span in collector.spans] == ["GET /health/live"]
    assert collector.histograms["gen_ai.client.operation.duration"] == 1


async def test_failures_are_told_as_such(memory_settings: Settings) -> None:
    engine = engines.StandIn()
    with collectors.collector() as collector:
        async with engine.serving() as port:
            given = {
                "otlp_endpoint": collector.url,
                "engines": SecretStr(engine.url.format(port)),
            }
            async with gateway(memory_settings.model_copy(update=given)) as client:
                assert (await client.get("/v1/models")).status_code == 200
                engine.replies = [[engines.reply(500, {"error": {"message": "no"}})]] * 2
                answer = await client.post("/v1/chat/completions", json=CHAT)
                assert answer.status_code >= 500
    failed = [span for span in collector.spans if span.failed]
    assert sorted(span.kind for span in failed) == [SERVER, CLIENT]
    assert {span.attributes["error.type"] for span in failed} == {
        "failed",
        str(answer.status_code),
    }


async def test_a_collector_that_is_away_keeps_nobody_waiting(memory_settings: Settings) -> None:
    given = {"otlp_endpoint": f"http://127.0.0.1:{engines.free_port()}"}
    began = time.monotonic()
    async with gateway(memory_settings.model_copy(update=given)) as client:
        for _ in range(5):
            answer = await client.post("/v1/chat/completions", json=CHAT)
            assert answer.status_code == 200
            assert answer.elapsed.total_seconds() < 2
    assert time.monotonic() - began < 3 * tracing.PATIENCE_S


def test_without_the_extra_it_says_what_to_install() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
from ai_stack.errors import SettingsError
from ai_stack.settings import load_settings
from ai_stack.telemetry import open_telemetry
try:
    open_telemetry(load_settings({"HOME": "/", "AI_STACK_OTLP_ENDPOINT": "http://127.0.0.1:1"}))
except SettingsError as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == tracing.MISSING


@pytest.mark.parametrize("wrong", ["127.0.0.1:4318", "ftp://x", "grpc://x:4317"])
def test_an_endpoint_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match="AI_STACK_OTLP_ENDPOINT"):
        load_settings({"HOME": "/", "AI_STACK_OTLP_ENDPOINT": wrong})
