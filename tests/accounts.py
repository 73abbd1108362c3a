"""What the tests of accounts share: logins, and an issuer that publishes its keys."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import psycopg
from joserfc import jwt
from joserfc.jwk import RSAKey

from ai_stack.models.principals import Principal

OPERATOR = Principal(name="operator")
GOOD, BETTER = "correct horse battery", "staple correct horse"
HERE = "192.0.2.1"


async def logged_in(client: httpx.AsyncClient, name: str, password: str = GOOD) -> dict[str, str]:
    body = {"name": name, "password": password, "kind": "shell"}
    reply = await client.post("/auth/login", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.headers["cache-control"] == "no-store"
    assert "set-cookie" not in reply.headers
    return {"Authorization": f"Bearer {reply.json()['token']}"}


async def me(client: httpx.AsyncClient, headers: dict[str, str]) -> int:
    return (await client.get("/auth/me", headers=headers)).status_code


async def until(status: int, ask: Callable[[], Awaitable[int]]) -> None:
    """A change of rights is heard within moments."""
    deadline = time.monotonic() + 5
    while (found := await ask()) != status:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)


class Publisher:
    """What an issuer publishes, and how often it was asked."""

    def __init__(self) -> None:
        self.keys = [RSAKey.generate_key(2048, {"kid": "one"})]
        self.asked: list[str] = []
        self.status = 200
        self.says: object = None
        self.url = ""

    def answer(self, path: str) -> object:
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        return {"keys": [key.as_dict(private=False) for key in self.keys]}

    def token(self, **changed: object) -> str:
        now = int(time.time())
        told = {"iss": self.url, "aud": "aidb", "sub": "s", "exp": now + 60, **changed}
        key = self.keys[-1]
        return jwt.encode({"alg": "RS256", "kid": key.kid}, told, key)


@contextmanager
def published() -> Iterator[Publisher]:
    found = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            body = json.dumps(found.says or found.answer(self.path)).encode()
            self.send_response(found.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def away(postgres_url: str, database_url: str) -> Iterator[None]:
    """A database that takes no connections and has lost those that it had."""
    database = database_url.partition("@/")[2].partition("?")[0]
    with psycopg.connect(postgres_url.format(database="postgres"), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database]
        )
        try:
            yield
        finally:
            admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
