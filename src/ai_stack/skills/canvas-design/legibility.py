"""Looks at every pair of text and ground of a drawing, and mends those that are too faint."""

from collections.abc import Iterator
from dataclasses import replace

from ai_stack.skill import JSON

from .colours import contrast, legible, needed
from .scene import Line, Scene


def mended(scene: Scene) -> list[str]:
    """Make too faint text legible, in place; what was changed, in words."""
    told: dict[str, None] = {}
    for n, shape in enumerate(scene.shapes):
        if isinstance(shape, Line):
            colour = legible(shape.fill, shape.ground, needed(shape.size, shape.face.bold))
            if colour != shape.fill:
                told[
                    f"Text in {shape.fill} on {shape.ground} was too faint; it is {colour} now."
                ] = None
                scene.shapes[n] = replace(shape, fill=colour)
    return [*told]


def pairs(scene: Scene) -> list[JSON]:
    """Each pair of colours that text is seen in, with its ratio and the one that it needs."""
    return [*_pairs(scene)]


def _pairs(scene: Scene) -> Iterator[JSON]:
    wanted: dict[tuple[str, str], float] = {}
    for line in scene.lines():
        pair = (line.fill, line.ground)
        wanted[pair] = max(wanted.get(pair, 0), needed(line.size, line.face.bold))
    for (fill, ground), ratio in wanted.items():
        found = round(contrast(fill, ground), 2)
        yield {
            "text": fill,
            "ground": ground,
            "ratio": found,
            "needed": ratio,
            "passes": found >= ratio,
        }
