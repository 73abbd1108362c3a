"""Changes to a presentation that leave all else as it is."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pptx.oxml.ns import qn
from pptx.presentation import Presentation as Deck
from pptx.slide import Slide as DeckSlide
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.skill import SkillFailed

from .deck import Setter, level_of, plain, write_notes
from .slides import MAX_SLIDES, Points, Slides, Text
from .themes import fonts_of

Number: TypeAlias = Annotated[int, Field(ge=1, le=MAX_SLIDES)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Replace(Part):
    """Put a text in place of another, in its formatting."""

    do: Literal["replace"]
    find: Annotated[str, Field(min_length=1, max_length=5000)]
    text: Text
    slide: Number | None = None


class SetText(Part):
    """Write a slide's title or its notes anew."""

    do: Literal["set_title", "set_notes"]
    slide: Number
    text: Text


class SetBullets(Part):
    """Write the points of a slide anew."""

    do: Literal["set_bullets"]
    slide: Number
    bullets: Points


class Add(Part):
    """Put slides in before one, or at the end."""

    do: Literal["add"]
    slides: Slides
    at: Number | None = None


class Delete(Part):
    """Take a slide out."""

    do: Literal["delete"]
    slide: Number


class Move(Part):
    """Put a slide at another place."""

    do: Literal["move"]
    slide: Number
    to: Number


Change: TypeAlias = Annotated[
    Replace | SetText | SetBullets | Add | Delete | Move, Field(discriminator="do")
]


def apply_changes(deck: Deck, changes: Sequence[Change], images: Mapping[str, Path]) -> None:
    """Do the changes in order; SkillFailed for one that finds nothing."""
    for n, change in enumerate(changes):
        match change:
            case Replace():
                _replace(deck, change, n)
            case SetText():
                _set_text(_slide(deck, change.slide), change)
            case SetBullets():
                _set_bullets(_slide(deck, change.slide), change)
            case Add():
                _add(deck, change, images)
            case Delete():
                _delete(deck, change.slide)
            case Move():
                _slide(deck, change.slide)
                _slide(deck, change.to)
                _move(deck, change.slide, change.to)


def _slide(deck: Deck, number: int) -> DeckSlide:
    if number > len(deck.slides):
        raise SkillFailed(f"There is no slide {number}; there are {len(deck.slides)}.")
    found: DeckSlide = deck.slides[number - 1]
    return found


def _replace(deck: Deck, change: Replace, n: int) -> None:
    slides = [_slide(deck, change.slide)] if change.slide else list(deck.slides)
    paragraphs = [p for slide in slides for p in slide._element.iter(qn("a:p"))]
    if not sum(_replaced(p, change.find, plain(change.text)) for p in paragraphs):
        raise SkillFailed(f"Change {n} (replace) found nothing to change; nothing is done.")


def _replaced(paragraph, find: str, text: str) -> int:  # type: ignore[no-untyped-def]
    """Every place of `find`: the run in which it begins takes the new text."""
    parts = list(paragraph.iter(qn("a:t")))
    whole = "".join(part.text or "" for part in parts)
    places = [m.start() for m in re.finditer(re.escape(find), whole)]
    for start in reversed(places):
        place = 0
        for part in parts:
            old = part.text or ""
            low, high = max(start - place, 0), min(start + len(find) - place, len(old))
            if low < high:
                part.text = old[:low] + (text if place + low == start else "") + old[high:]
            place += len(old)
    return len(places)


def _set_text(slide: DeckSlide, change: SetText) -> None:
    if change.do == "set_notes":
        write_notes(slide, change.text)
    elif slide.shapes.title is None:
        raise SkillFailed(f"Slide {change.slide} has no place for a title.")
    else:
        _rewrite(slide.shapes.title.text_frame, [change.text])


def _set_bullets(slide: DeckSlide, change: SetBullets) -> None:
    for frame in _bodies(slide):
        _rewrite(frame, change.bullets)
        return
    raise SkillFailed(f"Slide {change.slide} has no place for points.")


def _bodies(slide: DeckSlide) -> Iterator:  # type: ignore[type-arg]
    title = slide.shapes.title
    for shape in slide.placeholders:
        is_title = title is not None and shape.shape_id == title.shape_id
        if shape.has_text_frame and not is_title and shape.placeholder_format.idx < 10:
            yield shape.text_frame


def _rewrite(frame, texts: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    """New paragraphs that look like the first one."""
    first = frame.paragraphs[0]
    font = first.runs[0].font if first.runs else None
    size, name, bold = (font.size, font.name, font.bold) if font else (None, None, None)
    for paragraph in list(frame.paragraphs)[1:]:
        paragraph._p.getparent().remove(paragraph._p)
    first.clear()
    for n, text in enumerate(texts):
        paragraph = first if n == 0 else frame.add_paragraph()
        run = paragraph.add_run()
        run.text, paragraph.level = plain(text.strip()), level_of(text)
        run.font.size, run.font.name, run.font.bold = size, name, bold


def _add(deck: Deck, change: Add, images: Mapping[str, Path]) -> None:
    before = len(deck.slides)
    if change.at is not None:
        _slide(deck, change.at)
    setter = Setter(deck, images, fonts_of(deck))
    if (deck.slide_width, len(deck.slide_layouts) > 5) != (12_192_000, True):
        raise SkillFailed(
            "Slides can be added to 16 : 9 presentations with the usual layouts only."
        )
    for slide in change.slides:
        setter.set(slide)
    if change.at is not None:
        for n in range(before, len(deck.slides)):
            _move(deck, n + 1, change.at + n - before)


def _move(deck: Deck, number: int, to: int) -> None:
    order = deck.slides._sldIdLst
    element = order[number - 1]
    order.remove(element)
    order.insert(to - 1, element)


def _delete(deck: Deck, number: int) -> None:
    _slide(deck, number)
    order = deck.slides._sldIdLst
    element = order[number - 1]
    deck.part.drop_rel(element.rId)
    order.remove(element)
    deck.part.rename_slide_parts([left.rId for left in order])  # new ones count from these
