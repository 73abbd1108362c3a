"""Row 10: the disk of the data folder is full, and is freed again."""

import asyncio
import os
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reliability.clients import FAILURES, Client
from reliability.grounds import GATEWAY, until
from reliability.verdicts import Measured, NotRunHere, Row, Trial

MIB = 1 << 20
DISK_BYTES = 700 * MIB
SPARE = (16 * MIB, 0, 40 * MIB, 132 * MIB)  # what is left to run out while it is written
RECOVERED_S = 60.0
REFUSALS = (503, 507)
BOUNDARY = "scorecard"


@contextmanager
def small_disk(size_bytes: int) -> Iterator[Path]:
    """A tmpfs of its own; NotRunHere where it cannot be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="ai-stack-disk-", dir="/tmp"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=755", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.rmdir()
        raise NotRunHere(f"a tmpfs cannot be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
        folder.rmdir()


def fill(file: Path, spare_bytes: int) -> int:
    """Take all the space that is left but this; how much it was."""
    with file.open("wb", buffering=0) as ballast, suppress(OSError):
        while ballast.write(b"\0" * MIB):
            pass
    with file.open("ab", buffering=0) as ballast, suppress(OSError):
        while ballast.write(b"\0" * 4096):
            pass
    size = max(file.stat().st_size - spare_bytes, 0)
    os.truncate(file, size)
    return size


async def measure(trial: Trial) -> Measured:
    ground, dice = trial.ground, random.Random(trial.seed)
    ballast = ground.settings.data_dir.parent / "ballast"
    pids = [await ground.pid(GATEWAY)]
    client = ground.client()
    before = await _store(client, dice, 20, 2_000)
    faults: list[str] = []
    figures: dict[str, object] = {}
    for spare in SPARE[: trial.size(1, len(SPARE))]:
        taken = await asyncio.to_thread(fill, ballast, spare)
        trial.log.write("full", ballast=taken)
        writes, reads, stored = await _beset(trial, client, dice, before)
        uploads = await _uploads(client, dice, trial.size(3, 8))
        ballast.unlink()
        trial.log.write("freed", writes=writes, reads=reads, uploads=uploads)
        faults += _faults(writes, reads, uploads)
        took_s = await _recovery(client, dice)
        trial.log.write("recovered", seconds=took_s)
        if took_s > RECOVERED_S:
            faults.append(f"it has not recovered {RECOVERED_S:.0f} s after space was freed")
        before |= stored
        pids.append(await ground.pid(GATEWAY))
        figures = {
            "writes": _brief(writes),
            "reads": _brief(reads),
            "uploads": _brief(uploads),
            "recovered s": f"{took_s:.1f}",
        }
    lost = await _missing(client, before)
    client.close()
    faults += [f"{len(lost)} acknowledged documents are lost"] if lost else []
    faults += [f"the gateway was restarted: {pids}"] if len(set(pids)) > 1 else []
    return Measured({**figures, "lost": len(lost), "same pid": len(set(pids)) == 1}, tuple(faults))


def _faults(writes: Counter[int], reads: Counter[int], uploads: Counter[str]) -> list[str]:
    faults = []
    if not any(writes[status] for status in REFUSALS):
        faults.append("no write was refused")
    strange = set(writes) - {201, 202, *REFUSALS}
    faults += [f"a write was answered {status}" for status in strange]
    faults += [f"{reads[s]} reads were answered {s}" for s in set(reads) - {200}]
    if bad := set(uploads) - {"503", "507", "failed"}:
        faults.append(f"an upload ended with {bad}")
    return faults


async def _beset(
    trial: Trial, client: Client, dice: random.Random, known: dict[str, str]
) -> tuple[Counter[int], Counter[int], dict[str, str]]:
    """Writes and reads in turn, until so many writes were refused."""
    writes, reads, stored = Counter[int](), Counter[int](), {}
    for turn in range(2000):
        if sum(n for status, n in writes.items() if status > 202) >= trial.size(30, 100):
            break
        content = _content(dice, 100_000)
        status, id = await _post(client, content)
        writes[status] += 1
        if id is not None:
            stored[id] = content
        for path, body in _reads(dice, known, turn):
            status = await _status(client, path, body)
            reads[status] += 1
            if status != 200:
                trial.log.write("read", path=path, status=status)
    return writes, reads, stored


def _reads(
    dice: random.Random, known: dict[str, str], turn: int
) -> list[tuple[str, dict[str, object] | None]]:
    search = {"query": f"lantern {turn}", "mode": dice.choice(("keyword", "hybrid"))}
    return [
        (f"/documents/{dice.choice(sorted(known))}", None),
        ("/documents?limit=10", None),
        ("/search/semantic", search),
    ]


async def _post(client: Client, content: str) -> tuple[int, str | None]:
    try:
        reply = await client.request("POST", "/documents?wait=false", {"content": content})
    except FAILURES:
        return 0, None
    return reply.status, reply.json()["id"] if reply.ok else None


async def _status(client: Client, path: str, body: object) -> int:
    try:
        return (await client.request("POST" if body else "GET", path, body)).status
    except FAILURES:
        return 0


async def _store(client: Client, dice: random.Random, count: int, length: int) -> dict[str, str]:
    stored = {}
    for _ in range(count):
        content = _content(dice, length)
        status, id = await _post(client, content)
        assert id is not None, status
        stored[id] = content
    return stored


def _content(dice: random.Random, length: int) -> str:
    """Words of random letters, which no compression makes small."""
    return " ".join(f"{dice.getrandbits(40):x}" for _ in range(length // 10))


async def _uploads(client: Client, dice: random.Random, count: int) -> Counter[str]:
    outcomes = Counter[str]()
    for number in range(count):
        data = _content(dice, 3_000_000).encode()
        part = f'Content-Disposition: form-data; name="files"; filename="{number}.txt"'
        body = (
            f"--{BOUNDARY}\r\n{part}\r\n\r\n".encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
        )
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        try:
            reply = await client.request("POST", "/documents/import", body, kind)
        except FAILURES as error:
            outcomes[type(error).__name__] += 1
        else:
            outcomes["taken" if reply.ok else str(reply.status)] += 1
    return outcomes


async def _recovery(client: Client, dice: random.Random) -> float:
    """Seconds until a document is written, indexed and found."""

    async def works() -> bool:
        content = f"lighthouse {_content(dice, 100)}"
        reply = await client.request("POST", "/documents", {"content": content})
        if reply.status != 201 or reply.json()["state"] != "indexed":
            return False
        search = {"query": content, "mode": "semantic", "limit": 1}
        found = await client.request("POST", "/search/semantic", search)
        return found.ok and bool(found.json()["results"]) and "degraded" not in found.json()

    try:
        return await until(works, RECOVERED_S + 1, 0.2)
    except TimeoutError:
        return RECOVERED_S + 1


async def _missing(client: Client, known: dict[str, str]) -> list[str]:
    lost = []
    for id, content in known.items():
        reply = await client.request("GET", f"/documents/{id}")
        if not reply.ok or reply.json()["content"] != content:
            lost.append(id)
    return lost


def _brief(outcomes: Counter[int] | Counter[str]) -> str:
    return "/".join(f"{name}:{n}" for name, n in outcomes.most_common(5))


ROWS = (
    Row(
        10,
        "disk full: database and uploads",
        "507 or 503 for writes; reads work; recovers without a restart",
        measure,
        ("opaque-disk-full",),
        DISK_BYTES,
    ),
)
