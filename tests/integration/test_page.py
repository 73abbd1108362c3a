"""The page to try the API out: whole, and out of this gateway alone."""

import re
from urllib.parse import urljoin

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from ai_stack.rest.page import SCRIPT
from ai_stack.server import create_app
from ai_stack.stack import Stack

HERE = "http://127.0.0.1:8091"


@pytest.fixture
async def client(stack: Stack) -> httpx.AsyncClient:
    """No lifespan: the page needs no more of a stack than that it knows who asks."""
    app = create_app(stack.settings, stack)
    await stack.identity.renew()

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {"stack": stack}}, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(with_state), base_url=HERE)


async def test_all_that_the_page_names_is_served_here(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    named = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert len(named) == 5
    for address in named:
        assert urljoin(f"{HERE}/docs", address).startswith(HERE)
        assert (await client.get(urljoin("/docs", address))).status_code == 200


async def test_the_page_may_reach_no_other_host(client: httpx.AsyncClient) -> None:
    for path in ("/docs", f"/docs/{SCRIPT}", "/docs/start.js"):
        policy = (await client.get(path)).headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "http" not in policy
    assert "<script>" not in (await client.get("/docs")).text


async def test_the_script_reads_the_version_of_openapi_that_is_served(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.1")
    script = (await client.get(f"/docs/{SCRIPT}")).text
    assert re.search(r'PACKAGE_VERSION:"5\.\d+', script)


@pytest.mark.parametrize("path", ["/redoc", "/docs/main.py", "/docs/..%2Fmain.py", "/docs/x/y"])
async def test_nothing_else_is_there(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404
