"""A small hub of models on loopback, in Hugging Face's form, that can misbehave."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

WAIT_S = 1.0
LARGE = (".onnx", ".gguf")
BLOCK = 1 << 16


@dataclass
class FakeHub:
    """Files by `repository/name`; each of `faults` spoils one download, then it behaves.

    Faults: `cut` ends after half of the answer, `stall` goes silent there, `ignore-range` sends
    the whole file, `busy` answers 503. `lie` announces a wrong hash throughout. A listing gives
    `page` files at a time; each block of a download takes `block_s`.
    """

    files: dict[str, bytes]
    token: str | None = None
    faults: list[str] = field(default_factory=list)
    lie: bool = False
    page: int = 1000
    block_s: float = 0.0
    requests: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    url: str = ""

    @contextmanager
    def serving(self) -> Iterator["FakeHub"]:
        server = Server(self)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def downloads(self) -> list[str | None]:
        """The Range of each download of a large file."""
        return [r for verb, path, r, _ in self.requests if verb == "CDN" and path.endswith(LARGE)]

    def tag(self, place: str) -> str:
        """What the hub says of a file's content: sha256 of a large one, git's sha1 of another."""
        content = self.files[place]
        if place.endswith(LARGE):
            return hashlib.sha256(content + (b"!" if self.lie else b"")).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: FakeHub) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub


class Handler(BaseHTTPRequestHandler):
    """Requests to the hub of its server."""

    server: "Server"

    def do_HEAD(self) -> None:
        self.resolve("HEAD")

    def do_GET(self) -> None:
        if self.path.startswith("/cdn/"):
            self.download(self.server.hub.files[unquote(self.path).removeprefix("/cdn/")])
        elif self.path.startswith("/api/models/"):
            self.tree()
        else:
            self.resolve("GET")

    def resolve(self, verb: str) -> None:
        self.note(verb)
        repository, _, name = unquote(self.path).strip("/").partition("/resolve/main/")
        content = self.server.hub.files.get(f"{repository}/{name}")
        if self.is_stranger():
            self.end(401)
        elif content is None:
            self.end(404)
        else:
            self.redirect(f"{repository}/{name}", content)

    def is_stranger(self) -> bool:
        token = self.server.hub.token
        return token is not None and self.headers["Authorization"] != f"Bearer {token}"

    def tree(self) -> None:
        """The listing of a repository, as the API gives it: a page, and where the next one is."""
        self.note("API")
        url = urlsplit(self.path)
        repository = url.path.removeprefix("/api/models/").partition("/tree/")[0]
        names = sorted(n for n in self.server.hub.files if n.startswith(f"{repository}/"))
        start = int(parse_qs(url.query).get("cursor", ["0"])[0])
        end = start + self.server.hub.page
        if self.is_stranger():
            self.end(401)
        elif not names:
            self.end(404)
        else:
            entries = [self.entry(name, repository) for name in names[start:end]]
            next = f'<{self.server.hub.url}{url.path}?recursive=true&cursor={end}>; rel="next"'
            body = json.dumps([{"type": "directory", "path": "folder", "oid": "0"}, *entries])
            self.end(200, body.encode(), **({"Link": next} if end < len(names) else {}))

    def entry(self, place: str, repository: str) -> dict[str, object]:
        size, tag = len(self.server.hub.files[place]), self.server.hub.tag(place)
        told: dict[str, object] = {"type": "file", "size": size, "oid": tag}
        if place.endswith(LARGE):
            told |= {"oid": "1" * 40, "lfs": {"oid": tag, "size": size, "pointerSize": 135}}
        return {**told, "path": place.removeprefix(f"{repository}/")}

    def redirect(self, place: str, content: bytes) -> None:
        # Another name of this machine, so that the token must not follow.
        cdn = self.server.hub.url.replace("127.0.0.1", "localhost")
        headers = {
            "X-Linked-Etag": f'"{self.server.hub.tag(place)}"',
            "X-Linked-Size": str(len(content)),
        }
        self.end(302, **headers, Location=f"{cdn}/cdn/{quote(place)}")

    def download(self, content: bytes) -> None:
        self.note("CDN")
        fault = (
            self.server.hub.faults.pop(0)
            if self.server.hub.faults and self.path.endswith(LARGE)
            else ""
        )
        if fault == "busy":
            self.end(503)
            return
        start = int((self.headers["Range"] or "bytes=0-")[6:-1])
        start = 0 if fault == "ignore-range" else start
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", span)
        self.end_headers()
        self.send(content[start:], fault)

    def send(self, content: bytes, fault: str) -> None:
        half = len(content) // 2 if fault in ("cut", "stall") else len(content)
        for start in range(0, half, BLOCK) if self.server.hub.block_s else ():
            self.wfile.write(content[start : min(half, start + BLOCK)])
            time.sleep(self.server.hub.block_s)
        if not self.server.hub.block_s:
            self.wfile.write(content[:half])
        if fault == "stall":
            time.sleep(WAIT_S)
        self.close_connection = True

    def note(self, verb: str) -> None:
        heads = self.headers
        self.server.hub.requests.append((verb, self.path, heads["Range"], heads["Authorization"]))

    def end(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...
