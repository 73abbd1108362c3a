"""The key that a client shows the gateway: one that is given, or one that is made for it.

What was given or made is kept in a file that nobody else may read, so that connecting twice makes
one key. Logins and the proof of being the stack's user are this shell's own, and no client gets
them.
"""

import fcntl
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import httpx

from ai_stack.cli.clients import files, served
from ai_stack.errors import InvalidRequest, StackError
from ai_stack.settings import Settings

FILE = "client-keys.json"
PASSING = ("aidb_login_", "aidb_operator_")
FORM = re.compile(r"[!-~]{1,8192}")
REFUSED = (
    "The gateway asks for a key, and makes none for this shell ({why}): have one made, and give it "
    "by `ai-stack connect {name} --key KEY`. Until then {name} is refused."
)
MISSING = "The gateway asks for a key; `ai-stack connect {name}` makes one, here is none yet."

Kept: TypeAlias = dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Issued:
    """A client's key, None where it has or needs none; `told` is what a person should know."""

    key: str | None = field(default=None, repr=False)
    told: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whom a key is for: a client by its name, the gateway, and what it may do there."""

    name: str
    url: str
    scopes: Sequence[str]


def issue(settings: Settings, wanted: Wanted, given: str | None, *, may_make: bool) -> Issued:
    """The given key, else this shell's own, else one kept from before, else a new one.

    With the latter two only where the gateway asks for keys; nothing is made without `may_make`.
    """
    own = _own(settings, wanted.url)
    if given is None and own is not None:
        return Issued(own)
    if not may_make:
        return Issued(given) if given else _reused(settings, wanted)
    with _alone(settings.config_dir / FILE):
        if given is None:
            found = _reused(settings, wanted)
            return found if not found.told else _made(settings, wanted)
        _keep(settings, wanted, given)
        return Issued(given)


def check(key: str) -> str:
    """The key, when a client may have it; InvalidRequest."""
    if not FORM.fullmatch(key):
        raise InvalidRequest("A key has printable characters alone, and no spaces.")
    if key.startswith(PASSING):
        raise InvalidRequest(
            "That is a login, which ends and may do all that you may: `ai-stack keys create` "
            "makes a key."
        )
    return key


def _own(settings: Settings, url: str) -> str | None:
    """AI_STACK_KEY, where it is a key and for this gateway."""
    if settings.key is None or not served.is_own(url, settings):
        return None
    key = settings.key.get_secret_value()
    return None if key.startswith(PASSING) else check(key)


def _reused(settings: Settings, wanted: Wanted) -> Issued:
    """A key from before, if it holds; `told` says where one is missing."""
    if not served.access(wanted.url).required:
        return Issued()
    kept = _kept(settings).get(wanted.url, {}).get(wanted.name)
    if kept is not None and served.access(wanted.url, kept).scopes:
        return Issued(kept)
    return Issued(None, MISSING.format(name=wanted.name))


def _made(settings: Settings, wanted: Wanted) -> Issued:
    """A new key, with those of the scopes that this shell can give."""
    scopes = [s for s in wanted.scopes if s in served.access(wanted.url).scopes]
    body = {"name": wanted.name, "scopes": scopes}
    try:
        with served.direct(wanted.url) as client:
            reply = client.post(f"{wanted.url}/keys", json=body)
        answer = reply.json()
    except (httpx.HTTPError, ValueError):
        raise StackError(f"The gateway at {wanted.url} broke off; connect once more.") from None
    if not reply.is_success or "key" not in answer:
        return Issued(None, REFUSED.format(name=wanted.name, why=reply.status_code))
    key, id = check(str(answer["key"])), answer.get("id")
    _keep(settings, wanted, key)
    told = f"Made key {id} for {wanted.name} ({', '.join(scopes)}); `ai-stack keys revoke {id}`"
    return Issued(key, f"{told} ends it.")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One at a time; what cannot be kept is not made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("a")
    except OSError as error:
        raise StackError(f"{path} cannot be written: {error.strerror}.") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _kept(settings: Settings) -> Kept:
    """The clients' keys by the gateway's address."""
    try:
        found = json.loads(files.read(settings.config_dir / FILE) or "{}")
    except (ValueError, files.Malformed):
        return {}
    rows = found.items() if isinstance(found, dict) else ()
    return {str(url): dict(keys) for url, keys in rows if isinstance(keys, dict)}


def _keep(settings: Settings, wanted: Wanted, key: str) -> None:
    kept = _kept(settings)
    kept[wanted.url] = {**kept.get(wanted.url, {}), wanted.name: key}
    path = settings.config_dir / FILE
    try:
        files.replace(path, json.dumps(kept, indent=2) + "\n")
    except OSError as error:
        raise StackError(f"{path} cannot be written: {error.strerror}.") from None
