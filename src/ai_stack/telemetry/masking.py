"""Secrets in texts: found by their form, and made unreadable."""

import re

MASK = "••••••"
# A hint of a secret, which most texts have none of: the patterns are tried where there is one.
HINT = re.compile(r"aidb_|bearer|basic|://|passw|secret|token|api.?key|cookie", re.IGNORECASE)
PATTERNS = (
    (re.compile(r"\baidb_[A-Za-z0-9_\-.]{6,}"), f"aidb_{MASK}"),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9_\-.~+/=]{4,}", re.IGNORECASE), rf"\1 {MASK}"),
    # What stands before the last @ of an address may be a password, whatever it holds.
    (
        re.compile(r"(\b[a-z][a-z0-9+.\-]*://[^\s:@/]*):[^\s]+@(?=[^\s@]*)", re.IGNORECASE),
        rf"\1:{MASK}@",
    ),
    (
        re.compile(
            r"""(?ix)((?:[\w\-]*(?:passw(?:or)?d|passwd|secret|api[_\-]?key|token|cookie))
            ["']?\s*[=:]\s*)(?!\s)("[^"]*"|'[^']*'|[^\s,;&"'}\]]+)"""
        ),
        rf"\1{MASK}",
    ),
)


def masked(text: str) -> str:
    """The text with a mask in the place of each secret: keys of ours, bearers, passwords."""
    if HINT.search(text) is None:
        return text
    for pattern, mask in PATTERNS:
        text = pattern.sub(mask, text)
    return text
