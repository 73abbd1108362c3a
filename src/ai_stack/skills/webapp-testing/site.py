"""Serves a folder of files on a loopback port, for as long as a run lasts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urljoin

from ai_stack.skill import SkillFailed


class _Files(SimpleHTTPRequestHandler):
    """Files of one folder; links that lead out of it are not there."""

    def translate_path(self, path: str) -> str:
        found = Path(super().translate_path(path))
        top = Path(self.directory).resolve()
        return str(found if found.resolve().is_relative_to(top) else top / ".not-there")

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@asynccontextmanager
async def address(url: str, site: Path | None) -> AsyncIterator[str]:
    """The address to open: `url` as it is, or within a folder that is served meanwhile."""
    if site is None:
        if not url:
            raise SkillFailed("Say where the application runs as `url`, or give a `site`.")
        yield url
        return
    if not site.is_dir():
        raise SkillFailed("`site` is no folder.")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(site)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield urljoin(f"http://127.0.0.1:{server.server_port}/", url)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
