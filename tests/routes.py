"""The route table and MCP's methods and tools, each with the policy that says who may ask it.

Tests are generated from it, so that a route which is added is tested by being there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from ai_stack.mcp import toolsets
from ai_stack.mcp.protocol import BY_TOOL, create_server
from ai_stack.mcp.tools import AnyTool
from ai_stack.models.principals import Principal, Scope
from ai_stack.rest.openai.routes import HOT
from ai_stack.rest.projects import NeedsThere
from ai_stack.rest.requests import Anybody, Needs
from ai_stack.server import create_api
from ai_stack.settings import load_settings

Policy = Needs | Anybody
SDKS_OWN = frozenset({"ping", "server/discover"})  # what the SDK answers out of itself


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path; `policies` has one member, or the route is at fault."""

    method: str
    path: str
    policies: tuple[Policy, ...]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def policy(self) -> Policy:
        return self.policies[0]


def app() -> FastAPI:
    """What FastAPI serves, over no stack."""
    return create_api(load_settings({"HOME": str(Path("/nowhere"))}))


def routes(of: FastAPI, hot: Mapping[str, object] = HOT) -> list[Route]:
    """Every route that the app serves, and those that are served before it."""
    served = [
        Route(method, str(context.path), tuple(_policies(context)))
        for context in iter_route_contexts(of.routes)
        for method in sorted(context.methods or {"ANY"})
    ]
    before = [Route("POST", path, _own(endpoint)) for path, endpoint in hot.items()]
    return served + before


def faults(found: Sequence[Route]) -> list[str]:
    """What is wrong: a route without a policy, with several, or served twice by different ones."""
    wrong = [f"{r.name} has {len(r.policies)} policies" for r in found if len(r.policies) != 1]
    seen: dict[str, Policy] = {}
    return wrong + [
        f"{route.name} is served in two ways by two policies"
        for route in found
        if len(route.policies) == 1 and seen.setdefault(route.name, route.policy) != route.policy
    ]


def _policies(context: Any) -> Iterator[Policy]:
    if isinstance(context.original_route, APIRoute):
        yield from _within(context.dependant)
    else:
        yield from _own(context.original_route)


def _within(dependant: Dependant) -> Iterator[Policy]:
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, Policy):
            yield dependency.call
        yield from _within(dependency)


def _own(endpoint: object) -> tuple[Policy, ...]:
    policy = getattr(endpoint, "policy", None)
    return (policy,) if isinstance(policy, Policy) else ()


def tools() -> dict[str, AnyTool]:
    """Every tool of MCP by its name; those that skills become are all of one scope."""
    return {str(tool.shown["name"]): tool for found in toolsets.PLAIN.values() for tool in found}


async def method_faults(server: Any = None) -> list[str]:
    """MCP's methods that answer a caller who may do nothing."""
    handlers = (server or create_server())._request_handlers
    wrong = []
    for method, entry in handlers.items():
        if method not in SDKS_OWN and await _answers(method, entry.handler):
            wrong.append(f"{method} answers whoever is known")
    return wrong


async def _answers(method: str, handler: Any) -> bool:
    nobody = {"principal": Principal(scopes=frozenset()), "toolset": "", "stack": None}
    context = SimpleNamespace(
        request=SimpleNamespace(scope={"state": nobody}), protocol_version="", meta=None
    )
    params = SimpleNamespace(name="search", arguments={}, cursor=None)
    try:
        answer = await handler(context, params)
    except Exception as error:  # noqa: BLE001 (what it raises is what is judged)
        return "needs the scope" not in str(error) and "has no tool" not in str(error)
    return not (method in BY_TOOL and answer.get("tools") == [])


def scopes_of(policy: Policy) -> frozenset[Scope]:
    """Scopes of which any one will do; none where none is needed."""
    if not isinstance(policy, Needs) or policy.scope is None:
        return frozenset()
    also = {Scope.OPERATE} if isinstance(policy, NeedsThere) else set()
    return frozenset({policy.scope, *also})
