"""The HTTP API behind the tools: where it is, how it knows us, how a call becomes a request."""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

TIMEOUT_S, MAX_BYTES, MAX_SAID = 30.0, 4 << 20, 2_000


class ToolFailed(Exception):
    """What the model is told instead of a result."""


class Upstream:
    """One API; its address and token come from the environment, never from an argument."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self.described = described

    async def send(self, request: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
        """The answer to a request, as JSON where it is JSON; ToolFailed for a refusal."""
        url = os.environ.get(self.described["url_variable"], self.described["url"]).rstrip("/")
        if not url:
            raise ToolFailed(f"Set {self.described['url_variable']} to the address of the API.")
        places = request["arguments"]
        parts: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "header": {}, "body": {}}
        for name, value in arguments.items():
            place, key = places[name]
            parts[place][key] = value
        query, headers = parts["query"], {k: _plain(v) for k, v in parts["header"].items()}
        self._identify(query, headers)
        body = parts["body"].get("") if request.get("whole_body") else (parts["body"] or None)
        return await self._asked(
            request["method"], url + _path(request["path"], parts["path"]),
            params={k: _plain(v) for k, v in query.items()}, headers=headers, json=body,
        )  # fmt: skip

    def _identify(self, query: dict[str, Any], headers: dict[str, str]) -> None:
        auth, token = self.described["auth"], os.environ.get(self.described["token_variable"])
        if token and auth["in"] == "query":
            query[auth["name"]] = token
        elif token:
            headers[auth["name"]] = auth["prefix"] + token

    async def _asked(self, method: str, url: str, **options: Any) -> Any:
        try:
            async with (
                httpx.AsyncClient(timeout=TIMEOUT_S) as client,
                client.stream(method, url, **options) as response,
            ):
                body = b""
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_BYTES:
                        raise ToolFailed(f"The answer is larger than {MAX_BYTES >> 20} MiB.")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ToolFailed(f"The API could not be asked ({type(error).__name__}).") from None
        text = body.decode(response.encoding or "utf-8", "replace")
        if response.is_error:
            raise ToolFailed(f"The API answered {response.status_code}: {text[:MAX_SAID]}")
        return _value(response, text)


def _value(response: httpx.Response, text: str) -> Any:
    if "json" not in response.headers.get("content-type", ""):
        return text
    try:
        return httpx.Response(200, text=text).json()
    except ValueError:
        return text


def _path(template: str, values: Mapping[str, Any]) -> str:
    """The path with its values, of which none can leave its place."""

    def filled(match: re.Match[str]) -> str:
        text = quote(_plain(values[match[1]]), safe="")
        if text in ("", ".", ".."):
            raise ToolFailed(f"{match[1]} cannot be {text!r} within a path.")
        return text

    return re.sub(r"\{([^{}]+)\}", filled, template)


def _plain(value: Any) -> Any:
    """A value as it stands in an address or a header."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return [_plain(item) for item in value] if isinstance(value, list) else str(value)
