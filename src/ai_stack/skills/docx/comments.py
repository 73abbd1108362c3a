"""Comments: each anchored to exactly the text that it is about."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Annotated

from docx.document import Document as Docx
from docx.text.paragraph import Paragraph as DocxParagraph
from docx.text.run import Run
from pydantic import Field

from ai_stack.skill import JSON, SkillFailed

from .blocks import Part
from .edits import Find
from .writing import CONTROL


class Comment(Part):
    """What is said, and on which text."""

    on: Annotated[Find, Field(description="A text within one paragraph.")]
    text: Annotated[str, Field(min_length=1, max_length=10_000)]
    author: Annotated[str, Field(max_length=200)] = "AI Stack"
    occurrence: Annotated[int, Field(ge=1, le=10_000)] = 1


def add_comments(document: Docx, comments: Iterable[Comment]) -> None:
    """Add comments; SkillFailed where a text is not in the document so often."""
    for comment in comments:
        first, last = _anchored(document, comment)
        initials = "".join(word[0] for word in comment.author.split())[:4].upper()
        document.add_comment(
            [first, last],
            text=comment.text.translate(CONTROL),
            author=comment.author.translate(CONTROL),
            initials=initials,
        )


def comments_of(document: Docx) -> list[dict[str, JSON]]:
    """Every comment with its author and time."""
    return [
        {
            "text": comment.text,
            "author": comment.author,
            "at": comment.timestamp.isoformat() if comment.timestamp else None,
        }
        for comment in document.comments
    ]


def _anchored(document: Docx, comment: Comment) -> tuple[Run, Run]:
    """The runs that hold the text and nothing else."""
    left = comment.occurrence
    for paragraph in _paragraphs(document):
        whole = "".join(run.text for run in paragraph.runs)
        start = whole.find(comment.on)
        while start >= 0:
            left -= 1
            if left == 0:
                return _isolated(paragraph, start, start + len(comment.on))
            start = whole.find(comment.on, start + len(comment.on))
    raise SkillFailed(f"The text {comment.on[:80]!r} is not there {comment.occurrence} time(s).")


def _paragraphs(document: Docx) -> Iterable[DocxParagraph]:
    yield from document.paragraphs
    for table in document.tables:
        for row in table.rows:
            for cell in row.cells:
                yield from cell.paragraphs


def _isolated(paragraph: DocxParagraph, start: int, end: int) -> tuple[Run, Run]:
    _split(paragraph, start)
    _split(paragraph, end)
    place, inside = 0, []
    for run in paragraph.runs:
        if start <= place < end and run.text:
            inside.append(run)
        place += len(run.text)
    return inside[0], inside[-1]


def _split(paragraph: DocxParagraph, at: int) -> None:
    """Part the run in which a place lies, in two of the same look."""
    place = 0
    for run in paragraph.runs:
        text = run.text
        if place < at < place + len(text):
            rest = deepcopy(run._r)
            run._r.addnext(rest)
            run.text = text[: at - place]
            Run(rest, paragraph).text = text[at - place :]
            return
        place += len(text)
