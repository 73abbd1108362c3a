"""Word documents: a round trip keeps everything, edits touch only what they name."""

import io
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
from docx import Document
from docx.oxml.ns import qn
from docx.shared import RGBColor
from PIL import Image

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed
from skills import run

BLOCKS: list[dict[str, Any]] = [
    {"type": "heading", "text": "Title", "level": 0},
    {"type": "heading", "text": "First *part*", "level": 1},
    {
        "type": "paragraph",
        "text": "Plain, **bold**, *italic*, `code`, [link](https://example.org/a?b=1), 2 \\* 3.",
        "style": "normal",
        "align": "justify",
    },
    {"type": "paragraph", "text": "Said once.", "style": "quote", "align": "left"},
    {"type": "list", "items": ["one", "  deeper", "two"], "ordered": True},
    {"type": "list", "items": ["again from 1"], "ordered": True},
    {"type": "list", "items": ["dot"], "ordered": False},
    {"type": "table", "rows": [["A", "B"], ["<1> & 2", "**x**"], ["", "ü 漢"]], "header": True},
    {"type": "image", "file": "dot.png", "width_cm": 3.0, "alt": "A dot"},
    {"type": "code", "text": "if a:\n    return '*'"},
    {"type": "page_break"},
    {"type": "heading", "text": "Deep", "level": 6},
]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "dot.png"
    Image.new("RGB", (40, 40), "red").save(path)
    return path


async def made(tmp_path: Path, **arguments: Any) -> Path:
    result = await run("docx", tmp_path, action="create", **arguments)
    return tmp_path / "out" / str(result.output["file"])


async def test_a_round_trip_keeps_every_block(tmp_path: Path, picture: Path) -> None:
    file = await made(tmp_path, blocks=BLOCKS, images=[picture], title="T", header="Top")
    first = (await run("docx", tmp_path, action="read", file=file)).output
    renamed = [{**b, "file": "image1.png"} if b["type"] == "image" else b for b in BLOCKS]
    assert first["blocks"] == renamed
    assert (tmp_path / "out/image1.png").read_bytes() == picture.read_bytes()
    assert (first["headers"], first["properties"]["title"]) == (["Top"], "T")  # type: ignore

    again = await made(
        tmp_path, blocks=first["blocks"], images=[tmp_path / "out/image1.png"], name="again"
    )
    second = (await run("docx", tmp_path, action="read", file=again, images=False)).output
    assert second["blocks"] == first["blocks"]


async def test_each_numbered_list_counts_from_one(tmp_path: Path) -> None:
    file = await made(tmp_path, blocks=BLOCKS[4:6])
    numbers = [e.get(qn("w:val")) for e in Document(str(file)).element.body.iter(qn("w:numId"))]
    assert len(numbers) == 4
    assert len({numbers[0], numbers[1], numbers[3]}) == 3
    assert numbers[0] == numbers[2]


async def test_random_texts_come_back_as_they_were(tmp_path: Path) -> None:
    chance = random.Random(5)
    signs = ["*", "**", "`", "\\", "[", "]", "(https://a.b)", " ", "a", "é", "<", "&"]
    texts = ["x" + "".join(chance.choices(signs, k=12)) + "y" for _ in range(300)]
    file = await made(tmp_path, blocks=[{"type": "paragraph", "text": t} for t in texts])
    once = (await run("docx", tmp_path, action="read", file=file)).output["blocks"]
    again = await made(tmp_path, blocks=once)
    twice = (await run("docx", tmp_path, action="read", file=again)).output["blocks"]
    shown = [[p.text for p in Document(str(f)).paragraphs] for f in (file, again)]
    assert shown[0] == shown[1]
    assert once == twice


async def test_markdown_becomes_the_same_blocks(tmp_path: Path, picture: Path) -> None:
    text = "# H\n\nA **b** [l](https://x.y) <i>\n\n1. a\n   - b\n\n> q\n\n```\nc\n```\n\n"
    text += "![](dot.png)"
    file = await made(tmp_path, markdown=text, images=[picture])
    blocks = (await run("docx", tmp_path, action="read", file=file)).output["blocks"]
    assert [b["type"] for b in blocks] == [  # type: ignore
        *("heading", "paragraph", "list", "paragraph", "code", "image")
    ]
    assert blocks[1]["text"] == "A **b** [l](https://x.y) <i>"  # type: ignore
    assert blocks[2]["items"] == ["a", "  b"]  # type: ignore


def foreign(path: Path) -> Path:
    """A document of another hand: looks within words, a footer, a merged cell, a chart's part."""
    document = Document()
    paragraph = document.add_paragraph("Dear ")
    paragraph.add_run("Mr. Sm").bold = True
    run_ = paragraph.add_run("ith,")
    run_.font.color.rgb = RGBColor(255, 0, 0)
    table = document.add_table(3, 3)
    table.cell(0, 0).merge(table.cell(0, 2)).text = "wide"
    table.cell(1, 0).merge(table.cell(2, 0)).text = "high"
    table.cell(2, 2).text = "Smith"
    document.sections[0].footer.paragraphs[0].text = "For Smith only"
    document.save(str(path))
    return path


async def test_a_replacement_keeps_the_looks_at_its_place(tmp_path: Path) -> None:
    file = foreign(tmp_path / "letter.docx")
    changes = [{"do": "replace", "find": "Smith", "text": "Jones"}]
    result = await run("docx", tmp_path, action="edit", file=file, changes=changes)
    assert result.output["applied"] == [3]
    document = Document(str(tmp_path / "out/letter.docx"))
    runs = [(r.text, r.bold, r.font.color.rgb) for r in document.paragraphs[0].runs]
    assert runs == [
        ("Dear ", None, None),
        ("Mr. Jones", True, None),
        (",", None, RGBColor(255, 0, 0)),
    ]
    assert document.sections[0].footer.paragraphs[0].text == "For Jones only"
    assert Document(str(file)).tables[0].cell(2, 2).text == "Smith"


async def test_merged_cells_show_their_text_once(tmp_path: Path) -> None:
    file = foreign(tmp_path / "letter.docx")
    blocks = (await run("docx", tmp_path, action="read", file=file)).output["blocks"]
    assert blocks[1]["rows"] == [["wide", "", ""], ["high", "", ""], ["", "", "Smith"]]  # type: ignore


async def test_changes_are_done_in_order(tmp_path: Path) -> None:
    file = await made(tmp_path, blocks=BLOCKS[:8])
    changes = [
        {"do": "insert", "after": "First", "blocks": [{"type": "paragraph", "text": "New."}]},
        {"do": "replace", "find": "New.", "text": "Newer."},
        {"do": "delete", "find": "Said once"},
        {"do": "add_row", "table": 0, "cells": ["last", "row"]},
        {"do": "set_cell", "table": 0, "row": 0, "column": 0, "text": "Z"},
    ]
    await run("docx", tmp_path, action="edit", file=file, changes=changes, name="new.docx")
    found = await run("docx", tmp_path, action="read", file=tmp_path / "out/new.docx")
    blocks: Any = found.output["blocks"]
    assert blocks[2]["text"] == "Newer."
    assert "Said once." not in str(blocks)
    assert (blocks[-1]["rows"][0], blocks[-1]["rows"][-1]) == (["Z", "B"], ["last", "row"])


async def test_a_change_that_finds_nothing_leaves_no_file(tmp_path: Path) -> None:
    file = foreign(tmp_path / "letter.docx")
    changes = [{"do": "replace", "find": "Dear", "text": "x"}, {"do": "delete", "find": "absent"}]
    with pytest.raises(SkillFailed, match="Change 1"):
        await run("docx", tmp_path, action="edit", file=file, changes=changes)
    assert list((tmp_path / "out").iterdir()) == []


async def test_a_comment_holds_exactly_its_text(tmp_path: Path) -> None:
    file = foreign(tmp_path / "letter.docx")
    comments = [{"on": "r. Smi", "text": "Who?", "author": "Ada B"}, {"on": "Smith", "text": "2"}]
    await run("docx", tmp_path, action="comment", file=file, comments=comments)
    document = Document(str(tmp_path / "out/letter.docx"))
    inside, text = False, ""
    for element in document.paragraphs[0]._p.iter():
        if element.tag in (qn("w:commentRangeStart"), qn("w:commentRangeEnd")):
            inside ^= element.get(qn("w:id")) == "0"
        elif inside and element.tag == qn("w:t"):
            text += element.text
    assert text == "r. Smi"
    assert document.paragraphs[0].text == "Dear Mr. Smith,"
    assert next((c.author, c.initials, c.text) for c in document.comments) == (
        "Ada B",
        "AB",
        "Who?",
    )


def template(path: Path, *texts: str) -> Path:
    document = Document()
    for text in texts:
        document.add_paragraph(text)
    document.save(str(path))
    return path


async def test_values_are_text_and_never_markup(tmp_path: Path) -> None:
    file = template(tmp_path / "t.docx", "Hello {{ name }}", "{{ '{{' }}")
    values = {"name": "<w:b/> & {{ 7*7 }} \x07", "other": 1}
    result = await run("docx", tmp_path, action="fill", file=file, values=values)
    texts = [p.text for p in Document(str(tmp_path / "out/t.docx")).paragraphs]
    assert texts[0] == "Hello <w:b/> & {{ 7*7 }} "
    assert result.output["unused"] == ["other"]
    assert result.notes


async def test_a_missing_name_is_told_or_left_blank(tmp_path: Path) -> None:
    file = template(tmp_path / "t.docx", "{{ a }}-{{ b.c }}")
    with pytest.raises(SkillFailed, match="b"):
        await run("docx", tmp_path, action="fill", file=file, values={"a": 1})
    blank = {"file": file, "values": {"a": 1}, "missing": "blank"}
    result = await run("docx", tmp_path, action="fill", **blank)
    assert result.output["missing"] == ["b"]
    assert Document(str(tmp_path / "out/t.docx")).paragraphs[0].text == "1-"


@pytest.mark.parametrize(
    "hostile",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ a.__init__.__globals__ }}",
        "{% for i in range(100000000) %}x{% endfor %}{{ a }}",
        "{% include '/etc/passwd' %}{{ a }}",
        "{{ a",
        "{{ a/0 }}",
    ],
)
async def test_a_template_reaches_nothing_but_its_values(tmp_path: Path, hostile: str) -> None:
    file = template(tmp_path / "t.docx", "{{ a }}" + hostile)
    with pytest.raises(SkillFailed):
        await run("docx", tmp_path, action="fill", file=file, values={"a": 1})


def changed(source: Path, path: Path, parts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name not in parts:
                new.writestr(name, old.read(name))
        for name, data in parts.items():
            new.writestr(name, data)
    return path


def hostile_files(folder: Path) -> dict[str, Path]:
    good = template(folder / "good.docx", "text")
    entity = (
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'
    )
    sheet = io.BytesIO()
    with zipfile.ZipFile(sheet, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    files = {
        "empty": b"",
        "text": b"hello",
        "old": b"\xd0\xcf\x11\xe0" + bytes(600),
        "cut": good.read_bytes()[:-400],
        "sheet": sheet.getvalue(),
    }
    for name, data in files.items():
        (folder / f"{name}.docx").write_bytes(data)
    changed(good, folder / "entity.docx", {"word/document.xml": entity})
    utf16 = entity.decode().encode("utf-16")
    changed(good, folder / "utf16.docx", {"word/document.xml": utf16})
    changed(good, folder / "macro.docx", {"word/vbaProject.bin": b"x"})
    changed(good, folder / "broken.docx", {"word/document.xml": b"<w:document"})
    changed(good, folder / "bomb.docx", {"word/document.xml": bytes(70 << 20)})
    names = [*files, "entity", "utf16", "macro", "broken", "bomb"]
    return {name: folder / f"{name}.docx" for name in names}


async def test_hostile_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for file in hostile_files(tmp_path).values():
        for more in ({"action": "read"}, {"action": "fill", "values": {}}):
            with pytest.raises(SkillFailed) as refusal:
                await run("docx", tmp_path, file=file, **more)
            assert str(tmp_path) not in refusal.value.message
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"blocks": [{"type": "paragraph", "text": "a"}], "markdown": "b"},
        {"blocks": [{"type": "image", "file": "absent.png"}]},
    ],
)
async def test_what_cannot_be_made_is_told(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(SkillFailed):
        await run("docx", tmp_path, action="create", **wrong)


async def test_a_wrong_block_names_its_field(tmp_path: Path) -> None:
    blocks = [{"type": "heading", "text": "x", "level": 12}]
    with pytest.raises(InvalidRequest, match=r"blocks\.0\.heading\.level"):
        await run("docx", tmp_path, action="create", blocks=blocks)


async def test_an_image_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("<svg/>")
    blocks = [{"type": "image", "file": "a.png"}]
    with pytest.raises(SkillFailed, match=r"a\.png"):
        await run("docx", tmp_path, action="create", blocks=blocks, images=[tmp_path / "a.png"])


async def test_a_long_document_is_made_and_read(tmp_path: Path) -> None:
    rows = [[f"{r},{c}" for c in range(5)] for r in range(1000)]
    blocks = [{"type": "paragraph", "text": f"Line {n}"} for n in range(800)]
    file = await made(tmp_path, blocks=[*blocks, {"type": "table", "rows": rows}])
    found = (await run("docx", tmp_path, action="read", file=file)).output["blocks"]
    assert len(found) == 801  # type: ignore
    assert found[-1]["rows"] == rows  # type: ignore
