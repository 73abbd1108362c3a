"""What is wrong with a skill's folder, by reading it; nothing of it runs."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ai_stack.skill import JSON, InvalidRequest, Manifest, read_examples, read_manifest

from .folder import FILE, files

Level: TypeAlias = Literal["error", "warning"]
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
WHEN = re.compile(r"\b(use|when|whenever|before|after|if|for)\b", re.IGNORECASE)
MAX_BODY, MIN_DESCRIPTION, MAX_CODE = 500, 40, 1 << 20
ALLOWED = ("ai_stack.skill", "ai_stack.skill.office", "ai_stack.skill.browsers")


@dataclass(frozen=True, slots=True)
class Fault:
    """An error keeps the folder from being a good skill; a warning is advice."""

    level: Level
    file: str
    line: int
    message: str

    def to_json(self) -> dict[str, JSON]:
        return dict(asdict(self))


def check(folder: Path) -> tuple[Manifest | None, list[Fault]]:
    """The manifest, where there is one, and everything that is wrong."""
    files(folder)
    try:
        manifest = read_manifest(folder)
    except InvalidRequest as error:
        return None, [Fault("error", FILE, 1, error.message)]
    found = [*_told(folder, manifest)]
    code = folder / "skill.py"
    if code.is_file():
        found += [*_modules(folder), *_code(code), *_examples(folder)]
    return manifest, sorted(found, key=lambda f: (f.level, f.file, f.line))


def _told(folder: Path, manifest: Manifest) -> Iterator[Fault]:
    """The head and the text."""
    if len(manifest.description) < MIN_DESCRIPTION or not WHEN.search(manifest.description):
        told = "The description should say what it does and when to use it."
        yield Fault("warning", FILE, 1, told)
    if not manifest.license:
        yield Fault("warning", FILE, 1, "State a `license`.")
    if not manifest.body:
        yield Fault("error", FILE, 1, "There are no instructions below the head.")
    lines = (folder / FILE).read_text("utf-8").splitlines()
    if len(lines) > MAX_BODY:
        told = f"It has {len(lines)} lines; put what is seldom needed into files beside it."
        yield Fault("warning", FILE, MAX_BODY, told)
    for number, line in enumerate(lines, 1):
        for target in LINK.findall(line):
            place = target.split("#", maxsplit=1)[0]
            if place and "://" not in target and not target.startswith("mailto:"):
                yield from _linked(folder, place, number)


def _linked(folder: Path, target: str, line: int) -> Iterator[Fault]:
    path = (folder / target).resolve()
    if not path.is_relative_to(folder.resolve()):
        yield Fault("error", FILE, line, f"The link {target[:100]} leads out of the folder.")
    elif not path.exists():
        yield Fault("error", FILE, line, f"The link {target[:100]} leads to no file.")


def _modules(folder: Path) -> Iterator[Fault]:
    """What every module may not do."""
    for path in files(folder):
        if path.suffix != ".py":
            continue
        name = path.relative_to(folder).as_posix()
        tree = _parsed(path)
        if isinstance(tree, int):
            yield Fault("error", name, tree, "This is not Python.")
            continue
        for node in ast.walk(tree):
            for module in _imported(node):
                if module.split(".", 1)[0] == "ai_stack" and module not in ALLOWED:
                    told = f"A skill imports {ALLOWED[0]} alone, and not {module[:100]}."
                    yield Fault("error", name, getattr(node, "lineno", 1), told)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module or ""]
    return []


def _parsed(path: Path) -> ast.Module | int:
    """The tree of a module, or the line where it breaks."""
    if path.stat().st_size > MAX_CODE:
        return 1
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as error:
        return error.lineno or 1
    except (ValueError, RecursionError, MemoryError):
        return 1


def _code(path: Path) -> Iterator[Fault]:
    """skill.py: one class, with actions that are typed and told."""
    tree = _parsed(path)
    if isinstance(tree, int):
        return
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and _is_skill(node)]
    if len(classes) != 1:
        told = f"It must define one class that is a Skill; it defines {len(classes)}."
        yield Fault("error", "skill.py", 1, told)
        return
    methods = [m for m in classes[0].body if isinstance(m, ast.AsyncFunctionDef | ast.FunctionDef)]
    actions = [method for method in methods if _is_action(method)]
    if not actions:
        yield Fault("error", "skill.py", classes[0].lineno, "It has no method marked @action.")
    for action in actions:
        yield from _action(action)


def _is_skill(node: ast.ClassDef) -> bool:
    return any(_last_name(base) == "Skill" for base in node.bases)


def _is_action(node: ast.AsyncFunctionDef | ast.FunctionDef) -> bool:
    return any(_last_name(found) == "action" for found in node.decorator_list)


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _action(node: ast.AsyncFunctionDef | ast.FunctionDef) -> Iterator[Fault]:
    def fault(level: Level, told: str) -> Fault:
        return Fault(level, "skill.py", node.lineno, f"{node.name}: {told}")

    if isinstance(node, ast.FunctionDef):
        yield fault("error", "an action is `async def`.")
    if not ast.get_docstring(node):
        yield fault("error", "its docstring's first line is what callers read; write one.")
    if node.args.vararg or node.args.kwarg:
        yield fault("error", "its arguments are named one by one.")
    for argument in [*node.args.args[1:], *node.args.kwonlyargs]:
        if argument.annotation is None:
            yield fault("error", f"the argument {argument.arg} has no type.")
        elif "description" not in ast.dump(argument.annotation):
            yield fault("warning", f"the argument {argument.arg} has no description in a Field.")


def _examples(folder: Path) -> Iterator[Fault]:
    try:
        found = read_examples(folder)
    except (InvalidRequest, RecursionError):
        yield Fault("error", "examples.json", 1, "It is no list of examples.")
        return
    if not found:
        yield Fault("warning", "examples.json", 1, "There are no examples, so nothing is tested.")
    for number, example in enumerate(found, 1):
        told = json.dumps(example.parameters, default=str)
        if len(told) > MAX_CODE:
            yield Fault("warning", "examples.json", 1, f"Example {number} is larger than 1 MiB.")
