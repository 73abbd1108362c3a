"""Skills as callers know them."""

import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

SkillSource = Literal["ours", "user"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A skill in the list. `acts`: it can be run, else it is instructions to be read.

    `ready`: it can run here and now; else `missing` says what it lacks and how to get it. A folder
    that is no skill is listed with its fault in `missing`, and no parameters.
    """

    name: str
    description: str
    source: SkillSource
    acts: bool
    ready: bool
    missing: str
    parameters: Mapping[str, Any]
    permissions: Mapping[str, Any]
    license: str = ""
    compatibility: str = ""
    allowed_tools: Sequence[str] = ()

    def json(self) -> dict[str, object]:
        """As the list shows it; what does not apply is left out."""
        shown: dict[str, object] = {
            "name": self.name,
            "description": self.description,
            "source": self.source,
            "acts": self.acts,
            "ready": self.ready,
        }
        optional = {
            "missing": self.missing,
            "parameters": self.parameters,
            "permissions": self.permissions,
            "license": self.license,
            "compatibility": self.compatibility,
            "allowed_tools": [*self.allowed_tools],
        }
        return shown | {name: value for name, value in optional.items() if value}


@dataclass(frozen=True, slots=True)
class Opened:
    """A skill with what its folder holds: instructions, and files with their sizes in bytes.

    A folder that is no skill has none.
    """

    listed: Listed
    instructions: str
    files: Mapping[str, int]

    def json(self) -> dict[str, object]:
        """As it is shown alone."""
        shown = self.listed.json()
        if self.files:
            files = [{"path": path, "size_bytes": size} for path, size in self.files.items()]
            shown |= {"instructions": self.instructions, "files": files}
        return shown


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a run made."""

    name: str
    media_type: str
    size_bytes: int

    def json(self) -> dict[str, object]:
        return {"name": self.name, "media_type": self.media_type, "size_bytes": self.size_bytes}


def media_type_of(name: str) -> str:
    """What a file is, by its name."""
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
