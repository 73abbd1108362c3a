"""Where an engine is, read from its URL of the settings."""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ai_stack.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a server is: what a URL of the settings says, its secret apart."""

    host: str
    port: int
    tls: bool
    base: str
    key: str

    @classmethod
    def of(cls, url: str, *, port: int | None = None) -> "Origin":
        """Read a URL whose scheme ends in https for TLS; `port` where it names none."""
        try:
            parts = urlsplit(url)
            told, host = parts.port, parts.hostname or ""
        except ValueError:
            told, host = None, ""
        if not host or parts.query or parts.fragment:
            raise SettingsError("AI_STACK_ENGINES: each has the form scheme://host:port.")
        tls = parts.scheme.endswith("https")
        key = unquote(parts.password or parts.username or "")
        base = parts.path.rstrip("/")
        if not (key + base + host).isascii() or not (key + base + host).isprintable():
            raise SettingsError("AI_STACK_ENGINES: an address has signs that no header takes.")
        default = 443 if tls else port or 80
        return cls(host.lower(), told or default, tls, base, key)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def name(self) -> str:
        """The address without credentials."""
        return f"http{'s' if self.tls else ''}://{self.authority}{self.base}"
