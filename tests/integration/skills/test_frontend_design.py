"""Pages and components: rendered in Chromium at three widths; faults that were planted found."""

import itertools
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selectolax.lexbor import LexborHTMLParser

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed, SkillResult
from ai_stack.skill.discovery import OURS
from skills import run

NAME = "frontend-design"
WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
LONG = f"{WORD} and a sentence that goes on for a while, as sentences do in real pages. " * 3
KINDS = [
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
ACTIONS = [
    {"label": "Go on with it", "href": "https://example.org/"},
    {"label": WORD, "href": "#x"},
]
FIELDS = [
    {
        "label": f"A {kind}",
        "type": kind,
        "hint": "Said below.",
        "required": True,
        "options": ["a", "b"],
    }
    for kind in ("text", "email", "password", "number", "date", "textarea", "select", "checkbox")
]


@pytest.fixture
def browser() -> None:
    found = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    assert found, "This test needs Chromium: apt-get install chromium"


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "picture.png"
    Image.new("RGB", (2400, 900), "#336699").save(path)
    return str(path)


def sections(picture: str) -> list[dict[str, Any]]:
    items = [
        {"title": f"{WORD} {n}", "text": LONG, "value": f"{n},000,000", "actions": ACTIONS[:1]}
        for n in range(5)
    ]
    listed = [
        {"kind": kind, "title": f"Of {kind}", "text": LONG, "items": items}
        for kind in ("features", "steps", "stats", "quotes", "faq", "plans")
    ]
    hero = {"kind": "hero", "title": WORD, "text": LONG, "actions": ACTIONS, "picture": picture}
    shown = [{"title": "One", "picture": picture, "alt": "noise"}]
    return [
        {**hero, "alt": "noise"},
        *listed,
        {"kind": "text", "text": f"{LONG}\n\nAnother."},
        {"kind": "table", "title": "Rows", "rows": [["Name of it"] * 12, ["1,234"] * 12, ["x"]]},
        {"kind": "gallery", "title": "Seen", "items": shown},
        {"kind": "form", "title": "Join", "fields": FIELDS, "actions": [{"label": "Join"}]},
        {"kind": "cta", "title": "Now", "text": LONG, "actions": ACTIONS},
    ]


async def checked(folder: Path, file: Path | str, **given: Any) -> SkillResult:
    return await run(NAME, folder, action="check", file=file, **given)


@pytest.mark.parametrize(
    "tokens",
    [
        {"brand": "#0b5c8c"},
        {"brand": "#ffe600", "font": "serif", "space": 12, "scale": 1.5},
        {"brand": "#777777", "ground": "#808080", "ink": "#7a7a7a", "radius": 0, "font": "mono"},
    ],
    ids=["blue", "yellow", "grey on grey"],
)
@pytest.mark.usefixtures("browser")
async def test_every_section_is_clean_at_three_widths_in_light_and_dark(
    tokens: dict[str, Any], picture: str, tmp_path: Path
) -> None:
    links = [{"label": f"Link {n}", "href": f"#{n}"} for n in range(9)]
    page = {"title": "All of them", "sections": sections(picture), "links": links, "footer": LONG}
    made = await run(NAME, tmp_path, action="page", tokens=tokens, **page)
    assert made.output["findings"] == []
    assert all(pair["passes"] for pair in made.output["contrast"])
    result = await checked(tmp_path, tmp_path / "out/page.html")
    assert result.output["findings"] == []
    assert result.output["rendered"] is True and result.output["widths"] == [360, 768, 1280]
    assert result.output["texts_measured"] > 80 and result.output["names_checked"] > 30


@pytest.mark.usefixtures("browser")
async def test_every_component_is_clean(tmp_path: Path) -> None:
    parts = {
        "kind": "text",
        "title": "Title",
        "text": "Text.",
        "actions": ACTIONS,
        "fields": FIELDS,
    }
    listed = {
        "items": [{"title": "One", "text": LONG}, {"title": "Two"}],
        "rows": [["a", "b"], ["1"]],
    }
    bodies = []
    for kind in KINDS:
        made = await run(NAME, tmp_path, action="component", kind=kind, parts={**parts, **listed})
        assert made.output["findings"] == [] and made.output["html"]
        file = tmp_path / "out" / str(made.output["file"])
        bodies.append(
            re.sub(
                r'(id|for|controls|labelledby|describedby|opens)="',
                rf'\1="{kind}-',
                file.read_text(),
            )
        )
    # One browser for all: each in a part of its own, with its own ids.
    joined = "\n".join(
        re.findall(r"<main>(.*?)</main>", body, re.DOTALL)[0].replace("h1", "h2") for body in bodies
    )
    head = bodies[0].split("<body>")[0]
    whole = tmp_path / "whole.html"
    whole.write_text(f"{head}<body><h1>All</h1>{joined}</body></html>")
    result = await checked(tmp_path, whole)
    assert result.output["findings"] == []


@pytest.mark.usefixtures("browser")
async def test_each_planted_fault_is_found_where_it_is(tmp_path: Path) -> None:
    result = await checked(tmp_path, OURS / NAME / "examples/faulty.html")
    found = {(f["rule"], f["selector"]): f for f in result.output["findings"]}
    assert found["overflow", "html"]["seen"] == ["360 light", "768 light"]
    assert ("overflow", "body > div") in found, [*found]
    assert found["contrast", "#faint"]["detail"].startswith("2.32:1 of #aaaaaa on #ffffff")
    assert ("clipped", "#cut") in found
    assert ("target-size", "#nameless") in found
    assert ("name", "#nameless") in found and ("name", "#field") in found
    assert ("name", "body > img") in found
    assert ("request", "https://cdn.example.com/theme.css") in found
    assert any("undefinedFunction" in place for rule, place in found if rule == "console") or any(
        "undefinedFunction" in f["detail"] for f in found.values() if f["rule"] == "console"
    )
    assert {"language", "viewport", "alt", "label", "headings", "id", "remote"} <= {
        rule for rule, _ in found
    }
    assert ("id", "#twice") in found


@pytest.mark.usefixtures("browser")
async def test_screenshots_are_as_wide_as_the_window(tmp_path: Path) -> None:
    words = {"title": "T", "sections": [{"kind": "text", "text": "x\n\n" * 100}]}
    await run(NAME, tmp_path, action="page", **words)
    await checked(tmp_path, tmp_path / "out/page.html", widths=[320, 800], screenshots=True)
    for width in (320, 800):
        with Image.open(tmp_path / f"out/{width}.png") as shot:
            assert shot.width == width and shot.height > 900


async def test_without_a_browser_the_markup_is_checked_and_the_rest_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    result = await checked(tmp_path, OURS / NAME / "examples/faulty.html")
    assert result.output["rendered"] is False
    assert result.output["counts"] == {
        "language": 1,
        "viewport": 1,
        "alt": 1,
        "label": 1,
        "headings": 1,
        "id": 1,
        "remote": 1,
    }
    assert "no Chromium" in result.notes[0]
    made = await run(
        NAME, tmp_path, action="page", title="T", sections=[{"kind": "text", "text": "x"}]
    )
    assert made.output["findings"] == []


async def test_a_browser_that_does_not_start_is_told_and_the_markup_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bin/chromium"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:/usr/bin:/bin")
    result = await checked(tmp_path, OURS / NAME / "examples/faulty.html")
    assert result.output["rendered"] is False and result.output["counts"]["alt"] == 1
    assert "did not start here" in result.notes[0]


@pytest.mark.usefixtures("browser")
async def test_a_page_cannot_reach_out(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "page.html").write_text(
        "<!doctype html><html lang=en><meta name=viewport content='width=device-width'>"
        "<title>x</title><h1>x</h1><script>"
        "fetch('http://127.0.0.1:1/a'); new Image().src='http://[::1]:1/b'; alert(1);"
        f"fetch('file://{tmp_path}/secret.txt').then(r => r.text()).then(t => document.title = t)"
        "</script>"
    )
    result = await checked(tmp_path, tmp_path / "page.html", widths=[400])
    wanted = {f["selector"] for f in result.output["findings"] if f["rule"] == "request"}
    assert wanted == {"http://127.0.0.1:1/a", "http://[::1]:1/b"}


async def test_what_is_said_is_escaped_and_links_run_no_code(tmp_path: Path) -> None:
    hostile = '<script>alert(1)</script>" onload="x'
    given = {"title": hostile, "sections": [{"kind": "hero", "title": hostile, "text": hostile}]}
    await run(NAME, tmp_path, action="page", **given, footer=hostile)
    tree = LexborHTMLParser((tmp_path / "out/page.html").read_text())
    assert tree.css("script, [onload]") == []
    assert tree.css_first("h1").text() == hostile
    for url in ("javascript:alert(1)", " JavaScript:x", "data:text/html,x", "vbscript:x"):
        with pytest.raises(SkillFailed, match="is no link"):
            links = [{"label": "x", "href": url}]
            await run(NAME, tmp_path, action="page", **given, links=links)


async def test_too_faint_colours_are_moved_and_told(tmp_path: Path) -> None:
    tokens = {"brand": "#ffe600", "ink": "#bbbbbb"}
    made = await run(
        NAME,
        tmp_path,
        action="page",
        title="T",
        tokens=tokens,
        sections=[{"kind": "text", "text": "x"}],
    )
    told = " ".join(made.notes)
    assert "#bbbbbb" in told and "#ffe600" in told
    assert all(pair["passes"] for pair in made.output["contrast"])


async def test_tokens_are_custom_properties(tmp_path: Path) -> None:
    tokens = {"brand": "#123456", "radius": 3, "space": 9, "dark": False}
    page = {"title": "T", "sections": [{"kind": "text", "text": "x"}], "language": "de-AT"}
    await run(NAME, tmp_path, action="page", tokens=tokens, **page)
    html = (tmp_path / "out/page.html").read_text()
    for line in ("--accent: #123456", "--radius: 3px", "--space: 9px", 'lang="de-AT"'):
        assert line in html
    assert "prefers-color-scheme: dark" not in html


@pytest.mark.parametrize(
    ("one", "said"),
    [
        ({"kind": "hero"}, "needs title"),
        ({"kind": "features"}, "needs items"),
        ({"kind": "table", "title": "x"}, "needs rows"),
        ({"kind": "form", "fields": [{"label": "a", "type": "select"}]}, "needs options"),
        ({"kind": "hero", "title": "x", "picture": "FILE"}, "alt"),
        ({"kind": "hero", "title": "x", "picture": "FILE", "alt": ""}, "damaged"),
    ],
)
async def test_what_a_section_lacks_is_said(one: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    given = {k: str(tmp_path / "bad.png") if v == "FILE" else v for k, v in one.items()}
    with pytest.raises(SkillFailed, match=said):
        await run(NAME, tmp_path, action="page", title="T", sections=[given])


@pytest.mark.parametrize("content", [b"", b"\0\1\2" * 50, b"just words"])
async def test_what_is_no_page_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.html").write_bytes(content)
    with pytest.raises(SkillFailed):
        await checked(tmp_path, tmp_path / "x.html")


async def test_wrong_arguments_name_their_field(tmp_path: Path) -> None:
    good = {"title": "T", "sections": [{"kind": "text", "text": "x"}]}
    wrong = [{"sections": []}, {"tokens": {"brand": "blue"}}, {"language": "x y"}, {"title": ""}]
    for one in wrong:
        with pytest.raises(InvalidRequest, match=next(iter(one))):
            await run(NAME, tmp_path, action="page", **{**good, **one})


async def test_twice_gives_the_same_page(tmp_path: Path) -> None:
    given = {"action": "page", "title": "T", "sections": [{"kind": "text", "text": "x"}]}
    files = []
    for _ in range(2):
        made = await run(NAME, tmp_path, **given)
        files.append((tmp_path / "out" / str(made.output["file"])).read_bytes())
    assert all(a == b for a, b in itertools.pairwise(files))
