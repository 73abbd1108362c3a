"""Which tools a client sees, by the path that it connects to: `/mcp`, or `/mcp/` and a toolset."""

from collections.abc import Mapping, Sequence

from ai_stack.mcp import documents, generation, health, runs, search, skills
from ai_stack.mcp.calls import Call
from ai_stack.mcp.tools import AnyTool, Toolset, named

DEFAULT = ""
READ = (*search.TOOLS, *documents.READING)
PLAIN: Mapping[str, Sequence[AnyTool]] = {
    DEFAULT: (
        *(*READ, *documents.WRITING, *generation.TOOLS),
        *(*skills.FINDING, *skills.RUNNING, *runs.TOOLS, *health.TOOLS),
    ),
    "documents": (*READ, *documents.WRITING),
    "models": generation.TOOLS,
    "read-only": (*READ, *generation.TOOLS, *skills.FINDING, *health.TOOLS),
}
ABOUT = {
    DEFAULT: "Everything, skills by find_skills and run_skill.",
    "documents": "Documents and search alone.",
    "models": "Language models alone.",
    "read-only": "What changes nothing: search, reading, models, skills to read.",
    "skills": "Each skill that can act here as a tool of its own, with run_status and cancel_run.",
}


def toolsets() -> dict[str, Toolset]:
    """Every toolset by its name in the path."""
    fixed = {name: _fixed(named(tools)) for name, tools in PLAIN.items()}
    return {**fixed, "skills": _of_skills}


def _fixed(tools: Mapping[str, AnyTool]) -> Toolset:
    async def same(_: Call) -> Mapping[str, AnyTool]:
        return tools

    return same


async def _of_skills(call: Call) -> Mapping[str, AnyTool]:
    return named([*await skills.tools_of(call), *runs.TOOLS])
