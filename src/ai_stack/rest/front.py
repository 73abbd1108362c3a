"""Serves the paths that are asked most as plain ASGI, before the app and its routing."""

from collections.abc import Awaitable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send


class Front:
    """Wraps the app; `paths` are POSTs that it serves by itself."""

    def __init__(self, app: ASGIApp, paths: Mapping[str, ASGIApp]) -> None:
        self.app = app
        self.paths = paths

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        hot = None
        if scope["type"] == "http" and scope["method"] == "POST":
            hot = self.paths.get(scope["path"])
        return (hot or self.app)(scope, receive, send)
