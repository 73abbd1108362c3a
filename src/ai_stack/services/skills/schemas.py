"""The JSON Schema of each skill's arguments: ours ship it, a user's is derived behind the wall.

What was derived is kept by the hash of the skill's folder, so that its code runs once for it.
"""

import asyncio
import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ai_stack.errors import AIStackError, SkillFailed
from ai_stack.sandbox import Confinement
from ai_stack.services.inference.schemas import compiled
from ai_stack.services.skills.apart import Apart
from ai_stack.services.skills.catalog import Entry
from ai_stack.services.skills.files import references
from ai_stack.skill.discovery import FoundSkill
from ai_stack.skill.wire import Order

TIME_S = 30.0
MOST_FILES, MOST_BYTES = 2000, 64 << 20
Schema: TypeAlias = Mapping[str, Any]


@dataclass(slots=True)
class Schemas:
    """Schemas by the hash of a folder, in memory and under `cache`."""

    apart: Apart
    cache: Path
    _known: dict[str, tuple[Schema, str]] = field(default_factory=dict)
    _deriving: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def of(self, entry: Entry) -> tuple[Schema, str]:
        """(schema, fault): an empty schema with a fault where the code cannot be loaded."""
        skill = entry.found
        if skill is None or not skill.acts or entry.source == "ours":
            return ({} if skill is None else skill.parameters), ""
        digest = await asyncio.to_thread(folder_hash, skill.folder)
        async with self._deriving:
            if digest not in self._known:
                self._known[digest] = self._kept(digest) or await self._derived(skill, digest)
        return self._known[digest]

    def _kept(self, digest: str) -> tuple[Schema, str] | None:
        try:
            found = json.loads((self.cache / f"{digest}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return (found, "") if isinstance(found, dict) else None

    async def _derived(self, skill: FoundSkill, digest: str) -> tuple[Schema, str]:
        try:
            schema = await derived(self.apart, skill.folder)
        except AIStackError as error:
            return {}, f"Its code cannot be loaded: {error.message}"
        self._keep(digest, schema)
        return schema, ""

    def _keep(self, digest: str, schema: Schema) -> None:
        """Best kept, but no failure where it cannot be."""
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            (self.cache / f"{digest}.json").write_text(json.dumps(schema))
        except OSError:
            return


async def derived(apart: Apart, folder: Path) -> Schema:
    """What the code of a skill tells when it is loaded, which may touch nothing for it.

    Raises what it runs into: SkillFailed, and whatever else the code raises of ours.
    """
    with tempfile.TemporaryDirectory(prefix="ai-stack-schema-") as scratch:
        bounds = Confinement(reads=[folder], writes=[Path(scratch)], cpu_s=TIME_S)
        schema = await apart.run(Order(str(folder), scratch, scratch, bounds, None), TIME_S)
    if not is_whole(schema):
        raise SkillFailed("What it takes is no JSON Schema that can be checked.")
    return schema


def is_whole(schema: Schema) -> bool:
    """Whether it can be checked against, and files be found by it: code that derives it may lie."""
    if not schema or compiled(schema).schema != schema:
        return False
    try:
        return not [*references(schema, {})]
    except (TypeError, AttributeError, RecursionError):
        return False


def folder_hash(folder: Path) -> str:
    """A hash over the names and bytes of a folder's files, as far as they are looked at."""
    digest, left = hashlib.sha256(), MOST_BYTES
    for path in sorted(folder.rglob("*"))[:MOST_FILES]:
        if is_own(path) and "__pycache__" not in path.parts and left > 0:
            with path.open("rb") as file:
                data = file.read(left)
            left -= len(data)
            digest.update(f"{path.relative_to(folder)}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def is_own(path: Path) -> bool:
    """Whether it is a file itself: a link may lead to what is read without end."""
    return path.is_file() and not path.is_symlink()
