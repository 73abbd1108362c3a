"""A package as a lock file names it, and the file with all that it names."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ai_stack.skill import SkillFailed

Ecosystem: TypeAlias = Literal["pypi", "npm", "cargo", "nix"]
MAX_PACKAGES = 20_000


@dataclass(frozen=True, slots=True)
class Package:
    """`version` is empty where none is pinned; `wanted` is what stands there instead.

    `needs` are indices of the same file's packages. `licence` is as the file writes it.
    """

    ecosystem: Ecosystem
    name: str
    version: str
    line: int
    wanted: str = ""
    source: str = ""
    hashes: tuple[str, ...] = ()
    registry: bool = True
    licence: str | None = None
    needs: tuple[int, ...] = ()
    place: str = ""


@dataclass(slots=True)
class Lock:
    """One lock file: where it is, of what kind, what it names."""

    path: str
    kind: str
    packages: list[Package] = field(default_factory=list)

    def add(self, package: Package) -> None:
        if len(self.packages) >= MAX_PACKAGES:
            raise SkillFailed(f"{self.path} names more than {MAX_PACKAGES:,} packages.")
        self.packages.append(package)


class Lines:
    """Finds the line of a text within a file, each after the one found before it."""

    def __init__(self, text: str) -> None:
        self.text, self.offset, self.line = text, 0, 1

    def of(self, needle: str) -> int:
        """The next line with this text; the present one where it is not to be found."""
        at = self.text.find(needle, self.offset)
        if at >= 0:
            at += needle.startswith("\n")
            self.line += self.text.count("\n", self.offset, at)
            self.offset = at
        return self.line
