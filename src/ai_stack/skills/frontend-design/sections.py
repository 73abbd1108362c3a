"""What a page consists of, as a caller says it, and the HTML of each section."""

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ai_stack.skill import File, SkillFailed

from .forms import FormField, fields
from .markup import Child, Markup, href, paragraphs, slug, tag, together
from .pictures import picture

Kind = Literal[
    "hero",
    "text",
    "features",
    "steps",
    "stats",
    "quotes",
    "faq",
    "plans",
    "table",
    "gallery",
    "form",
    "cta",
]
Short = Annotated[str, Field(max_length=200)]
Long = Annotated[str, Field(max_length=5000)]


class Link(BaseModel):
    """Something to follow."""

    model_config = ConfigDict(extra="forbid")
    label: Annotated[Short, Field(min_length=1, description="What it says.")]
    href: Annotated[str, Field(max_length=2000, description="Where it leads.")] = "#"


class Item(BaseModel):
    """One of several things in a section."""

    model_config = ConfigDict(extra="forbid")
    title: Annotated[Short, Field(description="Its head; of a quote, who said it.")] = ""
    text: Annotated[Long, Field(description="What is said of it.")] = ""
    value: Annotated[Short, Field(description="A figure or a price.")] = ""
    picture: Annotated[File | None, Field(description="PNG, JPEG, WebP, GIF.")] = None
    alt: Annotated[str | None, Field(description="What the picture shows.")] = None
    actions: Annotated[list[Link], Field(max_length=3, description="Its buttons.")] = []


class Section(BaseModel):
    """A part of a page."""

    model_config = ConfigDict(extra="forbid")
    kind: Annotated[Kind, Field(description="What it shows.")]
    title: Annotated[Short, Field(description="Its head.")] = ""
    text: Annotated[Long, Field(description="Below its head.")] = ""
    items: Annotated[list[Item], Field(max_length=60, description="What it lists.")] = []
    actions: Annotated[list[Link], Field(max_length=4, description="Its buttons.")] = []
    rows: Annotated[list[list[Short]], Field(max_length=300, description="Of a table.")] = []
    fields: Annotated[list[FormField], Field(max_length=40, description="Of a form.")] = []
    picture: Annotated[File | None, Field(description="PNG, JPEG, WebP, GIF.")] = None
    alt: Annotated[str | None, Field(description="What the picture shows.")] = None


NEEDS: dict[Kind, str] = {
    "hero": "title",
    "text": "text",
    "table": "rows",
    "form": "fields",
    "cta": "title",
}


def section(one: Section, number: int) -> Markup:
    """The section's HTML; its id is made of its title. SkillFailed for one that lacks a part."""
    wanted = NEEDS.get(one.kind, "items")
    if not getattr(one, wanted):
        raise SkillFailed(f"Section {number + 1}, a {one.kind}, needs {wanted}.")
    id = f"{slug(one.title or one.kind)}-{number + 1}"
    inner = BODIES.get(one.kind, _plain)(one, id)
    named = f"{id}-title" if one.title else None
    label = None if named else f"{one.kind} {number + 1}"
    return tag(
        "section",
        tag("div", inner, class_="inner"),
        id=id,
        class_=f"section {one.kind}",
        aria_labelledby=named,
        aria_label=label,
    )


def _head(one: Section, id: str, level: str = "h2") -> Markup:
    title = tag(level, one.title, id=f"{id}-title") if one.title else None
    return together(title, tag("div", paragraphs(one.text), class_="lead") if one.text else None)


def buttons(links: list[Link]) -> Markup | None:
    """A row of buttons, the first one in the accent."""
    if not links:
        return None
    kinds = ["button", *["button quiet"] * len(links)]
    shown = (
        tag("a", link.label, href=href(link.href), class_=kind)
        for link, kind in zip(links, kinds, strict=False)
    )
    return tag("div", *shown, class_="actions")


def _hero(one: Section, id: str) -> Markup:
    words = tag("div", _head(one, id, "h1"), buttons(one.actions), class_="words")
    return together(words, picture(one.picture, one.alt, "hero") if one.picture else None)


def _plain(one: Section, id: str) -> Markup:
    return together(_head(one, id), buttons(one.actions))


def _listed(one: Section, id: str) -> Markup:
    shown = [_card(item) for item in one.items]
    return together(
        _head(one, id),
        tag("ol" if one.kind == "steps" else "ul", *shown, class_="grid", role="list"),
        buttons(one.actions),
    )


def _card(item: Item) -> Markup:
    parts: list[Child] = [
        picture(item.picture, item.alt, item.title or "an item") if item.picture else None,
        tag("h3", item.title) if item.title else None,
        tag("p", item.value, class_="value") if item.value else None,
        paragraphs(item.text),
        buttons(item.actions),
    ]
    return tag("li", *parts, class_="card")


def _stats(one: Section, id: str) -> Markup:
    def pairs() -> Iterator[Markup]:
        for item in one.items:
            yield tag(
                "div",
                tag("dt", item.title or item.text),
                tag("dd", item.value or item.text, class_="value"),
            )

    return together(_head(one, id), tag("dl", *pairs(), class_="grid"))


def _quotes(one: Section, id: str) -> Markup:
    def quoted() -> Iterator[Markup]:
        for item in one.items:
            who = tag("figcaption", item.title) if item.title else None
            said = tag("blockquote", paragraphs(item.text))
            yield tag("li", tag("figure", said, who), class_="card")

    return together(_head(one, id), tag("ul", *quoted(), class_="grid", role="list"))


def _faq(one: Section, id: str) -> Markup:
    def asked() -> Iterator[Markup]:
        for item in one.items:
            yield tag("details", tag("summary", item.title or "More"), paragraphs(item.text))

    return together(_head(one, id), *asked())


def _table(one: Section, id: str) -> Markup:
    return together(_head(one, id), table(one.rows, one.title or "Table"))


def table(rows: list[list[str]], name: str) -> Markup:
    """A table that scrolls by itself where it is too wide; its first row are heads."""
    width = max(len(row) for row in rows)
    first, *rest = [[*row, *[""] * (width - len(row))] for row in rows]
    head = tag("tr", *(tag("th", cell, scope="col") for cell in first))
    body = (tag("tr", *(tag("td", cell) for cell in row)) for row in rest)
    whole = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="scroll", role="region", aria_label=name, tabindex=0)


def _form(one: Section, id: str) -> Markup:
    label = one.actions[0].label if one.actions else "Send"
    target = href(one.actions[0].href) if one.actions else "#"
    inner = together(fields(one.fields, id), tag("button", label, type="submit", class_="button"))
    named = f"{id}-title" if one.title else None
    form = tag("form", inner, action=target, method="post", aria_labelledby=named)
    return together(_head(one, id), form)


BODIES: dict[Kind, Callable[[Section, str], Markup]] = {
    "hero": _hero,
    "features": _listed,
    "steps": _listed,
    "plans": _listed,
    "gallery": _listed,
    "stats": _stats,
    "quotes": _quotes,
    "faq": _faq,
    "table": _table,
    "form": _form,
}
