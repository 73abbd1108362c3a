"""Files that runs made or callers gave for them: rows of `run_files`, bytes in `run_blobs`."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from ai_stack.database import Database, Transaction, run_files
from ai_stack.database.run_files import NewFile, Part

GIVEN = "files"  # the kind of a run that only holds files which a caller gave
PART_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file; `number` is its place among those of its run."""

    number: int
    name: str
    media_type: str
    size_bytes: int


async def keep(tx: Transaction, run_id: UUID, file: StoredFile, data: bytes) -> None:
    """Store one file of a run, in place of an earlier one with its number."""
    row = NewFile(file.number, file.name, file.media_type, file.size_bytes, None, "added")
    await run_files.upsert(tx, run_id, [row])
    await run_files.delete_parts(tx, run_id, [file.number])
    pieces = range(0, len(data), PART_BYTES)
    for part, at in enumerate(pieces):
        piece = Part(file.number, part, data[at : at + PART_BYTES])
        await run_files.insert_parts(tx, run_id, [piece])


async def find(tx: Transaction, run_id: UUID, name: str) -> StoredFile | None:
    """A run's file by its name, its bytes not read."""
    row = await tx.row(
        "SELECT number, path, coalesce(media_type, 'application/octet-stream'), size_bytes"
        " FROM run_files WHERE run_id = %(run)s AND path = %(name)s AND state <> 'failed'",
        {"run": run_id, "name": name},
    )
    return None if row is None else StoredFile(*row)


async def of_run(tx: Transaction, run_id: UUID) -> Sequence[StoredFile]:
    """All files of a run, in their order."""
    rows = await tx.rows(
        "SELECT number, path, coalesce(media_type, 'application/octet-stream'), size_bytes"
        " FROM run_files WHERE run_id = %(run)s AND state <> 'failed' ORDER BY number",
        {"run": run_id},
    )
    return [StoredFile(*row) for row in rows]


async def pieces(
    database: Database, project_id: UUID, run_id: UUID, number: int
) -> AsyncIterator[bytes]:
    """A file's bytes, a mebibyte at a time, each in a transaction of its own."""
    part = 0
    while True:
        async with database.transaction(project_id) as tx:
            data = await run_files.part(tx, run_id, number, part)
        if data is None:
            return
        yield data
        part += 1


async def accept(tx: Transaction, run_id: UUID) -> None:
    """The files that a caller gave have all come: make them a run that has ended."""
    await tx.execute(
        f"UPDATE runs SET kind = '{GIVEN}', status = 'succeeded', finished_at = now()"
        " WHERE id = %(id)s",
        {"id": run_id},
    )
    await tx.execute(
        "UPDATE run_files SET state = 'added' WHERE run_id = %(id)s AND state = 'waiting'",
        {"id": run_id},
    )


async def sweep(tx: Transaction, age: timedelta) -> int:
    """Forget files that callers gave so long ago; how many runs of them there were."""
    done = await tx.execute(
        f"DELETE FROM runs WHERE kind = '{GIVEN}' AND created_at < now() - %(age)s", {"age": age}
    )
    return done.rowcount


async def log_skill(
    tx: Transaction, skill: str, status: str, duration_ms: float, detail: str
) -> None:
    """One row of the time series of skills' runs; `detail` is a JSON object."""
    await tx.execute(
        "INSERT INTO skill_runs (skill, status, duration_ms, detail)"
        " VALUES (%(skill)s, %(status)s, %(ms)s, %(detail)s::jsonb)",
        {"skill": skill, "status": status, "ms": duration_ms, "detail": detail},
    )
