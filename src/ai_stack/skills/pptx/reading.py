"""What slides say, as JSON."""

from collections.abc import Callable, Iterator
from pathlib import Path

from pptx.enum.shapes import MSO_SHAPE_TYPE
from pptx.presentation import Presentation as Deck
from pptx.shapes.base import BaseShape
from pptx.shapes.graphfrm import GraphicFrame
from pptx.slide import Slide

from ai_stack.skill import JSON

MAX_DEPTH = 10


class Reader:
    """Reads slides; images are written where `place` says, nowhere without it."""

    def __init__(self, deck: Deck, place: Callable[[str], Path] | None) -> None:
        self.deck, self.place = deck, place
        self.files: dict[str, str] = {}

    def slides(self) -> list[JSON]:
        """All slides."""
        return [self._slide(n, slide) for n, slide in enumerate(self.deck.slides, 1)]

    def _slide(self, number: int, slide: Slide) -> dict[str, JSON]:
        title = slide.shapes.title
        texts: list[JSON] = []
        tables: list[JSON] = []
        images: list[JSON] = []
        for shape in _all(slide.shapes, 0):
            if shape.has_text_frame and (title is None or shape.shape_id != title.shape_id):
                texts += _points(shape)
            elif isinstance(shape, GraphicFrame) and shape.has_table:
                tables.append([[cell.text for cell in row.cells] for row in shape.table.rows])
            elif shape.shape_type == MSO_SHAPE_TYPE.PICTURE:
                images.append(self._image(shape))
        return {
            "slide": number,
            "title": title.text_frame.text if title is not None else "",
            "texts": texts,
            "tables": tables,
            "images": images,
            "notes": _notes(slide),
        }

    def _image(self, shape) -> JSON:  # type: ignore[no-untyped-def]
        try:
            image = shape.image
        except (ValueError, KeyError, AttributeError):
            return "(linked)"
        if image.sha1 not in self.files:
            name = f"image{len(self.files) + 1}.{image.ext}"
            if self.place is not None:
                path = self.place(name)
                path.write_bytes(image.blob)
                name = path.name
            self.files[image.sha1] = name
        return self.files[image.sha1]


def _notes(slide: Slide) -> str:
    frame = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
    return frame.text if frame is not None else ""


def _all(shapes, depth: int) -> Iterator[BaseShape]:  # type: ignore[no-untyped-def]
    """Shapes, and those within groups."""
    for shape in shapes:
        if shape.shape_type == MSO_SHAPE_TYPE.GROUP and depth < MAX_DEPTH:
            yield from _all(shape.shapes, depth + 1)
        else:
            yield shape


def _points(shape) -> list[str]:  # type: ignore[no-untyped-def]
    return [
        "  " * paragraph.level + paragraph.text
        for paragraph in shape.text_frame.paragraphs
        if paragraph.text.strip()
    ]
