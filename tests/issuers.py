"""Issuers of OpenID Connect on loopback: two real ones of independent make, and a bad one.

They go by the name `localhost` and the gateway by `127.0.0.1`, so that to a browser they are
different sites.
"""

import base64
import hmac
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import RSAKey

import nodes

FOLDER = Path(__file__).parent / "sign_on"
SECRET = "the-secret-of-this-client"


def callback(gateway: str, name: str) -> str:
    return f"{gateway}/auth/oidc/{name}/callback"


def entry(
    name: str, url: str, client_id: str, secret: str | None, **more: object
) -> dict[str, Any]:
    """An issuer's entry in the file that AI_STACK_ISSUERS names."""
    own = {"name": name, "issuer": url, "client_id": client_id, "client_secret": secret}
    return {**own, "title": name.capitalize(), **more}


def written(folder: Path, *entries: Mapping[str, Any]) -> Path:
    file = folder / "issuers.json"
    file.write_text(json.dumps(entries))
    return file


@contextmanager
def started(command: list[str], url: str) -> Iterator[None]:
    """A process that serves OpenID Connect at a URL."""
    process = subprocess.Popen(
        command, cwd=FOLDER, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _await(process, f"{url}/.well-known/openid-configuration")
        yield
    finally:
        process.kill()
        process.communicate()


def _await(process: subprocess.Popen[str], address: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        try:
            if httpx.get(address, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"nothing answers at {address}")


@contextmanager
def panva(port: int, gateway: str, name: str = "panva", **more: object) -> Iterator[dict[str, Any]]:
    """The certified issuer of npm's `oidc-provider`; yields its entry."""
    nodes.install(FOLDER)
    url = f"http://localhost:{port}"
    client = {
        "client_id": "aidb",
        "client_secret": SECRET,
        "redirect_uris": [callback(gateway, name)],
    }
    told = {"port": port, "clients": [client], "resources": [f"{gateway}/mcp"]}
    command = [str(nodes.node()), str(FOLDER / "issuer.mjs"), json.dumps(told)]
    with started(command, url):
        yield entry(name, url, "aidb", SECRET, **more)


@contextmanager
def mock(port: int, gateway: str, name: str = "mock", **more: object) -> Iterator[dict[str, Any]]:
    """The issuer of PyPI's `oidc-provider-mock`, at which the gateway registers itself."""
    url = f"http://localhost:{port}"
    told = ["--port", str(port), "--require-registration", "true", "--require-nonce", "true"]
    with started([sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", *told], url):
        body = {"redirect_uris": [callback(gateway, name)]}
        client = httpx.post(f"{url}/oauth2/clients", json=body).raise_for_status().json()
        yield entry(name, url, client["client_id"], client["client_secret"], **more)


def say_of(issuer: Mapping[str, Any], subject: str, **claims: object) -> None:
    """What the mock tells of a subject."""
    httpx.put(f"{issuer['issuer']}/users/{subject}", json=claims).raise_for_status()


def pass_forms(client: httpx.Client, address: str, subject: str, until: str) -> str:
    """Sign in at an issuer as a browser would, form by form; where it sends the browser in the
    end, an address that begins with `until`."""
    answer = client.get(address)
    for _ in range(20):
        if answer.is_redirect:
            target = str(httpx.URL(address).join(answer.headers["location"]))
            if target.startswith(until):
                return target
            address, answer = target, client.get(target)
            continue
        assert answer.status_code == 200, answer.text
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', answer.text))
        fields.pop("action", None)
        fields |= {"login": subject, "password": "any", "sub": subject}
        action = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
        address = str(httpx.URL(address).join(action[1])) if action else address
        answer = client.post(address, data=fields)
    raise AssertionError("the forms have no end")


@dataclass
class Scripted:
    """An issuer whose answers a test makes worse: `claims` and `sign` for the token, `answer` for
    the redirect, `token` for the answer to a code, `described` for what it says of itself."""

    name: str = "scripted"
    client_id: str = "aidb"
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    subject: str = "erin"
    claims: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
    sign: Callable[["Scripted", dict[str, Any]], object] = lambda issuer, claims: issuer.signed(
        claims
    )
    answer: Callable[[dict[str, str]], dict[str, str]] = lambda answer: answer
    token: Callable[[dict[str, Any]], Any] = lambda token: token
    userinfo: dict[str, Any] | None = None
    described: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    exchanged: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def signed(self, claims: dict[str, Any], **header: object) -> str:
        return jwt.encode({"alg": "RS256", "kid": "one", **header}, claims, self.key)

    def authorized(self, query: dict[str, str]) -> str:
        """Where a browser is sent that asks to sign in: straight back."""
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        answer = self.answer({"code": code, "state": query["state"]})
        return f"{query['redirect_uri']}?{urlencode(answer)}"

    def tokens(self, form: dict[str, str]) -> Any:
        self.exchanged.append(form)
        asked, now = self.codes.pop(form.get("code", ""), None), int(time.time())
        if asked is None:
            return {"error": "invalid_grant"}
        claims = {"iss": self.url, "aud": self.client_id, "sub": self.subject, "iat": now}
        claims |= {"exp": now + 60, "nonce": asked["nonce"]}
        id_token = self.sign(self, self.claims(claims))
        return self.token({"access_token": "at", "token_type": "Bearer", "id_token": id_token})

    def description(self) -> dict[str, Any]:
        told = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        told |= {f"{name}_endpoint": f"{self.url}/{name}" for name in ("authorization", "token")}
        if self.userinfo is not None:
            told["userinfo_endpoint"] = f"{self.url}/userinfo"
        return told | self.described

    def entry(self, **more: object) -> dict[str, Any]:
        grants = [{"project": "default", "role": "reader"}]
        told = {"newcomers": True, "grants": grants, **more}
        return entry(self.name, self.url, self.client_id, SECRET, **told)

    def behave(self, **worse: Any) -> None:
        """As it should, but for this."""
        fresh = Scripted(self.name, key=self.key, url=self.url, **worse)
        for name in ("subject", "claims", "sign", "answer", "token", "userinfo", "described"):
            setattr(self, name, getattr(fresh, name))
        self.codes, self.exchanged = {}, []


def unsigned(issuer: Scripted, claims: dict[str, Any]) -> str:
    """A token of the algorithm none."""
    whole = issuer.signed(claims, alg="RS256")
    head = _part({"alg": "none", "kid": "one", "typ": "JWT"})
    return f"{head}.{whole.split('.')[1]}."


def confused(issuer: Scripted, claims: dict[str, Any]) -> str:
    """A token signed with the issuer's public key, as if that were a secret that is shared."""
    head, body = (_part(part) for part in ({"alg": "HS256", "kid": "one"}, claims))
    public = issuer.key.as_pem(private=False)
    signature = hmac.digest(public, f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def foreign(issuer: Scripted, claims: dict[str, Any]) -> str:
    """A token signed with another key of the same name."""
    other = RSAKey.generate_key(2048, {"kid": "one"})
    return jwt.encode({"alg": "RS256", "kid": "one"}, claims, other)


def _part(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@contextmanager
def scripted(issuer: Scripted) -> Iterator[Scripted]:
    """A bad issuer, served."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/authorization":
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                self._answer(302, b"", issuer.authorized(query))
            elif parts.path == "/jwks":
                self._json({"keys": [{**issuer.key.as_dict(private=False), "use": "sig"}]})
            elif parts.path == "/userinfo":
                self._json(issuer.userinfo or {})
            else:
                self._json(issuer.description())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            found = issuer.tokens({name: values[0] for name, values in parse_qs(body).items()})
            self._json(found, 400 if isinstance(found, dict) and "error" in found else 200)

        def _json(self, value: Any, status: int = 200) -> None:
            self._answer(status, value if isinstance(value, bytes) else json.dumps(value).encode())

        def _answer(self, status: int, body: bytes, location: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    issuer.url = f"http://localhost:{server.server_port}"
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
