"""Secrets in any text, as detect-secrets finds them, and markers of unfinished merges."""

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import get_settings, transient_settings

from .findings import Finding, Severity
from .sources import Source

ALLOWLIST = "detect_secrets.filters.allowlist.is_line_allowlisted"
NO_SECRET = {"IPPublicDetector"}  # an address is none
GUESSED = {"Base64 High Entropy String", "Hex High Entropy String", "Secret Keyword"}
MAX_LINE = 20_000  # longer ones are minified or generated
LOCKS = re.compile(
    r"(^|/)(package-lock\.json|[\w.-]+\.lock|go\.sum|pnpm-lock\.yaml|requirements[\w.-]*\.lock)$"
)
BEGIN, MIDDLE, END = re.compile(r"<{7}( |$)"), re.compile(r"={7}$"), re.compile(r">{7}( |$)")


def secrets(sources: Sequence[Source], folder: Path, suppressions: bool) -> list[Finding]:
    """Where secrets are; what they are is told to nobody. The sources lie in `folder`."""
    logging.getLogger("detect_secrets").setLevel(logging.CRITICAL)
    kinds: dict[str, type] = get_mapping_from_secret_type_to_class()
    plugins = {kind.__name__ for kind in kinds.values()}
    found: list[Finding] = []
    with transient_settings({"plugins_used": [{"name": n} for n in sorted(plugins - NO_SECRET)]}):
        if not suppressions:
            get_settings().disable_filters(ALLOWLIST)
        for source in sources:
            if not LOCKS.search(source.path) and _short(source.text):
                found += _secrets(source.path, folder)
    return found


def _secrets(path: str, folder: Path) -> Iterator[Finding]:
    """The most certain finding of each line."""
    lines: dict[int, str] = {}
    for secret in scan_file(str(folder / path)):
        if lines.setdefault(secret.line_number, secret.type) in GUESSED:
            lines[secret.line_number] = secret.type
    for line, type in lines.items():
        rule = "secret/" + re.sub(r"[^a-z0-9]+", "-", type.lower()).strip("-")
        likely = "may be" if type in GUESSED else "is"
        told = f"This {likely} a secret ({type}); keep it out of the code, and replace it."
        severity: Severity = "medium" if type in GUESSED else "high"
        yield Finding(path, line, "secret", rule, severity, told)


def conflicts(sources: Sequence[Source]) -> list[Finding]:
    """Where both sides of a merge still stand."""
    return [finding for source in sources for finding in _conflicts(source)]


def _conflicts(source: Source) -> Iterator[Finding]:
    begun = middle = 0
    for number, line in enumerate(source.text.splitlines(), 1):
        if BEGIN.match(line):
            begun, middle = number, 0
        elif begun and MIDDLE.match(line):
            middle = number
        elif middle and END.match(line):
            told = "Both sides of a merge stand here; keep one."
            yield Finding(source.path, begun, "conflict", "merge-conflict", "high", told, number)
            begun = middle = 0


def _short(text: str) -> bool:
    return max(map(len, text.splitlines()), default=0) <= MAX_LINE
