"""What a caller sends to say who it is: how it is made, written, read and compared.

A key is `aidb_<id>_<32 random bytes>_<checksum>`, lower-case base32 (RFC 4648): the checksum
finds a key that was copied badly without asking the database, and scanners find leaked keys.
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
import zlib
from dataclasses import dataclass
from itertools import chain

from ai_stack.errors import Unauthenticated

KEY = re.compile(r"aidb_([a-z2-7]{8})_([a-z2-7]{52})_([a-z2-7]{7})")
LOGIN = re.compile(r"aidb_login_([a-z2-7]{52})")
OPERATOR = re.compile(r"aidb_operator_([0-9a-f]{1,16})_([0-9a-f]{64})")
COOKIE, SAFE_COOKIE = "aidb_session", "__Host-aidb_session"
OVER_TLS = b"cookie (tls)"  # what the gate calls a cookie that came by https; no header's name
COOKIES = {b"cookie": COOKIE, OVER_TLS: SAFE_COOKIE}
MOST_LOGINS = 4
LONGEST = 8192
OPERATOR_S = 60.0
CARRIERS = frozenset({b"authorization", b"x-api-key", b"cookie", b"x-project"})

TWO = "Send one credential: two that differ came with this request."

Pairs = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True, repr=False)
class Carried:
    """What a request brought: a token, how it came, and the project it is meant for.

    `logins` are all that came where a browser has several, for which `token` stands.
    """

    token: str | None
    project: str | None
    by_cookie: bool = False
    logins: tuple[str, ...] = ()


def read(pairs: Pairs) -> Carried:
    """What the headers of a request carry; Unauthenticated where they contradict each other."""
    told, cookies, project = set[str](), set[str](), None
    for name, value in pairs:
        text = value.strip(b" \t").decode("latin-1")
        if name == b"authorization":
            told.add(_bearer(text))
        elif name == b"x-api-key":
            told.add(text)
        elif name in COOKIES:
            cookies.update(_sessions(text, COOKIES[name]))
        elif project not in (None, (text := _name(value))):
            raise Unauthenticated("A request works in one project: send X-Project once.")
        else:
            project = text
    if len(cookies) > 1 and not told:
        return _of_several(cookies, project)
    tokens = told | cookies
    if len(tokens) > 1:
        raise Unauthenticated(TWO)
    return Carried(next(iter(tokens), None), project, not told and bool(cookies))


def _of_several(cookies: set[str], project: str | None) -> Carried:
    """The logins among cookies of one name: over plain http a neighbour on this host can add one,
    and must not lock a person out by it."""
    found = sorted(one for one in cookies if LOGIN.fullmatch(one))
    if not 0 < len(found) <= MOST_LOGINS:
        raise Unauthenticated(TWO)
    return Carried(found[0], project, by_cookie=True, logins=tuple(found))


def _name(value: bytes) -> str:
    """A project's name or id in a header: UTF-8, as programs send what is not ASCII."""
    try:
        return value.decode().strip()
    except UnicodeDecodeError:
        return value.decode("latin-1").strip()


def digest(pairs: Pairs) -> bytes:
    """The whole of what was carried, as what a verdict is remembered under.

    What parts it is in no header (RFC 9110, 5.5).
    """
    return hashlib.sha256(b"\0".join(chain.from_iterable(pairs))).digest()


def new_key() -> tuple[str, str]:
    """A new key's id, and the key."""
    id, secret = _text(secrets.token_bytes(5)), _text(secrets.token_bytes(32))
    return id, f"aidb_{id}_{secret}_{_checksum(id, secret)}"


def id_of_key(token: str) -> str | None:
    """The id in a key; None for what is no key, or was copied badly."""
    found = KEY.fullmatch(token)
    return found[1] if found and found[3] == _checksum(found[1], found[2]) else None


def new_login() -> str:
    """What a browser or a shell holds after a login."""
    return f"aidb_login_{_text(secrets.token_bytes(32))}"


def hidden(token: str, pepper: bytes) -> bytes:
    """How a token is kept: HMAC-SHA256 under the pepper, so that a stolen table is of no use."""
    return hmac.digest(pepper, token.encode(), "sha256")


def same(one: bytes, other: bytes) -> bool:
    return bool(one) and hmac.compare_digest(one, other)


def operator_token(secret: bytes, now: float | None = None) -> str:
    """Proves for OPERATOR_S that its maker can read the stack's secrets."""
    moment = f"{int(time.time() if now is None else now):x}"
    return f"aidb_operator_{moment}_{_proof(secret, moment)}"


def is_operator(token: str, secret: bytes) -> bool:
    found = OPERATOR.fullmatch(token)
    if found is None or not hmac.compare_digest(found[2], _proof(secret, found[1])):
        return False
    return abs(time.time() - int(found[1], 16)) <= OPERATOR_S


def _proof(secret: bytes, moment: str) -> str:
    return hmac.digest(secret, f"operator {moment}".encode(), "sha256").hex()


def _bearer(text: str) -> str:
    scheme, _, token = text.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("Authorization takes a Bearer token here.")
    return token.strip(" \t")


def _sessions(text: str, own: str) -> list[str]:
    """The sessions among cookies; cookies of others may be written as they like."""
    parts = (part.strip(" \t").partition("=") for part in text.split(";"))
    return [value for name, _, value in parts if name == own]


def _text(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _checksum(id: str, secret: str) -> str:
    return _text(zlib.crc32(f"{id}_{secret}".encode()).to_bytes(4))
