"""The backups that there are: listed without a key, and pruned by days and weeks."""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ai_stack.errors import StackError
from ai_stack.services.backup import SUFFIX, Header
from ai_stack.services.backup.bundle import read_header

DRAFT_S = 86_400
FAILURE = ".failed.json"


@dataclass(frozen=True, slots=True)
class Shelved:
    """A backup on its disk; `fault` says why its header cannot be read."""

    path: Path
    size_bytes: int
    made_at: float
    header: Header | None
    fault: str = ""


def shelved(folder: Path) -> list[Shelved]:
    """The backups of a folder, the newest first."""
    return ordered(folder.glob(f"*/[!.]*{SUFFIX}"))


def ordered(paths: Iterable[Path]) -> list[Shelved]:
    """These backups, the newest first, by the time that their headers tell.

    Names tell the local time, which goes back; of one moment the one with the higher number in
    its name is the later.
    """
    return sorted(map(_look, paths), key=_age, reverse=True)


def _age(each: Shelved) -> tuple[float, int, str]:
    return each.made_at, len(each.path.name), str(each.path)


def _look(path: Path) -> Shelved:
    status = path.stat()
    try:
        header = read_header(path)
        made = datetime.fromisoformat(header.created_at).timestamp()
    except (StackError, ValueError) as error:
        fault = error.message if isinstance(error, StackError) else "Its time cannot be read."
        return Shelved(path, status.st_size, status.st_mtime, None, fault)
    return Shelved(path, status.st_size, made, header)


def newest_age_s(folder: Path) -> float | None:
    """Seconds since the newest backup was made; None when there is none."""
    found = [each.made_at for each in shelved(folder) if each.header is not None]
    return max(0.0, time.time() - max(found)) if found else None


@dataclass(frozen=True, slots=True)
class Care:
    """How old the newest backup is, and why the one after it failed, where it did."""

    age_s: float | None
    failure: str

    def told(self) -> str:
        """For whoever asks how the stack is; empty while all is well."""
        if not self.failure:
            return ""
        age = (
            "there is none" if self.age_s is None else f"the last is {self.age_s / 3600:.0f} h old"
        )
        return f"the daily backup failed, and {age}; the worker's log says why"


def care(folder: Path) -> Care:
    failure = ""
    with suppress(OSError, ValueError, KeyError):
        failure = str(json.loads((folder / FAILURE).read_text())["message"])
    return Care(newest_age_s(folder), failure)


def superfluous(found: Iterable[Shelved], days: int, weeks: int) -> list[Shelved]:
    """Those that are the newest of no day and of no week that are kept.

    Days and weeks are counted where there are backups, not by the calendar: a machine that was
    off for a month loses nothing. What cannot be read is never superfluous.
    """
    readable = [each for each in found if each.header is not None]
    kept = {each.path for each in _newest(readable, "%Y-%j", days)}
    kept |= {each.path for each in _newest(readable, "%G-%V", weeks)}
    return [each for each in readable if each.path not in kept]


def _newest(found: Iterable[Shelved], period: str, count: int) -> list[Shelved]:
    newest: dict[str, Shelved] = {}
    for each in sorted(found, key=_age, reverse=True):
        moment = datetime.fromtimestamp(each.made_at, UTC).astimezone()
        newest.setdefault(moment.strftime(period), each)
    return list(newest.values())[:count]


def prune(folder: Path, days: int, weeks: int) -> list[Path]:
    """Remove what is superfluous, and what broken-off backups left; what was removed."""
    removed = [each.path for each in superfluous(shelved(folder), days, weeks)]
    long_ago = time.time() - DRAFT_S
    removed += [p for p in folder.glob("*/.*.part") if p.stat().st_mtime < long_ago]
    for path in removed:
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    return removed
