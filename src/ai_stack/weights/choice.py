"""Which files of a repository to take: one quantization, all its parts, and what sees images."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ai_stack.errors import NotFound
from ai_stack.hub import Remote
from ai_stack.weights.quantizations import DEFAULT, named_in, nearest

_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_PLAIN = re.compile(r"[A-Za-z0-9][\w.+ -]{0,250}")
_NO_MODEL = re.compile(r"(mmproj|imatrix)", re.IGNORECASE)
_PROJECTOR = re.compile(r"mmproj", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Choice:
    """The files of one repository that make the model, and why these."""

    repository: str
    quantization: str
    files: tuple[Remote, ...]
    projector: Remote | None = None
    note: str = ""

    @property
    def all_files(self) -> tuple[Remote, ...]:
        return self.files if self.projector is None else (*self.files, self.projector)

    @property
    def size_bytes(self) -> int:
        return sum(remote.size_bytes for remote in self.all_files)

    @property
    def told(self) -> str:
        """The choice in a line that can be shown."""
        parts = f" in {len(self.files)} parts" if len(self.files) > 1 else ""
        what = self.quantization or "its only file"
        size = f"{self.size_bytes / (1 << 30):.2f} GiB"
        return f"{self.repository}: {self.note}{what}{parts}, {size}"


def choose(repository: str, listing: Sequence[Remote], quantization: str | None) -> Choice | None:
    """Which files of a repository to take; None when it has no GGUF.

    The default is Q4_K_M, or else what is nearest to it; a quantization that is asked for must
    be there. One file is preferred to several parts.
    """
    offered = _offered(listing)
    if not offered:
        return None
    chosen = _quantization(repository, list(offered), quantization)
    note = "" if chosen == (quantization or DEFAULT) else f"{DEFAULT} is not there: "
    projector = _projector(listing)
    return Choice(repository, chosen, offered[chosen], projector, note)


def _offered(listing: Sequence[Remote]) -> dict[str, tuple[Remote, ...]]:
    """The whole models of a listing by their quantization, the best of each."""
    groups: defaultdict[str, dict[int, Remote]] = defaultdict(dict)
    counts: dict[str, int] = {}
    for remote in listing:
        name = remote.name
        if name.endswith(".gguf") and _PLAIN.fullmatch(name) and not _NO_MODEL.search(name):
            split = _SPLIT.search(remote.path)
            key = remote.path[: split.start()] + split[2] if split else remote.path
            groups[key][int(split[1]) if split else 1] = remote
            counts[key] = int(split[2]) if split else 1
    whole = [
        tuple(parts[n] for n in sorted(parts))
        for key, parts in groups.items()
        if sorted(parts) == [*range(1, counts[key] + 1)]
    ]
    found: dict[str, tuple[Remote, ...]] = {}
    for files in sorted(whole, key=lambda files: (len(files), len(files[0].path))):
        folder, _, name = files[0].path.rpartition("/")
        found.setdefault(named_in(name) or named_in(folder), files)
    return found


def _quantization(repository: str, offered: Sequence[str], wanted: str | None) -> str:
    if wanted is None and len(offered) == 1:
        return offered[0]
    chosen = wanted if wanted in offered else None
    if wanted is None:
        chosen = DEFAULT if DEFAULT in offered else nearest(DEFAULT, offered)
    if chosen is None:
        raise NotFound(
            f"{repository} has no {wanted or DEFAULT}; it has "
            f"{', '.join(sorted(name or 'one without a name' for name in offered))}."
        )
    return chosen


def _projector(listing: Sequence[Remote]) -> Remote | None:
    """What lets the model see images: the F16 one where there are several."""
    found = [
        remote
        for remote in listing
        if _PROJECTOR.search(name := remote.name)
        and name.endswith(".gguf")
        and _PLAIN.fullmatch(name)
    ]
    rank = {"F16": 0, "BF16": 1, "Q8_0": 2}
    return min(found, key=lambda r: (rank.get(named_in(r.path), 3), r.path), default=None)
