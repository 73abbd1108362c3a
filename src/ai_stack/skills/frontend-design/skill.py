"""Pages and components from tokens and sections, and the check of any page."""

import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action

from .browser import NotRendered, missing
from .components import SCRIPTS, ComponentKind, component
from .markup import slug, tag, together
from .markup_check import Fault, faults
from .pages import document, page
from .sections import Link, Section
from .stylesheet import stylesheet
from .tokens import Tokens, dark, light, measured, moved

if TYPE_CHECKING:
    from .rendering import Rendered

LARGEST_HTML = 20 << 20
Look = Annotated[Tokens, Field(description="Design tokens; what is not said has a default.")]
Name = Annotated[str, Field(max_length=60, description="The file's name, without .html.")]
Language = Annotated[
    str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", description="As in en or de-AT.")
]
Width = Annotated[int, Field(ge=280, le=2560)]


class FrontendDesign(Skill):
    @action
    async def page(
        self,
        title: Annotated[str, Field(min_length=1, max_length=120, description="Of the page.")],
        sections: Annotated[
            list[Section], Field(min_length=1, max_length=40, description="From the top down.")
        ],
        tokens: Look = Tokens(),  # noqa: B008
        description: Annotated[str, Field(max_length=300, description="For search engines.")] = "",
        links: Annotated[list[Link], Field(max_length=12, description="Of the bar on top.")] = [],  # noqa: B006
        footer: Annotated[str, Field(max_length=500, description="Said at the foot.")] = "",
        language: Language = "en",
        name: Name = "page",
    ) -> SkillResult:
        """Write a page as one HTML file from tokens and sections."""
        html = page(title, description, language, tokens, sections, links, footer)
        told: dict[str, JSON] = {"sections": len(sections)}
        return self._written(html, name, tokens, told)

    @action
    async def component(
        self,
        kind: Annotated[ComponentKind, Field(description="Which component.")],
        title: Annotated[str, Field(max_length=200, description="Its label or head.")] = "",
        text: Annotated[str, Field(max_length=5000, description="What it says.")] = "",
        parts: Annotated[
            Section | None,
            Field(description="Its items, actions, rows or fields, as a section has them."),
        ] = None,
        tokens: Look = Tokens(),  # noqa: B008
        language: Language = "en",
        name: Name = "component",
    ) -> SkillResult:
        """Write a component, with its demonstration, from tokens."""
        said = {"title": title, "text": text}
        given = parts or Section(kind="text")
        given = given.model_copy(update={key: value for key, value in said.items() if value})
        made = component(kind, given)
        heading = tag("h1", given.title or kind)
        body = tag("main", tag("div", together(heading, made), class_="inner section"))
        styles, script = stylesheet(tokens, component=True), SCRIPTS.get(kind, "")
        html = document(given.title or kind, "", language, styles, body, script)
        parts_told: dict[str, JSON] = {"html": str(made), "css": styles, "script": script}
        return self._written(html, name, tokens, parts_told)

    @action
    async def check(
        self,
        file: Annotated[File, Field(description="An HTML file.")],
        widths: Annotated[
            list[Width], Field(min_length=1, max_length=6, description="Of the window, in pixels.")
        ] = [360, 768, 1280],  # noqa: B006
        screenshots: Annotated[bool, Field(description="Give a PNG for each width.")] = False,
    ) -> SkillResult:
        """Check a page: overflow, names, contrast, markup, remote assets."""
        html = _read(file)
        found = _grouped(faults(html))
        if lacking := missing():
            return _checked(found, {"rendered": False}, f"{lacking} Its markup was checked.")
        local = self.context.scratch / "page.html"
        local.write_text(html)
        shots = {w: self.context.artifact(f"{w}.png") for w in widths} if screenshots else {}
        await self.context.progress(0, len(widths) + 1, "rendering")
        rendering = import_module(".rendering", __package__)
        try:
            seen: Rendered = await rendering.rendered(local, sorted(set(widths)), shots)
        except NotRendered as failed:
            told = f"Nothing was rendered: {failed.message} Its markup was checked."
            return _checked(found, {"rendered": False}, told)
        _merge(found, seen)
        last = [one.measured for one in seen.seen]
        facts: dict[str, JSON] = {
            "rendered": True,
            "widths": [*sorted(set(widths))],
            "texts_measured": max(last),
            "texts_unmeasured": max(one.unmeasured for one in seen.seen),
            "names_checked": max(one.named for one in seen.seen),
        }
        return _checked(found, facts, "")

    def _written(self, html: str, name: str, tokens: Tokens, told: dict[str, JSON]) -> SkillResult:
        """The file, with what its markup and its colours were found to be."""
        path = self.context.artifact(f"{slug(name)}.html")
        path.write_text(html)
        palettes = [("light", light(tokens)), *([("dark", dark(tokens))] if tokens.dark else [])]
        pairs: list[JSON] = [p for scheme, one in palettes for p in measured(scheme, one)]
        found = [*_grouped(faults(html)).values()]
        output: dict[str, JSON] = {
            "file": path.name,
            "bytes": len(html.encode()),
            "contrast": pairs,
            "findings": found,
            **told,
        }
        summary = f"{path.name}: {len(html.encode())} bytes, loads nothing; check renders it."
        return SkillResult(output, summary, tuple(dict.fromkeys(moved(tokens))))


def _read(file: Path) -> str:
    if not file.is_file() or not 0 < file.stat().st_size <= LARGEST_HTML:
        raise SkillFailed(f"The file is empty, or larger than {LARGEST_HTML >> 20} MiB.")
    content = file.read_bytes()
    if b"\0" in content[:4096] or not re.search(rb"<[a-zA-Z!]", content):
        raise SkillFailed("The file is no HTML.")
    return content.decode(errors="replace")


def _grouped(found: Iterable[Fault]) -> dict[tuple[str, str], dict[str, JSON]]:
    return {
        (rule, place): {"rule": rule, "selector": place, "detail": detail, "seen": []}
        for rule, place, detail in found
    }


def _merge(found: dict[tuple[str, str], dict[str, JSON]], rendered: "Rendered") -> None:
    """Each rendered fault once, with all that it was seen at."""
    places: dict[tuple[str, str], list[str]] = {}
    for seen in rendered.seen:
        for one in seen.found:
            key = (one["rule"], one["selector"])
            told: dict[str, JSON] = {"selector": one["selector"], "detail": one["detail"]}
            found.setdefault(key, {"rule": one["rule"], **told, "seen": []})
            places.setdefault(key, []).append(f"{seen.width} {seen.scheme}")
    for key, seen_at in places.items():
        found[key]["seen"] = [*dict.fromkeys(seen_at)]
    for url in rendered.requests:
        key = ("request", url)
        found[key] = {"rule": "request", "selector": url, "detail": "wanted to leave the page"}
    for text in rendered.errors:
        found["console", text] = {"rule": "console", "selector": "script", "detail": text}


def _checked(
    found: dict[tuple[str, str], dict[str, JSON]], facts: dict[str, JSON], note: str
) -> SkillResult:
    listed: list[JSON] = [*found.values()]
    counts: dict[str, int] = {}
    for rule, _ in found:
        counts[rule] = counts.get(rule, 0) + 1
    told = ", ".join(f"{count} {rule}" for rule, count in counts.items()) or "nothing"
    by_rule: dict[str, JSON] = {**counts}
    output: dict[str, JSON] = {**facts, "findings": listed, "counts": by_rule, "clean": not listed}
    return SkillResult(output, f"Found: {told}.", (note,) if note else ())
