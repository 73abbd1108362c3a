"""What a caller says of a picture: elements, and how each of them moves."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .easing import Easing

Colour = Annotated[str, Field(pattern=r"^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$")]
Property = Literal["x", "y", "scale", "scale_x", "scale_y", "rotation", "opacity"]
Motion = Literal[
    "still", "bounce", "spin", "pulse", "shake", "swing", "fade", "slide", "float", "pop"
]
Shape = Literal[
    "circle",
    "ring",
    "rectangle",
    "rounded",
    "triangle",
    "star",
    "heart",
    "check",
    "cross",
    "arrow",
    "text",
]


class Track(BaseModel):
    """Keyframes of one property, evenly spread over the loop."""

    model_config = ConfigDict(extra="forbid")
    property: Annotated[Property, Field(description="What changes.")]
    values: Annotated[
        list[Annotated[float, Field(ge=-3600, le=3600)]],
        Field(min_length=2, max_length=16, description="What it is at each keyframe."),
    ]
    easing: Annotated[Easing, Field(description="How it goes between two.")] = "in_out_sine"


class Element(BaseModel):
    """One shape or text. Places and sizes are parts of the canvas."""

    model_config = ConfigDict(extra="forbid")
    shape: Annotated[Shape, Field(description="What is drawn.")]
    text: Annotated[str, Field(max_length=40, description="For shape text; \\n parts lines.")] = ""
    fill: Annotated[Colour, Field(description="Colour, as #rrggbb.")] = "#e01e5a"
    stroke: Annotated[Colour | None, Field(description="Colour of its outline.")] = None
    stroke_width: Annotated[float, Field(ge=0, le=0.2, description="Of the outline.")] = 0.02
    x: Annotated[float, Field(ge=-2, le=3, description="Its middle, from the left.")] = 0.5
    y: Annotated[float, Field(ge=-2, le=3, description="Its middle, from the top.")] = 0.5
    width: Annotated[float, Field(gt=0, le=3, description="Part of the canvas.")] = 0.6
    height: Annotated[float, Field(gt=0, le=3, description="Part of the canvas.")] = 0.6
    rotation: Annotated[float, Field(ge=-360, le=360, description="Degrees, clockwise.")] = 0
    opacity: Annotated[float, Field(ge=0, le=1, description="1 hides what is behind.")] = 1
    motion: Annotated[Motion, Field(description="How it moves, back to where it began.")] = "still"
    repeats: Annotated[int, Field(ge=1, le=8, description="Times in one loop.")] = 1
    strength: Annotated[float, Field(ge=0.1, le=3, description="How far it goes.")] = 1
    tracks: Annotated[
        list[Track], Field(max_length=8, description="Keyframes on top of the motion.")
    ] = []
