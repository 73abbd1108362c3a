"""Finds skills by their folders, and imports none until it runs."""

import importlib.util
import inspect
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ai_stack.errors import InvalidRequest, SkillFailed, Unsupported
from ai_stack.skill import Skill, SkillResult
from ai_stack.skill.context import Context
from ai_stack.skill.manifest import FILE, Manifest, read_file, read_manifest

CODE, SCHEMA = "skill.py", "schema.json"
PACKAGE = "ai_stack_skills"
OURS = Path(__file__).parent.parent / "skills"


class FoundSkill(Skill):
    """A skill as its folder tells it; its code is loaded when it is executed.

    One that `acts` has code; one that does not is instructions.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.name, self.description = manifest.name, manifest.description
        self.parameters = _schema(folder)
        self.acts = (folder / CODE).is_file()

    def bound(self, context: Context) -> Skill:
        """The skill's own object for one run; Unsupported for a skill of instructions."""
        return load(self.folder)(context)

    async def execute(self, **kwargs: Any) -> SkillResult:
        """Run it here and now, without a stack; what it makes stays in a folder of its own."""
        folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        with tempfile.TemporaryDirectory() as scratch:
            return await self.bound(Context(folder, Path(scratch))).execute(**kwargs)


@dataclass(frozen=True, slots=True)
class Skills(Mapping[str, FoundSkill]):
    """Skills by name; `broken` has the folders that are none, and why."""

    found: Mapping[str, FoundSkill]
    broken: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> FoundSkill:
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)


def discover_skills(folder: str | Path = OURS) -> Skills:
    """The skills in a folder, by name; what is broken there harms no other.

    A folder with SKILL.md and skill.py acts, one with SKILL.md alone instructs.
    """
    found: dict[str, FoundSkill] = {}
    broken: dict[str, str] = {}
    place = Path(folder)
    for path in sorted(place.iterdir()) if place.is_dir() else []:
        if path.name.startswith((".", "_")) or not path.is_dir():
            continue
        try:
            found[path.name] = FoundSkill(path, read_manifest(path, lenient=True))
        except InvalidRequest as error:
            broken[path.name] = error.message
    return Skills(found, broken)


def load(folder: Path) -> type[Skill]:
    """The one Skill that a folder's skill.py defines.

    The folder is its package, so that skill.py can import the files beside it as `from .x`.
    Unsupported for a folder without skill.py, SkillFailed where there is none or more than one.
    """
    if not (folder / CODE).is_file():
        raise Unsupported("This skill is instructions: read its SKILL.md, there is nothing to run.")
    module = _module(folder)
    kinds = [
        member
        for member in vars(module).values()
        if inspect.isclass(member)
        and issubclass(member, Skill)
        and member.__module__ == module.__name__
    ]
    if len(kinds) != 1:
        raise SkillFailed(f"{CODE} must define one class that is a Skill; it defines {len(kinds)}.")
    return kinds[0]


def derived_schema(folder: Path) -> dict[str, Any]:
    """The JSON Schema of a skill's arguments, by loading it."""
    return load(folder).arguments.schema


def _module(folder: Path) -> ModuleType:
    name = f"{PACKAGE}.{folder.name.replace('-', '_')}"
    if PACKAGE not in sys.modules:
        sys.modules[PACKAGE] = ModuleType(PACKAGE)
        sys.modules[PACKAGE].__path__ = []  # a package, so that `from . import x` finds its parent
    present = sys.modules.get(name)
    if present is not None and present.__file__ == str(folder / CODE):
        return present
    spec = importlib.util.spec_from_file_location(
        name, folder / CODE, submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    for stale in [one for one in sys.modules if one.startswith(f"{name}.")]:
        del sys.modules[stale]  # of another folder of this name
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _schema(folder: Path) -> Mapping[str, Any]:
    file = folder / SCHEMA
    if not file.is_file():
        return {}
    try:
        found = json.loads(read_file(file))
    except (OSError, ValueError, RecursionError):
        raise InvalidRequest(f"{SCHEMA} beside {FILE} is not JSON.") from None
    return found if isinstance(found, dict) else {}
