"""Office files: zips of XML, looked at before a library opens them.

Sizes are those of the zip's directory; zipfile never reads more of a member than that.
"""

import io
import zipfile
from pathlib import Path

from docx.opc.exceptions import OpcError
from pptx.exc import PythonPptxError

from ai_stack.skill import SkillFailed

MAX_BYTES, MAX_UNPACKED, MAX_PARTS = 32 << 20, 512 << 20, 5000
MAX_XML = 64 << 20
MAINS = {"word/document.xml", "ppt/presentation.xml"}
FAULTS = (
    *(OpcError, PythonPptxError, KeyError, ValueError, AttributeError, SyntaxError),
    zipfile.BadZipFile,
)
DAMAGED = "This file is damaged, or not what its name says: save it anew."


def checked(path: Path) -> bytes:
    """The bytes of an Office file that is safe to open; SkillFailed."""
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise SkillFailed(f"The file must be a document of at most {MAX_BYTES >> 20} MiB.")
    data = path.read_bytes()
    if data[:4] == b"\xd0\xcf\x11\xe0":
        raise SkillFailed("This is an old file or one with a password: save it as .docx or .pptx.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_parts(archive)
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError):
        raise SkillFailed(DAMAGED) from None
    return data


def _check_parts(archive: zipfile.ZipFile) -> None:
    parts = archive.infolist()
    names = {part.filename for part in parts}
    if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED:
        raise SkillFailed(f"The file unpacks to more than {MAX_UNPACKED >> 20} MiB or 5000 parts.")
    if not MAINS & names:
        raise SkillFailed("This is no Word or PowerPoint file.")
    if any("vbaproject" in name.lower() for name in names):
        raise SkillFailed("This file has macros: save it without them.")
    for part in parts:
        if part.filename.lower().endswith((".xml", ".rels")):
            _check_xml(archive, part)


def _check_xml(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    if part.flag_bits & 1:
        raise SkillFailed("This file has a password: save it without one.")
    if part.file_size > MAX_XML:
        raise SkillFailed(f"A part of the file is larger than {MAX_XML >> 20} MiB.")
    plain = archive.read(part).replace(b"\0", b"")
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise SkillFailed("This file declares XML entities, which no such file does.")
