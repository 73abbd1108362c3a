"""Presentations: no text leaves its box, edits touch only what they name."""

import io
import random
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from PIL import Image
from pptx import Presentation
from pptx.enum.text import MSO_AUTO_SIZE
from pptx.util import Inches, Pt
from reportlab.pdfbase.pdfmetrics import stringWidth

from ai_stack.skill import SkillFailed
from skills import run

WORDS = ["a", "of", "measured", "latency", "configuration", "Donaudampfschifffahrt", "illi", "42"]


def prose(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def deck_of(seed: int) -> list[dict[str, Any]]:
    """Slides of every kind with texts from none to far too much."""
    chance = random.Random(seed)
    points = [prose(chance, chance.randint(1, 60)) for _ in range(chance.randint(0, 25))]
    rows = [[prose(chance, chance.randint(0, 12)) for _ in range(4)] for _ in range(20)]
    return [
        {"kind": "title", "title": prose(chance, 12), "subtitle": prose(chance, 8)},
        {
            "kind": "bullets",
            "title": prose(chance, 9),
            "bullets": ["  " * (n % 3) + p for n, p in enumerate(points)],
        },
        {"kind": "columns", "title": "Columns", "left": points[:8], "right": points[8:]},
        {"kind": "table", "title": "Table", "rows": rows},
        {"kind": "quote", "title": "Quote", "text": prose(chance, 40), "by": prose(chance, 3)},
        {"kind": "bullets", "title": "Long", "bullets": [prose(chance, 400), "x" * 900]},
    ]


def wrapped(text: str, font: str, size: float, room: float) -> int:
    """The lines that a text takes: a second count, by reportlab's widths, sign by sign."""
    count, line = 1, ""
    for word in text.split(" "):
        candidate = f"{line} {word}".strip()
        if stringWidth(candidate, font, size) <= room:
            line = candidate
            continue
        count, line = count + bool(line), ""
        for sign in word:
            if stringWidth(line + sign, font, size) > room:
                count, line = count + 1, ""
            line += sign
    return count


def overflows(file: Path) -> list[str]:
    """Text boxes of a file whose text is higher than they are, measured without the skill."""
    found = []
    for number, slide in enumerate(Presentation(str(file)).slides, 1):
        for shape in slide.shapes:
            if not shape.has_text_frame or not shape.text_frame.text:
                continue
            frame, total = shape.text_frame, 0.0
            for paragraph in frame.paragraphs:
                run_ = paragraph.runs[0]
                margin = int(paragraph._p.pPr.get("marL", 0)) if paragraph._p.pPr is not None else 0
                room = (shape.width - frame.margin_left - frame.margin_right - margin) / 12_700
                font = "Helvetica-Bold" if run_.font.bold else "Helvetica"
                lines = wrapped(paragraph.text, font, run_.font.size.pt, room + 0.01)
                gap = paragraph.space_before.pt if paragraph.space_before else 0
                total += lines * run_.font.size.pt * 1.2 + gap
            if total > (shape.height - frame.margin_top - frame.margin_bottom) / 12_700 + 0.5:
                found.append(f"slide {number}: {shape.name}")
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_no_text_leaves_its_box(tmp_path: Path, seed: int) -> None:
    result = await run("pptx", tmp_path, action="create", slides=deck_of(seed))
    file = tmp_path / "out/slides.pptx"
    assert result.output["problems"] == []
    assert overflows(file) == []
    deck = Presentation(str(file))
    for slide in deck.slides:
        for shape in slide.shapes:
            assert 0 <= shape.left <= shape.left + shape.width <= deck.slide_width
            assert 0 <= shape.top <= shape.top + shape.height <= deck.slide_height


async def test_nothing_is_lost_on_the_way(tmp_path: Path) -> None:
    slides = deck_of(1)
    await run("pptx", tmp_path, action="create", slides=slides)
    said = " ".join(
        paragraph.text
        for slide in Presentation(str(tmp_path / "out/slides.pptx")).slides
        for shape in slide.shapes
        if shape.has_text_frame
        for paragraph in shape.text_frame.paragraphs
    ).replace("• ", "")
    squeezed = "".join(said.split())
    for slide in slides[:3]:
        for point in [*slide.get("bullets", ()), *slide.get("left", ()), *slide.get("right", ())]:
            assert "".join(point.split()) in squeezed


async def test_it_opens_in_libreoffice_or_is_a_sound_package(tmp_path: Path) -> None:
    """Where LibreOffice is, it draws every slide, with every title; else the package is checked."""
    slides = [s for s in deck_of(2) if s["kind"] != "bullets"]
    await run("pptx", tmp_path, action="create", slides=slides)
    file, office = tmp_path / "out/slides.pptx", shutil.which("soffice")
    deck = Presentation(str(file))
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(names) == len(set(names))
    if office is None:
        return
    home = f"-env:UserInstallation=file://{tmp_path}/office"
    command = [office, home, "--headless", "--convert-to", "pdf", "--outdir", tmp_path, file]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with pypdfium2.PdfDocument(tmp_path / "slides.pdf") as pages:
        assert len(pages) == len(deck.slides)
        for page, slide in zip(pages, deck.slides, strict=True):
            text = "".join(page.get_textpage().get_text_range().split())
            assert "".join(slide.shapes.title.text_frame.text.split()) in text


def foreign(path: Path) -> Path:
    """A deck of another hand: a text that leaves its box, a shape beside the slide, a split run."""
    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Quarterly report"
    slide.placeholders[1].text = "Costs"
    box = slide.shapes.add_textbox(Inches(1), Inches(3), Inches(2), Inches(0.5))
    box.name, box.text_frame.word_wrap = "Too small", True
    box.text_frame.auto_size = MSO_AUTO_SIZE.NONE
    box.text_frame.text = "This text needs several lines and does not fit into half an inch."
    outside = slide.shapes.add_textbox(Inches(9), Inches(1), Inches(3), Inches(1))
    outside.name, outside.text_frame.text = "Outside", "x"
    paragraph = slide.shapes.add_textbox(0, 0, Inches(3), Inches(1)).text_frame.paragraphs[0]
    for text, size in (("Dear Sm", 20), ("ith", 30)):
        run_ = paragraph.add_run()
        run_.text, run_.font.size = text, Pt(size)
    deck.save(str(path))
    return path


async def test_planted_faults_are_found_and_a_clean_deck_has_none(tmp_path: Path) -> None:
    file = foreign(tmp_path / "a.pptx")
    found: Any = (await run("pptx", tmp_path, action="read", file=file)).output["problems"]
    assert [(p["slide"], p["shape"], p["what"]) for p in found] == [
        (1, "Outside", "the shape leaves the slide"),
        (1, "Too small", "the text leaves its box"),
    ]


async def test_a_replacement_keeps_the_looks_and_fits(tmp_path: Path) -> None:
    file = foreign(tmp_path / "a.pptx")
    changes = [{"do": "replace", "find": "Smith", "text": "Jones"}]
    result = await run("pptx", tmp_path, action="edit", file=file, changes=changes)
    deck = Presentation(str(tmp_path / "out/a.pptx"))
    runs = [r for s in deck.slides[0].shapes for p in s.text_frame.paragraphs for r in p.runs]
    assert [(r.text, r.font.size.pt) for r in runs if r.font.size and r.text][-1] == (
        "Dear Jones",
        20,
    )
    assert result.output["set_smaller"] == 1
    left: Any = result.output["problems"]
    assert [p["shape"] for p in left] == ["Outside"]


async def test_changes_are_done_in_order_and_all_or_none(tmp_path: Path) -> None:
    slides = [{"kind": "bullets", "title": t, "bullets": ["x"]} for t in "abc"]
    await run("pptx", tmp_path, action="create", slides=slides)
    file = tmp_path / "out/slides.pptx"
    changes: list[dict[str, Any]] = [
        {"do": "move", "slide": 3, "to": 1},
        {"do": "set_bullets", "slide": 1, "bullets": ["one", "  deeper"]},
        {"do": "delete", "slide": 2},
        {"do": "add", "at": 1, "slides": [{"kind": "title", "title": "first"}]},
        {"do": "set_title", "slide": 3, "text": "last"},
        {"do": "set_notes", "slide": 3, "text": "spoken"},
    ]
    more = {"file": file, "changes": changes, "name": "new.pptx"}
    await run("pptx", tmp_path, action="edit", **more)
    read = await run("pptx", tmp_path, action="read", file=tmp_path / "out/new.pptx")
    found: Any = read.output["slides"]
    assert [s["title"] for s in found] == ["first", "c", "last"]
    assert found[1]["texts"] == ["one", "  deeper"]
    assert found[2]["notes"] == "spoken"
    with pytest.raises(SkillFailed, match="no slide 9"):
        wrong = [changes[0], {"do": "delete", "slide": 9}]
        await run("pptx", tmp_path, action="edit", file=file, changes=wrong, name="never")
    assert not (tmp_path / "out/never.pptx").exists()


async def test_a_theme_reaches_every_slide_and_text_still_fits(tmp_path: Path) -> None:
    await run("pptx", tmp_path, action="create", slides=deck_of(3))
    theme = {"background": "#202020", "text": "#fafafa", "body_font": "Courier New"}
    file = tmp_path / "out/slides.pptx"
    result = await run("pptx", tmp_path, action="theme", file=file, name="new", **theme)
    assert result.output["problems"] == []
    colors: Any = result.output["colors"]
    assert (colors["lt1"], colors["dk1"]) == ("#202020", "#FAFAFA")
    with pytest.raises(SkillFailed, match="contrast"):
        await run("pptx", tmp_path, action="theme", file=file, background="#777777", text="#888888")


async def test_images_are_kept_and_come_back(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 100), "red").save(tmp_path / "wide.png")
    slides = [{"kind": "image", "title": "t", "image": "wide.png", "caption": "c " * 60}]
    images = [tmp_path / "wide.png"]
    result = await run("pptx", tmp_path, action="create", slides=slides, images=images)
    assert result.output["problems"] == []
    read: Any = (
        await run("pptx", tmp_path, action="read", file=tmp_path / "out/slides.pptx")
    ).output
    copy = tmp_path / "out" / read["slides"][0]["images"][0]
    assert copy.read_bytes() == (tmp_path / "wide.png").read_bytes()


async def test_a_font_that_is_not_here_is_told_of(tmp_path: Path) -> None:
    slides = [{"kind": "bullets", "title": "t", "bullets": ["x"]}]
    more = {"slides": slides, "body_font": "No Such Font"}
    result = await run("pptx", tmp_path, action="create", **more)
    assert "No Such Font" in result.notes[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"outline": "no head"},
        {"slides": [{"kind": "image", "image": "absent.png"}]},
        {"slides": [{"kind": "table", "rows": [["word " * 900] * 6]}]},
    ],
)
async def test_what_cannot_be_set_is_told(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(SkillFailed):
        await run("pptx", tmp_path, action="create", **wrong)
    assert list((tmp_path / "out").iterdir()) == []


async def test_hostile_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    good = foreign(tmp_path / "good.pptx").read_bytes()
    main = "ppt/presentation.xml"
    planted = {
        "entity": {main: b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'},
        "macro": {"ppt/vbaProject.bin": b"x"},
        "broken": {main: b"<p:presentation"},
        "bomb": {main: bytes(70 << 20)},
    }
    for name, parts in planted.items():
        old, target = zipfile.ZipFile(io.BytesIO(good)), tmp_path / f"{name}.pptx"
        with old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
            for part in {*old.namelist(), *parts}:
                new.writestr(part, parts.get(part) or old.read(part))
    for name, data in {"empty": b"", "text": b"x", "cut": good[:-200]}.items():
        (tmp_path / f"{name}.pptx").write_bytes(data)
    (tmp_path / "good.pptx").unlink()
    for file in tmp_path.glob("*.pptx"):
        with pytest.raises(SkillFailed) as refusal:
            await run("pptx", tmp_path, action="read", file=file)
        assert str(tmp_path) not in refusal.value.message
