"""What a new document consists of."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

MAX_BLOCKS, MAX_TEXT, MAX_ROWS, MAX_COLUMNS = 10_000, 50_000, 5000, 30
Text: TypeAlias = Annotated[str, Field(max_length=MAX_TEXT)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Heading(Part):
    type: Literal["heading"] = "heading"
    text: Text
    level: Annotated[int, Field(ge=1, le=4)] = 1


class Paragraph(Part):
    type: Literal["paragraph"] = "paragraph"
    text: Text


class ListOf(Part):
    type: Literal["list"] = "list"
    items: Annotated[list[Text], Field(min_length=1, max_length=MAX_ROWS)]
    ordered: bool = False


class Table(Part):
    type: Literal["table"] = "table"
    rows: Annotated[
        list[Annotated[list[Text], Field(min_length=1, max_length=MAX_COLUMNS)]],
        Field(min_length=1, max_length=MAX_ROWS),
    ]
    header: bool = True


class Image(Part):
    type: Literal["image"] = "image"
    file: str
    width_cm: Annotated[float, Field(gt=0, le=50)] | None = None


class Code(Part):
    type: Literal["code"] = "code"
    text: Text


class PageBreak(Part):
    type: Literal["page_break"] = "page_break"


Block: TypeAlias = Annotated[
    Heading | Paragraph | ListOf | Table | Image | Code | PageBreak, Field(discriminator="type")
]
Blocks: TypeAlias = Annotated[list[Block], Field(min_length=1, max_length=MAX_BLOCKS)]
