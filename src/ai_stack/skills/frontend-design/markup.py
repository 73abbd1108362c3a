"""Writes HTML: every text and attribute is escaped, unless it is markup of ours."""

import re
from html import escape
from typing import TypeAlias

from ai_stack.skill import SkillFailed

SCHEMES = re.compile(r"(?i)^(https?:|mailto:|tel:|#|/|\./|\.\./|[\w-]+(\.[\w-]+)*([/?#]|$))")
VOID = {"input", "img", "meta", "link", "br", "hr"}
BLOCKS = {"section", "div", "header", "footer", "main", "nav", "ul", "ol", "form", "table", "tbody"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "str | Markup | None"
Attribute: TypeAlias = "str | int | bool | None"


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """An element. `class_` and the like lose their underscore, others become hyphens."""
    head = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{head}>")
    inner = "".join(_child(child) for child in children)
    line = "\n" if name in BLOCKS else ""
    return Markup(f"<{name}{head}>{line}{inner}</{name}>{line}")


def together(*children: Child) -> Markup:
    """Several, one after the other."""
    return Markup("".join(_child(child) for child in children))


def paragraphs(text: str) -> Markup:
    """Text whose blank lines part paragraphs."""
    parts = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    return together(*(tag("p", part) for part in parts))


def href(url: str) -> str:
    """A link's target as it is; SkillFailed for one that would run code."""
    if not SCHEMES.match(url.strip()):
        raise SkillFailed(f"{url[:60]!r} is no link: use https:, mailto:, tel:, # or a path.")
    return url.strip()


def slug(text: str) -> str:
    """An id from a text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "part"


def _child(child: Child) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Markup) else escape(child, quote=False)


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
