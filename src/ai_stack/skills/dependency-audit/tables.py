"""Lock files in TOML: uv, Poetry, pylock and Cargo, which all are lists of packages."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from packaging.utils import canonicalize_name

from ai_stack.skill import JSON, SkillFailed

from .packages import Ecosystem, Lines, Lock, Package

Table: TypeAlias = Mapping[str, JSON]
REGISTRIES = ("registry+", "sparse+")
COMMIT = re.compile(r"[#@]([0-9a-f]{40})$")


def read(path: str, text: str, kind: str) -> Lock:
    """The packages of a lock file of this kind; SkillFailed for what is not TOML."""
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        place = re.search(r"line \d+", str(error))
        raise SkillFailed(f"{path} is not TOML{f' ({place[0]})' if place else ''}.") from None
    ecosystem: Ecosystem = "cargo" if kind == "cargo" else "pypi"
    rows = [row for row in _rows(tables.get("package", tables.get("packages")))
            if isinstance(row.get("name"), str) and not _own(row)]  # fmt: skip
    lock, lines = Lock(path, kind), Lines(text)
    numbers = _numbers(rows)
    for row in rows:
        line = lines.of(f'\nname = "{row["name"]}"')
        lock.add(_package(ecosystem, row, line, _needs(row, numbers)))
    return lock


def _package(ecosystem: Ecosystem, row: Table, line: int, needs: tuple[int, ...]) -> Package:
    name, version, source = str(row["name"]), str(row.get("version", "")), _source(row)
    registry = source.startswith(("http", *REGISTRIES)) if source else ecosystem != "cargo"
    elsewhere = source.startswith(("git+", "git ", "url ", "direct "))
    commit = COMMIT.search(source)
    pinned = (commit[1] if commit else _revision(row)) if elsewhere else version
    hashes = _hashes(row)
    return Package(
        ecosystem,
        canonicalize_name(name) if ecosystem == "pypi" else name,
        version if pinned or hashes else "",
        line,
        wanted=source or "any version",
        source=source,
        hashes=hashes,
        registry=registry and not elsewhere,
        needs=needs,
    )


def _source(row: Table) -> str:
    """Where a package is from, as `kind address`; empty for the usual registry."""
    for key in ("vcs", "archive", "directory"):
        if isinstance(found := row.get(key), dict):
            return f"{'git' if key == 'vcs' else 'url'} {found.get('url', found.get('path', ''))}"
    source = row.get("source")
    if isinstance(source, str):
        return source
    if not isinstance(source, dict):
        return str(row.get("index", ""))
    if "registry" in source:
        return str(source["registry"])
    kind = str(source.get("type") or next(iter(source), ""))
    return f"{kind} {source.get('url') or source.get(kind, '')}"


def _revision(row: Table) -> str:
    for key in ("source", "vcs"):
        if isinstance(found := row.get(key), dict):
            revision = found.get("resolved_reference") or found.get("commit-id")
            if revision:
                return str(revision)
    return ""


def _own(row: Table) -> bool:
    """Whether a package is the project itself, or a part of it."""
    source = row.get("source")
    return isinstance(source, dict) and any(k in source for k in ("virtual", "editable"))


def _hashes(row: Table) -> tuple[str, ...]:
    if isinstance(checksum := row.get("checksum"), str):
        return (f"sha256:{checksum}",)
    files: list[Table] = [f for k in ("sdist", "archive") if isinstance(f := row.get(k), dict)]
    files += [f for key in ("wheels", "files") for f in _rows(row.get(key))]
    return tuple(h for file in files for h in _file_hashes(file))


def _file_hashes(file: Table) -> list[str]:
    if isinstance(single := file.get("hash"), str):
        return [single]
    several = file.get("hashes")
    return [f"{k}:{v}" for k, v in several.items()] if isinstance(several, dict) else []


def _rows(value: JSON | object) -> list[Table]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _numbers(rows: Sequence[Table]) -> dict[str, int]:
    """Packages by `name` and by `name version`, as dependencies name them."""
    found: dict[str, int] = {}
    for number, row in enumerate(rows):
        found.setdefault(str(row["name"]), number)
        found[f"{row['name']} {row.get('version', '')}"] = number
    return found


def _needs(row: Table, numbers: Mapping[str, int]) -> tuple[int, ...]:
    wanted = row.get("dependencies")
    names: list[str] = []
    if isinstance(wanted, dict):
        names = [*wanted]
    for item in wanted if isinstance(wanted, list) else ():
        if isinstance(item, dict):
            plain, exact = str(item.get("name", "")), f"{item.get('name')} {item.get('version')}"
            names.append(exact if exact in numbers else plain)
        else:
            words = str(item).split()
            names.append(" ".join(words[:2]))
    return tuple(sorted({numbers[name] for name in names if name in numbers}))
