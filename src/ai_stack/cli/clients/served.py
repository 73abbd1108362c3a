"""What a gateway serves at this moment, as its clients see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

import httpx

from ai_stack.errors import SettingsError, StackError
from ai_stack.settings import load_settings
from ai_stack.tls import trust

TIMEOUT_S = 15.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of GET /v1/models; lengths in tokens."""

    id: str
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """The models for inference, the default first, and the one that embeds."""

    models: Sequence[Model]
    embedding_model: str | None = None

    def find(self, name: str) -> Model | None:
        return next((model for model in self.models if model.id == name), None)


def direct(url: str, timeout_s: float = TIMEOUT_S) -> httpx.Client:
    """A client of one gateway; no proxy stands before this machine itself."""
    near, timeout = urlsplit(url).hostname in LOOPBACK, httpx.Timeout(timeout_s, connect=5.0)
    return httpx.Client(timeout=timeout, trust_env=not near, verify=_trusted(url))


def _trusted(url: str) -> SSLContext | bool:
    """Settings that cannot be read are for others to tell of."""
    try:
        return trust(load_settings()) if url.startswith("https:") else True
    except SettingsError:
        return True


def ask(url: str) -> Served:
    """What the gateway serves; StackError when it does not answer, or is something else."""
    with direct(url) as client:
        listed = _get(client, f"{url}/v1/models").get("data")
        embedding = _embedding(client, url)
    if not isinstance(listed, list):
        raise StackError(f"What answers at {url} does not serve models; see AI_STACK_URL.")
    models = [_model(entry) for entry in listed if isinstance(entry, dict) and "id" in entry]
    return Served([model for model in models if model.id != embedding], embedding)


def has_mcp(url: str) -> bool:
    """Whether there is anything at /mcp."""
    with direct(url) as client:
        try:
            return client.head(f"{url}/mcp").status_code != httpx.codes.NOT_FOUND
        except httpx.HTTPError:
            return False


def _embedding(client: httpx.Client, url: str) -> str | None:
    """The model that answers for embeddings, by the gateway's own list of them."""
    try:
        items = _get(client, f"{url}/embeddings/models").get("items", [])
    except StackError:
        return None
    active = [item for item in items if isinstance(item, dict) and item.get("state") == "active"]
    return str(active[0]["model"]) if active else None


def _get(client: httpx.Client, address: str) -> dict[str, Any]:
    try:
        reply = client.get(address)
        found = reply.json() if reply.is_success else None
    except httpx.TransportError as error:
        raise StackError(
            f"No gateway answers at {address}: start it with `ai-stack up`, or see AI_STACK_URL."
        ) from error
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StackError(f"What answers at {address} is not an AIDB gateway; see AI_STACK_URL.")
    return found


def _model(entry: dict[str, Any]) -> Model:
    length = entry.get("context_length")
    return Model(str(entry["id"]), length if isinstance(length, int) else None)
