"""Themes: ten that can be read, applied to three kinds of files, and new ones."""

import itertools
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from docx import Document
from docx.oxml.ns import qn
from pptx import Presentation

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed
from ai_stack.skill.discovery import OURS
from skills import run

EXAMPLES = OURS / "theme-factory/examples"
FILES = [EXAMPLES / name for name in ("page.html", "deck.pptx", "report.docx")]


def luminance(color: str) -> float:
    parts = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def unreadable(colors: dict[str, str]) -> list[str]:
    """Pairs of a theme under WCAG's 4.5, measured without the skill."""
    pairs = [*itertools.product(("text", "muted"), ("background", "surface"))]
    pairs += [("primary", "background"), ("accent", "background"), ("on_primary", "primary")]
    return [f"{a} on {b}" for a, b in pairs if contrast(colors[a], colors[b]) < 4.5]


async def test_ten_themes_can_be_read_and_differ(tmp_path: Path) -> None:
    found: Any = (await run("theme-factory", tmp_path, action="list")).output["themes"]
    assert len({theme["name"] for theme in found}) == len(found) == 10
    assert {t["name"]: bad for t in found if (bad := unreadable(t["colors"]))} == {}
    assert len({t["colors"]["primary"] for t in found}) == 10
    assert {t["mode"] for t in found} == {"light", "dark"}


async def applied(folder: Path, *files: Path, **which: Any) -> Any:
    given = {"files": list(files), **which}
    return (await run("theme-factory", folder, action="apply", **given)).output


async def test_a_theme_reaches_all_three_kinds_of_files(tmp_path: Path) -> None:
    await applied(tmp_path, *FILES, theme="ember")
    out = tmp_path / "out"
    page = (out / "page.html").read_text()
    assert "--background: #191514;" in page
    assert page.index("data-theme-factory") < page.index("</head>")
    with zipfile.ZipFile(out / "deck.pptx") as archive:
        theme = archive.read("ppt/theme/theme1.xml").decode()
    assert '<a:lt1><a:srgbClr val="191514"/></a:lt1>' in "".join(theme.split("\n"))
    assert 'typeface="Georgia"' in theme
    assert Presentation(str(out / "deck.pptx")).slides[0].shapes.title.text_frame.text == "Deck"
    document = Document(str(out / "report.docx"))
    heading, normal = (document.styles[name].font for name in ("Heading 1", "Normal"))
    assert (str(heading.color.rgb), heading.name) == ("FF8A5C", "Georgia")
    assert (str(normal.color.rgb), normal.name) == ("F4EAE4", "Verdana")
    assert document.element.find(qn("w:background")).get(qn("w:color")) == "191514"
    assert [p.text for p in document.paragraphs] == ["Report", "Plain text.", "Pale by hand"]


async def test_a_second_theme_takes_the_place_of_the_first(tmp_path: Path) -> None:
    await applied(tmp_path, *FILES, theme="ember")
    made = [tmp_path / "out" / file.name for file in FILES]
    again = tmp_path / "again"
    again.mkdir()
    await applied(again, *made, theme="clinic")
    page = (again / "out/page.html").read_text()
    assert page.count("<style") == 1
    assert "#191514" not in page
    document = Document(str(again / "out/report.docx"))
    assert len(document.element.findall(qn("w:background"))) == 1
    await applied(again, made[0], theme="clinic")
    assert (again / "out/page-2.html").read_text() == page


async def test_what_was_set_by_hand_is_told_where_it_cannot_be_read(tmp_path: Path) -> None:
    light = await applied(tmp_path, FILES[2], theme="harbour")
    dark = await applied(tmp_path, FILES[2], theme="ember")
    assert light["files"][0]["unreadable"] == ["#CCCCCC"]
    assert dark["files"][0]["unreadable"] == []


@pytest.mark.parametrize("mode", ["light", "dark"])
async def test_any_seed_gives_a_theme_that_can_be_read(tmp_path: Path, mode: str) -> None:
    seeds = [f"#{r}{g}{b}" for r, g, b in itertools.product(("00", "55", "AA", "FF"), repeat=3)]
    for n, seed in enumerate(seeds):
        given = {"name": f"s{n}", "seed": seed, "mode": mode}
        found: Any = (await run("theme-factory", tmp_path, action="create", **given)).output
        assert unreadable(found["theme"]["colors"]) == [], seed
        assert found["mode"] == mode


async def test_a_made_theme_is_applied_as_data(tmp_path: Path) -> None:
    given = {"name": "mine", "seed": "#0B6B75", "colors": {"accent": "#FF0000", "text": "#777777"}}
    found: Any = (await run("theme-factory", tmp_path, action="create", **given)).output
    assert set(found["adjusted"]) == {"text", "accent"}
    custom = json.loads((tmp_path / "out/mine.json").read_text())
    assert custom == found["theme"]
    output = await applied(tmp_path, *FILES, custom=custom)
    assert output["theme"] == "mine"


async def test_a_theme_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    custom: Any = (await run("theme-factory", tmp_path, action="list")).output["themes"][0]  # type: ignore
    bad = {k: custom[k] for k in ("name", "colors", "heading_font", "body_font")}
    bad["colors"] = {**bad["colors"], "text": "#EEEEEE"}
    with pytest.raises(InvalidRequest, match="text on background is"):
        await applied(tmp_path, *FILES, custom=bad)


async def test_pages_without_a_head_get_it_too(tmp_path: Path) -> None:
    for n, page in enumerate(
        ("<p>x</p>", "<!doctype html><p>x</p>", "<html><body>x</body></html>")
    ):
        (tmp_path / f"{n}.html").write_text(page)
        await applied(tmp_path, tmp_path / f"{n}.html", theme="harbour")
        assert (tmp_path / f"out/{n}.html").read_text().count("<style") == 1


async def test_hostile_files_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "entity.docx", "w") as archive:
        archive.writestr("word/document.xml", '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>')
    with zipfile.ZipFile(tmp_path / "broken.pptx", "w") as archive:
        archive.writestr("ppt/presentation.xml", "<x/>")
    with zipfile.ZipFile(tmp_path / "bare.docx", "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    (tmp_path / "empty.html").write_bytes(b"")
    (tmp_path / "latin.html").write_bytes(b"<p>\xe9")
    (tmp_path / "a.exe").write_bytes(b"MZ")
    for file in [p for p in tmp_path.iterdir() if p.is_file()]:
        with pytest.raises(SkillFailed) as refusal:
            await applied(tmp_path, FILES[0], file, theme="harbour")
        assert str(tmp_path) not in refusal.value.message
    for wrong in ({}, {"theme": "absent"}):
        with pytest.raises(SkillFailed):
            await applied(tmp_path, FILES[0], **wrong)
    assert list((tmp_path / "out").iterdir()) == []
