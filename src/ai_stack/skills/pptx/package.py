"""The file itself, looked at before a library opens it."""

import io
from pathlib import Path

from pptx import Presentation
from pptx.exc import PythonPptxError
from pptx.presentation import Presentation as Deck

from ai_stack.skill import SkillFailed
from ai_stack.skill.office import DAMAGE, Kind

SLIDES = Kind(
    noun="a presentation",
    mains=frozenset({"ppt/presentation.xml"}),
    other="This is no presentation: it has no slides.",
    old="This is an old .ppt or a file with a password: save it as plain .pptx.",
    damaged="This file is damaged, or no presentation: save it anew as .pptx.",
    with_macros="This file has macros: save it as .pptx, without them.",
    with_entities="This file declares XML entities, which no presentation does.",
)


def opened(path: Path) -> Deck:
    """The presentation; SkillFailed for what is none, is too large or could do harm."""
    try:
        return Presentation(io.BytesIO(SLIDES.checked(path)))
    except (PythonPptxError, *DAMAGE):
        raise SkillFailed(SLIDES.damaged) from None
