"""Backups: one file that holds the whole stack, made while it runs and checked before it is used.

A bundle is a line of bytes and digest, a line that says what it is, and a tar, which is encrypted
where there are recipients: `tail -n +3 BUNDLE | age -d -i KEY | tar x` needs no stack.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ai_stack.models.backups import Probe

FORMAT = 1
SUFFIX = ".aibackup"
DATABASE, KEPT, SECRETS, CONFIG, SKILLS, IMPORTS = (
    *("database", "redis", "secrets", "config", "skills", "imports"),
)

# What is done now, how much of it, of how much where that is known.
Progress = Callable[[str, int, int | None], None]


def silent(name: str, done: int, total: int | None) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Header:
    """What can be read of a bundle without its key."""

    created_at: str
    product: str
    revision: str
    postgres: int
    encrypted: bool


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a bundle: its files, the bytes in them, and the digest of names and bytes."""

    files: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a bundle says of itself; it is the last file in it."""

    header: Header
    database_bytes: int
    timescale: str | None
    counts: Mapping[str, int]
    models: tuple[Mapping[str, Any], ...]
    probes: tuple[Probe, ...]
    shares: Mapping[str, Share]
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    format: int = field(default=FORMAT)

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> "Manifest":
        """The manifest of a JSON object; raises TypeError, KeyError or ValueError for another."""
        kept = {name: found[name] for name in ("database_bytes", "timescale", "counts", "format")}
        return cls(
            header=Header(**found["header"]),
            models=tuple(found["models"]),
            probes=tuple(Probe(**{**p, "nearest": tuple(p["nearest"])}) for p in found["probes"]),
            shares={name: Share(**share) for name, share in found["shares"].items()},
            left_out=tuple(found["left_out"]),
            warnings=tuple(found["warnings"]),
            **kept,
        )
