"""What is wrong with dependencies, as far as the files themselves tell."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from ai_stack.skill import JSON

from .licences import NONE_STATED, Licences
from .packages import Lock, Package
from .project import Project

Kind: TypeAlias = Literal[
    "vulnerable", "unpinned", "unlocked", "duplicated", "unlicensed", "unhashed", "insecure"
]
KINDS: tuple[Kind, ...] = (
    "vulnerable", "unpinned", "unlocked", "insecure", "unlicensed", "unhashed", "duplicated",
)  # fmt: skip
HASHED = {"pip", "uv", "poetry", "npm", "cargo", "nix"}
LOCAL = ("file:", "path ", "directory ", "path+")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one package, at its line."""

    kind: Kind
    path: str
    line: int
    package: str
    version: str
    message: str

    def to_json(self) -> dict[str, JSON]:
        return dict(asdict(self))


def of_project(project: Project, licences: Licences) -> list[Fault]:
    """Every fault but vulnerabilities, which only an advisory source knows."""
    found = [fault for lock in project.locks for fault in _of_lock(lock, licences)]
    told = "It declares dependencies, and no lock file says what they resolve to."
    return found + [Fault("unlocked", path, line, "", "", told) for path, line in project.unlocked]


def _of_lock(lock: Lock, licences: Licences) -> Iterator[Fault]:
    yield from _duplicated(lock)
    hashed = any(package.hashes for package in lock.packages)
    for package in lock.packages:
        local = package.source.startswith(LOCAL)
        if not package.version and not local:
            yield _fault("unpinned", lock, package, f"Not pinned: {package.wanted[:200]}.")
        elif hashed and not package.hashes and lock.kind in HASHED and package.registry:
            yield _fault("unhashed", lock, package, "No checksum, where others here have one.")
        if package.source.startswith(("http://", "git+http://", "git http://", "registry+http://")):
            yield _fault("insecure", lock, package, "Downloaded over plain HTTP.")
        if licences.of(package) == NONE_STATED:
            yield _fault("unlicensed", lock, package, "Its metadata states no licence.")


def _duplicated(lock: Lock) -> Iterator[Fault]:
    versions: dict[str, dict[str, Package]] = defaultdict(dict)
    for package in lock.packages:
        versions[package.name].setdefault(package.version or package.wanted, package)
    for found in versions.values():
        if len(found) > 1:
            told = ", ".join(sorted(version[:40] for version in found))
            last = [*found.values()][-1]
            yield _fault("duplicated", lock, last, f"{len(found)} versions: {told}.")


def _fault(kind: Kind, lock: Lock, package: Package, message: str) -> Fault:
    return Fault(kind, lock.path, package.line, package.name, package.version, message)
