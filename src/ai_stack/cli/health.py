"""`health`: what the gateway says about itself and each service."""

import json
from http.client import HTTPException
from ssl import SSLContext
from typing import Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import typer

from ai_stack.errors import StackError
from ai_stack.settings import load_settings
from ai_stack.tls import trust

TIMEOUT_S = 10.0
GOOD = ("healthy", "degraded")

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def health(
    as_json: Annotated[bool, typer.Option("--json", help="Print the gateway's answer.")] = False,
) -> None:
    """Show each service's health and latency; exits 1 unless healthy or degraded."""
    settings = load_settings()
    verified = trust(settings)
    found = _ask(settings.gateway_url, verified if isinstance(verified, SSLContext) else None)
    print(json.dumps(found, indent=2) if as_json else _table(found))
    raise typer.Exit(0 if found.get("status") in GOOD else 1)


def _ask(url: str, tls: SSLContext | None) -> dict[str, Any]:
    request = Request(f"{url}/health", headers={"Accept": "application/json"})  # noqa: S310
    try:
        with urlopen(request, timeout=TIMEOUT_S, context=tls) as answer:  # noqa: S310 (one's own)
            body = answer.read()
    except HTTPError as error:
        body = error.read()
    except (URLError, HTTPException, OSError) as error:
        raise StackError(f"No gateway answers at {url}; start it with `ai-stack up`.") from error
    return _parsed(body, url)


def _parsed(body: bytes, url: str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict) or "services" not in found:
        raise StackError(f"What answers at {url} is not an AIDB gateway; see AI_STACK_URL.")
    return found


def _table(found: dict[str, Any]) -> str:
    lines = [f"AIDB {found.get('version', '')} is {found['status']}", ""]
    for name, service in found["services"].items():
        latency = service.get("latency_ms")
        took = f"{latency:.1f} ms" if latency is not None else ""
        detail = service.get("detail") or ""
        lines.append(f"  {name:10} {service['status']:10} {took:>10}  {detail}".rstrip())
    return "\n".join(lines)
