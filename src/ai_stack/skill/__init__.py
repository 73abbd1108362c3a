"""All that a skill may import: what it is, what it is given, what it gives back.

A skill is a folder of the Agent Skills standard (https://agentskills.io): SKILL.md says what it
does and what it may touch, and skill.py, where it acts, holds one subclass of Skill. This
package knows neither the stack nor a face, so that a skill can run in a process of its own.
Beside it, skills may import `office` and `browsers`, which few need.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from ai_stack.errors import InvalidRequest, NotFound, SkillFailed, Unavailable
from ai_stack.models.documents import JSON
from ai_stack.skill.arguments import ActionOf, Arguments, is_action, mark
from ai_stack.skill.context import Context
from ai_stack.skill.examples import Example, differences, read_examples
from ai_stack.skill.files import File, Folder
from ai_stack.skill.manifest import Manifest, parse_manifest, read_manifest

__all__ = [
    "JSON",
    "Context",
    "Example",
    "File",
    "Folder",
    "InvalidRequest",
    "Manifest",
    "NotFound",
    "Skill",
    "SkillFailed",
    "SkillResult",
    "Unavailable",
    "action",
    "differences",
    "parse_manifest",
    "read_examples",
    "read_manifest",
]

Method = TypeVar("Method", bound=Callable[..., Awaitable["SkillResult"]])


@dataclass(frozen=True, slots=True)
class SkillResult:
    """What came of a run: an object for programs, a few lines for people.

    `notes` say what was left out and why, for instance for want of a language model. Files that
    the skill wrote into `context.folder` are its artifacts and need no mention.
    """

    output: Mapping[str, JSON] = field(default_factory=dict)
    summary: str = ""
    notes: tuple[str, ...] = ()


def action(method: Method) -> Method:
    """Marks a method as an action: its typed arguments are what callers give, its docstring's
    first line is what they read."""
    mark(method)
    return method


class Skill:
    """A specialised ability: one or several actions with typed arguments.

    `parameters` is the JSON Schema of what `execute` takes, derived from the actions' arguments.
    """

    name: str = ""
    description: str = ""
    parameters: Mapping[str, Any] = {}
    arguments: ClassVar[Arguments]

    def __init__(self, context: Context) -> None:
        self.context = context
        self.parameters = self.arguments.schema

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        actions: dict[str, ActionOf] = {n: m for n, m in vars(cls).items() if is_action(m)}
        cls.arguments = Arguments(actions)

    async def execute(self, **kwargs: Any) -> SkillResult:
        """Check the arguments and do the action that they name.

        Raises InvalidRequest with a message for each field that is wrong, SkillFailed for what
        cannot be done.
        """
        name, given = self.arguments.checked(kwargs)
        result: SkillResult = await getattr(self, name)(**given)
        return result
