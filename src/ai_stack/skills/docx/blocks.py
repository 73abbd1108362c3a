"""What a document consists of, as data: the form that `create` takes and `read` gives."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

MAX_BLOCKS, MAX_TEXT, MAX_ROWS, MAX_COLUMNS = 20_000, 50_000, 5000, 60
Text: TypeAlias = Annotated[str, Field(max_length=MAX_TEXT)]
Align: TypeAlias = Literal["left", "center", "right", "justify"]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Heading(Part):
    """A heading; level 0 is the document's title."""

    type: Literal["heading"] = "heading"
    text: Text
    level: Annotated[int, Field(ge=0, le=9)] = 1


class Paragraph(Part):
    """A paragraph of text with inline marks."""

    type: Literal["paragraph"] = "paragraph"
    text: Text
    style: Literal["normal", "quote", "caption"] = "normal"
    align: Align = "left"


class ListOf(Part):
    """A list; two leading spaces in an item put it one level lower."""

    type: Literal["list"] = "list"
    items: Annotated[list[Text], Field(min_length=1, max_length=MAX_ROWS)]
    ordered: bool = False


class Table(Part):
    """Rows of cells; with `header` the first row is set apart and repeated on each page."""

    type: Literal["table"] = "table"
    rows: Annotated[
        list[Annotated[list[Text], Field(min_length=1, max_length=MAX_COLUMNS)]],
        Field(min_length=1, max_length=MAX_ROWS),
    ]
    header: bool = True


class Image(Part):
    """A picture from `images`, by its file's name."""

    type: Literal["image"] = "image"
    file: str
    width_cm: Annotated[float, Field(gt=0, le=50)] | None = None
    alt: Annotated[str, Field(max_length=1000)] = ""


class Code(Part):
    """Lines in a typewriter's face, without inline marks."""

    type: Literal["code"] = "code"
    text: Text


class PageBreak(Part):
    """What follows begins on a new page."""

    type: Literal["page_break"] = "page_break"


Block: TypeAlias = Annotated[
    Heading | Paragraph | ListOf | Table | Image | Code | PageBreak, Field(discriminator="type")
]
Blocks: TypeAlias = Annotated[list[Block], Field(max_length=MAX_BLOCKS)]
