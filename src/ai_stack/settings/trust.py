"""Settings of who may do what."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from ai_stack.settings.part import Part


class Trust(Part):
    """Who gets in, and what proves it."""

    auth: Literal["auto", "off", "required"] = Field(
        "auto",
        description="Whether a request has to say who it is: `auto` as soon as there is a key, a "
        "user or an issuer; `off` never, on loopback alone; `required` always.",
    )
    auth_grace_s: float = Field(
        60,
        ge=10,
        le=3600,
        description="Seconds that credentials which were checked before hold while PostgreSQL "
        "does not answer.",
    )
    login_browser_s: float = Field(
        12 * 3600, ge=60, le=90 * 86400, description="Seconds after which a browser's login ends."
    )
    login_shell_s: float = Field(
        30 * 86400, ge=60, le=366 * 86400, description="Seconds after which a shell's login ends."
    )
    issuers: Path | None = Field(
        None,
        description="JSON file of the OpenID Connect issuers whose users and tokens are let in.",
    )
    secrets_dir: Path | None = Field(
        None, description="Folder of the stack's own secrets; by default <data>/secrets."
    )
    key: SecretStr | None = Field(
        None, description="API key that the command line sends; by default the last login's."
    )
