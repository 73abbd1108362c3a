"""TLS as it is served on real sockets: what is spoken, reloaded, refused, and believed of nginx."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from certificates import Authority, Served, served
from stacks import free_port

CHAT = {"model": "memory", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


def pair(folder: Path) -> dict[str, str]:
    return {
        "AI_STACK_TLS_CERTIFICATE": str(folder / "certificate.pem"),
        "AI_STACK_TLS_KEY": str(folder / "key.pem"),
    }


@pytest.fixture(scope="module")
def gateway(folder: Path, authority: Authority, database_url: str) -> Iterator[Served]:
    authority.issue(folder)
    with served(folder, database_url, **pair(folder)) as started:
        yield started


def handshake(
    gateway: Served, authority: Authority, version: ssl.TLSVersion | None = None
) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(authority.file))
    if version is not None:
        context.maximum_version = version
    raw = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
    return context.wrap_socket(raw, server_hostname="localhost")


def serial(gateway: Served, authority: Authority) -> int:
    """That of the certificate which a new handshake is given."""
    with handshake(gateway, authority) as wire:
        found = wire.getpeercert(binary_form=True)
        assert found is not None
        return x509.load_der_x509_certificate(found).serial_number


def until_served(gateway: Served, authority: Authority, wanted: int) -> None:
    deadline = time.monotonic() + 15
    while serial(gateway, authority) != wanted:
        assert time.monotonic() < deadline, gateway.said.read_text()
        time.sleep(0.05)


def test_it_answers_over_tls_and_asks_for_it_from_then_on(gateway, authority):
    with gateway.client(authority) as http:
        answer = http.get("/health")
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"].startswith("max-age=31536000")
        assert "valid until" in answer.json()["services"]["tls"]["detail"]
        (left,) = re.findall(
            r"^aidb_tls_certificate_expiry_seconds(?:{.*})? ([0-9.e+]+)$",
            http.get("/metrics").text,
            re.MULTILINE,
        )
        assert 0 < float(left) < 91 * 86400
        told = http.post("/v1/chat/completions", json={**CHAT, "stream": True}).text
        assert told.rstrip().endswith("[DONE]")
        big = "word " * 300_000
        made = http.post("/documents", json={"content": big}, params={"wait": "false"})
        assert http.get(f"/documents/{made.json()['id']}", timeout=30).json()["content"] == big


def test_only_modern_protocols_are_spoken(gateway, authority):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with handshake(gateway, authority, version) as wire:
            assert wire.version() == str(version.name).replace("_", ".")
            cipher = wire.cipher()
            assert cipher is not None
            assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]
    old = ssl.create_default_context(cafile=str(authority.file))
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        old.wrap_socket(raw, server_hostname="localhost")


def test_plain_http_and_nonsense_get_no_answer_and_do_no_harm(gateway, authority):
    for sent in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", os.urandom(512), b""):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as raw:
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)
            received = b""
            while part := raw.recv(4096):
                received += part
            assert b"HTTP" not in received
    with gateway.client(authority) as http:
        assert http.get("/health/live").status_code == 200


def test_the_command_line_trusts_its_own_gateway_and_named_authorities(gateway, authority):
    own = gateway.command("health")
    assert own.returncode == 0, own.stdout + own.stderr
    assert gateway.command("documents", "list").returncode == 0
    away = {"AI_STACK_URL": f"https://localhost:{gateway.port}", "AI_STACK_TLS_CERTIFICATE": ""}
    away["AI_STACK_TLS_KEY"] = ""
    stranger = gateway.command("documents", "list", **away)
    assert stranger.returncode != 0
    assert "AI_STACK_CA_FILE" in stranger.stderr
    named = gateway.command("documents", "list", **away, AI_STACK_CA_FILE=str(authority.file))
    assert named.returncode == 0, named.stderr


def test_a_new_pair_is_served_while_streams_go_on(gateway, authority, folder):
    with gateway.client(authority) as http:
        files = {"files": ("a.md", b"# waiting")}
        run = http.post("/documents/import", files=files).json()
        id = run.get("run_id") or run["id"]
        with http.stream("GET", f"/runs/{id}/events", timeout=30) as events:
            wanted = authority.issue(folder)
            until_served(gateway, authority, wanted)  # found by itself
            again = authority.issue(folder)
            gateway.process.send_signal(signal.SIGHUP)
            until_served(gateway, authority, again)
            with gateway.client(authority) as other:
                assert other.delete(f"/runs/{id}").is_success
            rest = events.read().decode()
        assert "event: cancelled" in rest


def test_a_broken_pair_leaves_what_was_served(gateway, authority, folder):
    good = authority.issue(folder)
    until_served(gateway, authority, good)
    kept = {name: (folder / name).read_bytes() for name in ("certificate.pem", "key.pem")}
    other = folder / "other"
    other.mkdir()
    authority.issue(other)
    for name, content in (
        ("key.pem", (other / "key.pem").read_bytes()),
        ("certificate.pem", b"no certificate"),
        ("key.pem", b""),
    ):
        count = gateway.said.read_text().count("the certificate stays as it was")
        (folder / name).write_bytes(content)
        os.kill(gateway.process.pid, signal.SIGHUP)
        gateway_says(gateway, "the certificate stays as it was", count + 1)
        assert serial(gateway, authority) == good
        (folder / name).write_bytes(kept[name])
    (folder / "key.pem").chmod(0o644)
    os.kill(gateway.process.pid, signal.SIGHUP)
    gateway.until("can be read by others")
    assert serial(gateway, authority) == good
    (folder / "key.pem").chmod(0o600)
    newest = authority.issue(folder)
    until_served(gateway, authority, newest)


def gateway_says(gateway: Served, told: str, times: int) -> None:
    deadline = time.monotonic() + 10
    while gateway.said.read_text().count(told) < times:
        assert time.monotonic() < deadline, gateway.said.read_text()
        time.sleep(0.02)


def refused(folder: Path, database_url: str, **variables: str) -> str:
    started = Served(folder, database_url, **variables)
    started.start()
    assert started.process.wait(20) != 0
    return started.said.read_text()


def test_a_certificate_that_ends_soon_is_told_of(authority, database_url, tmp_path):
    authority.issue(tmp_path, days=3, began_days=80)
    with served(tmp_path, database_url, **pair(tmp_path)) as started:
        assert "expires at" in started.said.read_text()
        with started.client(authority) as http:
            assert "soon" in http.get("/health").json()["services"]["tls"]["detail"]
    authority.issue(tmp_path, days=-1, began_days=80)
    with served(tmp_path, database_url, **pair(tmp_path)) as started:
        found = httpx.get(f"{started.url}/health", verify=insecure()).json()
        assert found["status"] == "degraded"
        assert "expired" in found["services"]["tls"]["detail"]


def insecure() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_what_cannot_be_served_is_refused_at_the_start(authority, database_url, tmp_path):
    missing = refused(tmp_path, database_url, **pair(tmp_path))
    assert "cannot be read" in missing
    authority.issue(tmp_path)
    (tmp_path / "key.pem").chmod(0o644)
    assert "chmod 600" in refused(tmp_path, database_url, **pair(tmp_path))
    assert "go together" in refused(
        tmp_path, database_url, AI_STACK_TLS_CERTIFICATE=str(tmp_path / "certificate.pem")
    )


def test_a_wider_address_needs_authentication_and_tls(authority, database_url, tmp_path):
    wide = {"AI_STACK_HOST": "0.0.0.0"}
    told = refused(tmp_path, database_url, **wide)
    assert "AI_STACK_AUTH=required" in told
    assert "AI_STACK_TLS_CERTIFICATE" in told
    authority.issue(tmp_path)
    assert "AI_STACK_AUTH=required" in refused(tmp_path, database_url, **wide, **pair(tmp_path))
    up = Served(tmp_path, database_url, **wide).command("up")
    assert up.returncode != 0
    assert "AI_STACK_AUTH=required" in up.stderr
    assert not (tmp_path / "data" / "postgres").exists()
    required = {**wide, **pair(tmp_path), "AI_STACK_AUTH": "required"}
    with served(tmp_path, database_url, **required) as started:
        with started.client(authority) as http:
            assert http.get("/documents").status_code == 401
            assert http.get("/health/live").status_code == 200
        listed = started.command("documents", "list")
        assert listed.returncode == 0, listed.stderr


def test_auto_is_required_for_good_once_it_is_wide(authority, database_url, tmp_path):
    authority.issue(tmp_path)
    with served(tmp_path, database_url) as near:
        made = near.command("keys", "create", "first", "--json")
        assert made.returncode == 0, made.stderr
    wide = {"AI_STACK_HOST": "0.0.0.0", **pair(tmp_path)}
    with served(tmp_path, database_url, **wide) as started, started.client(authority) as http:
        assert http.get("/documents").status_code == 401
        listed = started.command("keys", "list", "--json")
        assert listed.returncode == 0, listed.stderr
        for key in json.loads(listed.stdout)["items"]:
            done = started.command("keys", "revoke", key["id"])
            assert done.returncode == 0, done.stderr
        time.sleep(0.5)
        assert http.get("/documents").status_code == 401


NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;
    location / {{
      proxy_pass http://127.0.0.1:{inner};
      proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
    }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, inner: int) -> Iterator[int]:
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    assert Path(program).exists(), "this test needs nginx: apt-get install nginx-light"
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, inner=inner))
    started = subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:
        deadline = time.monotonic() + 10
        while not (folder / "nginx.pid").exists():
            assert started.poll() is None, (folder / "nginx.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield port
    finally:
        started.terminate()
        started.wait(10)


def test_behind_nginx_its_name_and_scheme_count_and_no_stranger_s(
    authority, database_url, tmp_path
):
    authority.issue(tmp_path)
    behind = {
        "AI_STACK_TRUSTED_PROXIES": "127.0.0.1",
        "AI_STACK_HOSTS": "ai.example.org",
        "AI_STACK_AUTH": "required",
    }
    with served(tmp_path, database_url, **behind) as started, nginx(tmp_path, started.port) as port:
        verify = ssl.create_default_context(cafile=str(authority.file))
        with httpx.Client(base_url=f"https://localhost:{port}", verify=verify) as http:
            named = {"Host": "ai.example.org"}
            assert http.get("/health", headers=named).status_code == 200
            assert http.get("/health", headers={"Host": "evil.example"}).status_code == 421
            lied = {**named, "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
            assert http.get("/health", headers=lied).status_code == 200
            page = http.get("/documents", headers={**named, "X-Forwarded-Proto": "http"})
            assert page.status_code == 401
            token = started.command("keys", "create", "proxied", "--json")
            assert token.returncode == 0, token.stderr
            key = json.loads(token.stdout)["key"]
            signed = {**named, "Authorization": f"Bearer {key}"}
            told = http.post(
                "/v1/chat/completions", json={**CHAT, "stream": True}, headers=signed
            ).text
            assert told.rstrip().endswith("[DONE]")
            words = ("users", "create", "alice", "--password-stdin")
            made = started.command(*words, told="a long enough password\n")
            assert made.returncode == 0, made.stderr
            login = {"name": "alice", "password": "a long enough password", "kind": "browser"}
            inside = httpx.post(f"http://127.0.0.1:{started.port}/auth/login", json=login)
            outside = http.post("/auth/login", json=login, headers=named)
            assert inside.is_success, inside.text
            assert "Secure" not in inside.headers["set-cookie"]
            assert "Secure" in outside.headers["set-cookie"]
            held = outside.headers["set-cookie"].partition(";")[0]
            assert held.startswith("__Host-aidb_session=")
            http.cookies.clear()
            # She is known, and has no project yet; by the other name she would be nobody.
            for cookie, status in ((held, 403), (held.removeprefix("__Host-"), 401)):
                asked = http.get("/auth/me", headers={**named, "Cookie": cookie})
                assert asked.status_code == status
            lying = {"X-Forwarded-Proto": "http", "Forwarded": "proto=http"}
            outside = http.post("/auth/login", json=login, headers={**named, **lying})
            assert "Secure" in outside.headers["set-cookie"]
