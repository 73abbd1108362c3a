"""Errors in Nix files, with their line: as Nix itself sees them, or by tree-sitter's grammar."""

import asyncio
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import tree_sitter_nix
from tree_sitter import Language, Node, Parser, Tree

from ai_stack.skill import SkillFailed

Checker: TypeAlias = Literal["nix", "tree-sitter"]
PROGRAM, TIMEOUT_S, MAX_ERRORS = "nix-instantiate", 20.0, 20
ANSI = re.compile(r"\x1b\[[0-9;]*m")
TOLD = re.compile(r"error:\s*(?P<what>.+?)\n(?:.*\n)*?\s*at .*?:(?P<line>\d+):(?P<column>\d+)")
OLDER = re.compile(r"error:\s*(?P<what>.+?),? at .*?:(?P<line>\d+):(?P<column>\d+)")
ELSEWHERE = re.compile(r" at (\(string\)|«[^»]*»)(?=:\d)")
SETS = ("attrset_expression", "rec_attrset_expression", "let_expression")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where; line and column count from 1."""

    line: int
    column: int
    message: str


def parsed(text: str) -> Tree:
    """The tree of a text, with errors in it where the grammar breaks."""
    return Parser(Language(tree_sitter_nix.language())).parse(text.encode())


def find_nix() -> str | None:
    """Nix's own parser, where it is installed."""
    return shutil.which(PROGRAM)


async def faults(text: str, checker: Checker) -> list[Fault]:
    """What is wrong in a text; Nix stops at the first fault, tree-sitter goes on."""
    if checker == "nix":
        return await _by_nix(text)
    return await asyncio.to_thread(_by_grammar, text)


async def _by_nix(text: str) -> list[Fault]:
    program = find_nix()
    if program is None:
        raise SkillFailed("Nix is not installed here; let `checker` be auto or tree-sitter.")
    process = await asyncio.create_subprocess_exec(
        program, "--parse", "--store", "dummy://", "-",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        _, said = await asyncio.wait_for(process.communicate(text.encode()), TIMEOUT_S)
    except TimeoutError:
        raise SkillFailed(f"Nix did not end within {TIMEOUT_S:.0f} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return [] if process.returncode == 0 else [_told(ANSI.sub("", said.decode(errors="replace")))]


def _told(said: str) -> Fault:
    found = TOLD.search(said) or OLDER.search(said)
    if found is None:
        return Fault(1, 1, "Nix cannot parse it, and does not say where.")
    what = ELSEWHERE.sub(" at line ", found["what"]).replace("at line :", "at line ")
    return Fault(int(found["line"]), int(found["column"]), what.strip()[:300])


def _by_grammar(text: str) -> list[Fault]:
    root = parsed(text).root_node
    found = [*_broken(root)] if root.has_error else [*_twice(root)]
    return sorted(dict.fromkeys(found), key=lambda f: (f.line, f.column))[:MAX_ERRORS]


def _broken(root: Node) -> Iterator[Fault]:
    waiting, count = [root], 0
    while waiting and count < MAX_ERRORS:
        node = waiting.pop()
        if node.is_missing or node.is_error:
            count += 1
            yield Fault(node.start_point.row + 1, node.start_point.column + 1, _why(node))
        else:
            waiting += [c for c in reversed(node.children) if c.has_error or c.is_missing]


def _why(node: Node) -> str:
    if node.is_missing:
        return f"`{node.type}` is missing here."
    text = (node.text or b"").decode(errors="replace").strip()
    if text.startswith("=") and node.parent and node.parent.type == "apply_expression":
        return "Unexpected `=`; most likely a `;` is missing before this attribute."
    return f"Unexpected `{text.split(chr(10), 1)[0][:60]}`." if text else "This is not grammar."


def _twice(root: Node) -> Iterator[Fault]:
    """Attributes that one set defines twice, which the grammar allows and Nix does not."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        waiting += node.children
        if node.type in SETS:
            yield from _repeated(node)


def _repeated(node: Node) -> Iterator[Fault]:
    seen: dict[str, int] = {}
    for held in node.children:
        for binding in held.children if held.type == "binding_set" else ():
            path = binding.child_by_field_name("attrpath")
            text = (path.text or b"").decode(errors="replace") if path else ""
            if not path or "${" in text or not text:
                continue
            if text in seen and not _set_of(binding):
                told = f"`{text[:100]}` is defined already, at line {seen[text]}."
                yield Fault(path.start_point.row + 1, path.start_point.column + 1, told)
            seen.setdefault(text, path.start_point.row + 1)


def _set_of(binding: Node) -> bool:
    """Whether it gives a set, which Nix merges with another."""
    value = binding.child_by_field_name("expression")
    return value is not None and value.type in SETS[:2]
