"""Which files an import takes, and the name that each has in the project."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from stat import S_ISREG

from ai_stack.errors import InvalidRequest

# What no import can read as text. A file that is named on its own is sent all the same.
UNREADABLE = re.compile(
    r"\.(7z|a|avi|bin|bmp|bz2|class|dll|dylib|eot|exe|flac|gguf|gif|gz|ico|iso|jar|jpe?g|lock|map"
    r"|mkv|mo|mov|mp3|mp4|o|ogg|onnx|otf|png|py[cdo]|safetensors|so|sqlite|svg|tar|tgz|tiff?|ttf"
    r"|wasm|wav|web[mp]|whl|woff2?|xz|zip|zst)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What of a folder is wanted: globs over the path within it, hidden files, largest size."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    hidden: bool = False
    max_bytes: int = 100 << 20

    def takes(self, key: str) -> bool:
        """Whether a file of a folder is wanted; an include glob asks for any type."""
        if any(fnmatchcase(key, glob) for glob in self.exclude):
            return False
        if self.include:
            return any(fnmatchcase(key, glob) for glob in self.include)
        return UNREADABLE.search(key) is None


@dataclass(slots=True)
class Found:
    """Files by key, with path and size in bytes; what cannot be sent, and why; how many are not
    wanted."""

    files: dict[str, tuple[Path, int]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    skipped: int = 0


def walk(paths: Sequence[Path], chosen: Chosen) -> Found:
    """The files that are named and those of the folders that are, sorted within each.

    The key of a file is its path within the folder, or its name. Raises InvalidRequest for a
    path that is not there, and for two files of one key.
    """
    found = Found()
    for path in paths:
        if path.is_dir():
            _take_folder(found, path, chosen)
        elif path.exists():
            _take(found, path.name, path, chosen)
        else:
            raise InvalidRequest(f"There is no file or folder {path}.")
    return found


def _take_folder(found: Found, folder: Path, chosen: Chosen) -> None:
    for path in _below(folder, chosen.hidden):
        key = path.relative_to(folder).as_posix()
        if chosen.takes(key):
            _take(found, key, path, chosen)
        else:
            found.skipped += 1


def _below(folder: Path, hidden: bool) -> Iterator[Path]:
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if hidden or not name.startswith("."))
        yield from (Path(top, n) for n in sorted(names) if hidden or not n.startswith("."))


def _take(found: Found, key: str, path: Path, chosen: Chosen) -> None:
    if key in found.files:
        other = found.files[key][0]
        raise InvalidRequest(
            f"{other} and {path} would both be {key}: import them apart, each with a --prefix."
        )
    try:
        status = path.stat()
        key.encode()
    except UnicodeEncodeError:
        found.refused[key.encode(errors="backslashreplace").decode()] = "Its name is not UTF-8."
    except OSError as error:
        found.refused[key] = f"It cannot be read: {error.strerror}."
    else:
        if not S_ISREG(status.st_mode):
            found.skipped += 1
        elif status.st_size > chosen.max_bytes:
            found.refused[key] = f"It is larger than {chosen.max_bytes} bytes."
        else:
            found.files[key] = (path, status.st_size)
