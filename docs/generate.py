"""Writes the generated pages: docs/reference/*.md and deploy/.env.example.

`python docs/generate.py` writes what is stale; tests/unit/test_docs.py fails while a page is.
"""

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.main import get_command

import ai_stack
from ai_stack import cli, errors
from ai_stack.errors import AIStackError
from ai_stack.server import create_api
from ai_stack.settings import Settings, variable_of
from ai_stack.skill.discovery import CODE, OURS, SCHEMA, derived_schema, discover_skills
from ai_stack.skill.manifest import Manifest
from ai_stack.telemetry.metrics import Metrics

ROOT = Path(__file__).parent.parent
SOURCE = Path(ai_stack.__file__).parent
WIDTH = 88
NOTE = "<!-- Written by docs/generate.py from the sources; `make docs` writes it anew. -->"

ABOUT_SETTINGS = """\
# Settings

A variable in the environment wins over the same one in `.env`, and that over the default.
The file is `~/.config/nixos-ai-stack/.env`; [an example](../../deploy/.env.example) lists all.
`ai-stack settings` shows what is in force and where each value comes from. A variable that is
set to nothing counts as not set. `ai-stack restart` has a running stack read its settings anew.

A password, key, token or URL may lie in a file of its own instead, which the same variable with
`_FILE` at its end names: `POSTGRES_PASSWORD_FILE`, `AI_STACK_DATABASE_URL_FILE`.\
"""
ABOUT_CLI = """\
# Command line

Verbs that handle documents, searches and runs are clients of the gateway: they work from any
machine that reaches `AI_STACK_URL`. The others work on the machine of the stack. Exit status: 0
for success, 1 for a failure that is explained, 2 for a wrong call or setting. Verbs whose status
means more say so below.
"""
ABOUT_ERRORS = """\
# Errors

REST answers a failure as `application/problem+json` (RFC 9457):

```json
{"type": "about:blank", "title": "Not Found", "status": 404, "code": "not_found",
 "detail": "There is nothing here under this id.", "request_id": "01a2…"}
```

Decide by `code`; `detail` is for people and may change. `errors` names the fields of a request
that were wrong. `request_id`, also in the header `X-Request-ID`, finds the request in the
gateway's log. Answers with 429 and 503 carry `Retry-After`.

| code | status | meaning |
|---|---|---|\
"""
ABOUT_API = """\
# REST routes

A running gateway serves the same as `/openapi.json`, and as a page to try it out at `/docs`.
The shapes of the answers are in [the API guide](../guides/api.md), failures in
[errors](errors.md). Any route may answer 422 for a request of the wrong form.\
"""
ABOUT_SKILLS = """\
# Skills

`ai-stack skills list` shows them with what is missing here; `ai-stack skills run NAME` runs one.

| skill | what it does |
|---|---|\
"""
FACE_CODES = (
    ("unknown_host", "421", "The Host or Origin header names another machine than this gateway."),
    ("http_error", "any", "HTTP itself was used wrongly; `status` and `detail` tell."),
)

ABOUT_METRICS = """\
# Metrics

`GET /metrics` tells them in Prometheus' text form to who may operate the stack.
[Monitoring](../guides/monitoring.md) says how to collect and show them. A counter's name ends in
`_total`; a histogram has `_bucket`, `_sum` and `_count` series. No label names a user, a key or a
project; what a label may be is bounded, and what is over that is `other`.\
"""

# The field that each section of the settings begins with.
SECTIONS = {
    "data_dir": "The stack",
    "hosts": "The wire",
    "database_url": "PostgreSQL",
    "redis_url": "Redis",
    "vectors_url": "Vectors",
    "embedder_url": "Embeddings",
    "rerank_url": "Search",
    "import_max_file_bytes": "Imports and requests",
    "log_format": "Logs, metrics and traces",
}
WORKED_OUT = {
    "data_dir": "$XDG_DATA_HOME/nixos-ai-stack, else ~/.local/share/nixos-ai-stack",
    "config_dir": "$XDG_CONFIG_HOME/nixos-ai-stack, else ~/.config/nixos-ai-stack",
    "runtime_dir": "/tmp/ai-stack-<user id>-<hash of the data folder>",  # noqa: S108
    "url": "http://<AI_STACK_HOST>:<AI_STACK_PORT>",
    "database_admin_url": "AI_STACK_DATABASE_URL",
}


def main() -> None:
    """Write every page whose text is not what is there."""
    for path, text in pages().items():
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")


def pages() -> dict[Path, str]:
    """Every generated page and the text that it should have."""
    made: Mapping[str, Callable[[], Iterator[str]]] = {
        "settings": settings_page,
        "cli": cli_page,
        "errors": errors_page,
        "api": api_page,
        "modules": modules_page,
        "metrics": metrics_page,
    }
    found = {
        ROOT / f"docs/reference/{name}.md": "\n".join([NOTE, "", *page()]).rstrip() + "\n"
        for name, page in made.items()
    }
    found[ROOT / "deploy/.env.example"] = "\n".join(env_example()).rstrip() + "\n"
    return found | schemas() | skill_pages()


def schemas() -> dict[Path, str]:
    """The schema of each acting skill's arguments, which its listing shows without its code."""
    return {
        code.parent / SCHEMA: json.dumps(derived_schema(code.parent), indent=1) + "\n"
        for code in sorted(OURS.glob(f"*/{CODE}"))
    }


def skill_pages() -> dict[Path, str]:
    """A page for each skill, and the list of them."""
    folder, skills = ROOT / "docs/reference/skills", discover_skills()
    rows = [f"| [{name}]({name}.md) | {skill.description} |" for name, skill in skills.items()]
    found = {
        folder / f"{name}.md": "\n".join(skill_page(skill.folder, skill.manifest)).rstrip() + "\n"
        for name, skill in skills.items()
    }
    found[folder / "README.md"] = "\n".join([NOTE, "", ABOUT_SKILLS, *rows]) + "\n"
    return found


def skill_page(folder: Path, manifest: Manifest) -> Iterator[str]:
    """What it does, what it takes, runs of it with their output, what it may touch."""
    yield from (NOTE, "", f"# {manifest.name}", "", manifest.description)
    if (folder / CODE).is_file():
        yield from _arguments(derived_schema(folder))
        yield from _runs(folder)
        yield from _touched(manifest)
    yield from ("", "## Instructions", "", _lowered(manifest.body))


def _arguments(schema: Mapping[str, Any]) -> Iterator[str]:
    needed = {a["if"]["properties"]["action"]["const"]: a["then"] for a in schema.get("allOf", ())}
    yield from ("", "## Arguments", "", "| argument | type | of | meaning |", "|---|---|---|---|")
    for name, field in schema["properties"].items():
        takers = [a for a, then in needed.items() if name in then["propertyNames"]["enum"]]
        must = [a for a in takers if name in needed[a]["required"]]
        of = "all" if len(takers) == len(needed) else ", ".join(takers)
        needs = f"needed by {', '.join(must)}" if must and name != "action" else ""
        needs = "needed" if name in schema["required"] and name != "action" else needs
        meaning = "; ".join(t for t in (needs, field.get("description", "")) if t)
        yield f"| `{name}` | {_cell(_type(field))} | {of} | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _runs(folder: Path) -> Iterator[str]:
    file = folder / "examples.json"
    for run in json.loads(file.read_text()) if file.is_file() else ():
        shown = {"parameters": run["parameters"], "output": run["output"]}
        if run.get("artifacts"):
            shown["artifacts"] = run["artifacts"]
        text = json.dumps(shown, indent=2, ensure_ascii=False)
        yield from ("", f"## {run['about'].rstrip('.')}", "", "```json", text, "```")


def _touched(manifest: Manifest) -> Iterator[str]:
    p = manifest.permissions
    yield from ("", "## What it may touch", "", "| | |", "|---|---|")
    yield f"| runs | {'in the stack' if p.isolation == 'inline' else 'in a process apart'} |"
    yield f"| of the stack | {', '.join(p.uses) or 'nothing'} |"
    yield f"| network | {p.network} |"
    for name, words in (("reads", p.reads), ("writes", p.writes), ("programs", p.programs)):
        if words:
            yield f"| {name} | {_cell(' '.join(f'`{w}`' for w in words))} |"
    yield f"| memory, time | {p.memory_bytes >> 20} MiB, {p.time_s:g} s |"
    if manifest.python:
        extra = f" (extra `{manifest.extra}`)" if manifest.extra else ""
        yield f"| Python packages | {' '.join(manifest.python)}{extra} |"


def _lowered(body: str) -> str:
    """Instructions as a part of the page: heads two levels lower, the first one gone."""
    lines, fenced = [], False
    for n, line in enumerate(body.splitlines()):
        fenced ^= line.startswith("```")
        if line.startswith("# ") and n == 0:
            continue
        lines.append(f"#{line}" if line.startswith("##") and not fenced else line)
    return "\n".join(lines).strip()


def settings_page() -> Iterator[str]:
    """A table of each section: variable, default, meaning."""
    yield ABOUT_SETTINGS
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            yield from ("", f"## {SECTIONS[name]}", "", "| variable | default | meaning |")
            yield "|---|---|---|"
        shown = default_text(name, field)
        default = f"`{shown}`{_in_units(name, field)}" if shown else ""
        yield f"| `{variable_of(name, field)}` | {default} | {field.description} |"


def env_example() -> Iterator[str]:
    """Every setting, commented out, with its default where it has one."""
    yield "# AI Stack: copy this to ~/.config/nixos-ai-stack/.env and change what you need."
    yield "# Variables in the environment win over this file. Written by docs/generate.py."
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            yield from ("", f"## {SECTIONS[name]}")
        value = "" if name in WORKED_OUT else default_text(name, field)
        yield from ("", f"# {field.description}")
        if name in WORKED_OUT:
            yield f"# By default {WORKED_OUT[name]}."
        yield f"#{variable_of(name, field)}={value}"


def default_of(field: FieldInfo) -> object:
    """A field's default, None where it is worked out when the settings are read."""
    return None if field.default is PydanticUndefined else field.default


def default_text(name: str, field: FieldInfo) -> str:
    """A default as one would write it in .env; empty where there is none."""
    if name in WORKED_OUT:
        return WORKED_OUT[name]
    value = default_of(field)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _in_units(name: str, field: FieldInfo) -> str:
    value = default_of(field)
    if not name.endswith("_bytes") or not isinstance(value, int):
        return ""
    return f" ({value >> 30} GiB)" if value >= 1 << 30 else f" ({value >> 20} MiB)"


def cli_page() -> Iterator[str]:
    """The help of every verb, and of the commands below it."""
    yield ABOUT_CLI
    yield from ("```text", cli.overview(), "```")
    for verb in cli.VERBS:
        for name, text in helps(verb):
            yield from ("", f"## {name}", "", "```text", text, "```")


def helps(verb: str) -> Iterator[tuple[str, str]]:
    """(name, help) of a verb; of each of its commands where it has some."""
    command: Any = get_command(import_module(f"ai_stack.cli.{cli.VERBS[verb][0]}").app)
    below: dict[str, Any] = getattr(command, "commands", {})
    if verb in below:
        yield f"ai-stack {verb}", _help(below[verb], f"ai-stack {verb}")
    elif below:
        for name, one in below.items():
            if not one.hidden:
                yield f"ai-stack {verb} {name}", _help(one, f"ai-stack {verb} {name}")
    else:
        yield f"ai-stack {verb}", _help(command, f"ai-stack {verb}")


def _help(command: Any, name: str) -> str:
    command.rich_markup_mode = None
    context = typer.Context(command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH)
    return "\n".join(line.rstrip() for line in str(command.get_help(context)).splitlines())


def errors_page() -> Iterator[str]:
    """A table of codes."""
    yield ABOUT_ERRORS
    for error in error_classes():
        now = "" if is_raised(error) else " (Nothing gives it yet.)"
        yield f"| `{error.code}` | {error.status} | {error().message}{now} |"
    for code, status, meaning in FACE_CODES:
        yield f"| `{code}` | {status} | {meaning} |"


def error_classes() -> list[type[AIStackError]]:
    """The tree of errors.py, in the order of the file."""
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    found = [c for c in classes if issubclass(c, AIStackError)]
    return list(dict.fromkeys(found))


def is_raised(error: type[AIStackError]) -> bool:
    """Whether any module but errors.py names this class."""
    others = (path for path in SOURCE.rglob("*.py") if path.name != "errors.py")
    return any(re.search(rf"\b{error.__name__}\b", path.read_text()) for path in others)


def face_codes() -> set[str]:
    """The codes that REST gives by itself, beside those of errors.py."""
    known = {error.code for error in error_classes()}
    given = {"http_error"}
    for path in sorted((SOURCE / "rest").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "problem":
                given |= {str(a.value) for a in node.args[2:3] if isinstance(a, ast.Constant)}
    return given - known


def api_page() -> Iterator[str]:
    """Every route: what it takes and what it answers with."""
    described = openapi()
    yield ABOUT_API
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            yield from ("", f"## {method.upper()} {path}", "")
            yield route.get("description") or route["summary"]
            yield from _parameters(route)
            yield from _bodies(route, described["components"]["schemas"])
            yield from _answers(route)


def openapi() -> dict[str, Any]:
    """The app's description; nothing is opened for it."""
    return create_api(Settings(data_dir=Path("data"), config_dir=Path("config"))).openapi()


def _parameters(route: Mapping[str, Any]) -> Iterator[str]:
    found = route.get("parameters", ())
    if found:
        yield from ("", "| parameter | in | type | meaning |", "|---|---|---|---|")
    for one in found:
        meaning = one.get("description") or one["schema"].get("description") or ""
        yield f"| `{one['name']}` | {one['in']} | {_type(one['schema'])} | {meaning} |"


def _bodies(route: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    for media_type, content in route.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        for one in schema.get("anyOf", [schema]):
            named = schemas[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
            if "properties" in named:
                yield from _fields(media_type, named)


def _fields(media_type: str, schema: Mapping[str, Any]) -> Iterator[str]:
    about = schema.get("description", "")
    yield from ("", f"Body `{media_type}`{': ' if about else ''}{' '.join(about.split())}", "")
    yield from ("| field | type | meaning |", "|---|---|---|")
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        needed = "needed" if name in required else ""
        meaning = "; ".join(part for part in (needed, field.get("description", "")) if part)
        yield f"| `{name}` | {_type(field)} | {meaning} |"


def _answers(route: Mapping[str, Any]) -> Iterator[str]:
    told = {
        status: "" if answer["description"] == "Successful Response" else answer["description"]
        for status, answer in route["responses"].items()
        if status != "422"
    }
    yield ""
    yield (
        "Answers " + ", ".join(f"{s} ({t.rstrip('.')})" if t else s for s, t in told.items()) + "."
    )


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a word or two, with its bounds and default."""
    kinds = [s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"]
    words = " or ".join(_kind(one) for one in kinds)
    low, high = kinds[0].get("minimum"), kinds[0].get("maximum")
    bounds = f" {low:g} to {high:g}" if low is not None and high is not None else ""
    default = schema.get("default")
    shown = f", by default `{str(default).lower()}`" if default not in (None, "", {}) else ""
    return f"{words}{bounds}{shown}"


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " / ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any")


def metrics_page() -> Iterator[str]:
    """Every instrument: its name, kind, labels and meaning."""
    yield ABOUT_METRICS
    for part in vars(Metrics()).values():
        title, _, about = (part.__doc__ or "").partition("\n\n")
        yield from ("", f"## {title.rstrip('.')}", "", " ".join(about.split()), "")
        yield from ("| metric | kind | labels | meaning |", "|---|---|---|---|")
        for one in vars(part).values():
            labels = " ".join(f"`{label}`" for label in one.labels)
            yield f"| `{one.name}` | {one.kind} | {labels} | {_cell(one.about)} |"


def modules_page() -> Iterator[str]:
    """Each module and the first sentence of its docstring, package by package."""
    yield "# Modules"
    yield ""
    yield "What each file of `src/ai_stack` is, by its own first sentence."
    packages: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE)
        sentence = _first_sentence(ast.get_docstring(ast.parse(path.read_text())) or "")
        if sentence and not {"migrations", "skills"} & set(place.parts[:-1]):
            packages.setdefault(place.parent.as_posix(), []).append((place.name, sentence))
    for package, files in packages.items():
        title = "ai_stack" if package == "." else f"ai_stack/{package}"
        yield from ("", f"## {title}", "", "| file | what it is |", "|---|---|")
        for name, sentence in files:
            yield f"| `{name}` | {sentence} |"


def _first_sentence(docstring: str) -> str:
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return paragraph.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()
