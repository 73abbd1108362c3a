"""Skills: which there are, what each takes, and their runs.

A run is done in the worker; here it is checked, started, and waited for.
"""

import asyncio
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from jsonschema_rs import ValidationError

from ai_stack.database import Database, artifacts
from ai_stack.database.artifacts import StoredFile
from ai_stack.errors import (
    AIStackError,
    InvalidRequest,
    NotFound,
    SkillFailed,
    TooLarge,
    Unsupported,
)
from ai_stack.models.principals import Principal, Scope
from ai_stack.models.runs import Run
from ai_stack.models.skills import Artifact, Listed, Opened
from ai_stack.services.inference.schemas import compiled
from ai_stack.services.runs import Runs
from ai_stack.services.skills.catalog import Catalog, Entry
from ai_stack.services.skills.schemas import Schemas
from ai_stack.skill.manifest import FILE

KIND, QUEUE = "skill", "skills"
SLACK_S = 30.0
MOST_ERRORS = 10
WORD = re.compile(r"[a-z0-9]{2,}")
FILE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Skills:
    """The skills of the stack and of the user."""

    database: Database
    catalog: Catalog
    schemas: Schemas
    runs: Runs

    async def items(self) -> list[Listed]:
        """Every skill by its name, those that cannot run here with what they lack."""
        entries = await self.catalog.entries()
        found = [(entries[name], *await self.schemas.of(entries[name])) for name in sorted(entries)]
        return await asyncio.to_thread(lambda: [self.catalog.listed(*one) for one in found])

    async def get(self, name: str) -> Listed:
        """One skill; NotFound."""
        return await self._listed(await self.catalog.entry(name))

    async def find(self, query: str, limit: int | None = None) -> list[Listed]:
        """The skills whose name and description have most of a query's words; those that are ready
        come before others of the same rank."""
        listed = [one for one in await self.items() if one.description]
        texts = {one.name: {*words(f"{one.name} {one.description}")} for one in listed}
        spread = Counter(word for text in texts.values() for word in text)
        wanted = words(query)

        def score(one: Listed) -> float:
            found = [word for word in wanted if word in texts[one.name]]
            return sum(math.log(1 + len(listed) / spread[word]) for word in found)

        ranked = sorted(listed, key=lambda one: (score(one), one.ready), reverse=True)
        return [one for one in ranked if score(one) > 0][:limit]

    async def open(self, name: str) -> Opened:
        """One skill with its instructions and the files of its folder; NotFound."""
        entry = await self.catalog.entry(name)
        listed = await self._listed(entry)
        if entry.found is None:
            return Opened(listed, "", {})
        return Opened(listed, entry.found.manifest.body, await self.files(name))

    async def instructions(self, name: str) -> str:
        """The body of its SKILL.md."""
        return (await self.catalog.entry(name)).skill().manifest.body

    async def files(self, name: str) -> dict[str, int]:
        """The files of its folder, with their sizes in bytes; SKILL.md is the first."""
        return await asyncio.to_thread(_sizes, await self._folder(name))

    async def file(self, name: str, path: str) -> bytes:
        """One of these files; NotFound, TooLarge."""
        size_bytes = (await self.files(name)).get(path)
        if size_bytes is None:
            raise NotFound(f"{name} has no file {path[:100]!r}.")
        if size_bytes > FILE_BYTES:
            raise TooLarge(f"This file is larger than {FILE_BYTES >> 20} MiB; read it on its disk.")
        return await asyncio.to_thread((await self._folder(name) / path).read_bytes)

    async def contents(self, name: str) -> dict[str, bytes]:
        """These files as they are, those aside that `file` does not give."""
        folder = await self._folder(name)
        return await asyncio.to_thread(
            lambda: {
                path: (folder / path).read_bytes()
                for path, size_bytes in _sizes(folder).items()
                if size_bytes <= FILE_BYTES
            }
        )

    async def execute(
        self,
        principal: Principal,
        name: str,
        parameters: Mapping[str, Any],
        *,
        background: bool = False,
    ) -> Run:
        """Run a skill: the run when it has ended, or as it is when `background` or after its time.

        Raises NotFound, InvalidRequest naming each field that is wrong, Unsupported for a skill of
        instructions, SkillFailed for one that lacks something here.
        """
        principal.require(Scope.SKILLS)
        listed = await self.get(name)
        if not listed.ready:
            raise _refusal(listed)
        check(listed, parameters)
        run = await self.runs.start(
            principal, KIND, {"skill": name, "parameters": dict(parameters)}
        )
        if background:
            return run
        time_s = (await self.catalog.entry(name)).skill().manifest.permissions.time_s
        return await self.runs.wait(principal, run.id, time_s + SLACK_S)

    async def artifacts(self, principal: Principal, run_id: UUID) -> list[Artifact]:
        """The files of a run, in their order; NotFound for a run that there is not."""
        await self.runs.get(principal, run_id)
        async with self.database.transaction(principal.project_id) as tx:
            files = await artifacts.of_run(tx, run_id)
        return [Artifact(file.name, file.media_type, file.size_bytes) for file in files]

    async def artifact(self, principal: Principal, run_id: UUID, name: str) -> StoredFile:
        """A file that a run made; NotFound."""
        async with self.database.transaction(principal.project_id) as tx:
            found = await artifacts.find(tx, run_id, name)
        if found is None:
            raise NotFound(f"This run has no file {name[:100]!r}.")
        return found

    def content(self, principal: Principal, run_id: UUID, file: StoredFile) -> AsyncIterator[bytes]:
        """A file's bytes, as they come from the database."""
        return artifacts.pieces(self.database, principal.project_id, run_id, file.number)

    async def _listed(self, entry: Entry) -> Listed:
        schema, fault = await self.schemas.of(entry)
        return await asyncio.to_thread(self.catalog.listed, entry, schema, fault)

    async def _folder(self, name: str) -> Path:
        return (await self.catalog.entry(name)).skill().folder


def check(listed: Listed, parameters: Mapping[str, Any]) -> None:
    """InvalidRequest for parameters that a skill does not take, with each field's fault."""
    validator = compiled(dict(listed.parameters)).validator
    errors = islice(validator.iter_errors(dict(parameters)), MOST_ERRORS)
    fields = {place: why for error in errors for place, why in _faults(error)}
    if fields:
        told = "; ".join(f"{place}: {why}" for place, why in fields.items())
        raise InvalidRequest(f"{listed.name} cannot take this: {told}.", fields=fields)


def _sizes(folder: Path) -> dict[str, int]:
    """A folder's files; a link that leads out of it is none of them."""
    top = folder.resolve()
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts and path.is_file() and path.resolve().is_relative_to(top)
    ]
    found.sort(key=lambda path: path.name != FILE or path.parent != folder)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}


def _faults(error: ValidationError) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it): a field that is missing or unknown is named itself."""
    place = [str(step) for step in error.instance_path]
    missing, unknown = getattr(error.kind, "property", None), getattr(error.kind, "unexpected", ())
    stray = getattr(getattr(error.kind, "error", None), "instance", None)
    if isinstance(missing, str):
        yield ".".join([*place, missing]), "is needed"
    elif isinstance(stray, str):
        yield ".".join([*place, stray]), "is not known"  # of another action, or of none
    elif unknown:
        yield from ((".".join([*place, str(name)]), "is not known") for name in unknown)
    else:
        yield ".".join(place) or "parameters", error.message[:300]


def words(text: str) -> list[str]:
    """Words to find skills by, endings of the plural cut."""
    return [word.removesuffix("s") for word in WORD.findall(text.lower())]


def _refusal(listed: Listed) -> AIStackError:
    if not listed.acts and listed.description:
        return Unsupported(f"{listed.name} is instructions: read them, there is nothing to run.")
    return SkillFailed(f"{listed.name} cannot run here. {listed.missing}")
