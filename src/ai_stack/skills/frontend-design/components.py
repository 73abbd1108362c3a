"""Components on native elements, each with the states that it can have."""

from collections.abc import Callable
from typing import Literal

from ai_stack.skill import SkillFailed

from .forms import fields
from .markup import Markup, href, paragraphs, slug, tag, together
from .sections import Section, buttons, section, table

ComponentKind = Literal[
    "button",
    "card",
    "alert",
    "form",
    "navigation",
    "tabs",
    "dialog",
    "table",
    "badge",
    "accordion",
]
TABS = """
for (const list of document.querySelectorAll('[role=tablist]')) {
  const tabs = [...list.querySelectorAll('[role=tab]')];
  const choose = (chosen, focus) => tabs.forEach(tab => {
    const on = tab === chosen;
    tab.setAttribute('aria-selected', on);
    tab.tabIndex = on ? 0 : -1;
    document.getElementById(tab.getAttribute('aria-controls')).hidden = !on;
    if (on && focus) tab.focus();
  });
  list.addEventListener('click', event => {
    const tab = event.target.closest('[role=tab]');
    if (tab) choose(tab, false);
  });
  list.addEventListener('keydown', event => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    const at = tabs.indexOf(document.activeElement);
    if (step && at >= 0) choose(tabs[(at + step + tabs.length) % tabs.length], true);
  });
}
"""
DIALOG = """
for (const opener of document.querySelectorAll('[data-opens]'))
  opener.addEventListener('click', () =>
    document.getElementById(opener.dataset.opens).showModal());
"""
SCRIPTS: dict[str, str] = {"tabs": TABS, "dialog": DIALOG}


def component(kind: ComponentKind, given: Section) -> Markup:
    """The component's HTML, from the same parts that a section has."""
    return COMPONENTS[kind](given, slug(given.title or kind))


def _needed(given: Section, *names: str) -> None:
    for name in names:
        if not getattr(given, name):
            raise SkillFailed(f"This component needs {name}.")


def _button(given: Section, id: str) -> Markup:
    _needed(given, "title")
    return tag(
        "div",
        tag("button", given.title, type="button", class_="button"),
        tag("button", given.title, type="button", class_="button quiet"),
        tag("button", f"{given.title} (not now)", type="button", class_="button", disabled=True),
        class_="actions",
    )


def _card(given: Section, id: str) -> Markup:
    _needed(given, "title")
    return tag(
        "article",
        tag("h2", given.title, id=id),
        paragraphs(given.text),
        buttons(given.actions),
        class_="card",
        aria_labelledby=id,
    )


def _alert(given: Section, id: str) -> Markup:
    _needed(given, "title")
    return tag(
        "div", tag("strong", given.title), paragraphs(given.text), class_="alert", role="status"
    )


def _form(given: Section, id: str) -> Markup:
    _needed(given, "fields")
    label = given.actions[0].label if given.actions else "Send"
    send = tag("button", label, type="submit", class_="button")
    target = href(given.actions[0].href) if given.actions else "#"
    name = given.title or "Form"
    return tag(
        "form", fields(given.fields, id), send, action=target, method="post", aria_label=name
    )


def _navigation(given: Section, id: str) -> Markup:
    _needed(given, "actions")
    shown = (
        tag(
            "li",
            tag("a", link.label, href=href(link.href), aria_current="page" if n == 0 else None),
        )
        for n, link in enumerate(given.actions)
    )
    return tag("nav", tag("ul", *shown), class_="navigation", aria_label=given.title or "Main")


def _tabs(given: Section, id: str) -> Markup:
    _needed(given, "items")
    heads, panels = [], []
    for n, item in enumerate(given.items):
        tab, panel, first = f"{id}-tab-{n}", f"{id}-panel-{n}", n == 0
        heads.append(
            tag(
                "button",
                item.title or f"Tab {n + 1}",
                role="tab",
                type="button",
                id=tab,
                aria_controls=panel,
                aria_selected="true" if first else "false",
                tabindex=0 if first else -1,
            )
        )
        panels.append(
            tag(
                "div",
                paragraphs(item.text),
                role="tabpanel",
                id=panel,
                aria_labelledby=tab,
                tabindex=0,
                hidden=not first,
            )
        )
    bar = tag("div", *heads, role="tablist", aria_label=given.title or "Tabs")
    return tag("div", bar, *panels, class_="tabs")


def _dialog(given: Section, id: str) -> Markup:
    _needed(given, "title")
    close = tag("form", tag("button", "Close", class_="button"), method="dialog")
    box = tag(
        "dialog",
        tag("h2", given.title, id=f"{id}-title"),
        paragraphs(given.text),
        close,
        id=id,
        aria_labelledby=f"{id}-title",
    )
    label = given.actions[0].label if given.actions else f"Open: {given.title}"
    opener = tag("button", label, type="button", class_="button", data_opens=id)
    return together(opener, box)


def _table(given: Section, id: str) -> Markup:
    _needed(given, "rows")
    return table(given.rows, given.title or "Table")


def _badge(given: Section, id: str) -> Markup:
    _needed(given, "title")
    return tag("span", given.title, class_="badge")


def _accordion(given: Section, id: str) -> Markup:
    return section(given.model_copy(update={"kind": "faq"}), 0)


COMPONENTS: dict[ComponentKind, Callable[[Section, str], Markup]] = {
    "button": _button,
    "card": _card,
    "alert": _alert,
    "form": _form,
    "navigation": _navigation,
    "tabs": _tabs,
    "dialog": _dialog,
    "table": _table,
    "badge": _badge,
    "accordion": _accordion,
}
