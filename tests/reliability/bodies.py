"""Row 21: bodies made to hurt, and clients that never finish."""

import asyncio
import io
import random
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from reliability.clients import FAILURES, Client, Reply
from reliability.grounds import GATEWAY, Ground
from reliability.verdicts import Measured, Row, Trial

MIB = 1 << 20
SLOW = 50
MEMORY_MIB, HEALTH_MS = 150, 500
BOUNDARY, WIDE = "scorecard", "wide-characters"


@dataclass(frozen=True, slots=True)
class Attack:
    """A request to make; `chunked` sends no length. Refused with one of `statuses`."""

    name: str
    path: str
    body: Callable[[], Iterator[bytes]]
    chunked: bool = False
    statuses: tuple[int, ...] = (413, 422)
    kind: str = "application/json"


def attacks(full: bool, limit: int) -> list[Attack]:
    """JSON that is huge, deep or unfolds; what it unfolds from fits the limit, in bytes."""
    documents, search = "/documents?wait=false", "/search/semantic"
    big, most = 400 if full else 100, limit - 1024
    return [
        Attack("declared 1 GiB", documents, lambda: _repeated(b"x" * MIB, 1024)),
        Attack("chunked", documents, lambda: _repeated(b"x" * MIB, big), chunked=True),
        Attack("chunked text", documents, lambda: _text(big), chunked=True),
        Attack("chunked search", search, lambda: _text(big, b'{"query":"'), chunked=True),
        Attack("deep list", documents, lambda: _deep(b"[", b"]", 2 * MIB)),
        Attack("deep object", documents, lambda: _deep(b'{"a":', b"}", MIB)),
        Attack("deep metadata", documents, lambda: _deep_metadata(200_000)),
        Attack("deep filter", search, lambda: _deep_filter(900)),
        Attack("empty lists", documents, lambda: _list_of(b"[],", most)),
        Attack("empty objects", documents, lambda: _list_of(b"{},", most)),
        Attack("pairs", documents, lambda: _list_of(b'{"a":1},', most)),
        Attack("strings", documents, lambda: _list_of(b'"ab",', most)),
        Attack("floats", search, lambda: _vector(b"1.5,", most)),
        Attack("one long number", documents, lambda: _vector(b"1", most)),
        Attack("wide characters", documents, lambda: _wide(most), statuses=(202, 413, 422)),
        Attack("not JSON", documents, lambda: iter([b"\xff" * MIB])),
    ]


def _repeated(piece: bytes, count: int) -> Iterator[bytes]:
    return (piece for _ in range(count))


def _text(mib: int, start: bytes = b'{"content":"') -> Iterator[bytes]:
    yield start
    yield from _repeated(b"word " * (MIB // 5), mib)
    yield b'"}'


def _deep(opening: bytes, closing: bytes, size: int) -> Iterator[bytes]:
    depth = size // len(opening)
    yield b'{"content":"x","metadata":' + opening * depth + b"1" + closing * depth + b"}"


def _deep_metadata(depth: int) -> Iterator[bytes]:
    yield b'{"content":"x","metadata":{"a":' + b"[" * depth + b"]" * depth + b"}}"


def _deep_filter(depth: int) -> Iterator[bytes]:
    yield b'{"query":"x","filter":' + b'{"not":' * depth + b'{"a":1}' + b"}" * depth + b"}"


def _list_of(piece: bytes, size: int) -> Iterator[bytes]:
    yield b'{"documents":[' + piece * (size // len(piece)) + b"1]}"


def _vector(piece: bytes, size: int) -> Iterator[bytes]:
    yield b'{"content":"x","vector":[' + piece * (size // len(piece)) + b"1]}"


def _wide(size: int) -> Iterator[bytes]:
    """A text whose one emoji makes every character take four bytes."""
    yield f'{{"id":"{WIDE}","content":"🧨'.encode() + b"word " * (size // 5) + b'"}'


def files(full: bool) -> dict[str, bytes]:
    """Small files that unfold: zip in Office's clothes, deflated PDF, a picture of 2 Gpixel."""
    times = 4 if full else 1
    return {
        "bomb.docx": _zip({"word/document.xml": b"<w:t>" + b"a" * (200 * MIB * times)}),
        "bomb.xlsx": _zip(
            {f"xl/worksheets/sheet{n}.xml": b" " * (50 * MIB) for n in range(4 * times)}
        ),
        "entities.docx": _zip({"word/document.xml": _billion_laughs()}),
        "bomb.pdf": _pdf(200 * MIB * times),
        "bomb.html": b"<div>" * 300_000,
        "bomb.json": b"[" * 300_000,
    }


def _zip(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        for name, data in members.items():
            archive.writestr(name, data)
    return made.getvalue()


def _billion_laughs() -> bytes:
    lines = [b'<!DOCTYPE x [<!ENTITY a0 "ha">']
    lines += [b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 10)]
    return b"\n".join(lines) + b"]><w:document><w:t>&a9;</w:t></w:document>"


def _pdf(size: int) -> bytes:
    packed = zlib.compress(b"BT /F 1 Tf (aaaaaaaa) Tj ET\n" * (size // 28), 9)
    return (
        b"%%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/Contents 4 0 R/MediaBox[0 0 9 9]>>endobj\n"
        b"4 0 obj<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream endobj\n"
        b"trailer<</Root 1 0 R>>\n%%%%EOF" % (len(packed), packed)
    )


@dataclass
class Watch:
    """The gateway's memory and its health's latency while something else happens."""

    resident_mib: float = 0.0
    before_mib: float = 0.0
    health_ms: list[float] = field(default_factory=list)
    over: bool = False

    @property
    def grown_mib(self) -> float:
        return self.resident_mib - self.before_mib

    def p99_ms(self) -> float:
        return sorted(self.health_ms)[int(len(self.health_ms) * 0.99)]


@asynccontextmanager
async def watched(ground: Ground, log_name: str, trial: Trial) -> AsyncIterator[Watch]:
    pid = await ground.pid(GATEWAY)
    watch = Watch(before_mib=_resident_mib(pid))
    tasks = [asyncio.create_task(_sample(pid, watch)), asyncio.create_task(_health(ground, watch))]
    try:
        yield watch
    finally:
        watch.over = True
        await asyncio.gather(*tasks)
        trial.log.write(log_name, grown_mib=watch.grown_mib, health_ms=watch.health_ms)


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def _sample(pid: int, watch: Watch) -> None:
    while not watch.over:
        watch.resident_mib = max(watch.resident_mib, _resident_mib(pid))
        await asyncio.sleep(0.01)


async def _health(ground: Ground, watch: Watch) -> None:
    client = ground.client()
    while not watch.over:
        started = time.monotonic()
        try:
            reply = await client.request("GET", "/health")
            watch.health_ms.append((time.monotonic() - started) * 1000 if reply.ok else 1e6)
        except FAILURES:
            watch.health_ms.append(1e6)
        await asyncio.sleep(0.05)
    client.close()


async def measure(trial: Trial) -> Measured:
    answers: Counter[str] = Counter()
    faults: list[str] = []
    async with watched(trial.ground, "bodies", trial) as watch:
        for attack in attacks(trial.full, trial.ground.settings.request_max_bytes):
            status = await _attack(trial.ground, attack)
            answers[str(status)] += 1
            trial.log.write("attack", name=attack.name, status=status, grown_mib=watch.grown_mib)
            if status not in attack.statuses:
                faults.append(f"{attack.name}: answered {status}")
        cleaner = trial.ground.client()
        await cleaner.request("DELETE", f"/documents/{WIDE}?wait=false")
        cleaner.close()
        await _slow(trial, answers)
        if trial.plant is None:
            faults += await _imports(trial, answers)
    faults += _beyond(watch)
    figures = {
        "answers": "/".join(f"{name}:{n}" for name, n in answers.most_common()),
        "memory +MiB": round(watch.grown_mib),
        "health p99 ms": round(watch.p99_ms()),
        "slow clients": SLOW,
    }
    return Measured(figures, tuple(faults))


def _beyond(watch: Watch) -> list[str]:
    faults = []
    if watch.grown_mib > MEMORY_MIB:
        faults.append(f"the gateway grew by {watch.grown_mib:.0f} MiB")
    if watch.p99_ms() > HEALTH_MS:
        faults.append(f"health's p99 was {watch.p99_ms():.0f} ms")
    return faults


async def _attack(ground: Ground, attack: Attack) -> int:
    """The status that answers it, 0 when the connection just ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ground.port)
    sending = asyncio.create_task(_send(writer, attack))
    try:
        async with asyncio.timeout(120):
            head = await reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1])
    except FAILURES:
        return 0
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


async def _send(writer: asyncio.StreamWriter, attack: Attack) -> None:
    head = f"POST {attack.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {attack.kind}\r\n"
    pieces = attack.body()
    if attack.chunked:
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    elif attack.name.startswith("declared"):
        writer.write(f"{head}Content-Length: {1 << 30}\r\n\r\n".encode())
    else:
        pieces = iter([whole := b"".join(pieces)])
        writer.write(f"{head}Content-Length: {len(whole)}\r\n\r\n".encode())
    with suppress(OSError):
        for piece in pieces:
            framed = b"%x\r\n%s\r\n" % (len(piece), piece) if attack.chunked else piece
            writer.write(framed)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if attack.chunked else b"")


async def _slow(trial: Trial, answers: Counter[str]) -> None:
    """Half send their headers a byte at a time, half a large body; none of them finishes."""
    seconds = trial.size(4, 30)
    dice = random.Random(trial.seed)
    tasks = [
        asyncio.create_task(_crawl(trial.ground, n, seconds, dice.uniform(0.05, 0.3)))
        for n in range(SLOW)
    ]
    for outcome in await asyncio.gather(*tasks):
        answers[outcome] += 1


async def _crawl(ground: Ground, number: int, seconds: float, pause_s: float) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", ground.port)
    head = b"POST /documents?wait=false HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    crawling, limit = number % 2 == 0, ground.settings.request_max_bytes
    large = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % limit
    ends = time.monotonic() + seconds
    try:
        writer.write(head if crawling else head + large + b'{"content":"' + b"x" * (limit * 4 // 5))
        while time.monotonic() < ends:
            writer.write(b"X" if crawling else b"y")
            await asyncio.wait_for(writer.drain(), 1)
            await asyncio.sleep(pause_s)
    except FAILURES:
        pass
    finally:
        writer.transport.abort()
        del reader
    return "left"


async def _imports(trial: Trial, answers: Counter[str]) -> list[str]:
    """Each bomb is refused, or its file fails in the run; none is taken in."""
    faults = []
    client = trial.ground.client(timeout_s=180)
    for name, data in files(trial.full).items():
        reply = await _import(client, name, data)
        outcome = await _outcome(client, reply)
        answers[outcome] += 1
        trial.log.write("import", name=name, status=reply.status, outcome=outcome)
        if outcome not in ("413", "415", "422", "failed"):
            faults.append(f"{name}: {outcome}")
    client.close()
    return faults


async def _import(client: Client, name: str, data: bytes) -> Reply:
    part = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    )
    body = part.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return await client.request("POST", "/documents/import?wait=true", body, kind)


async def _outcome(client: Client, reply: Reply) -> str:
    """The status of a refusal, else the state of the run's only file."""
    if not reply.ok:
        return str(reply.status)
    run = reply.json()
    async with asyncio.timeout(180):
        while run["status"] not in ("succeeded", "failed", "cancelled"):
            await asyncio.sleep(0.2)
            run = (await client.request("GET", f"/runs/{run['id']}")).json()
    found = (await client.request("GET", f"/runs/{run['id']}/files")).json()["items"]
    return str(found[0]["state"]) if found else str(run["status"])


ROWS = (
    Row(
        21,
        "giant and chunked bodies, deep JSON, zip, PDF and Office bombs, slow clients",
        "413 or 422; memory ≤ +150 MB; health p99 ≤ 500 ms",
        measure,
        ("unbounded-bodies",),
    ),
)
