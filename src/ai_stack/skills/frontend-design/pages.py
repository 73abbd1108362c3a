"""A whole page around sections: head, bar, main, foot."""

from collections.abc import Sequence

from .markup import Markup, href, tag, together
from .sections import Link, Section, section
from .stylesheet import stylesheet
from .tokens import Tokens


def page(
    title: str,
    description: str,
    language: str,
    tokens: Tokens,
    sections: Sequence[Section],
    links: Sequence[Link],
    footer: str,
) -> str:
    """The page's HTML; without a hero its title is its first head."""
    body = together(*(section(one, n) for n, one in enumerate(sections)))
    headed = any(one.kind == "hero" for one in sections)
    first = None if headed else tag("div", tag("h1", title), class_="inner section")
    parts = together(
        tag("a", "Skip to the content", href="#main", class_="skip"),
        _bar(title, links),
        tag("main", first, body, id="main"),
        tag("footer", tag("div", footer, class_="inner"), class_="foot") if footer else None,
    )
    return document(title, description, language, stylesheet(tokens), parts)


def document(
    title: str, description: str, language: str, styles: str, body: Markup, script: str = ""
) -> str:
    """A document that holds all that it needs."""
    head = together(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("meta", name="description", content=description) if description else None,
        tag("style", Markup(f"\n{styles}")),
    )
    code = tag("script", Markup(f"\n{script}")) if script else None
    whole = tag("html", "\n", tag("head", head), "\n", tag("body", body, code), "\n", lang=language)
    return f"<!doctype html>\n{whole}\n"


def _bar(title: str, links: Sequence[Link]) -> Markup:
    shown = (tag("li", tag("a", link.label, href=href(link.href))) for link in links)
    nav = tag("nav", tag("ul", *shown), aria_label="Main") if links else None
    inner = tag("div", tag("span", title, class_="brand"), nav, class_="inner")
    return tag("header", inner, class_="bar")
