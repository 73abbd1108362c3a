"""Settings of the wire: by which names and how safely the gateway is reached."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ai_stack.settings.part import Part


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
        None, description="File of the certificate's key (PEM), which only its owner may read."
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
