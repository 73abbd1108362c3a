"""Files that go into a run and come out of it: references become paths, what was made is kept.

A caller names a file in one of a few forms. Whatever the form, the skill finds a path that it may
read and nobody else's.
"""

import asyncio
import base64
import binascii
import mimetypes
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes
from uuid import UUID

from ai_stack.database import Database, artifacts
from ai_stack.database import documents as document_rows
from ai_stack.database.artifacts import StoredFile
from ai_stack.errors import InvalidRequest, NotFound, SkillFailed, TooLarge
from ai_stack.models.principals import Principal
from ai_stack.models.skills import Artifact, media_type_of
from ai_stack.services.storable import require_storable
from ai_stack.services.uploads import path_of

MOST_ARTIFACTS, ALL_BYTES, PIECE_BYTES = 64, 256 << 20, 1 << 20
MEMBERS, UNPACKED_BYTES, RATIO, RATIO_FROM = 20_000, 1 << 30, 200, 64 << 20
HEX = "[0-9a-fA-F]"
RUN = re.compile(rf"run:({HEX}{{8}}(?:-{HEX}{{4}}){{3}}-{HEX}{{12}})/(.+)", re.DOTALL)
DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w-]+=[^;,]*)*)(;base64)?,(.*)", re.DOTALL)
FORMS = "run:ID/NAME, document:ID, a data: URL, or a path in a folder that is open to skills"
Steps: TypeAlias = tuple[str | int, ...]


@dataclass(slots=True)
class Inputs:
    """The files of one run: `folder` takes what is written out for it, `reads` is all it reads."""

    database: Database
    principal: Principal
    open_folders: Sequence[Path]
    folder: Path
    reads: list[Path] = field(default_factory=list)

    async def resolved(self, schema: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments with a path for each file and folder; InvalidRequest names a wrong one."""
        arguments = _copied(given)
        for steps, kind in references(schema, given):
            value = _at(arguments, steps)
            path = await self._path(str(value), len(self.reads))
            self.reads.append(path)
            if kind == "folder" and not path.is_dir():
                path = await asyncio.to_thread(unpacked, path, path.parent / "unpacked")
            if kind == "file" and not path.is_file():
                raise InvalidRequest(f"{_place(steps)}: this is no file.")
            _at(arguments, steps[:-1])[steps[-1]] = str(path)
        found: dict[str, Any] = arguments
        return found

    async def _path(self, reference: str, number: int) -> Path:
        require_storable(reference, "A file's name")
        place = self.folder / str(number)
        if found := RUN.fullmatch(reference):
            return await self._of_run(UUID(found[1]), found[2], place)
        if reference.startswith("document:"):
            return await self._of_document(reference.removeprefix("document:"), place)
        if reference.startswith("data:"):
            return written(place, *from_data_url(reference))
        return self._of_machine(reference)

    async def _of_run(self, run_id: UUID, name: str, place: Path) -> Path:
        async with self.database.transaction(self.principal.project_id) as tx:
            file = await artifacts.find(tx, run_id, name)
        if file is None:
            raise NotFound(f"Run {run_id} has no file {name[:100]!r}.")
        path = written(place, file.name, b"")
        project = self.principal.project_id
        with path.open("wb") as target:
            async for piece in artifacts.pieces(self.database, project, run_id, file.number):
                target.write(piece)
        return path

    async def _of_document(self, id: str, place: Path) -> Path:
        async with self.database.transaction(self.principal.project_id) as tx:
            document = await document_rows.find(tx, id)
        name = path_of(document.id).rpartition("/")[2]
        return written(place, name if "." in name else f"{name}.txt", document.content.encode())

    def _of_machine(self, reference: str) -> Path:
        """A path on the machine of the stack, links followed before it is judged."""
        path = Path(reference)
        if not path.is_absolute():
            raise InvalidRequest(f"{reference[:100]!r} is no file: name one as {FORMS}.")
        real = path.resolve()
        if not any(real.is_relative_to(folder.resolve()) for folder in self.open_folders):
            raise InvalidRequest(
                "This path is in no folder that is open to skills: AI_STACK_SKILL_PATHS names"
                " them. `ai-stack skills run` sends a file of yours instead."
            )
        if not real.exists():
            raise NotFound(f"There is no file {reference[:200]!r}.")
        return real


def references(
    schema: Mapping[str, Any], value: object, root: Mapping[str, Any] | None = None
) -> Iterator[tuple[Steps, str]]:
    """Where in a value files and folders are named, by its schema: (steps, "file" or "folder")."""
    root = schema if root is None else root
    schema = _referred(schema, root)
    kind = schema.get("format")
    if isinstance(value, str) and kind in ("file", "folder"):
        yield (), kind
        return
    found: dict[Steps, str] = {}
    for option in schema.get("anyOf", ()):
        found |= references(option, value, root)
    for step, part, below in _below(schema, value):
        found |= {(step, *steps): kind for steps, kind in references(part, below, root)}
    yield from found.items()


def _below(
    schema: Mapping[str, Any], value: object
) -> Iterator[tuple[str | int, Mapping[str, Any], object]]:
    if isinstance(value, Mapping):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, below in value.items():
            part = known.get(name, others)
            if isinstance(part, Mapping):
                yield name, part, below
    items = schema.get("items")
    if isinstance(value, list) and isinstance(items, Mapping):
        for number, below in enumerate(value):
            yield number, items, below


def _referred(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    found: Mapping[str, Any] = root.get("$defs", {}).get(name, schema) if name else schema
    return found


def from_data_url(url: str) -> tuple[str, bytes]:
    """(name, content) of a data: URL (RFC 2397), which may have a `name` parameter."""
    found = DATA.fullmatch(url)
    if found is None:
        raise InvalidRequest("This is no data: URL, as in `data:text/plain;base64,SGVsbG8=`.")
    media_type, more, encoded, text = found.groups()
    try:
        data = base64.b64decode(text, validate=True) if encoded else unquote_to_bytes(text)
    except (binascii.Error, ValueError):
        raise InvalidRequest("What a data: URL says to be base64 is not.") from None
    parameters = dict(part.split("=", 1) for part in more.split(";") if part)
    name = unquote_to_bytes(parameters.get("name", "")).decode(errors="replace")
    suffix = mimetypes.guess_extension(media_type or "text/plain") or ""
    return name or f"file{suffix}", data


def written(folder: Path, name: str, data: bytes) -> Path:
    """A file in a folder of its own, under the last part of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (path_of(name).rpartition("/")[2][-200:] or "file")
    path.write_bytes(data)
    return path


def unpacked(archive: Path, folder: Path) -> Path:
    """A folder with what a zip archive holds: no bomb, no link, nothing outside the folder.

    An archive of one folder alone gives that one.
    """
    try:
        with zipfile.ZipFile(archive) as found:
            _check_archive(found, archive.stat().st_size)
            for entry in found.infolist():
                _unpack(found, entry, folder)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, OSError, EOFError):
        raise InvalidRequest(
            "A folder is sent as a zip archive; this is none, or damaged."
        ) from None
    inside = [*folder.iterdir()] if folder.is_dir() else []
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _check_archive(archive: zipfile.ZipFile, size_bytes: int) -> None:
    entries = archive.infolist()
    total = sum(entry.file_size for entry in entries)
    ratio = total / max(1, size_bytes)
    if len(entries) > MEMBERS or total > UNPACKED_BYTES or (total > RATIO_FROM and ratio > RATIO):
        raise TooLarge("This archive unpacks to more than a skill is given.")


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    name = path_of(entry.filename)
    if entry.is_dir() or not name or stat.S_ISLNK(entry.external_attr >> 16):
        return
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, PIECE_BYTES)


async def kept(
    database: Database, principal: Principal, run_id: UUID, folder: Path
) -> list[Artifact]:
    """Store the files that a run left, links and folders aside; SkillFailed for too much."""
    found = await asyncio.to_thread(left_behind, folder)
    size_bytes = sum(path.stat().st_size for path in found)
    if len(found) > MOST_ARTIFACTS or size_bytes > ALL_BYTES:
        raise SkillFailed(
            f"It made more than it may: {MOST_ARTIFACTS} files, {ALL_BYTES >> 20} MiB together."
        )
    made = [_stored(n, path, folder) for n, path in enumerate(found)]
    for file, path in zip(made, found, strict=True):
        data = await asyncio.to_thread(path.read_bytes)
        async with database.transaction(principal.project_id) as tx:
            await artifacts.keep(tx, run_id, file, data)
    return [Artifact(file.name, file.media_type, file.size_bytes) for file in made]


def left_behind(folder: Path) -> list[Path]:
    """The files that a run left in its folder; links lead elsewhere, and are not followed."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def _stored(number: int, path: Path, folder: Path) -> StoredFile:
    name = path_of(path.relative_to(folder).as_posix()) or f"file-{number}"
    return StoredFile(number, name, media_type_of(name), path.stat().st_size)


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(below) for name, below in value.items()}
    return [_copied(below) for below in value] if isinstance(value, list) else value


def _at(value: Any, steps: Steps) -> Any:
    for step in steps:
        value = value[step]
    return value


def _place(steps: Steps) -> str:
    return ".".join(map(str, steps))
