"""Office files: zips of XML, looked at before a library opens them. Knows no such library, nor
what a document says.

Sizes are those of the zip's directory; zipfile never reads more of a member than that.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ai_stack.errors import SkillFailed

MAX_BYTES, MAX_UNPACKED, MAX_PARTS = 64 << 20, 512 << 20, 5000
MAX_XML = 64 << 20
OLE = b"\xd0\xcf\x11\xe0"  # how the formats before 2007 begin, and files with a password
DAMAGE = (KeyError, ValueError, AttributeError, SyntaxError, zipfile.BadZipFile)
"""What any library raises for a damaged file, besides errors of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of Office file: its main parts, of which a file has one, and what is said of a file
    that is refused.

    `noun` has its article. `macros` are pieces of the names of parts, in lower case. With
    `any_case`, so are `mains`, and a file may write them as it likes.
    """

    noun: str
    mains: frozenset[str]
    other: str
    old: str
    damaged: str
    with_macros: str
    with_entities: str
    macros: tuple[str, ...] = ("vbaproject",)
    any_case: bool = False
    max_bytes: int = MAX_BYTES
    max_xml: int = MAX_XML

    def checked(self, path: Path) -> bytes:
        """The bytes of a file of this kind that is safe to open; SkillFailed."""
        if not path.is_file() or path.stat().st_size > self.max_bytes:
            most = f"{self.max_bytes >> 20} MiB"
            raise SkillFailed(f"The file must be {self.noun} of at most {most}.")
        data = path.read_bytes()
        if data[:4] == OLE:
            raise SkillFailed(self.old)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                self._check_parts(archive)
        except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError):
            raise SkillFailed(self.damaged) from None
        return data

    def _check_parts(self, archive: zipfile.ZipFile) -> None:
        parts = archive.infolist()
        names = {part.filename for part in parts}
        lower = {name.lower() for name in names}
        if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED:
            most = f"{MAX_UNPACKED >> 20} MiB or {MAX_PARTS} parts"
            raise SkillFailed(f"The file unpacks to more than {most}.")
        if not self.mains & (lower if self.any_case else names):
            raise SkillFailed(self.other)
        if any(macro in name for name in lower for macro in self.macros):
            raise SkillFailed(self.with_macros)
        for part in parts:
            if part.filename.lower().endswith((".xml", ".rels")):
                self._check_xml(archive, part)

    def _check_xml(self, archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
        if part.flag_bits & 1:
            raise SkillFailed("This file has a password: save it without one.")
        if part.file_size > self.max_xml:
            raise SkillFailed(f"A part of the file is larger than {self.max_xml >> 20} MiB.")
        plain = archive.read(part).replace(b"\0", b"")  # UTF-16 as well
        if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
            raise SkillFailed(self.with_entities)


WORD_OR_SLIDES = Kind(
    noun="a document",
    mains=frozenset({"word/document.xml", "ppt/presentation.xml"}),
    other="This is no Word or PowerPoint file.",
    old="This is an old file or one with a password: save it as .docx or .pptx.",
    damaged="This file is damaged, or not what its name says: save it anew.",
    with_macros="This file has macros: save it without them.",
    with_entities="This file declares XML entities, which no such file does.",
    max_bytes=32 << 20,
)
"""For skills that take both."""
