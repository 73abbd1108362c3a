"""One run of a skill, in the worker: files in, the skill itself, files out, a row of its log."""

import asyncio
import json
import logging
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai_stack.database import Database, artifacts
from ai_stack.errors import AIStackError, SkillFailed, Unavailable
from ai_stack.models.documents import JSON
from ai_stack.sandbox import Confinement
from ai_stack.services.handlers import RunContext
from ai_stack.services.skills.abilities import Abilities
from ai_stack.services.skills.apart import Apart, Log
from ai_stack.services.skills.catalog import Catalog
from ai_stack.services.skills.files import Inputs, kept
from ai_stack.services.skills.schemas import Schemas
from ai_stack.settings import variables
from ai_stack.skill import Context
from ai_stack.skill.context import Calls
from ai_stack.skill.discovery import FoundSkill
from ai_stack.skill.manifest import Permissions
from ai_stack.skill.wire import Order, result_json
from ai_stack.telemetry.metrics import Counted

LOG_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of one run: what comes in, what is to be kept, what is gone afterwards."""

    inputs: Path
    folder: Path
    scratch: Path


@dataclass(frozen=True, slots=True)
class Execution:
    """The handler of runs of kind `skill`."""

    database: Database
    catalog: Catalog
    schemas: Schemas
    apart: Apart
    abilities: Abilities
    open_folders: tuple[Path, ...]
    counted: Counted = field(default_factory=Counted)

    async def __call__(self, context: RunContext) -> Mapping[str, JSON]:
        """Do the run; what the skill could not do is SkillFailed, and never tried again.

        A skill may have done half of its work when its worker died, so it is not taken up anew.
        """
        if context.tries:
            raise SkillFailed("It was interrupted, and may have done a part of its work.")
        name, started = str(context.input["skill"]), time.monotonic()
        status = "failed"
        try:
            found = await self._run(context, name)
            status = "succeeded"
            return found
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        except Unavailable as error:
            raise SkillFailed(error.message) from error
        finally:
            await asyncio.shield(self._log(context, name, status, time.monotonic() - started))

    async def _run(self, context: RunContext, name: str) -> dict[str, JSON]:
        entry = await self.catalog.entry(name)
        skill = entry.skill()
        schema, fault = await self.schemas.of(entry)
        missing = fault or self.catalog.missing(entry.source, skill.manifest)
        if missing:
            raise SkillFailed(missing)
        async with run_folders() as place:
            given = context.input["parameters"]
            assert isinstance(given, Mapping)
            inputs = Inputs(self.database, context.principal, self.open_folders, place.inputs)
            arguments = await inputs.resolved(schema, given)
            answer = await self._done(context, skill, arguments, place, inputs.reads)
            made = await kept(self.database, context.principal, context.run.id, place.folder)
        return {**answer, "artifacts": [artifact.json() for artifact in made]}

    async def _done(
        self,
        context: RunContext,
        skill: FoundSkill,
        arguments: dict[str, Any],
        place: Place,
        reads: list[Path],
    ) -> dict[str, Any]:
        permissions = skill.manifest.permissions
        calls = self.abilities.of(context, permissions)
        if permissions.isolation == "inline":
            return await _inline(skill, arguments, place, calls)
        order, log = order_of(skill.folder, permissions, place, reads, arguments), Log()
        try:
            return await self.apart.run(order, permissions.time_s, calls, log)
        except SkillFailed:
            await _tell(context, log)
            raise

    async def _log(self, context: RunContext, skill: str, status: str, took_s: float) -> None:
        self.counted.skills.observe(took_s, skill, status)
        detail = json.dumps({"run": str(context.run.id)})
        try:
            async with self.database.transaction(context.principal.project_id) as tx:
                await artifacts.log_skill(tx, skill, status, took_s * 1000, detail)
        except AIStackError as error:
            logging.getLogger(__name__).warning("a skill's run is not logged: %s", error.message)


async def _inline(
    skill: FoundSkill, arguments: dict[str, Any], place: Place, calls: Calls
) -> dict[str, Any]:
    """Run one of ours in this process."""
    log = logging.getLogger(f"skill.{skill.name}")
    bound = skill.bound(Context(place.folder, place.scratch, calls, log))
    time_s = skill.manifest.permissions.time_s
    try:
        async with asyncio.timeout(time_s):
            return result_json(await bound.execute(**arguments))
    except TimeoutError:
        raise SkillFailed(f"It was ended after {time_s:g} s, its time.") from None


def order_of(
    skill: Path,
    permissions: Permissions,
    place: Place,
    reads: Sequence[Path],
    arguments: Mapping[str, Any],
) -> Order:
    """A run of a skill in a process apart."""
    bounds = bounds_of(skill, permissions, place, reads)
    return Order(str(skill), str(place.folder), str(place.scratch), bounds, arguments)


def bounds_of(
    skill: Path, permissions: Permissions, place: Place, reads: Sequence[Path]
) -> Confinement:
    """What its process may touch: what its SKILL.md states, its inputs, and the run's folders."""
    return Confinement(
        reads=[skill, place.inputs, *reads, *_folders(permissions.reads)],
        writes=[place.folder, place.scratch, *_folders(permissions.writes)],
        network=permissions.network == "host",
        programs=bool(permissions.programs),
        memory_bytes=permissions.memory_bytes,
        mapped_bytes=permissions.mapped_bytes,
        cpu_s=permissions.time_s * 4,  # several threads may work at once
        open_files=4096 if permissions.programs else 256,
        environment=variables(permissions.secrets),
    )


def _folders(named: tuple[str, ...]) -> list[Path]:
    found = [Path(name).expanduser() for name in named]
    return [path for path in found if path.exists()]


async def _tell(context: RunContext, log: Log) -> None:
    """Put the end of a failed skill's log among the events of its run."""
    if log.lines:
        await context.event("step", {"log": [*log.lines][-LOG_SHOWN:]})


@asynccontextmanager
async def run_folders() -> AsyncIterator[Place]:
    """The folders of one run, gone when it is over."""
    top = Path(tempfile.mkdtemp(prefix="ai-stack-skill-"))
    place = Place(top / "in", top / "out", top / "scratch")
    try:
        for folder in (place.inputs, place.folder, place.scratch):
            folder.mkdir()
        yield place
    finally:
        await asyncio.shield(asyncio.to_thread(removed, top))


def removed(folder: Path) -> None:
    """Remove a folder with all below it, however deep a skill has made it."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        subprocess.run(["/bin/rm", "-rf", "--", folder], check=False)
