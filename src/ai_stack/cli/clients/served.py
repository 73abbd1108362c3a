"""What a gateway serves at this moment, as its clients see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

import httpx

from ai_stack.cli.clients import reachable
from ai_stack.cli.credentials import Credentials, saved
from ai_stack.errors import Forbidden, SettingsError, StackError, Unauthenticated
from ai_stack.settings import Settings, load_settings
from ai_stack.tls import trust

TIMEOUT_S = 15.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MEND = "set AI_STACK_KEY, or run `ai-stack login`"
WHO = f"The gateway asks who you are: {MEND}."
LESS = "These credentials do not let you look at {} of the gateway: {}, with more rights."
STRANGER = "The gateway at {} is not AI_STACK_URL's, and asks who you are: pass its key by --key."


class Silent(StackError):
    """No gateway answers."""


class NotThis(StackError):
    """What answers is not an AIDB gateway."""


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


@dataclass(frozen=True, slots=True)
class Access:
    """Whether a gateway asks who one is, and what it lets this one do."""

    required: bool
    scopes: frozenset[str] = frozenset()


def direct(url: str, timeout_s: float = TIMEOUT_S, key: str | None = None) -> httpx.Client:
    """A client of one gateway, which shows `key`, or else what this shell has for that gateway.

    No proxy stands before this machine itself.
    """
    near, timeout = urlsplit(url).hostname in LOOPBACK, httpx.Timeout(timeout_s, connect=5.0)
    auth = Credentials(key) if key else _credentials(url)
    return httpx.Client(timeout=timeout, trust_env=not near, verify=_trusted(url), auth=auth)


def is_own(url: str, settings: Settings) -> bool:
    """Whether it is the gateway of the settings, which their key and secrets are for."""
    return url == reachable(settings.gateway_url)


def _credentials(url: str) -> Credentials | None:
    """Another gateway is shown no more than a login there. Settings as in `_trusted`."""
    try:
        settings = load_settings()
    except SettingsError:
        return None
    if is_own(url, settings):
        return Credentials.of(settings)
    return Credentials(saved(settings.config_dir).get(url))


def _trusted(url: str) -> SSLContext | bool:
    """Settings that cannot be read are for others to tell of."""
    try:
        return trust(load_settings()) if url.startswith("https:") else True
    except SettingsError:
        return True


def ask(url: str, key: str | None = None) -> Served:
    """What the gateway serves.

    Raises StackError when it does not answer, or is something else; Unauthenticated or Forbidden
    when it does not tell this one.
    """
    with direct(url, key=key) as client:
        listed = _get(client, f"{url}/v1/models").get("data")
        embedding = _embedding(client, url)
    if not isinstance(listed, list):
        raise StackError(f"What answers at {url} does not serve models; see AI_STACK_URL.")
    models = [_model(entry) for entry in listed if isinstance(entry, dict) and "id" in entry]
    return Served([model for model in models if model.id != embedding], embedding)


def access(url: str, key: str | None = None) -> Access:
    """What a key, or else this shell, is at the gateway; whoever knows no keys asks for none."""
    with direct(url, key=key) as client:
        try:
            found = _get(client, f"{url}/auth/me")
        except (Unauthenticated, Forbidden):
            return Access(required=True)
        except NotThis:
            return Access(required=False)
    scopes = found.get("scopes")
    named = frozenset(map(str, scopes)) if isinstance(scopes, list) else frozenset[str]()
    return Access(found.get("authentication") == "required", named)


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
    except (StackError, Forbidden):
        return None
    active = [item for item in items if isinstance(item, dict) and item.get("state") == "active"]
    return str(active[0]["model"]) if active else None


def _get(client: httpx.Client, address: str) -> dict[str, Any]:
    try:
        reply = client.get(address)
        _admitted(reply)
        found = reply.json() if reply.is_success else None
    except httpx.TransportError as error:
        raise Silent(
            f"No gateway answers at {address}: start it with `ai-stack up`, or see AI_STACK_URL."
        ) from error
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NotThis(f"What answers at {address} is not an AIDB gateway; see AI_STACK_URL.")
    return found


def _who(asked: httpx.URL) -> str:
    url = f"{asked.scheme}://{asked.netloc.decode()}"
    try:
        own = is_own(url, load_settings())
    except SettingsError:
        own = True
    return WHO if own else STRANGER.format(url)


def _admitted(reply: httpx.Response) -> None:
    if reply.status_code == httpx.codes.UNAUTHORIZED:
        raise Unauthenticated(_who(reply.url))
    if reply.status_code == httpx.codes.FORBIDDEN:
        raise Forbidden(LESS.format(reply.url.path, MEND))
    if reply.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise StackError(
            f"The gateway cannot answer at {reply.url} now ({reply.status_code}): "
            "`ai-stack health` tells more."
        )


def _model(entry: dict[str, Any]) -> Model:
    length = entry.get("context_length")
    return Model(str(entry["id"]), length if isinstance(length, int) else None)
