"""Gives the places of a layered graph their coordinates; ranks go down the y axis."""

from collections.abc import Mapping
from dataclasses import dataclass

from .layering import Layers, Place
from .scene import Box

GAP, BEND_GAP, BEND_WIDTH = 28.0, 14.0, 8.0
ROUNDS = 24


@dataclass(frozen=True, slots=True)
class Placement:
    """The box of each place, bends among them; the whole begins at 0, 0.

    A band is as wide as its place and as tall as the whole rank: free for that place's arrows.
    """

    boxes: Mapping[Place, Box]
    bands: Mapping[Place, Box]
    width: float
    height: float


def placed(
    layers: Layers, sizes: Mapping[Place, tuple[float, float]], between: list[float]
) -> Placement:
    """Boxes without overlap, each as near above its neighbours as its rank lets it be.

    `between` is the room after each rank.
    """
    widths = {p: sizes.get(p, (BEND_WIDTH, 0.0))[0] for rank in layers.ranks for p in rank}
    middles = _middles(layers, widths)
    left = min(middles[p] - widths[p] / 2 for p in middles)
    boxes: dict[Place, Box] = {}
    bands: dict[Place, Box] = {}
    top = 0.0
    for rank, room in zip(layers.ranks, between, strict=True):
        tall = max((sizes[p][1] for p in rank if p in sizes), default=0.0)
        for place in rank:
            high = sizes[place][1] if place in sizes else tall
            x = middles[place] - widths[place] / 2 - left
            boxes[place] = Box(x, top + (tall - high) / 2, widths[place], high)
            bands[place] = Box(x, top, widths[place], tall)
        top += tall + room
    return Placement(boxes, bands, max(b.right for b in boxes.values()), top - between[-1])


def _middles(layers: Layers, widths: Mapping[Place, float]) -> dict[Place, float]:
    """Middles on the x axis: drawn to the mean of their neighbours, kept apart from each other."""
    middles: dict[Place, float] = {}
    for rank in layers.ranks:
        _spread(rank, dict.fromkeys(rank, 0.0), widths, middles)
    near: dict[Place, list[Place]] = {}
    for source, target in layers.links():
        near.setdefault(source, []).append(target)
        near.setdefault(target, []).append(source)
    for turn in range(ROUNDS):
        for rank in layers.ranks if turn % 2 else layers.ranks[::-1]:
            wanted = {
                p: sum(middles[q] for q in near[p]) / len(near[p]) if p in near else middles[p]
                for p in rank
            }
            _spread(rank, wanted, widths, middles)
    return middles


def _spread(
    rank: list[Place],
    wanted: Mapping[Place, float],
    widths: Mapping[Place, float],
    middles: dict[Place, float],
) -> None:
    """Places as near to where they want to be as their order lets them: groups that touch move
    together to the mean of what they want."""
    groups: list[tuple[list[Place], float]] = []
    offsets: dict[Place, float] = {}
    for place in rank:
        group, start = [place], wanted[place]
        offsets[place] = 0.0
        while groups and _end(groups[-1], offsets, widths) + _gap(groups[-1][0][-1], place) > (
            start - widths[group[0]] / 2
        ):
            before, _ = groups.pop()
            shift = offsets[before[-1]] + _apart(before[-1], group[0], widths)
            for one in group:
                offsets[one] += shift
            group = [*before, *group]
            start = sum(wanted[p] - offsets[p] for p in group) / len(group)
        groups.append((group, start))
    for group, start in groups:
        for place in group:
            middles[place] = start + offsets[place]


def _end(
    group: tuple[list[Place], float], offsets: Mapping[Place, float], widths: Mapping[Place, float]
) -> float:
    last = group[0][-1]
    return group[1] + offsets[last] + widths[last] / 2


def _apart(one: Place, other: Place, widths: Mapping[Place, float]) -> float:
    return widths[one] / 2 + _gap(one, other) + widths[other] / 2


def _gap(one: Place, other: Place) -> float:
    return BEND_GAP if one.startswith("\0") or other.startswith("\0") else GAP
