"""The certificate that is served, read anew when its files change, and the trust in one's own.

It knows files and contexts of TLS; who listens and who asks is for others.
"""

import asyncio
import logging
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography import x509

from ai_stack.errors import SettingsError
from ai_stack.settings import Settings

log = logging.getLogger(__name__)

LOOK_S, WARN_S = 2.0, 24 * 3600
SOON = timedelta(days=14)
OTHERS = 0o027  # whom a key's file may neither be read nor written by
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # for TLS 1.2; 1.3 has none that are weak
PEM_END = b"-----END CERTIFICATE-----"
Mark: TypeAlias = tuple[tuple[int, int, int], ...]


class Certificate:
    """A certificate and its key; `context` serves whatever was last read whole.

    Handshakes from then on use the new pair, connections that are open go on with theirs.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read both; SettingsError when they are not a pair that can be served."""
        self.files = (certificate, key)
        self.context = _context()
        self._warned_at = float("-inf")
        self._mark: Mark = ()
        self.load()

    def load(self) -> None:
        """Serve what the files hold now; SettingsError leaves what was served before."""
        self._mark = self._look()
        certificate, key = _read(*self.files)
        leaf = x509.load_pem_x509_certificate(certificate)
        _apply(_context(), certificate, key, self.files)  # a broken pair would spoil the other
        _apply(self.context, certificate, key, self.files)
        self.expires_at = leaf.not_valid_after_utc
        self._soon = min(SOON, (self.expires_at - leaf.not_valid_before_utc) / 3)
        self._warned_at = float("-inf")
        self._warn()

    def reload(self) -> bool:
        """Load again; a pair that cannot be served is logged, and the one before it stays."""
        try:
            self.load()
        except SettingsError as error:
            log.error("the certificate stays as it was: %s", error.message)
            return False
        log.info("a new certificate is served, valid until %s", self.expires_at.isoformat())
        return True

    @asynccontextmanager
    async def followed(self, told: Callable[[float], None]) -> AsyncIterator[None]:
        """Load whenever the files change, or at SIGHUP, while the block lasts.

        `told` is given the seconds that are left, again and again.
        """
        loop, following = asyncio.get_running_loop(), asyncio.create_task(self._follow(told))
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            following.cancel()

    async def _follow(self, told: Callable[[float], None]) -> None:
        while True:
            told(self.left_s)
            await asyncio.sleep(LOOK_S)
            self._warn()
            with suppress(OSError):  # a file that is about to be put there
                if self._look() != self._mark:
                    self.reload()

    @property
    def left_s(self) -> float:
        """Seconds until the certificate expires, fewer than none when it has."""
        return (self.expires_at - datetime.now(UTC)).total_seconds()

    async def probe(self) -> str:
        """Until when the certificate is valid; SettingsError when it is no more."""
        if self.left_s <= 0:
            raise SettingsError(f"The certificate has expired at {self.expires_at.isoformat()}.")
        told = f"valid until {self.expires_at:%Y-%m-%d}"
        return f"{told}, which is soon" if self._is_soon() else told

    def _is_soon(self) -> bool:
        return self.left_s < self._soon.total_seconds()

    def _warn(self) -> None:
        if self._is_soon() and time.monotonic() - self._warned_at > WARN_S:
            self._warned_at = time.monotonic()
            log.warning("the certificate %s expires at %s", self.files[0], self.expires_at)

    def _look(self) -> Mark:
        found = [file.stat() for file in self.files if file.exists()]
        return tuple((status.st_mtime_ns, status.st_ino, status.st_size) for status in found)


def open_certificate(settings: Settings) -> Certificate | None:
    """The certificate to serve, None where there is none; SettingsError for one that is unfit."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_certificate, settings.tls_key)


def trust(settings: Settings) -> ssl.SSLContext | bool:
    """What a client of the gateway trusts: the authorities that are named, else what this
    machine's own gateway serves, else the system's authorities (True)."""
    if settings.ca_file is not None:
        return of_authorities(settings.ca_file)
    if settings.url is None and settings.tls_certificate is not None:
        return of_own(settings.tls_certificate) or True
    return True


def of_authorities(file: Path) -> ssl.SSLContext:
    """A client's trust in the authorities of a file alone; SettingsError when it has none."""
    try:
        return ssl.create_default_context(cafile=str(file))
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or "it holds no certificate"
        raise SettingsError(f"AI_STACK_CA_FILE {file} cannot be used: {reason}.") from None


def of_own(file: Path) -> ssl.SSLContext | None:
    """A client's trust in the very certificate that this machine's gateway serves.

    Its name is not looked at, since it is asked by its address. None where it cannot be read.
    """
    try:
        leaf = file.read_bytes().partition(PEM_END)[0] + PEM_END
        context = ssl.create_default_context(cadata=leaf.decode("ascii"))
    except (OSError, ValueError, ssl.SSLError):
        return None
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def of_nobody() -> ssl.SSLContext:
    """No trust at all, for a probe of one's own child that sends and believes nothing."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _read(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """Both files as they are now; SettingsError when one cannot be used."""
    try:
        if key.stat().st_mode & OTHERS:
            raise SettingsError(
                f"The key {key} can be read by others than its owner: `chmod 600 {key}`."
            )
        found = certificate.read_bytes(), key.read_bytes()
        x509.load_pem_x509_certificate(found[0])
    except OSError as error:
        raise SettingsError(
            f"{error.filename} cannot be read: {error.strerror}. The user that the gateway runs "
            "as needs the certificate and its key."
        ) from None
    except ValueError:
        raise SettingsError(f"{certificate} holds no certificate in PEM form.") from None
    return found


def _apply(
    context: ssl.SSLContext, certificate: bytes, key: bytes, files: tuple[Path, ...]
) -> None:
    with _as_file(certificate) as chain, _as_file(key) as private:
        try:
            context.load_cert_chain(chain, private, password=lambda: b"")
        except (ssl.SSLError, OSError, ValueError):
            raise SettingsError(
                f"{files[1]} is not the key of {files[0]}, has a passphrase, or is not in PEM form."
            ) from None


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path to these very bytes, in memory: the file may change between two looks at it."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
