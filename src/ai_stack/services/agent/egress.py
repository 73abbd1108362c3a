"""What an answer may carry out: nothing that is fetched from elsewhere when it is shown.

A picture's address can hold what a hostile document wants to know, and showing it sends it.
"""

import re

IMAGE = re.compile(r"!\[([^\]]*)\]\(\s*<?([^)\s>]*)[^)]*\)")
REFERENCE = re.compile(r"!\[([^\]]*)\]\[[^\]]*\]")
ELEMENT = re.compile(
    r"<(?=/?\s*(?:img|iframe|script|link|object|embed|video|audio|source|svg|style|meta|base|form"
    r"|input|picture|image)\b)",
    re.IGNORECASE,
)


def without_remote_images(text: str) -> str:
    """The text with pictures as their words, and with elements that fetch something as text."""
    plain = REFERENCE.sub(r"\1", IMAGE.sub(_words, text))
    return ELEMENT.sub("&lt;", plain)


def _words(image: re.Match[str]) -> str:
    return image[1] or "(picture left out)"
