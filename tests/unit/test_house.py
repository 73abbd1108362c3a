"""Rules of the house that no linter knows."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ai_stack

ROOT = Path(ai_stack.__file__).parent
LONGEST_FILE = 450


SKILLS = "skills/"  # each states what it may touch, and is held to that when it runs
FOR_SKILLS = {"ai_stack.skill", "ai_stack.skill.browsers", "ai_stack.skill.office"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        if "examples" not in path.parts:
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def reads_environment(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")


def prints(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"


def starts_processes(node: ast.AST) -> bool:
    names = ("Popen", "create_subprocess_exec", "create_subprocess_shell", "fork")
    if not isinstance(node, ast.Attribute):
        return False
    of_os = getattr(node.value, "id", "") == "os"  # others have a system, too
    return node.attr in names or (of_os and node.attr == "system")


def found(rule, allowed: tuple[str, ...]) -> list[str]:
    return [
        f"{name}:{node.lineno}"
        for name, tree in modules()
        if not name.startswith(allowed)
        for node in ast.walk(tree)
        if rule(node)
    ]


def test_only_settings_reads_the_environment() -> None:
    assert found(reads_environment, ("settings/", SKILLS)) == []


def test_only_the_command_line_prints() -> None:
    assert found(prints, ("cli/",)) == []


def test_only_these_start_processes() -> None:
    # Parser workers, index builders and runs of skills are short-lived, and end with who started
    # them.
    own = ("parsers/pool.py", "vectors/edge_collection.py", "services/skills/apart.py")
    allowed = ("supervisor/", "cli/", SKILLS, *own)
    assert found(starts_processes, allowed) == []


def reaches_into_the_stack(node: ast.AST) -> bool:
    names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        names = [node.module or ""]
    return any(n.startswith("ai_stack") and n not in FOR_SKILLS for n in names)


def test_a_skill_imports_nothing_of_the_stack_but_what_skills_may() -> None:
    known = [line for line in found(reaches_into_the_stack, ()) if line.startswith(SKILLS)]
    assert known == []


def test_every_module_says_what_it_is() -> None:
    assert [name for name, tree in modules() if not ast.get_docstring(tree)] == []


def test_files_fit_one_idea() -> None:
    sizes = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in ROOT.rglob("*.py")}
    assert {name: size for name, size in sizes.items() if size > LONGEST_FILE} == {}


def test_a_rule_can_be_broken() -> None:
    planted = ast.parse(
        "import os, ai_stack.stack\nprint(os.environ)\nasyncio.create_subprocess_exec('x')"
    )
    for rule in (reads_environment, prints, starts_processes, reaches_into_the_stack):
        assert any(rule(node) for node in ast.walk(planted))
    beside = ast.parse("from ai_stack.skill.wire import Order")
    assert any(reaches_into_the_stack(node) for node in ast.walk(beside))


def test_importing_opens_and_starts_nothing() -> None:
    """In a process of its own: no socket, no thread, no file but modules."""
    code = """
import sys, threading
seen = []
def hook(event, args):
    if event.startswith("socket.") and event != "socket.__new__":
        seen.append(event)
    if event == "open" and isinstance(args[0], str) and args[1] and "r" not in str(args[1]):
        seen.append(f"open {args[0]}")
    if event == "subprocess.Popen":
        seen.append(event)
sys.addaudithook(hook)
import ai_stack, ai_stack.stack, ai_stack.server, ai_stack.worker, ai_stack.cli
assert threading.active_count() == 1, threading.enumerate()
assert not seen, seen
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
