"""Ten bugs that generated requests should find: a faulty build that fails where they meet."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

PLANTED_BUG = "x-planted-bug"
# Ten mistakes of the kind that is made: (method, path, what of the request meets it).
TEN_BUGS: dict[str, tuple[str, str, Callable[[Any, Any], bool]]] = {
    "largest page": ("GET", r"/documents", lambda query, body: query.get("limit") == "1000"),
    "empty search": ("GET", r"/documents", lambda query, body: query.get("search") == ""),
    "empty content": ("POST", r"/documents", lambda query, body: body.get("content") == ""),
    "list in metadata": (
        *("POST", r"/documents"),
        lambda query, body: any(isinstance(v, list) for v in body.get("metadata", {}).values()),
    ),
    "last offset": ("POST", r"/search/semantic", lambda query, body: body.get("offset") == 900),
    "empty change": ("PATCH", r"/documents/.+", lambda query, body: body == {}),
    "kind beyond ASCII": (
        *("GET", r"/runs"),
        lambda query, body: not query.get("kind", "").isascii(),
    ),
    "empty system": ("POST", r"/sessions", lambda query, body: body.get("system") == ""),
    "short page of runs": ("GET", r"/runs", lambda query, body: query.get("limit") == "1"),
    "no wait": ("DELETE", r"/documents/.+", lambda query, body: query.get("wait") == "false"),
}


class Bugs:
    """Wraps the app; what meets a bug is answered with 500 and the bug's name."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        parts = [message := await receive()]
        while message.get("more_body"):
            parts.append(message := await receive())
        name = _bug(scope, b"".join(part.get("body", b"") for part in parts))
        if name is None:
            waiting = iter(parts)

            async def again() -> Any:
                return next(waiting, None) or await receive()

            await self.app(scope, again, send)
            return
        headers = [(PLANTED_BUG.encode(), name.encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 500, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _bug(scope: Any, body: bytes) -> str | None:
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    try:
        found = json.loads(body) if body else {}
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    for name, (method, path, meets) in TEN_BUGS.items():
        if scope["method"] == method and re.fullmatch(path, scope["path"]):
            with suppress(AttributeError):
                if meets(query, found):
                    return name
    return None
