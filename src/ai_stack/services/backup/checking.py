"""Looks a bundle over before anything is done with it: whole, known, and opened by the key."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_stack.database import migrating
from ai_stack.errors import NotFound, StackError
from ai_stack.services.backup import (
    DATABASE,
    SUFFIX,
    Header,
    Manifest,
    Progress,
    bundle,
    shelf,
    silent,
)
from ai_stack.supervisor import programs


@dataclass(frozen=True, slots=True)
class Checked:
    """A bundle that may be used; `listed` is the table of contents of its database."""

    path: Path
    size_bytes: int
    manifest: Manifest
    listed: Sequence[str]
    files_bytes: int


@dataclass
class _Seen:
    """What of a bundle's files is needed to judge it."""

    head: bytearray = field(default_factory=bytearray)
    files_bytes: int = 0
    manifest: Manifest | None = None


def find(name: Path) -> Path:
    """The bundle that is meant: a file, or the newest one in a folder; NotFound without any."""
    if name.is_dir():
        found = shelf.ordered(name.rglob(f"[!.]*{SUFFIX}"))
        if not found:
            raise NotFound(f"There is no backup in {name}.")
        return found[0].path
    if not name.is_file():
        raise NotFound(f"There is no backup {name}.")
    return name


async def check(path: Path, identities: Sequence[Any], told: Progress = silent) -> Checked:
    """Read a bundle to its end, twice, and change nothing.

    StackError for one that is foreign, truncated, damaged, newer or encrypted for another key.
    """
    size, done = path.stat().st_size, 0

    def count(read: int) -> None:
        nonlocal done
        done += read
        told("bytes", done, size)

    header = await asyncio.to_thread(bundle.check_bytes, path, count)
    refuse_newer(header)
    seen = await asyncio.to_thread(_read, path, identities, told)
    manifest = seen.manifest
    if manifest is None or manifest.header != header or DATABASE not in manifest.shares:
        raise bundle.Damaged("The backup is damaged: it does not hold what it says that it is.")
    listed = await programs.listing(programs.newest_folder(programs.LOCAL), bytes(seen.head))
    return Checked(path, size, manifest, listed, seen.files_bytes)


def refuse_newer(header: Header) -> None:
    """StackError for a bundle whose tables this version does not know."""
    if header.revision not in migrating.revisions():
        raise StackError(
            f"The backup is of AI Stack {header.product}, whose tables (revision "
            f"{header.revision}) are newer than this version's: install that version."
        )


def _read(path: Path, identities: Sequence[Any], told: Progress) -> _Seen:
    seen = _Seen()
    with bundle.opened(path, identities) as reader:
        for number, entry in enumerate(reader.entries(), 1):
            told("files", number, None)
            if entry.part != DATABASE:
                seen.files_bytes += entry.size_bytes
            elif len(seen.head) < programs.HEAD_BYTES:
                seen.head += b"".join(entry.pieces())
        seen.manifest = reader.manifest
    return seen
