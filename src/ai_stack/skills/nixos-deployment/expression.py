"""Values as Nix expressions: every text is a string, and no text is ever code."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeGuard

from ai_stack.skill import SkillFailed

MAX_DEPTH, MAX_ITEMS, MAX_TEXT = 40, 10_000, 1 << 20
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_'-]*")
KEYWORDS = {"if", "then", "else", "assert", "with", "let", "in", "rec", "inherit", "or"}
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
INT = range(-(2**63) + 1, 2**63)
PACKAGE = "pkgs"  # a set of this one name stands for a package


@dataclass(frozen=True, slots=True)
class Raw:
    """An expression of our own writing, which no caller's text is part of unescaped."""

    code: str


Value: TypeAlias = "str | float | bool | Raw | Mapping[str, Value] | Sequence[Value] | None"


def string(text: str) -> str:
    """A text as a Nix string."""
    if "\0" in text:
        raise SkillFailed("A text holds a zero byte, which no Nix string can.")
    if len(text) > MAX_TEXT:
        raise SkillFailed(f"A text has more than {MAX_TEXT:,} characters.")
    plain = "".join(ESCAPES.get(character, character) for character in text)
    return f'"{plain.replace("${", chr(92) + "${")}"'


def name(text: str) -> str:
    """One step of a path: bare where the grammar has it so, else a string."""
    return text if IDENTIFIER.fullmatch(text) and text not in KEYWORDS else string(text)


def path(steps: tuple[str, ...]) -> str:
    """A path of attributes."""
    return ".".join(map(name, steps))


def package(text: str) -> Raw:
    """A package by its path within nixpkgs, as in `python3Packages.requests`."""
    steps = split(text.removeprefix("pkgs."))
    return Raw(f"pkgs.{path(steps)}")


def split(text: str) -> tuple[str, ...]:
    """The steps of a dotted path, in which a step may be quoted as in JSON."""
    found = re.findall(r'"(?:[^"\\]|\\.)*"|[^."]+', text)
    if not found or ".".join(found) != text:
        raise SkillFailed(f"{text[:100]!r} is no path of names with a dot between them.")
    return tuple(_unquoted(step) for step in found)


def _unquoted(step: str) -> str:
    if not step.startswith('"'):
        return step.strip()
    try:
        return str(json.loads(step))
    except ValueError:
        raise SkillFailed(f"{step[:100]} is no quoted name.") from None


def write(value: Value, indent: str = "", depth: int = 0) -> str:
    """The expression of a value; `indent` is that of the line on which it begins."""
    if depth > MAX_DEPTH:
        raise SkillFailed(f"The values are nested deeper than {MAX_DEPTH}.")
    if isinstance(value, Raw):
        return value.code
    if isinstance(value, Mapping):
        return _set(value, indent, depth)
    if isinstance(value, str):
        return string(value)
    return _list(value, indent, depth) if isinstance(value, Sequence) else _scalar(value)


def _scalar(value: float | bool | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if value not in INT:
            raise SkillFailed("A number does not fit into Nix's 64 bits.")
        return str(value)
    if not math.isfinite(value):
        raise SkillFailed("A number is not finite.")
    mantissa, mark, exponent = repr(value).partition("e")
    return (mantissa if "." in mantissa else f"{mantissa}.0") + mark + exponent


def _set(value: Mapping[str, Value], indent: str, depth: int) -> str:
    if set(value) == {PACKAGE} and isinstance(text := value[PACKAGE], str):
        return package(text).code
    if not value:
        return "{ }"
    _bound(len(value))
    return f"{{\n{bindings(value, indent + '  ', depth + 1)}{indent}}}"


def bindings(value: Mapping[str, Value], indent: str, depth: int = 0) -> str:
    """The attributes of a set, each on its line; a chain of single ones is one path."""
    lines = []
    for key, item in value.items():
        steps: tuple[str, ...] = (key,)
        held = item
        while _single(held):
            inner = next(iter(held.items()))
            steps, held = (*steps, inner[0]), inner[1]
            if len(steps) > MAX_DEPTH:
                raise SkillFailed(f"The values are nested deeper than {MAX_DEPTH}.")
        lines.append(f"{indent}{path(steps)} = {write(held, indent, depth)};\n")
    return "".join(lines)


def _single(value: Value) -> TypeGuard[Mapping[str, Value]]:
    return isinstance(value, Mapping) and len(value) == 1 and PACKAGE not in value


def _list(value: Sequence[Value], indent: str, depth: int) -> str:
    _bound(len(value))
    items = [_item(item, indent + "  ", depth + 1) for item in value]
    line = f"[ {' '.join(items)} ]" if items else "[ ]"
    if len(line) + len(indent) <= 80 and "\n" not in line:
        return line
    return "[\n" + "".join(f"{indent}  {item}\n" for item in items) + f"{indent}]"


def _item(value: Value, indent: str, depth: int) -> str:
    """An element of a list; what would be read as several is put in parentheses."""
    code = write(value, indent, depth)
    return f"({code})" if code.startswith("-") else code


def _bound(count: int) -> None:
    if count > MAX_ITEMS:
        raise SkillFailed(f"A list or set has more than {MAX_ITEMS:,} items.")
