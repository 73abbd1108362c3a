"""Skills over MCP: found, shown and run by three tools, or each as a tool of its own."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from ai_stack.mcp import runs
from ai_stack.mcp.calls import Call
from ai_stack.mcp.runs import Status, run_shown
from ai_stack.mcp.schemas import schema_of
from ai_stack.mcp.tools import READS, Adopted, Answer, Arguments, Hints, Tool
from ai_stack.models.principals import Scope
from ai_stack.models.skills import Listed

ACTS = Hints(destroys=True, open_world=True)


class FindArguments(Arguments):
    """What is to be done."""

    query: str = Field("", description="What you want to do; all skills without it.")
    limit: int = Field(10, ge=1, le=100)


class NameArguments(Arguments):
    """Which skill."""

    name: str = Field(description="As find_skills tells it.")


class RunSkillArguments(NameArguments):
    """Which skill, and with what."""

    parameters: dict[str, Any] = Field(
        default_factory=dict, description="As the skill's own schema has them: see show_skill."
    )
    background: bool = Field(False, description="Return at once; run_status tells the rest.")


class Short(TypedDict):
    name: str
    description: str
    acts: bool
    ready: bool
    missing: NotRequired[str]


class Shown(Short):
    instructions: str
    parameters: NotRequired[dict[str, Any]]


class Finds(TypedDict):
    skills: list[Short]


async def find_skills(call: Call, asked: FindArguments) -> Answer:
    """Find skills: abilities such as reviewing code, making a spreadsheet, reading a PDF. One that
    acts is run with run_skill; one that does not is instructions, which show_skill tells."""
    found = await call.skills()
    if asked.query:
        found = await call.stack.skills.find(asked.query, asked.limit)
    return {"skills": [_short(one) for one in found[: asked.limit]]}


async def show_skill(call: Call, asked: NameArguments) -> Answer:
    """A skill's instructions and the JSON Schema of its parameters. Read it before you run it."""
    skills = call.stack.skills
    skill = await skills.get(asked.name)
    shown = {**_short(skill), "instructions": await skills.instructions(asked.name)}
    return {**shown, "parameters": skill.parameters} if skill.acts else shown


async def run_skill(call: Call, asked: RunSkillArguments) -> Answer:
    """Run a skill and return what came of it: output, summary, and the files that it made, each a
    resource under the uri that is told."""
    return await _run(call, asked.name, asked.parameters, background=asked.background)


async def tools_of(call: Call) -> list[Adopted]:
    """Each skill that can act here as a tool of its own."""
    return [_adopted(one) for one in await call.skills() if one.acts and one.ready]


async def _run(
    call: Call, name: str, parameters: Mapping[str, Any], *, background: bool = False
) -> Answer:
    skills = call.stack.skills
    run = await skills.execute(call.principal, name, parameters, background=True)
    return run_shown(run if background else await runs.followed(call, run.id))


async def _as_tool(name: str, call: Call, parameters: Mapping[str, Any]) -> Answer:
    return await _run(call, name, parameters)


def _adopted(skill: Listed) -> Adopted:
    shown = {
        "name": skill.name,
        "title": skill.name.replace("-", " ").capitalize(),
        "description": skill.description,
        "inputSchema": {"type": "object", **skill.parameters},
        "outputSchema": STATUS,
        "annotations": ACTS.shown(),
    }
    return Adopted(shown, Scope.SKILLS, partial(_as_tool, skill.name))


def _short(skill: Listed) -> dict[str, Any]:
    shown = {
        "name": skill.name,
        "description": skill.description,
        "acts": skill.acts,
        "ready": skill.ready,
    }
    return shown if skill.ready else {**shown, "missing": skill.missing}


STATUS = schema_of(Status)
FINDING = (
    Tool(find_skills, "Find skills", FindArguments, Finds, READS, scope=Scope.READ),
    Tool(show_skill, "Show a skill", NameArguments, Shown, READS, scope=Scope.READ),
)
RUNNING = (Tool(run_skill, "Run a skill", RunSkillArguments, Status, ACTS, scope=Scope.SKILLS),)
