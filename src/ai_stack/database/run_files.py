"""The files of imports, as rows: what came, in parts of a mebibyte, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ai_stack.database import Record, Transaction, sealing
from ai_stack.models.runs import FileState, RunFile

COLUMNS = """
f.number, f.path, f.media_type, f.size_bytes, f.state, f.error,
(SELECT key FROM document_keys k WHERE k.document_id = f.document_id)"""


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that came: `state` is `waiting`, or `failed` with an `error`."""

    number: int
    path: str
    media_type: str | None = None
    size_bytes: int = 0
    source_hash: str | None = None
    state: FileState = "waiting"
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a file's bytes; `part` counts from 0."""

    number: int
    part: int
    data: bytes


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A file that is to be read; `source_hash` is the sha256 of its bytes, if it is known."""

    number: int
    path: str
    media_type: str | None
    size_bytes: int
    source_hash: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a file."""

    number: int
    state: FileState
    error: str | None = None
    document_id: UUID | None = None


async def upsert(tx: Transaction, run_id: UUID, files: Sequence[NewFile]) -> None:
    """Store files of a run, or what is known of them by now."""
    await tx.execute(
        "INSERT INTO run_files"
        " (run_id, number, path, media_type, size_bytes, source_hash, state, error)"
        " SELECT %(run)s, number, path, type, size, decode(hash, 'hex'), state, error"
        " FROM unnest(%(numbers)s::int[], %(paths)s::text[], %(types)s::text[],"
        " %(sizes)s::bigint[], %(hashes)s::text[], %(states)s::text[], %(errors)s::text[])"
        " AS n(number, path, type, size, hash, state, error)"
        " ON CONFLICT (run_id, number) DO UPDATE SET media_type = excluded.media_type,"
        " size_bytes = excluded.size_bytes, source_hash = excluded.source_hash,"
        " state = excluded.state, error = excluded.error, path = excluded.path",
        {
            "run": run_id,
            "numbers": [f.number for f in files],
            "paths": [f.path for f in files],
            "types": [f.media_type for f in files],
            "sizes": [f.size_bytes for f in files],
            "hashes": [f.source_hash for f in files],
            "states": [f.state for f in files],
            "errors": [f.error for f in files],
        },
    )


async def insert_parts(tx: Transaction, run_id: UUID, parts: Sequence[Part]) -> None:
    key = await sealing.sealer(tx)
    await tx.execute(
        "INSERT INTO run_blobs (run_id, number, part, data, sealed)"
        " SELECT %(run)s, number, part, data, sealed FROM unnest(%(numbers)s::int[],"
        " %(parts)s::int[], %(data)s::bytea[], %(sealed)s::bytea[])"
        " AS n(number, part, data, sealed)",
        {
            "run": run_id,
            "numbers": [p.number for p in parts],
            "parts": [p.part for p in parts],
            "data": [p.data if key is None else b"" for p in parts],
            "sealed": [] if key is None else [_sealed(key, run_id, p) for p in parts],
        },
    )


def _sealed(key: sealing.Key, run_id: UUID, part: Part) -> bytes:
    return key.seal(sealing.blob(run_id, part.number, part.part), part.data)


async def part(tx: Transaction, run_id: UUID, number: int, part: int) -> bytes | None:
    """One piece of a file; None behind the last."""
    row = await tx.row(
        "SELECT part, data, sealed FROM run_blobs"
        " WHERE run_id = %(run)s AND number = %(number)s AND part = %(part)s",
        {"run": run_id, "number": number, "part": part},
    )
    return None if row is None else (await _opened(tx, run_id, number, [row]))[0]


async def whole(tx: Transaction, run_id: UUID, number: int) -> bytes:
    """All bytes of a file."""
    rows = await tx.rows(
        "SELECT part, data, sealed FROM run_blobs"
        " WHERE run_id = %(run)s AND number = %(number)s ORDER BY part",
        {"run": run_id, "number": number},
    )
    return b"".join(await _opened(tx, run_id, number, rows))


async def _opened(
    tx: Transaction, run_id: UUID, number: int, rows: Sequence[Record]
) -> list[bytes]:
    """The bytes of (part, data, sealed)."""
    keys = await sealing.opener(tx, (sealed for _, _, sealed in rows))
    return [
        bytes(data) if sealed is None else keys.opened(sealing.blob(run_id, number, part), sealed)
        for part, data, sealed in rows
    ]


async def delete_parts(tx: Transaction, run_id: UUID, numbers: Sequence[int]) -> None:
    await tx.execute(
        "DELETE FROM run_blobs WHERE run_id = %(run)s AND number = ANY (%(numbers)s::int[])",
        {"run": run_id, "numbers": list(numbers)},
    )


async def waiting(tx: Transaction, run_id: UUID, after: int, limit: int) -> list[WaitingFile]:
    """Files that are still to be read, in their order, after a number."""
    rows = await tx.rows(
        "SELECT number, path, media_type, size_bytes, encode(source_hash, 'hex') FROM run_files"
        " WHERE run_id = %(run)s AND state = 'waiting' AND number > %(after)s"
        " ORDER BY number LIMIT %(limit)s",
        {"run": run_id, "after": after, "limit": limit},
    )
    return [WaitingFile(*row) for row in rows]


async def settle(tx: Transaction, run_id: UUID, results: Sequence[Result]) -> None:
    """Keep what became of files, and drop their bytes."""
    await tx.execute(
        "UPDATE run_files f SET state = n.state, error = n.error, document_id = n.document"
        " FROM unnest(%(numbers)s::int[], %(states)s::text[], %(errors)s::text[],"
        " %(documents)s::uuid[]) AS n(number, state, error, document)"
        " WHERE f.run_id = %(run)s AND f.number = n.number",
        {
            "run": run_id,
            "numbers": [r.number for r in results],
            "states": [r.state for r in results],
            "errors": [r.error for r in results],
            "documents": [r.document_id for r in results],
        },
    )
    await delete_parts(tx, run_id, [r.number for r in results])


async def count(tx: Transaction, run_id: UUID) -> dict[FileState, int]:
    """How many of a run's files are in each state."""
    rows = await tx.rows(
        "SELECT state, count(*) FROM run_files WHERE run_id = %(run)s GROUP BY state",
        {"run": run_id},
    )
    return {row[0]: row[1] for row in rows}


async def count_documents(tx: Transaction, run_id: UUID) -> dict[str, int]:
    """How many documents of a run's files were added, updated and unchanged."""
    rows = await tx.rows(
        "SELECT state, count(*) FROM run_files WHERE run_id = %(run)s"
        " AND document_id IS NOT NULL GROUP BY state",
        {"run": run_id},
    )
    return {row[0]: row[1] for row in rows}


async def page(
    tx: Transaction, run_id: UUID, *, after: int, limit: int, state: FileState | None
) -> list[RunFile]:
    rows = await tx.rows(
        f"SELECT {COLUMNS} FROM run_files f WHERE run_id = %(run)s AND number > %(after)s"
        " AND (%(state)s::text IS NULL OR state = %(state)s) ORDER BY number LIMIT %(limit)s",
        {"run": run_id, "after": after, "limit": limit, "state": state},
    )
    return [_file(row) for row in rows]


def _file(row: Record) -> RunFile:
    return RunFile(*row)
