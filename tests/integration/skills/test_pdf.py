"""PDF files: round trips keep text and tables; redacted words are gone from the bytes."""

import io
import re
import zlib
from pathlib import Path
from typing import Any

import pdfplumber
import pypdfium2
import pytest
from PIL import Image
from pypdf import PdfReader, PdfWriter
from pypdf.annotations import FreeText
from pypdf.generic import (
    DecodedStreamObject,
    DictionaryObject,
    NameObject,
    StreamObject,
    TextStringObject,
)
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from ai_stack.skill import SkillFailed
from skills import run

SECRET = "Marmalade"
FONT = Path(pdfmetrics.__file__).parents[1] / "fonts/Vera.ttf"


def drawn(
    path: Path, *pages: list[str], size: tuple[int, int] = (400, 300), embed: bool = False
) -> Path:
    canvas = Canvas(str(path), pagesize=size, invariant=1)
    if embed:
        pdfmetrics.registerFont(TTFont("Vera", str(FONT)))
    for lines in pages:
        canvas.setFont("Vera" if embed else "Helvetica", 12)
        for n, line in enumerate(lines):
            canvas.drawString(40, size[1] - 50 - 20 * n, line)
        canvas.showPage()
    canvas.save()
    return path


async def text(folder: Path, file: Path, **more: Any) -> list[str]:
    found: Any = (await run("pdf", folder, action="text", file=file, **more)).output["pages"]
    return [page["text"] for page in found]


def everything(data: bytes) -> bytes:
    """A file's bytes and all its streams decompressed, by no library that redaction used."""
    found = [data]
    for match in re.finditer(rb"stream\r?\n(.*?)endstream", data, re.DOTALL):
        try:
            found.append(zlib.decompressobj().decompress(match[1]))
        except zlib.error:
            continue
    return b"\n".join(found)


def shown_text(data: bytes) -> str:
    """What four readers make of a file."""
    found = []
    with pypdfium2.PdfDocument(data) as document:
        found += [document[n].get_textpage().get_text_range() for n in range(len(document))]
    found += [page.extract_text() for page in PdfReader(io.BytesIO(data)).pages]
    with pdfplumber.open(io.BytesIO(data)) as plumber:
        found += [page.extract_text() for page in plumber.pages]
    return "\n".join(found)


def is_gone(file: Path, word: str = SECRET) -> bool:
    data = file.read_bytes()
    raw = everything(data).lower()
    forms = [word.encode(), word.encode("utf-16-be"), word.encode().hex().encode()]
    named = shown_text(data).lower()
    return word.lower() not in named and not any(form.lower() in raw for form in forms)


def dark(file: Path, box: tuple[int, int, int, int], page: int = 0) -> bool:
    """Whether a part of a page is black, in points from its upper left corner."""
    with pypdfium2.PdfDocument(file) as document:
        image = document[page].render(scale=1).to_pil().convert("L").crop(box)
    return max(image.tobytes()) < 40


@pytest.mark.parametrize("embed", [False, True])
async def test_redacted_text_is_gone_from_the_bytes(tmp_path: Path, embed: bool) -> None:
    lines = [f"Before {SECRET} after", "Nothing here", "MARMA-", "LADE again", "marma lade stays"]
    file = drawn(tmp_path / "a.pdf", lines, ["A clean page"], embed=embed)
    assert not is_gone(file)
    result = await run("pdf", tmp_path, action="redact", file=file, terms=[SECRET])
    new = tmp_path / "out/a-redacted.pdf"
    assert is_gone(new)
    assert result.output["redacted"] == {"1": 18}
    assert dark(new, (84, 44, 132, 52))
    kept = await text(tmp_path, new)
    for word in ("Before", "after", "Nothing here", "again", "stays"):
        assert word in kept[0]
    assert kept[1] == "A clean page"


async def test_pages_without_a_find_stay_as_they_were_drawn(tmp_path: Path) -> None:
    file = drawn(tmp_path / "a.pdf", [SECRET], ["Vector page"])
    await run("pdf", tmp_path, action="redact", file=file, terms=[SECRET], name="b")
    pages = PdfReader(tmp_path / "out/b.pdf").pages
    assert (len(pages[0].images), len(pages[1].images)) == (1, 0)


@pytest.mark.parametrize("turn", [90, 180, 270])
async def test_boxes_follow_turned_and_cropped_pages(tmp_path: Path, turn: int) -> None:
    writer = PdfWriter(clone_from=drawn(tmp_path / "a.pdf", ["Left " + SECRET]))
    writer.pages[0].rotate(turn)
    writer.pages[0].cropbox.lower_left = (20, 30)
    writer.write(tmp_path / "b.pdf")
    await run("pdf", tmp_path, action="redact", file=tmp_path / "b.pdf", terms=[SECRET])
    new = tmp_path / "out/b-redacted.pdf"
    assert is_gone(new)
    with pypdfium2.PdfDocument(new) as document, pypdfium2.PdfDocument(tmp_path / "b.pdf") as old:
        assert document[0].get_size() == old[0].get_size()
        image = document[0].render(scale=4).to_pil().convert("L")
        assert "Left" in document[0].get_textpage().get_text_range()
    black = sum(value < 20 for value in image.tobytes()) / 16
    assert 700 < black < 1500  # points²: a box of about 60 by 16, and "Left" beside it


def riddled(path: Path) -> Path:
    """The word in every corner of a file that no page shows."""
    writer = PdfWriter(clone_from=drawn(path, ["Page one"], ["Page two"]))
    first = writer.pages[0]
    writer.add_annotation(0, FreeText(text=f"{SECRET} note", rect=(50, 50, 200, 100)))
    writer.add_metadata({"/Title": f"About {SECRET}", "/Subject": SECRET})
    writer.add_outline_item(title=SECRET, page_number=0)
    writer.add_attachment("notes.txt", f"all about {SECRET}".encode())
    script = {"/S": NameObject("/JavaScript"), "/JS": TextStringObject(f"app.alert('{SECRET}')")}
    opening = DictionaryObject({NameObject(key): value for key, value in script.items()})
    writer.root_object[NameObject("/OpenAction")] = opening
    form = StreamObject()
    form.set_data(f"BT /F1 12 Tf ({SECRET}) Tj ET".encode())
    form.update(
        {NameObject("/Type"): NameObject("/XObject"), NameObject("/Subtype"): NameObject("/Form")}
    )
    unused = writer._add_object(form.flate_encode())
    for page in writer.pages:  # both pages share what none of them draws
        page["/Resources"][NameObject("/XObject")] = DictionaryObject({NameObject("/Old"): unused})
    first[NameObject("/PieceInfo")] = DictionaryObject({NameObject("/X"): TextStringObject(SECRET)})
    outside = DecodedStreamObject()
    outside.set_data(
        first.get_contents().get_data() + f" BT /F1 9 Tf 900 900 Td ({SECRET}) Tj ET".encode()
    )
    first[NameObject("/Contents")] = writer._add_object(outside)
    writer.write(path)
    return path


async def test_hidden_places_are_cleared_as_well(tmp_path: Path) -> None:
    file = riddled(tmp_path / "a.pdf")
    assert SECRET.encode() in everything(file.read_bytes())
    await run("pdf", tmp_path, action="redact", file=file, terms=[SECRET])
    new = tmp_path / "out/a-redacted.pdf"
    assert is_gone(new)
    assert [t.strip() for t in await text(tmp_path, new)] == ["Page one", "Page two"]


async def test_a_form_keeps_the_values_that_are_not_named(tmp_path: Path) -> None:
    file = tmp_path / "form.pdf"
    canvas = Canvas(str(file), pagesize=(400, 300))
    canvas.drawString(40, 250, "Form")
    canvas.acroForm.textfield(name="a", value=SECRET, x=40, y=200, width=200, height=24)
    canvas.acroForm.textfield(name="b", value="Butter", x=40, y=100, width=200, height=24)
    canvas.save()
    await run("pdf", tmp_path, action="redact", file=file, terms=[SECRET])
    new = tmp_path / "out/form-redacted.pdf"
    assert is_gone(new)
    assert "Butter" in (await text(tmp_path, new))[0]


async def test_areas_take_pictures_along(tmp_path: Path) -> None:
    Image.new("RGB", (50, 50), "white").save(tmp_path / "white.png")
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(400, 300))
    canvas.drawImage(str(tmp_path / "white.png"), 100, 100, 100, 100)
    canvas.drawString(110, 150, "inside")
    canvas.drawString(250, 150, "outside")
    canvas.save()
    area = {"page": 1, "x": 95, "y": 95, "width": 110, "height": 110}
    await run("pdf", tmp_path, action="redact", file=tmp_path / "a.pdf", areas=[area])
    new = tmp_path / "out/a-redacted.pdf"
    assert is_gone(new, "inside")
    assert dark(new, (97, 97, 203, 203))
    assert (await text(tmp_path, new))[0].strip() == "outside"


async def test_patterns_and_twice(tmp_path: Path) -> None:
    file = drawn(tmp_path / "a.pdf", ["SSN 123-45-6789 and 987-65-4321, not 12-3"])
    pattern = r"\d{3}-\d{2}-\d{4}"
    await run("pdf", tmp_path, action="redact", file=file, patterns=[pattern])
    new = tmp_path / "out/a-redacted.pdf"
    assert is_gone(new, "123-45-6789")
    assert is_gone(new, "987-65-4321")
    with pytest.raises(SkillFailed, match="Nothing of that"):
        await run("pdf", tmp_path, action="redact", file=new, patterns=[pattern])


async def test_a_scan_is_told_of(tmp_path: Path) -> None:
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(200, 200))
    canvas.drawString(20, 100, SECRET)
    canvas.showPage()
    canvas.rect(10, 10, 50, 50, fill=1)
    canvas.showPage()
    canvas.save()
    result = await run("pdf", tmp_path, action="redact", file=tmp_path / "a.pdf", terms=[SECRET])
    assert "page(s) 2" in result.notes[0]


@pytest.mark.parametrize(
    "wrong", [{}, {"patterns": ["("]}, {"terms": ["absent"]}, {"terms": ["  "]}]
)
async def test_a_redaction_of_nothing_writes_nothing(tmp_path: Path, wrong: Any) -> None:
    file = drawn(tmp_path / "a.pdf", ["text"])
    with pytest.raises(SkillFailed):
        await run("pdf", tmp_path, action="redact", file=file, **wrong)
    assert list((tmp_path / "out").iterdir()) == []


BLOCKS: list[dict[str, Any]] = [
    {"type": "heading", "text": "Häding & <co>", "level": 1},
    {
        "type": "paragraph",
        "text": "Some **bold** and `co*de` with 2 * 3 and [l](https://x.org/?a=1).",
    },
    {"type": "list", "items": ["one", "two"]},
    {"type": "table", "rows": [["A", "B"], ["1 < 2", "long " * 30], ["", "x" * 300]]},
    {"type": "code", "text": "def f():\n    return 1"},
]


async def test_what_is_made_reads_back(tmp_path: Path) -> None:
    about = {"title": "T", "footer": "p {page}/{pages}"}
    await run("pdf", tmp_path, action="create", blocks=BLOCKS, **about)
    file = tmp_path / "out/document.pdf"
    found = (await text(tmp_path, file))[0]
    for part in ("Häding & <co>", "Some bold and co*de with 2 * 3 and l.", "return 1", "p 1/1"):
        assert part in found
    tables: Any = (await run("pdf", tmp_path, action="tables", file=file)).output["tables"]
    rows = [[" ".join(cell.split()) for cell in row] for row in tables[0]["rows"]]
    assert rows[:2] == [["A", "B"], ["1 < 2", ("long " * 30).strip()]]
    assert PdfReader(file).metadata.title == "T"  # type: ignore


async def test_nothing_stands_outside_the_margins(tmp_path: Path) -> None:
    rows = [["word " * n, "W" * (n * 3), "x"] for n in range(1, 30)]
    blocks = [*BLOCKS, {"type": "table", "rows": rows}, {"type": "paragraph", "text": "y" * 2000}]
    await run("pdf", tmp_path, action="create", blocks=blocks)
    with pdfplumber.open(tmp_path / "out/document.pdf") as document:
        assert len(document.pages) > 2
        for page in document.pages:
            assert min(c["x0"] for c in page.chars) >= 56
            assert max(c["x1"] for c in page.chars) <= page.width - 56
            assert max(c["bottom"] for c in page.chars) <= page.height - 25


async def test_signs_beyond_latin_are_shown_or_told_of(tmp_path: Path) -> None:
    blocks = [{"type": "paragraph", "text": "Ελλάδα Москва → 漢"}]
    result = await run("pdf", tmp_path, action="create", blocks=blocks)
    found = (await text(tmp_path, tmp_path / "out/document.pdf"))[0]
    lacking = set("".join(result.notes))
    assert "漢" in found or "漢" in lacking
    assert "Москва" in found or "М" in lacking


async def test_merging_splitting_and_turning_keep_every_page(tmp_path: Path) -> None:
    one = drawn(tmp_path / "one.pdf", ["a1"], ["a2"], ["a3"])
    two = drawn(tmp_path / "two.pdf", ["b1"], ["b2"])
    files = {"files": [one, two], "pages": ["3,1", ""]}
    await run("pdf", tmp_path, action="merge", **files)
    merged = tmp_path / "out/merged.pdf"
    assert await text(tmp_path, merged) == ["a3", "a1", "b1", "b2"]
    await run("pdf", tmp_path, action="split", file=merged, ranges=["1", "2-"])
    parts = [tmp_path / f"out/merged-{n}.pdf" for n in (1, 2)]
    assert [await text(tmp_path, part) for part in parts] == [["a3"], ["a1", "b1", "b2"]]
    assert b"(b1)" not in everything(parts[0].read_bytes())
    await run("pdf", tmp_path, action="rotate", file=parts[1], degrees=90, pages="2-", name="t")
    assert [page.rotation for page in PdfReader(tmp_path / "out/t.pdf").pages] == [0, 90, 90]


@pytest.mark.parametrize("pages", ["0", "4", "2-9", "x", "3-1", "1,,2"])
async def test_pages_that_are_not_there_are_told(tmp_path: Path, pages: str) -> None:
    file = drawn(tmp_path / "a.pdf", ["1"], ["2"], ["3"])
    with pytest.raises(SkillFailed):
        await run("pdf", tmp_path, action="text", file=file, pages=pages)


def form(path: Path) -> Path:
    canvas = Canvas(str(path), pagesize=(400, 400))
    fields = canvas.acroForm
    fields.textfield(name="name", x=40, y=300, width=200, height=24)
    fields.choice(
        name="land", x=40, y=250, width=200, height=24, options=["Peru", "Japan"], value="Peru"
    )
    fields.checkbox(name="yes", x=40, y=200)
    canvas.drawString(40, 350, "Form")
    for n, value in enumerate(("red", "blue")):
        fields.radio(name="hue", value=value, x=40 + 40 * n, y=150)
    canvas.save()
    return path


async def test_a_filled_form_reads_back_and_flattens(tmp_path: Path) -> None:
    file = form(tmp_path / "form.pdf")
    values = {"name": "Zoë <x>", "land": "Japan", "yes": True, "hue": "blue"}
    result = await run("pdf", tmp_path, action="fill_form", file=file, values=values, name="a")
    assert result.output["values"] == values
    more = {"file": tmp_path / "out/a.pdf", "values": {"yes": False}, "flatten": True, "name": "b"}
    await run("pdf", tmp_path, action="fill_form", **more)
    flat = (await run("pdf", tmp_path, action="fields", file=tmp_path / "out/b.pdf")).output
    assert flat["fields"] == {}
    found = (await text(tmp_path, tmp_path / "out/b.pdf"))[0]
    assert "Zoë <x>" in found
    assert "Japan" in found


@pytest.mark.parametrize("values", [{"nom": "x"}, {"land": "Mars"}, {"hue": "green"}])
async def test_a_value_that_the_form_does_not_take_fails(tmp_path: Path, values: Any) -> None:
    file = form(tmp_path / "form.pdf")
    with pytest.raises(SkillFailed):
        await run("pdf", tmp_path, action="fill_form", file=file, values=values)
    assert list((tmp_path / "out").iterdir()) == []


async def test_hostile_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    good = drawn(tmp_path / "good.pdf", ["x"]).read_bytes()
    locked = PdfWriter(clone_from=PdfReader(io.BytesIO(good)))
    locked.encrypt("secret", algorithm="AES-256")
    locked.write(tmp_path / "locked.pdf")
    parts = {"empty": b"", "text": b"hello", "head": b"%PDF-1.7\n" + bytes(500)}
    loop = good.replace(b"/Type /Page\n", b"/Type /Pages\n")
    for name, data in {**parts, "cut": good[:120], "loop": loop[:-50]}.items():
        (tmp_path / f"{name}.pdf").write_bytes(data)
    (tmp_path / "good.pdf").unlink()
    for file in sorted(tmp_path.glob("*.pdf")):
        for action in ({"action": "text"}, {"action": "redact", "terms": ["x"]}):
            with pytest.raises(SkillFailed) as refusal:
                await run("pdf", tmp_path, file=file, **action)
            assert str(tmp_path) not in refusal.value.message
