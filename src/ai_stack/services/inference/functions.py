"""The functions that a request lets the model call, found by what the model calls them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ai_stack.services.inference.fitting import spelled
from ai_stack.services.inference.schemas import Compiled, compiled

_INDEX = re.compile(r"(?::\d+|\(\s*\))+\Z")
_PART = re.compile(r"::|__|[./:]")


@dataclass(frozen=True, slots=True)
class Function:
    """One function of a request; `tool` as the request has it."""

    name: str
    tool: Mapping[str, object]

    def schema(self) -> Compiled:
        return compiled(_function(self.tool).get("parameters"))


class Functions:
    """The functions of a request that its tool choice allows."""

    def __init__(self, tools: Sequence[Mapping[str, object]], choice: object = None) -> None:
        allowed = _allowed(choice)
        named = [(str(_function(tool).get("name")), tool) for tool in tools]
        self._by_name = {
            name: Function(name, tool) for name, tool in named if allowed is None or name in allowed
        }
        self._forced = _forces(choice) and len(self._by_name) == 1

    @property
    def forced(self) -> Function | None:
        """The one function that the answer must call."""
        return next(iter(self._by_name.values())) if self._forced else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def find(self, name: str) -> Function | None:
        """The one function that a name means: exactly, in another spelling, without a namespace."""
        if name in self._by_name:
            return self._by_name[name]
        bare = _INDEX.sub("", name.strip())
        parts = _PART.split(bare)
        for start in range(len(parts)):
            if found := self._spelled(spelled("".join(parts[start:]))):
                return found
        return self._ending_in(bare)

    def _spelled(self, name: str) -> Function | None:
        found = [function for function in self._by_name.values() if spelled(function.name) == name]
        return found[0] if name and len(found) == 1 else None

    def _ending_in(self, name: str) -> Function | None:
        """The one whose name goes before `name`: a model leaves the namespace of a toolbox away."""
        if len(re.findall(r"[a-z0-9](?=[A-Z])|[^\W_][_-]", name)) == 0:
            return None
        found = [
            f for f in self._by_name.values() if re.search(rf"[_.:/-]{re.escape(name)}\Z", f.name)
        ]
        return found[0] if len(found) == 1 else None


def _function(tool: Mapping[str, object]) -> Mapping[str, object]:
    function = tool.get("function")
    return function if isinstance(function, dict) else tool


def _forces(choice: object) -> bool:
    """Whether a tool choice demands a call."""
    if isinstance(choice, Mapping):
        several = choice.get("allowed_tools")
        return not isinstance(several, Mapping) or several.get("mode") == "required"
    return choice == "required"


def _allowed(choice: object) -> set[str] | None:
    """The names that a tool choice allows; None for all."""
    if choice == "none":
        return set()
    if not isinstance(choice, Mapping):
        return None
    several = choice.get("allowed_tools")
    if isinstance(several, Mapping):
        tools = several.get("tools")
        if not isinstance(tools, list):
            return None
        return {str(_function(t).get("name")) for t in tools if isinstance(t, Mapping)}
    return {str(_function(choice).get("name"))}
