"""Certificates of a test's own authority, and gateways in processes of their own."""

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stacks import free_port


class Authority:
    """Issues certificates for this machine; `file` is what a client trusts."""

    def __init__(self, folder: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name("Authority")
        basics = x509.BasicConstraints(ca=True, path_length=0)
        usage = _usage(signs=True)
        self.certificate = (
            _builder(self.name, self.name, self.key, 3650, 0)
            .add_extension(basics, critical=True)
            .add_extension(usage, critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, folder: Path, *, days: float = 90, began_days: float = 1) -> int:
        """Put a new pair in place as certificate.pem and key.pem; its serial number."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        made = (
            _builder(_name("gateway"), self.name, key, days, began_days)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        _write(folder / "key.pem", _private(key), 0o600)
        _write(folder / "certificate.pem", made.public_bytes(serialization.Encoding.PEM), 0o644)
        return made.serial_number


def _write(path: Path, content: bytes, mode: int) -> None:
    draft = path.with_suffix(".new")
    draft.write_bytes(content)
    draft.chmod(mode)
    draft.replace(path)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    days: float,
    began_days: float,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=began_days))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


class Served:
    """`ai-stack serve` as a process, on a database and otherwise in memory."""

    def __init__(self, folder: Path, database_url: str, **variables: str) -> None:
        self.port = free_port()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "AI_STACK_DATA_DIR": str(folder / "data"),
            "AI_STACK_DATABASE_URL": database_url,
            "AI_STACK_PORT": str(self.port),
            **{f"AI_STACK_{name}_URL": "memory:" for name in ("REDIS", "VECTORS", "EMBEDDER")},
            "AI_STACK_ENGINES": "memory:",
            **variables,
        }
        self.said = folder / "said"

    def start(self) -> None:
        with self.said.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ai_stack", "serve"],
                env=self.environment,
                stdout=output,
                stderr=output,
            )

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def until(self, told: str, within_s: float = 20) -> None:
        """Wait until the gateway has logged this."""
        deadline = time.monotonic() + within_s
        while told not in self.said.read_text():
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.02)

    def command(
        self, *words: str, told: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """One verb of the command line, with the gateway's own settings and more."""
        return subprocess.run(
            [sys.executable, "-m", "ai_stack", *words],
            env={**self.environment, **variables},
            input=told,
            capture_output=True,
            text=True,
            check=False,
        )

    def client(self, authority: Authority) -> httpx.Client:

        return httpx.Client(
            base_url=self.url, verify=ssl.create_default_context(cafile=str(authority.file))
        )


@contextmanager
def served(folder: Path, database_url: str, **variables: str) -> Iterator[Served]:
    """A gateway that runs until the block ends, and is up when it begins."""
    started = Served(folder, database_url, **variables)
    started.start()
    try:
        started.until("Uvicorn running on")
        yield started
    finally:
        started.process.send_signal(signal.SIGTERM)
        started.process.wait(20)
