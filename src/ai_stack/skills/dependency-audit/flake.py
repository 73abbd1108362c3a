"""Nix's flake.lock: inputs, each locked to a revision and to the hash of its content."""

from collections.abc import Mapping

from ai_stack.skill import JSON

from .packages import Lines, Lock, Package

MAX_HOPS = 50


def read(path: str, data: Mapping[str, JSON], text: str) -> Lock:
    """The inputs of a flake; its root is the project itself."""
    lock, lines = Lock(path, "nix"), Lines(text)
    nodes, root = _map(data.get("nodes")), str(data.get("root", "root"))
    names = [name for name in nodes if name != root]
    for name in names:
        lock.add(_package(name, nodes, names, root, lines.of(f'"{name}": {{')))
    return lock


def _package(
    name: str, nodes: Mapping[str, JSON], names: list[str], root: str, line: int
) -> Package:
    node = _map(nodes[name])
    locked, original = _map(node.get("locked")), _map(node.get("original"))
    revision, checksum = str(locked.get("rev", "")), str(locked.get("narHash", ""))
    return Package(
        "nix",
        _title(name, locked or original),
        revision or checksum,
        line,
        wanted=str(original.get("ref") or original.get("url") or "the newest"),
        source=str(locked.get("url", "")),
        hashes=(checksum,) if checksum else (),
        registry=False,
        needs=tuple(sorted(_needs(node, nodes, names, root))),
        place=name,
    )


def _title(name: str, source: Mapping[str, JSON]) -> str:
    """What an input is, whichever name it has here: owner and repository where there are."""
    if "owner" in source and "repo" in source:
        return f"{source['owner']}/{source['repo']}".lower()
    return str(source.get("url") or source.get("path") or name)


def _needs(
    node: Mapping[str, JSON], nodes: Mapping[str, JSON], names: list[str], root: str
) -> set[int]:
    found = set[int]()
    for target in _map(node.get("inputs")).values():
        name = _followed(target, nodes, root)
        if name in names:
            found.add(names.index(name))
    return found


def _followed(target: JSON, nodes: Mapping[str, JSON], root: str) -> str:
    """The node that an input is; a list is a way of inputs from the root."""
    for _ in range(MAX_HOPS):
        if not isinstance(target, list):
            return str(target)
        place: JSON = root
        for step in target[:MAX_HOPS]:
            place = _map(_map(nodes.get(str(place))).get("inputs")).get(str(step), "")
            if isinstance(place, list):
                break
        target = place
    return ""


def _map(value: JSON | object) -> Mapping[str, JSON]:
    return value if isinstance(value, dict) else {}
