"""Several processes that are one gateway: on one port, replaced, ended, counted together."""

import asyncio
import signal
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from cryptography import x509

from ai_stack.engines.memory import MemoryEngine, Turn
from ai_stack.models.seat import Seat
from certificates import Authority
from processes import Ground, Process, Traffic, chat, until
from stacks import alive, free_port

pytestmark = pytest.mark.alone

SERIES = "aidb_request_seconds_count"


@pytest.fixture(scope="module")
async def crew(ground: Ground) -> AsyncIterator[Process]:
    async with ground.gateway("--workers", "2") as process:
        await process.until_said("2 processes answer")
        yield process


def processes(crew: Process) -> list[psutil.Process]:
    """The gateway's own processes, which hold its port."""
    return [one for one in crew.children() if "serve" in one.cmdline()]


async def test_all_processes_of_a_port_take_their_share(ground: Ground, crew: Process) -> None:
    async with Traffic(crew.port, connections=24).going():
        await asyncio.sleep(1.0)
    shares = await _counted(ground, crew)
    assert sorted(shares) == ["gateway-1", "gateway-2"]
    assert min(shares.values()) > 0.15 * sum(shares.values()), shares


async def _counted(ground: Ground, crew: Process) -> Counter[str]:
    """Requests by the process that answered them, as one scrape tells."""
    async with ground.client(crew) as client:
        text = (await client.get("/metrics")).text
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith(SERIES) and 'route="/health/live"' in line:
            process = line.partition('process="')[2].partition('"')[0]
            found[process] += int(line.rpartition(" ")[2])
    return found


async def test_a_scrape_tells_the_same_whichever_process_answers(
    ground: Ground, crew: Process
) -> None:
    seen = set()
    for _ in range(12):  # each over a connection of its own
        counted = await _counted(ground, crew)
        seen.add(tuple(sorted(counted.items())))
    assert len(seen) == 1, seen


async def test_what_was_slow_in_any_process_is_reported_by_all(
    ground: Ground, crew: Process
) -> None:
    for _ in range(8):
        async with ground.client(crew) as client:
            assert (await client.get("/documents?limit=1")).status_code == 200
    counts = set()
    for _ in range(6):
        async with ground.client(crew) as client:
            items = (await client.get("/reports/slow")).json()["items"]
        counts.add(sum(one["count"] for one in items if one["operation"] == "GET /documents"))
    assert len(counts) == 1 and min(counts) >= 8, counts


async def test_a_process_that_is_killed_is_started_again(ground: Ground, crew: Process) -> None:
    victim, other = processes(crew)
    victim.kill()
    async with ground.client(crew) as client:
        for _ in range(10):
            assert (await client.get("/health/ready")).status_code == 200
    await crew.until_said("answers again")
    assert "was ended by SIGKILL; it starts again in 0." in crew.said()
    now = [one.pid for one in processes(crew)]
    assert other.pid in now and victim.pid not in now and len(now) == 2


async def test_the_processes_die_with_their_parent(ground: Ground) -> None:
    async with ground.gateway("--workers", "2") as crew:
        await crew.until_said("2 processes answer")
        left = [one.pid for one in processes(crew)]
        crew.popen.kill()
        await until(lambda: not any(map(alive, left)))


async def test_a_port_that_is_taken_is_told(ground: Ground, crew: Process) -> None:
    port = str(crew.port)
    async with ground.running("serve", "--port", port, "--workers", "2") as second:
        assert await second.ended() == 1
        assert f"Port {port} of 127.0.0.1: Address already in use." in second.said()


async def test_a_setting_that_is_wrong_is_told_once(ground: Ground) -> None:
    wrong = {"AI_STACK_DATABASE_URL": "", "AI_STACK_WORKERS": "3"}
    async with ground.running("serve", "--port", "1", **wrong) as crew:
        assert await crew.ended() in (1, 2)
    async with ground.running("serve", **wrong) as crew:
        assert await crew.ended() == 2
        assert crew.said().count("AI_STACK_DATABASE_URL is not set") == 1


async def test_a_rolling_restart_fails_no_request_and_cuts_no_stream(
    ground: Ground, crew: Process, memory: MemoryEngine
) -> None:
    before = {one.pid for one in processes(crew)}
    async with ground.client(crew) as client:
        key = (await client.post("/keys", json={"name": "k", "scopes": ["read", "infer"]})).json()
    headers = {"Authorization": f"Bearer {key['key']}"}
    asked = Traffic(crew.port, 8, "GET", "/documents?limit=2", headers=headers, pause_s=0.02)
    async with asked.going(), _streams(crew.port, headers) as streams:
        await asyncio.sleep(0.5)
        crew.send(signal.SIGHUP)
        await crew.until_said("have been replaced")
        await until(lambda: not before & {one.pid for one in processes(crew)}, 20)
        await asyncio.sleep(0.3)
    after = {one.pid for one in processes(crew)}
    assert asked.failed == {}, asked.seen
    assert asked.seen["200"] > 100
    assert streams["cut"] == 0 and streams["whole"] > 4, streams
    assert len(after) == 2 and not after & before


@asynccontextmanager
async def _streams(port: int, headers: dict[str, str]) -> AsyncIterator[Counter[str]]:
    """Streams of about a second, one after the other on each of four connections."""
    seen: Counter[str] = Counter()
    stop = asyncio.Event()
    tasks = [asyncio.create_task(_streaming(port, headers, n, stop, seen)) for n in range(4)]
    try:
        yield seen
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def _streaming(
    port: int, headers: dict[str, str], lane: int, stop: asyncio.Event, seen: Counter[str]
) -> None:
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30
    ) as client:
        turn = 0
        while not stop.is_set():
            turn += 1
            body = chat(f"{lane} {turn} " + "word " * 60, stream=True, temperature=0.9)
            try:
                answer = await client.post("/v1/chat/completions", json=body)
                whole = answer.text.rstrip().endswith("data: [DONE]")
                seen["whole" if whole and answer.status_code == 200 else "cut"] += 1
            except httpx.HTTPError:
                seen["cut"] += 1


async def test_new_processes_serve_the_new_certificate(ground: Ground, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue(tmp_path)
    wide = {
        "AI_STACK_TLS_CERTIFICATE": str(tmp_path / "certificate.pem"),
        "AI_STACK_TLS_KEY": str(tmp_path / "key.pem"),
    }
    trust = ssl.create_default_context(cafile=str(authority.file))
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    command = ("serve", "--port", str(port), "--workers", "2")
    async with ground.running(*command, **wide) as crew:
        await crew.until_said("2 processes answer")
        serial = authority.issue(tmp_path)
        crew.send(signal.SIGHUP)
        await crew.until_said("have been replaced")
        for _ in range(6):
            async with (
                httpx.AsyncClient(base_url=url, verify=trust) as client,
                client.stream("GET", "/health/ready") as answer,
            ):
                assert answer.status_code == 200
                line = answer.extensions["network_stream"].get_extra_info("ssl_object")
                found = x509.load_der_x509_certificate(line.getpeercert(binary_form=True))
                assert found.serial_number == serial


async def test_new_processes_that_do_not_start_leave_the_old_ones(
    ground: Ground, tmp_path: Path
) -> None:
    file = tmp_path / "config/.env"
    file.parent.mkdir()
    options = {"AI_STACK_CONFIG_DIR": str(file.parent)}
    async with ground.gateway("--workers", "2", **options) as crew:
        await crew.until_said("2 processes answer")
        before = {one.pid for one in processes(crew)}
        file.write_text("AI_STACK_LOG_LEVEL=never\n")
        crew.send(signal.SIGHUP)
        await crew.until_said("stay as they are")
        assert {one.pid for one in processes(crew)} == before
        assert "AI_STACK_LOG_LEVEL" in crew.said()
        file.write_text("AI_STACK_LOG_LEVEL=info\n")
        crew.send(signal.SIGHUP)
        await crew.until_said("have been replaced")


async def test_all_processes_finish_what_they_have_begun(
    ground: Ground, memory: MemoryEngine
) -> None:
    async with ground.gateway("--workers", "2") as crew, ground.client(crew) as client:
        await crew.until_said("2 processes answer")
        memory.script += [Turn(text="word " * 50, pause_s=0.02)] * 4
        bodies = [chat(f"a stream {n}", stream=True, temperature=0.7) for n in range(4)]
        answers = [
            asyncio.create_task(client.post("/v1/chat/completions", json=body)) for body in bodies
        ]
        await until(lambda: memory.working == 4)
        crew.send(signal.SIGTERM)
        for answer in await asyncio.gather(*answers):
            assert answer.text.rstrip().endswith("data: [DONE]")
        assert await crew.ended() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_one_that_is_to_stop_says_so_before_it_does(ground: Ground, workers: str) -> None:
    """A balancer has AI_STACK_DRAIN_S to notice; until then everything is answered."""
    options = {"AI_STACK_DRAIN_S": "1.5", "AI_STACK_WORKERS": workers}
    async with ground.gateway(**options) as gateway, ground.client(gateway) as client:
        if workers != "1":
            await gateway.until_said("2 processes answer")
        async with Traffic(gateway.port, connections=6).going() as traffic:
            await asyncio.sleep(0.3)
            gateway.send(signal.SIGTERM)
            told_at = time.monotonic()
            while (ready := await client.get("/health/ready")).status_code == 200:
                assert time.monotonic() - told_at < 1
                await asyncio.sleep(0.02)
            assert ready.status_code == 503
            assert ready.headers["connection"] == "close"
            while time.monotonic() - told_at < 1.2:
                assert (await client.get("/documents?limit=1")).status_code == 200
        assert traffic.failed == {}, traffic.seen
        await gateway.ended()
        assert 1.4 < time.monotonic() - told_at < 6


async def test_there_are_no_files_left(ground: Ground) -> None:
    async with ground.gateway("--workers", "2") as crew:
        await crew.until_said("2 processes answer")
        seat = Seat.read(processes(crew)[0].cmdline()[-1])
        assert sorted(one.name for one in seat.folder.iterdir()) == ["1.sock", "2.sock"]
        assert seat.folder.stat().st_mode & 0o077 == 0
    assert not seat.folder.exists()
