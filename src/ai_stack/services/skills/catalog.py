"""Which skills there are, and what each lacks here; nothing of a skill is imported for it.

Ours come with the stack, others lie in folders of the user's. A name of ours stays ours. The
folders are looked at anew when one of them has changed.
"""

import asyncio
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ai_stack.errors import NotFound, SkillFailed
from ai_stack.models.skills import Listed, SkillSource
from ai_stack.sandbox import Sandbox
from ai_stack.settings import plain_environment
from ai_stack.skill.discovery import OURS, FoundSkill, discover_skills
from ai_stack.skill.manifest import Manifest

INLINE_IS_OURS = "Only skills of the stack run inline: leave `ai-stack-isolation` out."
NEEDS_WALL = "It asks for the network, which code that is not ours gets only behind bubblewrap."
DISPENSABLE = "?"  # ends a choice of programs that a skill can do without
NO_WALL = "It runs a browser, which needs bubblewrap: Debian has it as `bubblewrap`."
WEAK = "This machine has neither bubblewrap nor Landlock, without which no foreign code is run."

Stamps: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A skill of the catalog, or a folder that is none, with its fault."""

    name: str
    source: SkillSource
    found: FoundSkill | None
    fault: str = ""

    def skill(self) -> FoundSkill:
        """The skill; SkillFailed tells what is wrong with a folder that is none."""
        if self.found is None:
            raise SkillFailed(self.fault)
        return self.found


@dataclass(slots=True)
class Catalog:
    """The skills of all folders; `sandbox` decides what foreign code may be run here."""

    folders: Sequence[Path]
    sandbox: Sandbox
    _seen: dict[Path, Stamps] = field(default_factory=dict)
    _entries: dict[str, Entry] = field(default_factory=dict)
    _present: set[str] = field(default_factory=set)

    async def entries(self) -> Mapping[str, Entry]:
        """Every skill and every broken folder, by name."""
        return await asyncio.to_thread(self._looked)

    def _looked(self) -> Mapping[str, Entry]:
        seen = {folder: _stamps(folder) for folder in (OURS, *self.folders)}
        if seen != self._seen:
            self._entries = {entry.name: entry for entry in self._found()}
            self._seen = seen
        return self._entries

    async def entry(self, name: str) -> Entry:
        """One of them; NotFound."""
        found = (await self.entries()).get(name)
        if found is None:
            raise NotFound(f"There is no skill {name[:100]!r}; GET /skills lists those there are.")
        return found

    def _found(self) -> Iterator[Entry]:
        """The user's first, so that a name of ours ends as ours."""
        places: list[tuple[Path, SkillSource]] = [(f, "user") for f in self.folders]
        for folder, source in [*places, (OURS, "ours")]:
            skills = discover_skills(folder)
            yield from (Entry(name, source, skill) for name, skill in skills.items())
            yield from (Entry(name, source, None, fault) for name, fault in skills.broken.items())

    def listed(self, entry: Entry, parameters: Mapping[str, Any], fault: str = "") -> Listed:
        """As callers see it; `fault` is what its loading ran into."""
        if entry.found is None:
            return Listed(entry.name, "", entry.source, False, False, entry.fault, {}, {})
        manifest, acts = entry.found.manifest, entry.found.acts
        missing = fault or (self.missing(entry.source, manifest) if acts else "")
        return Listed(
            name=entry.name,
            description=manifest.description,
            source=entry.source,
            acts=acts,
            ready=acts and not missing,
            missing=missing,
            parameters=parameters if acts else {},
            permissions=permissions_json(manifest) if acts else {},
            license=manifest.license,
            compatibility=manifest.compatibility,
            allowed_tools=manifest.allowed_tools,
        )

    def missing(self, source: SkillSource, manifest: Manifest) -> str:
        """What it lacks to run here, in one line; empty when it is ready."""
        lacks = [*self._packages(manifest), *_programs(manifest)]
        if manifest.permissions.wall == "bubblewrap" and not self.sandbox.walls:
            lacks.append(NO_WALL)
        if source == "user":
            lacks += self._refusals(manifest)
        return " ".join(lacks)

    def _packages(self, manifest: Manifest) -> Iterator[str]:
        """What of Python it lacks; a package that is absent is looked for again, as it may come."""
        self._present |= {name for name in manifest.python if self._is_present(name)}
        absent = [name for name in manifest.python if name not in self._present]
        if absent:
            wanted = f"nixos-ai-stack[{manifest.extra}]" if manifest.extra else " ".join(absent)
            yield (
                f"It needs the Python packages {', '.join(absent)}: "
                f"`{sys.executable} -m pip install '{wanted}'` brings them."
            )

    def _is_present(self, name: str) -> bool:
        return name in self._present or _importable(name)

    def _refusals(self, manifest: Manifest) -> Iterator[str]:
        """Why code that is not ours does not run here."""
        if manifest.permissions.isolation == "inline":
            yield INLINE_IS_OURS
        if self.sandbox.name == "limits":
            yield WEAK
        elif manifest.permissions.network == "host" and self.sandbox.name != "bubblewrap":
            yield NEEDS_WALL


def permissions_json(manifest: Manifest) -> dict[str, Any]:
    """What it may touch; what is nothing is left out."""
    return {name: value for name, value in asdict(manifest.permissions).items() if value}


def _programs(manifest: Manifest) -> Iterator[str]:
    for choice in manifest.permissions.programs:
        names = choice.split("|")
        if choice.endswith(DISPENSABLE):
            continue
        if not any(shutil.which(name, path=search_path()) for name in names):
            yield f"It needs the program {' or '.join(names)}, which is not on PATH; install it."


def search_path() -> str:
    """Where skills' programs are looked for: those that came with our packages first."""
    return os.pathsep.join([f"{sys.prefix}/bin", plain_environment().get("PATH", os.defpath)])


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name.partition(".")[0]) is not None  # imports nothing
    except (ImportError, ValueError):
        return False


def _stamps(folder: Path) -> Stamps:
    """What a folder and each skill's files are and when they changed, without reading any.

    In a Nix store all files have one time, and another version is another file.
    """
    if not folder.is_dir():
        return ()
    files = [folder, *sorted(folder.glob("*/SKILL.md")), *sorted(folder.glob("*/skill.py"))]
    stats = [file.stat() for file in files]
    return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)
