"""The files of an application: read within bounds, never from outside its folder."""

import base64
import mimetypes
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ai_stack.skill import SkillFailed

MOST_FILES, ALL_BYTES = 2_000, 50 << 20
REMOTE = re.compile(r"(?i)^(https?:|wss?:|ftp:)?//|^(https?|wss?|ftp|file):")
INNER = re.compile(r"(?i)^(data|blob|about|mailto|tel|javascript):|^#|^$")
KINDS = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".ttf": "font/ttf",
    ".otf": "font/otf",
    ".wasm": "application/wasm",
}


@dataclass(slots=True)
class App:
    """A folder and what was taken from it; `notes` tell what was left out, `remote` what was
    asked of other machines, with the place."""

    folder: Path
    inlined: dict[str, int] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    remote: dict[tuple[str, str], None] = field(default_factory=dict)

    def name(self, path: Path) -> str:
        """A file's name within the folder."""
        return path.relative_to(self.folder).as_posix()

    def find(self, reference: str, base: Path, place: str) -> Path | None:
        """The file that is meant from a folder of the app; None for what is no file of it.

        What is on another machine is remembered as such, what is not there is noted.
        """
        reference = reference.strip()
        if INNER.match(reference):
            return None
        if REMOTE.match(reference):
            self.remote[place, reference[:200]] = None
            return None
        plain = unquote(urlsplit(reference).path)
        path = (self.folder / plain.lstrip("/")) if plain.startswith("/") else base / plain
        real = path.resolve()
        if not real.is_relative_to(self.folder) or not real.is_file():
            self.notes[f"{place} refers to {reference[:100]!r}, which is not in the app."] = None
            return None
        return real

    def read(self, path: Path) -> bytes:
        """A file's bytes; SkillFailed when it all becomes too much."""
        size = path.stat().st_size
        self.inlined[self.name(path)] = size
        if len(self.inlined) > MOST_FILES or sum(self.inlined.values()) > ALL_BYTES:
            raise SkillFailed(
                f"The app has more than {MOST_FILES} files, or more than {ALL_BYTES >> 20} MiB."
            )
        return path.read_bytes()

    def text(self, path: Path) -> str:
        """A file's text; SkillFailed for one that is not UTF-8."""
        try:
            return self.read(path).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise SkillFailed(f"{self.name(path)} is not UTF-8.") from None

    def data_url(self, path: Path) -> str:
        """A file as a data URL."""
        return data_url(self.read(path), kind_of(path))


def data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def kind_of(path: Path) -> str:
    """A file's media type, by its name."""
    known = KINDS.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0]
    return known or "application/octet-stream"


def opened(folder: Path) -> App:
    """An application; SkillFailed for what is no folder."""
    if not folder.is_dir():
        raise SkillFailed("`app` is no folder.")
    return App(folder.resolve())
