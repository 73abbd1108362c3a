"""The outlines of shapes, as polygons in a box from -0.5 to 0.5."""

import math
from collections.abc import Callable
from typing import TypeAlias

Polygon: TypeAlias = list[tuple[float, float]]
STEPS = 72


def _ellipse(radius: float = 0.5) -> Polygon:
    turn = 2 * math.pi / STEPS
    return [(radius * math.cos(n * turn), radius * math.sin(n * turn)) for n in range(STEPS)]


def _circle() -> list[Polygon]:
    return [_ellipse()]


def _ring() -> list[Polygon]:
    """One outline that goes round outside and back inside."""
    outer, inner = _ellipse(), _ellipse(0.36)
    return [[*outer, outer[0], inner[0], *reversed(inner)]]


def _rectangle() -> list[Polygon]:
    return [[(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]]


def _rounded() -> list[Polygon]:
    r = 0.18
    found: Polygon = []
    for corner, (cx, cy) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        for n in range(10):
            angle = (corner + n / 9) * math.pi / 2
            x, y = cx * (0.5 - r) + r * math.cos(angle), cy * (0.5 - r) + r * math.sin(angle)
            found.append((x, y))
    return [found]


def _triangle() -> list[Polygon]:
    return [[(0, -0.5), (0.5, 0.5), (-0.5, 0.5)]]


def _star() -> list[Polygon]:
    points = []
    for n in range(10):
        radius, angle = (0.5, 0.21)[n % 2], math.pi * n / 5 - math.pi / 2
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    return [points]


def _heart() -> list[Polygon]:
    points = []
    for n in range(STEPS):
        t = 2 * math.pi * n / STEPS
        up = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((16 * math.sin(t) ** 3 / 34, (-up - 2.5) / 30))
    return [points]


def _check() -> list[Polygon]:
    return [
        [(-0.5, 0.05), (-0.33, -0.12), (-0.13, 0.1), (0.33, -0.38), (0.5, -0.21), (-0.13, 0.42)]
    ]


def _cross() -> list[Polygon]:
    a, b = 0.5, 0.14
    turned = [(b, b), (b, a), (-b, a), (-b, b), (-a, b), (-a, -b)]
    whole = [*turned, (-b, -b), (-b, -a), (b, -a), (b, -b), (a, -b), (a, b)]
    half = math.sqrt(0.5)
    return [[((x - y) * half, (x + y) * half) for x, y in whole]]


def _arrow() -> list[Polygon]:
    head, shaft = 0.5, 0.16
    return [
        [
            (-0.5, -shaft),
            (0.05, -shaft),
            (0.05, -head),
            (0.5, 0),
            (0.05, head),
            (0.05, shaft),
            (-0.5, shaft),
        ]
    ]


OUTLINES: dict[str, Callable[[], list[Polygon]]] = {
    "circle": _circle,
    "ring": _ring,
    "rectangle": _rectangle,
    "rounded": _rounded,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "check": _check,
    "cross": _cross,
    "arrow": _arrow,
}
