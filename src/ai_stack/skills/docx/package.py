"""The file itself, looked at before a library opens it."""

import io
from pathlib import Path

from docx import Document
from docx.document import Document as Docx
from docx.opc.exceptions import OpcError

from ai_stack.skill import SkillFailed
from ai_stack.skill.office import DAMAGE, Kind

FAULTS = (OpcError, *DAMAGE)
WORD = Kind(
    noun="a Word document",
    mains=frozenset({"word/document.xml"}),
    other="This is no Word document: it has no main text.",
    old="This is an old .doc or a file with a password: save it as plain .docx.",
    damaged="This file is damaged, or no Word document: save it anew as .docx.",
    with_macros="This file has macros: save it as .docx, without them.",
    with_entities="This file declares XML entities, which no Word document does.",
)


def opened(path: Path) -> Docx:
    """The document; SkillFailed for what is none, is too large or could do harm."""
    try:
        return Document(io.BytesIO(WORD.checked(path)))
    except FAULTS:
        raise SkillFailed(WORD.damaged) from None
