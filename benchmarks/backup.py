"""A backup and its restore beside pg_dump's own: time, and bytes on the disk.

    python benchmarks/backup.py [--passages 10000] [--rounds 3]

One supervised PostgreSQL holds passages with vectors of 384 numbers, made by SQL. Each round backs
it up by the stack, plain and encrypted, and by `pg_dump` with the same compression, verifies, and
restores by both into new clusters or databases, so that all are measured within the same minutes.
What a restore checks, every count of rows and ten queries, is in its time.
"""

import argparse
import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyrage

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests")]

from ai_stack.services.backup.creating import create  # noqa: E402
from ai_stack.services.backup.verifying import verify  # noqa: E402
from ai_stack.settings import Settings  # noqa: E402
from ai_stack.supervisor import postgres, programs  # noqa: E402
from stacks import Stack, stack  # noqa: E402

PARTS = ("postgres", "roles", "redis-kept", "migrate")
FILL = """
INSERT INTO aidb.models (key, name, weights, dimensions, description, state)
  VALUES ('m', 'm', 'w', 384, '{{}}', 'active');
CREATE TABLE aidb.embeddings_1 PARTITION OF aidb.embeddings FOR VALUES IN (1);
INSERT INTO aidb.documents (project_id, content, metadata)
  SELECT p.id, string_agg(md5(random()::text), ' '), jsonb_build_object('n', n)
  FROM aidb.projects p, generate_series(1, {count}) n, generate_series(1, 30) w
  GROUP BY p.id, n;
INSERT INTO aidb.chunks (project_id, document_id, content_version, ordinal, start_at, end_at, text,
                         words)
  SELECT project_id, id, content_version, 0, 0, length(content), content,
         public.search_words(content) FROM aidb.documents;
INSERT INTO aidb.embeddings (model_id, chunk_id, project_id, document_id, vector)
  SELECT 1, c.id, c.project_id, c.document_id,
         (SELECT array_agg((random() - 0.5)::real) FROM generate_series(1, 384)
          WHERE c.ordinal = 0)::halfvec FROM aidb.chunks c;
ANALYZE;
"""
Seen = dict[str, list[float]]


def main() -> None:
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="ai-stack-benchmark-", dir="/tmp"))
    folder.chmod(0o755)
    seen: Seen = {}
    try:
        with stack(folder / "data", chosen=PARTS) as running:
            running.up(300)
            running.sql(FILL.format(count=options.passages))
            size = int(running.sql("SELECT pg_database_size('aidb')"))
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
                _round(running, folder, seen)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.passages} passages, a database of {size / 1e6:.0f} MB; medians")
    for name, values in seen.items():
        print(f"{name:34} {statistics.median(values):10.1f}")


def _round(running: Stack, folder: Path, seen: Seen) -> None:
    settings = running.settings
    key = pyrage.x25519.Identity.generate()
    sealed = settings.model_copy(update={"backup_recipients": str(key.to_public())})
    for word, given, keys in (("plain", settings, []), ("encrypted", sealed, [key])):
        path = _ours(word, given, keys, seen)
        path.unlink()
    _theirs(running, folder / "dump", seen)


def _ours(word: str, settings: Settings, keys: Sequence[object], seen: Seen) -> Path:
    began = time.monotonic()
    made = asyncio.run(create(settings))
    _add(seen, f"backup, {word}, s", time.monotonic() - began)
    _add(seen, f"backup, {word}, MB", made.size_bytes / 1e6)
    began = time.monotonic()
    asyncio.run(verify(settings, made.path, keys))
    _add(seen, f"verify, {word}, s", time.monotonic() - began)
    began = time.monotonic()
    asyncio.run(verify(settings, made.path, keys, restored=True))
    _add(seen, f"verify --restore, {word}, s", time.monotonic() - began)
    return made.path


def _theirs(running: Stack, dump: Path, seen: Seen) -> None:
    where = ("-h", str(running.settings.runtime), "-U", "postgres")
    tools = postgres.binaries(18)
    began = time.monotonic()
    subprocess.run(
        [tools / "pg_dump", *where, "-Fc", "-Z", programs.COMPRESSION, "-f", dump, "aidb"],
        check=True,
    )
    _add(seen, "pg_dump, s", time.monotonic() - began)
    _add(seen, "pg_dump, MB", dump.stat().st_size / 1e6)
    subprocess.run([tools / "createdb", *where, "other"], check=True)
    began = time.monotonic()
    subprocess.run([tools / "pg_restore", *where, "-1", "-d", "other", dump], check=True)
    _add(seen, "pg_restore, s", time.monotonic() - began)
    subprocess.run([tools / "dropdb", *where, "other"], check=True)


def _add(seen: Seen, name: str, value: float) -> None:
    seen.setdefault(name, []).append(value)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
