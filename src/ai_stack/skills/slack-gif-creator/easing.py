"""Easing: how far a movement has come at a part of its time, both from 0 to 1."""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

Easing: TypeAlias = Literal[
    "linear",
    "in_quad",
    "out_quad",
    "in_out_quad",
    "in_out_sine",
    "out_back",
    "out_bounce",
    "out_elastic",
    "hold",
]


def _in_quad(t: float) -> float:
    return t * t


def _out_quad(t: float) -> float:
    return t * (2 - t)


def _in_out_quad(t: float) -> float:
    return 2 * t * t if t < 0.5 else 1 - 2 * (1 - t) ** 2


def _in_out_sine(t: float) -> float:
    return (1 - math.cos(math.pi * t)) / 2


def _out_back(t: float) -> float:
    beyond = 1.70158
    return 1 + (beyond + 1) * (t - 1) ** 3 + beyond * (t - 1) ** 2


def _out_bounce(t: float) -> float:
    """Four parabolas, each lower than the one before."""
    for end, middle, floor in ((4, 0.0, 0.0), (8, 6, 0.75), (10, 9, 0.9375), (11, 10.5, 0.984375)):
        if t <= end / 11:
            return 7.5625 * (t - middle / 11) ** 2 + floor
    return 1.0


def _out_elastic(t: float) -> float:
    if t in (0.0, 1.0):
        return t
    return float(2 ** (-10 * t) * math.sin((10 * t - 0.75) * 2 * math.pi / 3) + 1)


def _hold(t: float) -> float:
    return 1.0 if t >= 1 else 0.0


EASINGS: dict[Easing, Callable[[float], float]] = {
    "linear": float,
    "in_quad": _in_quad,
    "out_quad": _out_quad,
    "in_out_quad": _in_out_quad,
    "in_out_sine": _in_out_sine,
    "out_back": _out_back,
    "out_bounce": _out_bounce,
    "out_elastic": _out_elastic,
    "hold": _hold,
}


def between(values: list[float], easing: Easing, t: float) -> float:
    """The value at part `t` of a way through `values`, which are evenly spread over it."""
    place = min(max(t, 0.0), 1.0) * (len(values) - 1)
    n = min(int(place), len(values) - 2)
    return values[n] + (values[n + 1] - values[n]) * EASINGS[easing](place - n)
