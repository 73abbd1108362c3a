"""Settings of the wire: by which names and how safely the gateway is reached."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from ai_stack.settings.part import Part

Network: TypeAlias = IPv4Network | IPv6Network
NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]", re.IGNORECASE)


class Wire(Part):
    """Names, TLS, and the proxies that are believed."""

    hosts: str = Field(
        "",
        description="Further names that the gateway answers to, exactly as in a Host or Origin "
        "header without its port, separated by commas; no wildcards.",
    )
    public_url: str | None = Field(
        None,
        description="Address by which browsers reach the gateway, where that is another than its "
        "own; its name is answered to as well.",
    )
    published_host: str | None = Field(
        None,
        description="Address that a container's port mapping publishes the gateway on, which "
        "counts in place of AI_STACK_HOST when a wide address is refused.",
    )
    tls_certificate: Path | None = Field(
        None, description="File of the certificate and its chain (PEM), to serve TLS directly."
    )
    tls_key: Path | None = Field(
        None, description="File of the certificate's key (PEM), which others may not read."
    )
    ca_file: Path | None = Field(
        None,
        description="File of the authorities (PEM) that the command line trusts for AI_STACK_URL; "
        "by default the system's.",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses and networks of the proxies that are believed when they say from "
        "whom, by which name and how safely a request came, separated by commas.",
    )
    forwarded_header: Literal["x-forwarded", "forwarded"] = Field(
        "x-forwarded",
        description="What the trusted proxies set: `x-forwarded` for X-Forwarded-For, -Proto and "
        "-Host, `forwarded` for Forwarded (RFC 7239). The other is ignored.",
    )
    master_key_file: Path | None = Field(
        None,
        description="File of the master key that wraps the data keys; by default systemd's "
        "credential `ai-stack-master`, else `master` in AI_STACK_SECRETS_DIR.",
    )

    @field_validator("tls_certificate", "tls_key", "ca_file", "master_key_file")
    @classmethod
    def _is_whole(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("hosts")
    @classmethod
    def _are_names(cls, value: str) -> str:
        for name in _parts(value):
            if NAME.fullmatch(name) is None:
                raise ValueError(f"{name} is not a host's name: no scheme, port or wildcard")
        return value

    @field_validator("public_url")
    @classmethod
    def _is_public_address(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "http://localhost")
        plain = not (parts.query or parts.fragment or parts.username or parts.path.strip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
            raise ValueError("it has to be like https://ai.example.org, without a path")
        return None if value is None else value.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        _networks(value)
        return value

    @property
    def proxies(self) -> tuple[Network, ...]:
        """The networks of the proxies that are believed."""
        return _networks(self.trusted_proxies)

    @property
    def names(self) -> frozenset[str]:
        """The names that are answered to beside the gateway's own address."""
        public = urlsplit(self.public_url or "").hostname
        found = (*_parts(self.hosts), *([written(public)] if public else []))
        return frozenset(name.lower() for name in found)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def written(host: str) -> str:
    """An address as URLs and Host headers have it: one of IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _parts(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(part, strict=False) for part in _parts(text))
