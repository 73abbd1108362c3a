"""A brand in four kinds of files: colours and fonts changed, contrast violations listed."""

import contextlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from docx import Document
from docx.oxml.ns import qn
from docx.shared import RGBColor
from pptx import Presentation

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed
from ai_stack.skill.discovery import OURS
from skills import run

EXAMPLES = OURS / "brand-guidelines/examples"
COLORS = {"background": "#FFFFFF", "text": "#1B1F24", "heading": "#0B3D91", "accent": "#C2410C"}
BRAND: dict[str, Any] = {"colors": COLORS, "heading_font": "Georgia", "body_font": "Arial"}


async def applied(folder: Path, *files: Path, **more: Any) -> list[dict[str, Any]]:
    given = {"files": list(files), "brand": BRAND, **more}
    found: Any = (await run("brand-guidelines", folder, action="apply", **given)).output["files"]
    return list(found)


async def violations(folder: Path, *files: Path) -> list[tuple[str, str]]:
    given = {"files": list(files), "brand": BRAND}
    found: Any = (await run("brand-guidelines", folder, action="check", **given)).output["files"]
    return [(v["kind"], v["found"]) for file in found for v in file["violations"]]


async def test_planted_faults_are_found_in_all_four(tmp_path: Path) -> None:
    docx = await violations(tmp_path, EXAMPLES / "report.docx")
    assert ("contrast", "#CCCCCC on #FFFFFF is 1.61") in docx
    assert ("font", "Comic Sans MS") in docx
    pptx = await violations(tmp_path, EXAMPLES / "deck.pptx")
    assert ("contrast", "#FFFFFF on #FFFF66 is 1.06") in pptx
    assert {("font", "Impact"), ("color", "#FFFF66")} <= set(pptx)
    html = await violations(tmp_path, EXAMPLES / "page.html")
    assert [kind for kind, _ in html].count("contrast") == 1
    assert ("font", "Verdana") in html
    css = await violations(tmp_path, EXAMPLES / "site.css")
    assert ("contrast", "#BBBBBB on #FFFFFF is 1.92") in css
    assert {("font", "Impact"), ("color", "#FF0000"), ("color", "#333333")} <= set(css)


async def test_colors_and_fonts_change_in_all_four(tmp_path: Path) -> None:
    names = ("report.docx", "deck.pptx", "page.html", "site.css")
    files = await applied(tmp_path, *(EXAMPLES / name for name in names))
    assert [file["left"] for file in files] == [[], [], [], []]
    out = tmp_path / "out"
    document = Document(str(out / "report.docx"))
    barely = document.paragraphs[1].runs[0]
    assert str(barely.font.color.rgb) in {c[1:] for c in COLORS.values()}
    assert (barely.font.name, barely.text) == ("Arial", "Barely there")
    heading = document.styles["Heading 1"].element.find(f".//{qn('w:color')}")
    assert heading.get(qn("w:val")) == "0B3D91"
    with zipfile.ZipFile(out / "report.docx") as archive:
        assert b"Georgia" in archive.read("word/theme/theme1.xml")
    deck = Presentation(str(out / "deck.pptx"))
    text = deck.slides[0].shapes[1].text_frame.paragraphs[0].runs[0]
    assert (text.font.name, text.text) == ("Arial", "White on yellow")
    assert (
        "color: #1b1f24" in (out / "page.html").read_text()
        or "#0b3d91" in (out / "page.html").read_text()
    )
    css = (out / "site.css").read_text()
    assert "bold 24px/1.2 Georgia, sans-serif" in css
    assert "Arial, cursive" in css


async def test_a_file_of_the_brand_stays_byte_for_byte(tmp_path: Path) -> None:
    text = "/* kept */\n@import url('x.css');\nbody{color:#1B1F24;font-family:Arial , sans-serif}\n"
    text += "@media (min-width:1px){ h1 { color : #0b3d91; background: url(a.png) no-repeat } }\n"
    (tmp_path / "a.css").write_text(text)
    assert await violations(tmp_path, tmp_path / "a.css") == []
    files = await applied(tmp_path, tmp_path / "a.css")
    assert files[0]["changed"] == {}
    assert (tmp_path / "out/a.css").read_text() == text


async def test_twice_is_once(tmp_path: Path) -> None:
    names = ("report.docx", "deck.pptx", "page.html", "site.css")
    await applied(tmp_path, *(EXAMPLES / name for name in names))
    files = await applied(tmp_path, *(tmp_path / "out" / name for name in names))
    assert [file["changed"] for file in files] == [{}, {}, {}, {}]


async def test_text_becomes_what_can_be_read_on_its_background(tmp_path: Path) -> None:
    css = ".a { background: #0b3d91; color: #123 } .b { color: #fff8f0; background-color: #fffafa }"
    (tmp_path / "a.css").write_text(css)
    files = await applied(tmp_path, tmp_path / "a.css")
    assert files[0]["left"] == []
    new = (tmp_path / "out/a.css").read_text()
    assert ".a { background: #0b3d91; color: #ffffff" in new


async def test_variables_shades_and_transparency(tmp_path: Path) -> None:
    css = ":root{--fg:#ccc}\np{color:var(--fg);box-shadow:0 0 2px rgba(200,60,10,.5)}"
    css += "code{font-family:Menlo}"
    (tmp_path / "a.css").write_text(css)
    found = await violations(tmp_path, tmp_path / "a.css")
    assert ("contrast", "#CCCCCC on #FFFFFF is 1.61") in found
    assert "Menlo" not in str(found)
    await applied(tmp_path, tmp_path / "a.css")
    assert "#c2410c80" in (tmp_path / "out/a.css").read_text()


async def test_shaded_cells_are_the_background_of_their_text(tmp_path: Path) -> None:
    document = Document()
    cell = document.add_table(1, 1).cell(0, 0)
    shading = cell._tc.get_or_add_tcPr().makeelement(qn("w:shd"), {qn("w:fill"): "0B3D91"})
    cell._tc.get_or_add_tcPr().append(shading)
    cell.paragraphs[0].add_run("dark").font.color.rgb = RGBColor(0x1B, 0x1F, 0x24)
    document.save(str(tmp_path / "a.docx"))
    found = await violations(tmp_path, tmp_path / "a.docx")
    assert [kind for kind, what in found if what.startswith("#1B1F24 on #0B3D91")] == ["contrast"]
    await applied(tmp_path, tmp_path / "a.docx")
    text = Document(str(tmp_path / "out/a.docx")).tables[0].cell(0, 0).paragraphs[0].runs[0]
    assert str(text.font.color.rgb) == "FFFFFF"


@pytest.mark.parametrize(
    "colors",
    [
        {"text": "#000000", "other": "#FFFFFF"},
        {"background": "#FFF", "text": "#EEE"},
        {"background": "red", "text": "#000"},
    ],
)
async def test_a_brand_that_cannot_be_read_is_refused(tmp_path: Path, colors: Any) -> None:
    given = {"files": [EXAMPLES / "site.css"], "brand": {**BRAND, "colors": colors}}
    with pytest.raises(InvalidRequest):
        await run("brand-guidelines", tmp_path, action="check", **given)


async def test_hostile_files_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "entity.docx", "w") as archive:
        archive.writestr("word/document.xml", '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>')
    with zipfile.ZipFile(tmp_path / "broken.pptx", "w") as archive:
        archive.writestr("ppt/presentation.xml", "<x/>")
        archive.writestr("ppt/slides/slide1.xml", "<x")
    (tmp_path / "empty.css").write_bytes(b"")
    (tmp_path / "latin.css").write_bytes(b"a{content:'\xe9'}")
    (tmp_path / "a.exe").write_bytes(b"MZ")
    for file in [p for p in tmp_path.iterdir() if p.is_file()]:
        with pytest.raises(SkillFailed) as refusal:
            await applied(tmp_path, EXAMPLES / "site.css", file)
        assert str(tmp_path) not in refusal.value.message
    assert list((tmp_path / "out").iterdir()) == []


async def test_broken_css_does_no_harm(tmp_path: Path) -> None:
    for n, text in enumerate(("a{color:", "}}}{{{", "a{" * 500, "@media {" * 300, "a{color:rgb(}")):
        (tmp_path / f"{n}.css").write_text(text)
        with contextlib.suppress(SkillFailed):
            await applied(tmp_path, tmp_path / f"{n}.css")
