"""What an answer may carry out: nothing that is fetched from elsewhere when it is shown.

A picture's address can hold what a hostile document wants to know, and showing it sends it.
"""

import re

IMAGE = re.compile(r"!\[([^\]]*)\]\(\s*<?([^)\s>]*)[^)]*\)")
MARK = re.compile(r"!+(?=\[)")  # what still begins a picture: nested brackets, short references
REFERENCE = re.compile(r"!\[([^\]]*)\]\[[^\]]*\]")
ELEMENT = re.compile(
    r"<(?=/?\s*(?:img|iframe|script|link|object|embed|video|audio|source|svg|style|meta|base|form"
    r"|input|picture|image|track|frame|frameset|portal|body|table|t[rdh]|tbody|thead)\b)",
    re.IGNORECASE,
)
STYLED = re.compile(r"\bstyle\s*=", re.IGNORECASE)  # of any element, and a style fetches
ANY_ELEMENT = re.compile(r"<(?=[a-z])", re.IGNORECASE)


def without_remote_images(text: str) -> str:
    """The text with pictures as their words, and with elements that fetch something as text."""
    plain = REFERENCE.sub(r"\1", IMAGE.sub(_words, text))
    hidden = ANY_ELEMENT if STYLED.search(plain) else ELEMENT
    return hidden.sub("&lt;", MARK.sub("", plain))


def _words(image: re.Match[str]) -> str:
    return image[1] or "(picture left out)"
