"""Every route, and every method and tool of MCP, says who may ask it; none is public unseen."""

from collections.abc import Callable

import pytest
from fastapi import Depends, FastAPI
from starlette.routing import Mount
from starlette.routing import Route as Plain

import routes
from ai_stack.mcp import protocol
from ai_stack.models.principals import Scope
from ai_stack.rest.openai.endpoint import direct
from ai_stack.rest.openai.routes import HOT
from ai_stack.rest.requests import PUBLIC, Anybody, Known, Needs, Reader

# Whoever adds a route here says by it that strangers may ask it.
STRANGERS_MAY = {
    "GET /.well-known/jwks.json",
    "GET /.well-known/oauth-protected-resource",
    "GET /.well-known/oauth-protected-resource/mcp",
    "GET /auth/oidc/{issuer}",
    "GET /auth/oidc/{issuer}/callback",
    "GET /device",
    "GET /docs",
    "GET /docs/{file}",
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "GET /login",
    "POST /auth/device",
    "POST /auth/device/token",
    "POST /auth/login",
    "POST /auth/logout",
    "POST /auth/password",
    "POST /device",
    "POST /login",
    "POST /logout",
}
# What needs no scope: credentials of any kind are enough.
THE_KNOWN_MAY = {
    "GET /auth/me",
    "POST /auth/token",
    "GET /inference/models",
    "GET /projects",
    "GET /projects/{id}",
    "GET /openapi.json",
    "GET /v1/models",
    "GET /v1/models/{id:path}",
}
TOOLS = {
    Scope.READ: "search read_document list_documents find_skills show_skill run_status health",
    Scope.WRITE: "add_documents update_document delete_document cancel_run",
    Scope.INFER: "generate list_models",
    Scope.SKILLS: "run_skill",
}


def named(wanted: Callable[[routes.Policy], bool]) -> set[str]:
    return {r.name for r in routes.routes(routes.app()) if wanted(r.policy)}


def test_every_route_has_one_policy() -> None:
    found = routes.routes(routes.app())
    assert len(found) > 70
    assert routes.faults(found) == []


def test_what_strangers_may_ask_is_named_here() -> None:
    assert named(lambda policy: isinstance(policy, Anybody)) == STRANGERS_MAY


def test_what_needs_no_scope_is_named_here() -> None:
    assert named(lambda policy: policy == Needs(None)) == THE_KNOWN_MAY


async def handler() -> None:
    """A route's work."""


async def known(caller: Known, also: Reader) -> None:
    """A route of two policies."""


def with_route(add: Callable[[FastAPI], object]) -> list[str]:
    app = routes.app()
    add(app)
    return routes.faults(routes.routes(app))


@pytest.mark.parametrize(
    "add",
    [
        lambda app: app.add_api_route("/planted", handler),
        lambda app: app.add_api_route("/planted", known),
        lambda app: app.add_api_route("/planted", known, dependencies=[PUBLIC]),
        lambda app: app.add_api_route("/planted", handler, dependencies=[Depends(handler)]),
        lambda app: app.router.routes.append(Plain("/planted", handler)),
        lambda app: app.router.routes.append(Mount("/planted", app=handler)),
        lambda app: app.add_api_route("/keys", handler, methods=["POST"], dependencies=[PUBLIC]),
    ],
)
def test_a_planted_route_is_found(add: Callable[[FastAPI], object]) -> None:
    assert with_route(add) != []


def test_a_planted_endpoint_before_the_app_is_found() -> None:
    bare = {**HOT, "/v1/planted": handler}
    other = {**HOT, "/v1/completions": direct("completion")}
    assert len(routes.faults(routes.routes(routes.app(), bare))) == 1
    assert routes.faults(routes.routes(routes.app(), other)) == []
    loose = {"/v1/completions": Plain("/v1/completions", handler)}
    loose["/v1/completions"].policy = Needs(Scope.READ)
    assert len(routes.faults(routes.routes(routes.app(), loose))) == 1


async def test_every_method_of_mcp_asks_for_a_scope() -> None:
    assert await routes.method_faults() == []
    names = set(protocol.create_server()._request_handlers)
    assert names - routes.SDKS_OWN >= {*protocol.HANDLERS, *protocol.BY_TOOL}


async def test_a_planted_method_of_mcp_is_found() -> None:
    async def planted(context: object, params: object) -> dict[str, object]:
        return {"contents": []}

    server = protocol.create_server()
    server.add_request_handler("planted/read", protocol.PAGE, planted)
    assert await routes.method_faults(server) == ["planted/read answers whoever is known"]


def test_every_tool_of_mcp_has_the_scope_that_is_named_here() -> None:
    found = {name: tool.scope for name, tool in routes.tools().items()}
    expected = {name: scope for scope, names in TOOLS.items() for name in names.split()}
    assert found == expected
