"""The page to try the API out, `/docs`: Swagger UI out of a wheel, whose code is not used.

Nothing that it shows or runs is fetched from anywhere but this gateway.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from ai_stack.errors import NotFound
from ai_stack.rest.requests import PUBLIC, Known

PACKAGE, FOLDER = "fastapi_swagger", "resources"
SCRIPT, STYLE, ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"
START = "start.js"
# The page may load from this gateway and talk to it, and to nobody else.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
# Addresses are relative, so that the page also works under a path of a proxy.
HTML = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>AI Stack: API</title>
<link rel="icon" href="docs/{ICON}">
<link rel="stylesheet" href="docs/{STYLE}">
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript; <a href="openapi.json">openapi.json</a> does not.</noscript>
<script src="docs/{SCRIPT}"></script>
<script src="docs/{START}"></script>
</html>
"""
STARTER = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""

router = APIRouter(include_in_schema=False)


@router.get("/docs", dependencies=[PUBLIC])
async def page() -> Response:
    """The page."""
    return HTMLResponse(HTML, headers=HEADERS)


@router.get("/docs/{file}", dependencies=[PUBLIC])
async def asset(file: str) -> Response:
    """What the page loads."""
    if file == START:
        return Response(STARTER, media_type="text/javascript", headers=HEADERS)
    if file not in (SCRIPT, STYLE, ICON):
        raise NotFound("The page to try the API out has no such file.")
    return FileResponse(_folder() / file, headers=HEADERS)


@router.get("/openapi.json")
async def description(caller: Known, request: Request) -> Response:
    """What the routes take and answer (OpenAPI 3.1)."""
    return JSONResponse(request.app.openapi())


@cache
def _folder() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise NotFound(f"The package {PACKAGE} is not installed; /openapi.json is there.")
    return Path(spec.origin).parent / FOLDER
