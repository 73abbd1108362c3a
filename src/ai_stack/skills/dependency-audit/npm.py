"""npm's package-lock.json of versions 1 to 3."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping

from ai_stack.skill import JSON

from .packages import Lines, Lock, Package

MODULES = "node_modules/"
COMMIT = re.compile(r"#[0-9a-f]{40}$")
MAX_DEPTH = 60


def read(path: str, data: Mapping[str, JSON], text: str) -> Lock:
    """The packages of a lock file; workspaces and links are the project's own and left out."""
    lock, lines = Lock(path, "npm"), Lines(text)
    packages = data.get("packages")
    rows = [*(_flat(packages) if isinstance(packages, dict) else _nested(data, "", 0))]
    numbers = {place: n for n, (place, _) in enumerate(rows)}
    for place, row in rows:
        key = place if isinstance(packages, dict) else place.rpartition(MODULES)[2]
        lock.add(_package(place, row, lines.of(f'"{key}": {{'), _needs(place, row, numbers)))
    return lock


def _flat(packages: Mapping[str, JSON]) -> Iterator[tuple[str, Mapping[str, JSON]]]:
    for place, row in packages.items():
        if MODULES in place and isinstance(row, dict) and not row.get("link"):
            yield place, row


def _nested(
    data: Mapping[str, JSON], above: str, depth: int
) -> Iterator[tuple[str, Mapping[str, JSON]]]:
    """Version 1, whose packages hold those that only they see."""
    found = data.get("dependencies")
    for name, row in found.items() if isinstance(found, dict) and depth < MAX_DEPTH else ():
        if isinstance(row, dict):
            place = f"{above}{MODULES}{name}"
            yield place, row
            yield from _nested(row, place + "/", depth + 1)


def _package(place: str, row: Mapping[str, JSON], line: int, needs: tuple[int, ...]) -> Package:
    version, source = str(row.get("version", "")), str(row.get("resolved", ""))
    if "://" in version and not source:  # version 1 writes the address there
        source = version
    git = source.startswith("git")
    hashes = tuple(_hash(word) for word in str(row.get("integrity") or "").split())
    licence = row.get("license")
    return Package(
        "npm",
        str(row.get("name") or place.rpartition(MODULES)[2]),
        "" if git and not COMMIT.search(source) else version,
        line,
        wanted=source or "any version",
        source=source,
        hashes=tuple(filter(None, hashes)),
        registry=not git and not source.startswith("file:"),
        licence=licence if isinstance(licence, str) else None,
        needs=needs,
        place=place,
    )


def _hash(integrity: str) -> str:
    """`sha512-<base64>` as `sha512:<hex>`; empty for what is neither."""
    algorithm, _, text = integrity.partition("-")
    try:
        return f"{algorithm}:{base64.b64decode(text, validate=True).hex()}"
    except (binascii.Error, ValueError):
        return ""


def _needs(place: str, row: Mapping[str, JSON], numbers: Mapping[str, int]) -> tuple[int, ...]:
    """What a package needs, found as Node does: in its own folder, then in each above."""
    wanted = row.get("requires", row.get("dependencies"))
    found = [_nearest(place, name, numbers) for name in wanted] if isinstance(wanted, dict) else []
    return tuple(sorted({number for number in found if number is not None}))


def _nearest(place: str, name: str, numbers: Mapping[str, int]) -> int | None:
    while True:
        number = numbers.get(f"{place}/{MODULES}{name}" if place else MODULES + name)
        if number is not None or not place:
            return number
        place = place.rpartition(MODULES)[0].rstrip("/")
