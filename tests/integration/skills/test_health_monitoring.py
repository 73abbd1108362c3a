"""The machine and the stack checked: every kind of fault is planted and found, and told apart."""

import asyncio
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from ai_stack.settings import Settings
from ai_stack.skill import SkillFailed, SkillResult
from gateways import gateway
from skills import run

NAME = "health-monitoring"
LENIENT: Mapping[str, Any] = {"min_free_percent": 0, "max_memory_percent": 100, "disks": ["/"]}


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


async def check(folder: Path, **more: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """The checks by what and of what they are."""
    found = await run(NAME, folder, **{"action": "check", "gateway": "", **LENIENT, **more})
    return {(one["check"], one["subject"]): one for one in found.output["checks"]}


async def test_a_well_machine_has_no_fault(tmp_path: Path):
    found = await run(NAME, tmp_path, action="check", gateway="", **LENIENT)
    assert found.output["faults"] == 0
    kinds = {one["check"] for one in found.output["checks"]}
    assert {"disk", "memory", "load"} <= kinds


async def test_every_mounted_disk_is_looked_at(tmp_path: Path):
    found = await check(tmp_path, disks=[])
    assert ("disk", "/") in found
    assert found["disk", "/"]["value"] > 0


async def test_a_full_disk_is_found(tmp_path: Path):
    found = await check(tmp_path, disks=[str(tmp_path)], min_free_percent=100)
    disk = found["disk", str(tmp_path)]
    assert disk["status"] == "fault"
    assert disk["value"] < 100
    assert (await check(tmp_path, disks=["/no/such"]))["disk", "/no/such"]["status"] == "fault"


async def test_a_disk_that_gets_full_is_a_warning(tmp_path: Path):
    free = (await check(tmp_path))["disk", "/"]["value"]
    found = await check(tmp_path, min_free_percent=free * 0.75)
    assert found["disk", "/"]["status"] == "warning"


async def test_memory_that_is_used_up_is_found(tmp_path: Path):
    found = await check(tmp_path, max_memory_percent=0.01)
    assert found["memory", "memory"]["status"] == "fault"


async def test_a_shut_port_is_found(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        assert (await check(tmp_path, ports=[place]))["port", place]["status"] == "ok"
    assert (await check(tmp_path, ports=[place]))["port", place]["status"] == "fault"


async def test_a_service_that_ended_is_found(tmp_path: Path):
    program = tmp_path / "planted-service"
    program.symlink_to(sys.executable)
    command = [str(program), "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as running:
        found = await check(tmp_path, services=["planted-service", "ghost.service"])
        assert found["service", "planted-service"]["status"] == "ok"
        assert found["service", "ghost.service"]["status"] == "fault"
        running.kill()
        running.wait()
        found = await check(tmp_path, services=["planted-service"])
        assert found["service", "planted-service"]["status"] == "fault"


@asynccontextmanager
async def tls(folder: Path, name: str, begins: float, ends: float) -> AsyncIterator[str]:
    """A server on loopback whose certificate is of `name`, and valid between two days from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=ends))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"localhost:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("name", "begins", "ends", "status", "told"),
    [
        ("localhost", -9, 90, "ok", "lasts"),
        ("localhost", -9, 5, "fault", "lasts"),
        ("localhost", -90, -2, "fault", "ended"),
        ("localhost", 3, 90, "fault", "valid from"),
        ("elsewhere.example", -9, 90, "ok", "lasts"),
    ],
)
async def test_certificates(
    tmp_path: Path, name: str, begins: float, ends: float, status: str, told: str
):
    async with tls(tmp_path, name, begins, ends) as place:
        found = await check(tmp_path, certificates=[place])
    assert found["certificate", place]["status"] == status
    assert told in found["certificate", place]["told"]
    assert ("certificate_name", place) in found or name == "localhost"
    assert ("certificate_name", place) not in found or name != "localhost"


async def test_a_port_without_tls_presents_no_certificate(tmp_path: Path):
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    async with server:
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = await check(tmp_path, certificates=[place])
    assert found["certificate", place]["status"] == "fault"


async def test_a_well_stack_is_told(memory_settings: Settings, tmp_path: Path):
    async with gateway(memory_settings) as client:
        found = await check(tmp_path, gateway=str(client.base_url))
    kinds = {kind: one["status"] for (kind, _), one in found.items()}
    assert kinds["gateway"] == "ok"
    assert "stack" not in kinds


async def test_an_ill_part_of_the_stack_is_found_by_name(memory_settings: Settings, tmp_path: Path):
    """A real gateway whose Redis is not there."""
    nowhere = SecretStr(f"redis://127.0.0.1:{free_port()}")
    ill = memory_settings.model_copy(update={"redis_url": nowhere})
    async with gateway(ill) as client:
        url = str(client.base_url)
        found = await check(tmp_path, gateway=url)
        watched = await watch(tmp_path, url)
    assert found["gateway", url]["status"] == "warning"
    assert found["stack", "redis"]["status"] == "fault"
    assert {change["name"] for change in watched.output["changes"]} == {"gateway", "redis"}


async def watch(folder: Path, url: str) -> SkillResult:
    return await run(NAME, folder, action="watch", seconds=1, every_s=0.5, gateway=url)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[" * 100_000, b"x" * 3_000_000])
async def test_what_is_no_gateway_is_told(tmp_path: Path, body: bytes):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = await check(tmp_path, gateway=url)
    assert found["gateway", url]["status"] == "fault"
    assert "not a gateway" in found["gateway", url]["told"]


async def test_a_stopped_gateway_is_found(tmp_path: Path):
    url = f"http://127.0.0.1:{free_port()}"
    assert (await check(tmp_path, gateway=url))["gateway", url]["status"] == "fault"
    assert (await check(tmp_path, gateway="no url"))["gateway", "no url"]["status"] == "fault"


async def test_a_watch_tells_its_progress_and_sees_a_stop(tmp_path: Path):
    """The gateway goes away in the middle of a watch."""
    told: list[tuple[int, int]] = []
    healthy = b'{"status": "healthy", "services": {"redis": {"status": "healthy"}}}'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(healthy) + healthy)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)

    async def calls(ability: str, parameters: Mapping[str, Any]) -> None:
        assert ability == "progress"
        told.append((parameters["done"], parameters["total"]))
        if parameters["done"] == 3:
            server.close()

    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    found = await run(
        NAME, tmp_path, calls, action="watch", seconds=1, every_s=0.2, gateway=url
    )  # fmt: skip
    assert told == [(n, 5) for n in range(1, 6)]
    (change,) = found.output["changes"]
    assert (change["name"], change["from"], change["to"]) == ("gateway", "healthy", "unreachable")
    assert found.output["measures"]["memory_percent"]["max"] > 0
    again = await run(NAME, tmp_path, action="history", files=[str(tmp_path / "out/samples.jsonl")])
    assert again.output["available_percent"] == 60
    (outage,) = again.output["outages"]
    assert (outage["state"], outage["is_over"]) == ("unreachable", False)


def recorded(path: Path, values: list[float], name: str = "disk_free_bytes:/") -> Path:
    begun = datetime(2026, 11, 29, tzinfo=UTC)
    path.write_text("".join(
        json.dumps({"at": (begun + timedelta(minutes=n)).isoformat(), "measures": {name: value},
                    "states": {}}) + "\n"
        for n, value in enumerate(values)
    ))  # fmt: skip
    return path


async def test_a_disk_that_fills_is_forecast_and_one_that_does_not_is_not(tmp_path: Path):
    filling = recorded(tmp_path / "a", [1e9 - n * 1e6 + (n % 3) * 1e4 for n in range(60)])
    found = await run(NAME, tmp_path, action="history", files=[str(filling)])
    (forecast,) = found.output["forecasts"]
    assert forecast["hours"] == pytest.approx((1e9 - 59e6) / 60e6, rel=0.01)
    noisy = recorded(tmp_path / "b", [1e9 - (n * 7919 % 60) * 1e6 for n in range(60)])
    found = await run(NAME, tmp_path, action="history", files=[str(noisy)])
    assert found.output["forecasts"] == []


async def test_without_files_history_collects(tmp_path: Path):
    found = await run(NAME, tmp_path, action="history", seconds=1, gateway="")
    assert found.output["samples"] == 20
    assert "1 seconds only" in found.notes[0]
    assert (tmp_path / "out/samples.jsonl").exists()


async def test_strange_lines_are_counted_and_none_is_a_failure(tmp_path: Path):
    path = recorded(tmp_path / "a", [1.0, 2.0])
    path.write_text(path.read_text() + '{"at": 1}\n[]\n{{{\n{"at": "x"}\n' + "[" * 200_000 + "\n")
    found = await run(NAME, tmp_path, action="history", files=[str(path)])
    assert found.output["samples"] == 2
    assert "left out" in found.notes[0]
    path.write_text("nothing\n")
    with pytest.raises(SkillFailed, match="no samples"):
        await run(NAME, tmp_path, action="history", files=[str(path)])


@pytest.mark.parametrize("place", ["localhost", "localhost:http", ":80", "localhost:70000"])
async def test_a_place_that_is_none_is_refused(tmp_path: Path, place: str):
    with pytest.raises(SkillFailed, match="host:port"):
        await check(tmp_path, ports=[place])
