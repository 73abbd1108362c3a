"""Where an element is at a moment of the loop: its motion and its own keyframes, in one state."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from .easing import EASINGS, between
from .elements import Element, Motion, Track

TURN = 2 * math.pi


@dataclass(frozen=True, slots=True)
class State:
    """An element at one moment; places are parts of the canvas, rotation is in degrees."""

    x: float
    y: float
    scale_x: float = 1.0
    scale_y: float = 1.0
    rotation: float = 0.0
    opacity: float = 1.0


def at(element: Element, t: float) -> State:
    """The element's state at part `t` of the loop; t=1 is t=0 again for every named motion."""
    state = State(element.x, element.y, 1.0, 1.0, element.rotation, element.opacity)
    phase = (t * element.repeats) % 1.0
    state = MOTIONS[element.motion](state, phase, element.strength)
    for track in element.tracks:
        state = _tracked(state, track, t)
    return replace(state, opacity=min(max(state.opacity, 0.0), 1.0))


def _tracked(state: State, track: Track, t: float) -> State:
    """A keyframe's value: scales and opacity multiply, rotation adds, places are as they say."""
    value = between(track.values, track.easing, t)
    match track.property:
        case "scale":
            return replace(state, scale_x=state.scale_x * value, scale_y=state.scale_y * value)
        case "scale_x":
            return replace(state, scale_x=state.scale_x * value)
        case "scale_y":
            return replace(state, scale_y=state.scale_y * value)
        case "rotation":
            return replace(state, rotation=state.rotation + value)
        case "opacity":
            return replace(state, opacity=state.opacity * value)
        case "x":
            return replace(state, x=value)
    return replace(state, y=value)


def _wave(phase: float) -> float:
    return math.sin(TURN * phase)


def _swell(phase: float) -> float:
    """0 at both ends, 1 in the middle, smooth."""
    return (1 - math.cos(TURN * phase)) / 2


def _still(s: State, phase: float, strength: float) -> State:
    return s


def _bounce(s: State, phase: float, strength: float) -> State:
    """A ball's parabola, flattened a little where it lands."""
    height = 4 * phase * (1 - phase)
    squash = 0.15 * strength * max(0.0, 1 - 6 * height)
    return replace(
        s, y=s.y - 0.2 * strength * height, scale_x=1 + squash, scale_y=max(1 - squash, 0.2)
    )


def _spin(s: State, phase: float, strength: float) -> State:
    """Whole turns, so that it closes whatever the strength."""
    return replace(s, rotation=s.rotation + 360 * phase * max(1, round(strength)))


def _pulse(s: State, phase: float, strength: float) -> State:
    scale = 1 - 0.18 * min(strength, 3) * _swell(phase)
    return replace(s, scale_x=scale, scale_y=scale)


def _shake(s: State, phase: float, strength: float) -> State:
    return replace(s, x=s.x + 0.04 * strength * _wave(4 * phase))


def _swing(s: State, phase: float, strength: float) -> State:
    return replace(s, rotation=s.rotation + 18 * strength * _wave(phase))


def _fade(s: State, phase: float, strength: float) -> State:
    return replace(s, opacity=s.opacity * (1 - min(strength, 1) * _swell(phase)))


def _slide(s: State, phase: float, strength: float) -> State:
    """Out on the right, in again on the left."""
    shift = strength * (phase if phase < 0.5 else phase - 1) * 2
    return replace(s, x=s.x + shift)


def _float(s: State, phase: float, strength: float) -> State:
    return replace(s, y=s.y + 0.05 * strength * _wave(phase))


def _pop(s: State, phase: float, strength: float) -> State:
    """Springs up, stays, and shrinks away."""
    grown = EASINGS["out_back"](min(phase / 0.4, 1.0))
    scale = grown * (1 - EASINGS["in_quad"](max(0.0, (phase - 0.8) / 0.2)))
    return replace(s, scale_x=max(scale, 0.0), scale_y=max(scale, 0.0))


MOTIONS: dict[Motion, Callable[[State, float, float], State]] = {
    "still": _still,
    "bounce": _bounce,
    "spin": _spin,
    "pulse": _pulse,
    "shake": _shake,
    "swing": _swing,
    "fade": _fade,
    "slide": _slide,
    "float": _float,
    "pop": _pop,
}
