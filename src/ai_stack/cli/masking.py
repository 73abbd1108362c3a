"""Settings to show: what is secret in them is hidden, what is not stays readable."""

import re

from pydantic import SecretStr

MASK = "••••••"


def masked(name: str, value: object) -> str | None:
    """A setting's value to show: of a secret only that it is set, of a URL all but its secrets."""
    if value is None:
        return None
    text = _text(value)
    if name.endswith("url") or name == "engines":
        return " ".join(map(_masked_url, text.split()))
    return MASK if text and isinstance(value, SecretStr) else text


def _masked_url(url: str) -> str:
    """What stands before the last @ may be a password, whatever characters it holds."""
    scheme, separator, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = f"{scheme}{separator}{user}{colon}{MASK if colon else ''}{at}{place}"
    return re.sub(r"(?i)((?:pass|token|key|secret)\w*=)[^&]*", rf"\1{MASK}", shown)


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
