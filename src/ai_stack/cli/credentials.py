"""What the command line shows a gateway: a key, a login, or that it can read the secrets."""

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx

from ai_stack.services.auth.credentials import operator_token
from ai_stack.settings import Settings

FILE = "credentials.json"


class Credentials(httpx.Auth):
    """Signs each request: with `token`, or as who can read the stack's own secrets.

    The latter proves itself anew each time and for a minute, since a stranger may listen where
    the stack does not. A gateway elsewhere is never shown it.
    """

    def __init__(self, token: str | None, secret: Path | None = None) -> None:
        self._token, self._secret = token, secret

    @classmethod
    def of(cls, settings: Settings) -> "Credentials":
        """AI_STACK_KEY, else what `ai-stack login` has kept for this gateway, else the secret."""
        if settings.key is not None:
            return cls(settings.key.get_secret_value())
        kept = saved(settings.config_dir).get(settings.gateway_url)
        own = settings.secrets / "operator" if settings.url is None else None
        return cls(kept, own)

    def token(self) -> str | None:
        """What to send now; None where there is nothing to show."""
        if self._token is not None or self._secret is None:
            return self._token
        try:
            return operator_token(self._secret.read_bytes())
        except OSError:
            return None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, Any, None]:
        token = self.token()
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        yield request


def saved(config_dir: Path) -> dict[str, str]:
    """Logins by the gateway's URL."""
    try:
        found = json.loads((config_dir / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return {str(url): str(token) for url, token in found.items()} if isinstance(found, dict) else {}


def save(config_dir: Path, url: str, token: str | None) -> None:
    """Keep a login, or forget it; nobody else may read the file."""
    kept = {name: value for name, value in saved(config_dir).items() if name != url}
    if token is not None:
        kept[url] = token
    config_dir.mkdir(parents=True, exist_ok=True)
    draft = config_dir / f".{FILE}.{os.getpid()}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(json.dumps(kept, indent=2) + "\n")
    draft.replace(config_dir / FILE)
