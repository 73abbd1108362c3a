"""Verifies a backup: by its bytes and its key, or by a restore into servers of its own."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_stack.services.backup import Header, Progress, bundle, silent
from ai_stack.services.backup.building import Build
from ai_stack.services.backup.checking import check, refuse_newer
from ai_stack.services.backup.sources import servers_of
from ai_stack.settings import Settings
from ai_stack.supervisor import scratch

NEW = ("postgres", "redis-kept")
ELSEWHERE = dict.fromkeys(
    (
        *("database_url", "database_admin_url", "postgres_host"),
        *("redis_url", "redis_host", "redis_kept_url"),
    )
)


@dataclass(frozen=True, slots=True)
class Verified:
    """What was seen: `depth` is `bytes` without the key, `parts` with it, or `restored`."""

    bundle: Path
    depth: str
    header: Header
    rows: int
    queries: int
    took_s: float


async def verify(
    settings: Settings,
    path: Path,
    identities: Sequence[Any],
    *,
    restored: bool = False,
    told: Progress = silent,
) -> Verified:
    """See that a backup is whole, and with `restored` that it can be restored: into a PostgreSQL
    of its own, whose rows and nearest passages are those that were backed up.

    An encrypted one is known by its bytes alone where there is no identity.
    Raises StackError, as a restore of it would.
    """
    began = time.monotonic()
    header = bundle.read_header(path)
    if header.encrypted and not identities and not restored:
        bundle.check_bytes(path)
        refuse_newer(header)
        return Verified(path, "bytes", header, 0, 0, _since(began))
    checked = await check(path, identities, told)
    manifest, queries = checked.manifest, 0
    if restored:
        await _restored(settings, Build(checked, identities, None, told))
        queries = len(manifest.probes)
    depth, rows = "restored" if restored else "parts", sum(manifest.counts.values())
    return Verified(path, depth, header, rows, queries, _since(began))


async def _restored(settings: Settings, build: Build) -> None:
    place = settings.data_dir if settings.data_dir.is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix=".verify-", dir=place))
    apart = settings.model_copy(update={**ELSEWHERE, "data_dir": folder, "backup_wal": False})
    try:
        account = scratch.account_of(apart)
        scratch.make_folders(folder, account, NEW)
        async with scratch.servers(apart, account) as running:
            found = servers_of(running)
            await build.files({})
            await build.put_kept(found.kept)
            await build.database(found.owner)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 2)
