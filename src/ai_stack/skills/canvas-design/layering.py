"""Ranks and orders a graph's nodes so that arrows go one way and cross little (Sugiyama's way).

Arrows that close a circle are turned for the layout; one over several ranks gets a bend in each.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from .brief import Edge, Node

Place: TypeAlias = str
SWEEPS = 12


@dataclass(slots=True)
class Layers:
    """Places rank by rank, in order; `chains` has, for each arrow, the places it goes through.

    `turned` are the arrows whose chain runs against them. An arrow to itself has no chain.
    """

    ranks: list[list[Place]] = field(default_factory=list)
    chains: dict[int, list[Place]] = field(default_factory=dict)
    turned: set[int] = field(default_factory=set)

    def links(self) -> list[tuple[Place, Place]]:
        """Every step of every chain."""
        return [pair for c in self.chains.values() for pair in pairwise(c)]

    def crossings(self) -> int:
        """How many steps cross between ranks."""
        position = {p: n for rank in self.ranks for n, p in enumerate(rank)}
        rank_of = {p: r for r, rank in enumerate(self.ranks) for p in rank}
        steps = [(rank_of[a], position[a], position[b]) for a, b in self.links()]
        return sum(
            one[0] == other[0] and (one[1] - other[1]) * (one[2] - other[2]) < 0
            for n, one in enumerate(steps)
            for other in steps[n + 1 :]
        )


def layered(nodes: Sequence[Node], edges: Sequence[Edge]) -> Layers:
    """The layers of a graph."""
    found = Layers(turned=_turned(nodes, edges))
    straight = [_straight(n, edge, found.turned) for n, edge in enumerate(edges)]
    rank_of = _ranked([node.name for node in nodes], straight)
    found.ranks = [[] for _ in range(max(rank_of.values()) + 1)]
    for name, rank in rank_of.items():
        found.ranks[rank].append(name)
    for n, (source, target) in enumerate(straight):
        if source != target:
            found.chains[n] = _chain(found, n, source, target, rank_of)
    return _ordered(found)


def _straight(n: int, edge: Edge, turned: set[int]) -> tuple[Place, Place]:
    pair = (edge.source, edge.target)
    return (pair[1], pair[0]) if n in turned else pair


def _turned(nodes: Sequence[Node], edges: Sequence[Edge]) -> set[int]:
    """The arrows that lead back to where a walk came from."""
    out: dict[str, list[tuple[int, str]]] = {node.name: [] for node in nodes}
    for n, edge in enumerate(edges):
        out[edge.source].append((n, edge.target))
    state: dict[str, str] = {}
    back: set[int] = set()
    into = {edge.target for edge in edges if edge.source != edge.target}
    for node in sorted(nodes, key=lambda node: node.name in into):
        _walk(node.name, out, state, back)
    return back


def _walk(
    start: str,
    out: Mapping[str, list[tuple[int, str]]],
    state: dict[str, str],
    back: set[int],
) -> None:
    """Depth first, without recursion."""
    if start in state:
        return
    state[start] = "open"
    stack = [(start, iter(out[start]))]
    while stack:
        name, rest = stack[-1]
        step = next(rest, None)
        if step is None:
            state[name] = "done"
            stack.pop()
            continue
        number, target = step
        if state.get(target) == "open" and target != name:
            back.add(number)
        elif target not in state:
            state[target] = "open"
            stack.append((target, iter(out[target])))


def _ranked(names: Iterable[str], edges: Sequence[tuple[Place, Place]]) -> dict[Place, int]:
    """The longest way to each node; sources move down to just above what they lead to."""
    rank = dict.fromkeys(names, 0)
    for _ in rank:
        moved = False
        for source, target in edges:
            if source != target and rank[target] <= rank[source]:
                rank[target], moved = rank[source] + 1, True
        if not moved:
            break
    entered = {target for source, target in edges if source != target}
    for name in rank:
        below = [rank[t] for s, t in edges if s == name and t != name]
        if name not in entered and below:
            rank[name] = min(below) - 1
    return rank


def _chain(
    layers: Layers, n: int, source: Place, target: Place, rank_of: Mapping[Place, int]
) -> list[Place]:
    chain = [source]
    for rank in range(rank_of[source] + 1, rank_of[target]):
        bend = f"\0{n}.{rank}"
        layers.ranks[rank].append(bend)
        chain.append(bend)
    return [*chain, target]


def _ordered(layers: Layers) -> Layers:
    """Sweeps down and up by the middle of the neighbours; the order with fewest crossings."""
    best, fewest = [rank[:] for rank in layers.ranks], layers.crossings()
    above: dict[Place, list[Place]] = {}
    below: dict[Place, list[Place]] = {}
    for source, target in layers.links():
        below.setdefault(source, []).append(target)
        above.setdefault(target, []).append(source)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        ranks = layers.ranks if down else layers.ranks[::-1]
        for fixed, free in pairwise(ranks):
            _arrange(fixed, free, above if down else below)
        if (count := layers.crossings()) < fewest:
            best, fewest = [rank[:] for rank in layers.ranks], count
    layers.ranks = best
    return layers


def _arrange(fixed: list[Place], free: list[Place], near: Mapping[Place, list[Place]]) -> None:
    position = {place: n for n, place in enumerate(fixed)}
    now = {place: n for n, place in enumerate(free)}

    def middle(place: Place) -> float:
        known = [position[p] for p in near.get(place, ()) if p in position]
        return sum(known) / len(known) if known else now[place]

    free.sort(key=middle)
