"""Row 24: backup, wipe, restore; and backups that are bad are refused with nothing touched."""

import asyncio
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyrage

import servers
from ai_stack.services.backup import bundle
from reliability import older
from reliability.grounds import PLANTS, Ground, stack
from reliability.rebuild import WORDS
from reliability.verdicts import Measured, NotRunHere, Row, Trial

QUERIES, TOP, BATCH = 100, 10, 50
FILE = "a file of imports that is told from all others " * 40
Answers = list[list[tuple[float, str]]]


@dataclass(frozen=True)
class State:
    """What a client sees of a stack: each document to the byte, and the answers to queries."""

    documents: dict[str, bytes]
    answers: Answers


async def measure(trial: Trial) -> Measured:
    dice = random.Random(trial.seed)
    with stack(AI_STACK_AUTH="off", AI_STACK_WATCH_IMPORTS="false") as ground:
        (ground.settings.data_dir / "imports" / "note.md").write_text(FILE)
        ids = await _store(ground, dice, trial.size(100, 2000))
        queries = [" ".join(dice.sample(WORDS, 3)) for _ in range(QUERIES)]
        before = await _state(ground, ids, queries)
        with servers.scratch_folder() as folder:
            faults, refused = await asyncio.to_thread(_away_and_back, trial, ground, folder)
            if faults:
                return Measured({"documents": len(ids), "refused": refused}, tuple(faults))
        ground.command("up", "--detach")
        after = await _state(ground, ids, queries)
        found = (ground.settings.data_dir / "imports" / "note.md").read_text()
    faults = ["the file of imports is another"] if found != FILE else []
    earlier = await asyncio.to_thread(_earlier)
    if earlier == "others":
        faults.append("documents of an earlier version are not what they were")
    return _compared(before, after, refused, faults, earlier)


def _earlier() -> str:
    try:
        return "others" if older.differs_after_restore() else "identical"
    except NotRunHere:
        return "not run"


def _compared(
    before: State, after: State, refused: int, faults: list[str], earlier: str
) -> Measured:
    same = sum(after.documents.get(id) == seen for id, seen in before.documents.items())
    alike = sum(a == b for a, b in zip(before.answers, after.answers, strict=True))
    if same < len(before.documents):
        faults.append(f"{len(before.documents) - same} documents are not what they were")
    if alike < QUERIES:
        faults.append(f"{QUERIES - alike} queries have another top {TOP}")
    documents, top = f"{same}/{len(before.documents)}", f"{alike}/{QUERIES}"
    figures = {"identical": documents, "same top 10": top, "bad ones refused": refused}
    return Measured({**figures, "of an earlier version": earlier}, tuple(faults))


def _away_and_back(trial: Trial, ground: Ground, folder: Path) -> tuple[list[str], int]:
    """Embedded to a full deployment, whose encrypted backup comes back after a wipe."""
    key, other = (pyrage.x25519.Identity.generate() for _ in range(2))
    for name, one in (("key", key), ("other", other)):
        (folder / name).write_text(f"{one}\n")
    plain = _create(trial, ground.environment)
    moved = Path(shutil.copy(plain, folder / "plain.aibackup"))
    with servers.postgres() as url, servers.redis() as redis:
        full = _full(ground, folder, url.format(database="postgres"), f"unix://{redis.socket}")
        failed = _verb(trial, full, "restore", str(moved), "--yes")
        if failed:
            return [f"the full deployment refuses the backup: {failed}"], 0
        full |= {"AI_STACK_BACKUP_RECIPIENTS": str(key.to_public())}
        sealed = Path(shutil.copy(_create(trial, full), folder / "sealed.aibackup"))
    ground.command("down")
    faults, refused = _refusals(trial, ground, folder, moved, sealed)
    if faults:
        return faults, refused
    shutil.rmtree(ground.settings.data_dir)
    shutil.rmtree(ground.settings.config_dir, ignore_errors=True)
    words = ("restore", str(sealed), "--yes", "--identity", str(folder / "key"))
    failed = _verb(trial, ground.environment, *words)
    return ([f"the backup is not restored: {failed}"] if failed else []), refused


def _full(ground: Ground, folder: Path, url: str, redis: str) -> dict[str, str]:
    """The environment of a deployment on servers of its own."""
    return {
        **ground.environment,
        "HOME": str(folder / "full"),
        "AI_STACK_DATA_DIR": str(folder / "full" / "data"),
        "AI_STACK_DATABASE_URL": url,
        "AI_STACK_REDIS_URL": redis,
        "AI_STACK_VECTORS_URL": "pgvector:",
    }


def _refusals(
    trial: Trial, ground: Ground, folder: Path, plain: Path, sealed: Path
) -> tuple[list[str], int]:
    """Restore each bad bundle on a stack that is down, and look at every byte of its folders."""
    faults, refused = [], 0
    untouched = _digest(ground)
    for name, path, words in _bad(folder, plain, sealed):
        said = _verb(trial, ground.environment, "restore", str(path), "--yes", *words)
        trial.log.write("refused", name=name, said=said)
        if not said:
            faults.append(f"a backup that is {name} is restored")
        elif _digest(ground) != untouched:
            faults.append(f"the data were touched by a backup that is {name}")
        else:
            refused += 1
        if faults:
            break
    return faults, refused


def _bad(folder: Path, plain: Path, sealed: Path) -> Iterator[tuple[str, Path, Sequence[str]]]:
    content = plain.read_bytes()
    places = {
        "damaged in a file": content.index(FILE.encode()) + 20,
        "damaged in its first line": 30,
        "damaged in its second line": bundle.FIRST_BYTES + 10,
        "damaged in a tar header": content.index(b"imports/note.md"),
        "damaged in the database": content.index(b"PGDMP") + 20_000,
        "damaged in its manifest": content.rindex(b'"counts"') + 2,
    }
    for name, place in places.items():
        yield name, _written(folder, _flipped(content, place)), ()
    keyed = ("--identity", str(folder / "key"))
    encrypted = sealed.read_bytes()
    flipped = _flipped(encrypted, len(encrypted) // 2)
    yield "encrypted and damaged", _written(folder, flipped), keyed
    yield "truncated", _written(folder, content[: len(content) * 2 // 3]), ()
    yield "foreign", _written(folder, b"PGDMP" + os.urandom(5000)), ()
    yield "of a newer format", _written(folder, content.replace(b"BACKUP 1 ", b"BACKUP 2 ", 1)), ()
    yield "of a newer version", _newer(folder, plain), ()
    yield "encrypted for another key", sealed, ("--identity", str(folder / "other"))
    yield "encrypted, without a key", sealed, ()


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def _written(folder: Path, content: bytes) -> Path:
    path = folder / "bad.aibackup"
    path.write_bytes(content)
    return path


def _newer(folder: Path, plain: Path) -> Path:
    """The same bundle, whole, of a schema that is to come."""
    with bundle.opened(plain, []) as reader:
        files = [(entry.name, b"".join(entry.pieces())) for entry in reader.entries()]
        manifest = reader.manifest
    assert manifest is not None
    header = replace(manifest.header, revision="9999", product="99.0.0")
    path = folder / "newer.aibackup"
    with path.open("wb") as file, bundle.create(file, header, [], 0) as writer:
        for name, content in files:
            writer.add(name, content)
        writer.manifest(replace(manifest, header=header))
    return path


def _digest(ground: Ground) -> str:
    """Of every name and byte in the stack's folders."""
    digest = hashlib.sha256()
    for top in (ground.settings.data_dir, ground.settings.config_dir):
        for path in sorted(top.rglob("*")):
            digest.update(os.fsencode(path))
            if path.is_file():
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _create(trial: Trial, environment: Any) -> Path:
    done = _run(trial, environment, "create", "--json")
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["bundle"])


def _verb(trial: Trial, environment: Any, *words: str) -> str:
    """What `backup` said when it failed; nothing when it did not."""
    done = _run(trial, environment, *words)
    return (done.stderr.strip()[-500:] or "it failed") if done.returncode else ""


def _run(trial: Trial, environment: Any, *words: str) -> "subprocess.CompletedProcess[str]":
    """A verb of the product, or of a build with the planted defect."""
    sound = [sys.executable, "-m", "ai_stack", "backup"]
    faulty = [sys.executable, str(PLANTS), str(trial.plant), "backup"]
    command = [*(faulty if trial.plant else sound), *words]
    return subprocess.run(
        command, env=dict(environment), capture_output=True, text=True, timeout=600, check=False
    )


async def _store(ground: Ground, dice: random.Random, count: int) -> list[str]:
    """Documents with metadata and keys of their own, every third with a vector of its own."""
    client, ids = ground.client(), []
    for start in range(0, count, BATCH):
        batch = [_document(dice, number) for number in range(start, start + BATCH)]
        reply = await client.request("POST", "/documents", {"documents": batch})
        assert reply.status == 201, reply
        ids += [found["id"] for found in reply.json()["items"]]
    client.close()
    return ids


def _document(dice: random.Random, number: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": f"key/{number} é",
        "content": " ".join(dice.sample(WORDS, 12)) + " \u2028 \U0001f40d",
        "metadata": {"number": number, "deep": {"x": [1, None, "é"]}},
    }
    if number % 3 == 0:
        made["vector"] = [round(dice.gauss(0, 1), 3) for _ in range(384)]
    return made


async def _state(ground: Ground, ids: list[str], queries: list[str]) -> State:
    client = ground.client()
    documents, answers = {}, []
    for id in ids:
        reply = await client.request("GET", f"/documents/{quote(id, safe='')}")
        assert reply.ok, reply
        documents[id] = reply.body
    for query in queries:
        body = {"query": query, "mode": "semantic", "limit": TOP, "min_score": -1.0}
        answer = (await client.request("POST", "/search/semantic", body)).json()
        assert "degraded" not in answer, answer["degraded"]
        found = [(-round(r["score"], 5), r["document"]["id"]) for r in answer["results"]]
        answers.append(sorted(found))  # equals in either order
    client.close()
    return State(documents, answers)


ROWS = (
    Row(
        24,
        "backup, wipe, restore",
        "identical bytes and top 10; bad ones refused, untouched",
        measure,
        ("skipping-table", "unchecked-backup"),
        calm=True,
    ),
)
