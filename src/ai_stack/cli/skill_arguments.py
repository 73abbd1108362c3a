"""The arguments of a skill as one writes them in a shell: texts, JSON, and files that are sent."""

import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pathspec
import typer

from ai_stack.cli.client import Answer, Gateway
from ai_stack.errors import InvalidRequest

Schema: TypeAlias = Mapping[str, Any]
LEFT_OUT = ".git"


def arguments_of(
    gateway: Gateway, skill: Answer, parameters: str, given: Sequence[str]
) -> dict[str, Any]:
    """All arguments: those of one JSON object, and NAME=VALUE pairs over them."""
    found = _object(parameters)
    known = skill.get("parameters", {}).get("properties", {})
    seen: set[str] = set()
    for pair in given:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{pair!r} is not ARGUMENT=VALUE.")
        form = known.get(name, {})
        value = _value(gateway, form, text)
        earlier = _listed(found[name]) if name in seen else []
        wanted = bool(earlier) or _wants(form, "array")
        found[name] = [*earlier, *_listed(value)] if wanted else value
        seen.add(name)
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _object(text: str) -> dict[str, Any]:
    if text.startswith("@"):
        text = _read(Path(text[1:])).decode()
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise typer.BadParameter(f"--parameters is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise typer.BadParameter("--parameters must be a JSON object.")
    return found


def _value(gateway: Gateway, schema: Schema, text: str) -> Any:
    """A text as it stands where the skill takes one, else what it says as JSON."""
    if text.startswith("@"):
        return sent(gateway, Path(text[1:]))
    if _wants(schema, "string"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _wants(schema: Schema, kind: str) -> bool:
    forms = schema.get("anyOf", [schema])
    return any(form.get("type") == kind or kind in _kinds(form) for form in forms)


def _kinds(form: Schema) -> list[str]:
    """The types below an anyOf within an anyOf, and of an enumeration."""
    below = [str(one.get("type")) for one in form.get("anyOf", ())]
    return [*below, "string"] if "enum" in form and "type" not in form else below


def sent(gateway: Gateway, path: Path) -> str:
    """Give a file, or a folder as an archive, to the stack; the name that a skill takes for it."""
    if path.is_dir():
        with tempfile.TemporaryDirectory() as scratch:
            return _send(gateway, _packed(path, Path(scratch) / f"{path.resolve().name}.zip"))
    return _send(gateway, path)


def _send(gateway: Gateway, path: Path) -> str:
    files = [("files", (path.name, _read(path), "application/octet-stream"))]
    return str(gateway.ask("POST", "/skills/files", files=files)["files"][0])


def _packed(folder: Path, archive: Path) -> Path:
    """A zip archive of a folder, without what its .gitignore leaves out, and without links."""
    ignore = folder / ".gitignore"
    lines = ignore.read_text(errors="replace").splitlines() if ignore.is_file() else []
    spec = pathspec.GitIgnoreSpec.from_lines([LEFT_OUT, *lines])
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not path.is_symlink() and not spec.match_file(name):
                target.write(path, f"{folder.resolve().name}/{name}")
    return archive


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from None
