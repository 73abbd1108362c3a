"""What a new skill is to be, as its maker tells it, and the folder that this becomes."""

import json
import keyword
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ai_stack.skill import SkillFailed, parse_manifest

Type: TypeAlias = Literal[
    "text", "integer", "number", "boolean", "file", "folder", "texts", "choice"
]
ANNOTATIONS: Mapping[Type, str] = {
    "text": "str", "integer": "int", "number": "float", "boolean": "bool",
    "file": "File", "folder": "Folder", "texts": "tuple[str, ...]",
}  # fmt: skip
SAMPLES: Mapping[Type, JsonValue] = {
    "text": "Hello", "integer": 1, "number": 0.5, "boolean": True,
    "file": "example:sample.txt", "folder": "example:", "texts": ["Hello"],
}  # fmt: skip
Identifier: TypeAlias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,60}$")]
TAKEN = {"self", "action", "arguments", "context", "execute", "parameters", "name", "description"}


class Argument(BaseModel):
    """One argument of an action; without a default it is needed."""

    model_config = ConfigDict(extra="forbid")

    name: Identifier
    type: Type = "text"
    description: Annotated[str, Field(min_length=1, max_length=500)]
    default: str | int | float | bool | tuple[str, ...] | None = None
    choices: Annotated[tuple[str, ...], Field(max_length=100)] = ()


class Action(BaseModel):
    """One action of a skill."""

    model_config = ConfigDict(extra="forbid")

    name: Identifier
    summary: Annotated[str, Field(min_length=1, max_length=200, description="What it does.")]
    arguments: Annotated[tuple[Argument, ...], Field(max_length=50)] = ()


class Plan(BaseModel):
    """Everything that a new skill is made from."""

    name: str
    description: str
    instructions: str
    license: str
    permissions: Mapping[str, str]
    actions: tuple[Action, ...]
    code: str
    examples: tuple[dict[str, JsonValue], ...]
    files: Mapping[str, str]


def write(plan: Plan, folder: Path) -> None:
    """The folder of a plan; InvalidRequest or SkillFailed for what cannot be one."""
    texts = {**_files(plan), "SKILL.md": manifest(plan)}
    if plan.code and plan.actions:
        raise SkillFailed("Give either `actions` or `code`, of which the other would be made.")
    if plan.code or plan.actions:
        texts["skill.py"] = plan.code or code(plan)
        texts["examples.json"] = json.dumps([*(plan.examples or _examples(plan))], indent=2) + "\n"
    if any(a.type in ("file", "folder") for action in plan.actions for a in action.arguments):
        texts.setdefault("examples/sample.txt", "Hello\n")
    parse_manifest(texts["SKILL.md"], plan.name)
    for name, text in texts.items():
        file = folder / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
        except (OSError, UnicodeEncodeError):
            raise SkillFailed(f"{name[:100]!r} cannot be written as a file of a skill.") from None


def manifest(plan: Plan) -> str:
    """SKILL.md."""
    head: dict[str, object] = {"name": plan.name, "description": plan.description}
    head["license"] = plan.license
    if plan.permissions:
        head["metadata"] = {f"ai-stack-{k}": v for k, v in sorted(plan.permissions.items())}
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=10_000)
    body = plan.instructions.strip() or _body(plan)
    return f"---\n{text}---\n\n{body}\n"


def _body(plan: Plan) -> str:
    title = plan.name.replace("-", " ").capitalize()
    parts = [f"# {title}", plan.description]
    for action in plan.actions:
        given = json.dumps({"action": action.name, **_sample(action)}, ensure_ascii=False)
        rows = [f"- `{a.name}`: {a.description}" for a in action.arguments]
        parts += [f"## {action.name}", f"{action.summary.rstrip('.')}.", f"```json\n{given}\n```"]
        parts += ["\n".join(rows)] if rows else []
    return "\n\n".join(parts)


def code(plan: Plan) -> str:
    """skill.py with the plan's actions, each of which gives back what it was given."""
    types = {a.type for action in plan.actions for a in action.arguments}
    typing = ["Annotated"] if types else []
    typing += ["Literal"] if "choice" in types else []
    ours = [*(["File"] if "file" in types else []), *(["Folder"] if "folder" in types else [])]
    parts = [
        json.dumps(plan.description, ensure_ascii=False).replace('"', '"""', 1)[:-1] + '"""',
        "\n\n",
        f"from typing import {', '.join(typing)}\n\n" if typing else "",
        "from pydantic import Field\n\n" if types else "",
        f"from ai_stack.skill import {', '.join([*ours, 'Skill', 'SkillResult', 'action'])}\n\n\n",
        f"class {_class(plan.name)}(Skill):\n",
        "\n".join(_method(action) for action in plan.actions),
    ]
    return "".join(parts)


def _method(action: Action) -> str:
    _checked(action)
    needed = [a for a in action.arguments if a.default is None]
    ordered = [*needed, *(a for a in action.arguments if a.default is not None)]
    lines = ["    @action", f"    async def {action.name}("]
    lines += ["        self,", *map(_parameter, ordered), "    ) -> SkillResult:"]
    given = ", ".join(f"{_text(a.name)}: {_plain(a)}" for a in ordered)
    lines += [f"        {_doc(action.summary)}", f"        given = {{{given}}}"]
    told = ", ".join(a.name for a in ordered) or "nothing"
    lines.append(f"        return SkillResult(given, summary={_text('Given: ' + told + '.')})")
    return "\n".join(lines) + "\n"


def _checked(action: Action) -> None:
    names = [argument.name for argument in action.arguments]
    wrong = [n for n in [action.name, *names] if keyword.iskeyword(n) or n in TAKEN]
    if wrong or len(set(names)) < len(names):
        raise SkillFailed(f"An action or argument cannot be named {(wrong or names)[0]}.")


def _parameter(argument: Argument) -> str:
    if argument.type == "choice":
        if not argument.choices or (argument.default not in (None, *argument.choices)):
            raise SkillFailed(f"{argument.name} needs choices, with its default among them.")
        kind = f"Literal[{', '.join(map(_text, argument.choices))}]"
    else:
        kind = ANNOTATIONS[argument.type]
    told = f"Annotated[{kind}, Field(description={_text(argument.description)})]"
    default = "" if argument.default is None else f" = {_value(argument.default)}"
    return f"        {argument.name}: {told}{default},"


def _plain(argument: Argument) -> str:
    """The argument as an output may have it."""
    if argument.type in ("file", "folder"):
        return f"{argument.name}.name"
    return f"list({argument.name})" if argument.type == "texts" else argument.name


def _value(value: str | float | bool | tuple[str, ...]) -> str:
    return _text(value) if isinstance(value, str) else repr(value)


def _text(text: str) -> str:
    """A Python string; JSON's form of one is Python's as well."""
    return json.dumps(text, ensure_ascii=True)


def _doc(summary: str) -> str:
    plain = json.dumps(summary.rstrip(".") + ".", ensure_ascii=False)[1:-1]
    return f'"""{plain}"""'


def _class(name: str) -> str:
    found = "".join(part.capitalize() for part in name.split("-"))
    return found if found[:1].isalpha() else f"Skill{found}"


def _examples(plan: Plan) -> Sequence[dict[str, JsonValue]]:
    """A run of each action, with what it gives back."""
    return [
        {
            "about": f"{action.summary.rstrip('.')}.",
            "parameters": {"action": action.name, **_sample(action)},
            "output": _expected(action),
        }
        for action in plan.actions
    ]


def _sample(action: Action) -> dict[str, JsonValue]:
    return {
        a.name: a.choices[0] if a.choices else SAMPLES.get(a.type, "")
        for a in action.arguments
        if a.default is None
    }


def _expected(action: Action) -> dict[str, JsonValue]:
    plain = [a for a in action.arguments if a.type not in ("file", "folder") and a.default is None]
    sample = _sample(action)
    return {a.name: sample[a.name] for a in plain}


def _files(plan: Plan) -> dict[str, str]:
    for name in plan.files:
        path = PurePosixPath(name)
        if path.is_absolute() or {"..", ""} & set(name.split("/")) or "\0" in name:
            raise SkillFailed(f"{name[:100]!r} is no path within a skill's folder.")
        if name in ("SKILL.md", "skill.py", "examples.json"):
            raise SkillFailed(f"{name} has an argument of its own.")
    return dict(plan.files)
