"""Real worker processes and hostile files: an error or text, bounded memory, and the next file."""

import asyncio
import io
import os
import sys
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import docx
import openpyxl
import pptx
import psutil
import pytest
import pytest_asyncio

from ai_stack.errors import AIStackError, InvalidRequest, TooLarge, Unsupported
from ai_stack.parsers.pool import ParserPool

MEMORY = 512 << 20
ZEROS = b"0" * (1 << 20)


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[ParserPool]:
    opened = ParserPool(1, timeout_s=8, memory_bytes=MEMORY, idle_s=30)
    yield opened
    await opened.aclose()


def rss(pool: ParserPool) -> int:
    return max(psutil.Process(pid).memory_info().rss for pid in pool.pids)


def word() -> bytes:
    document = docx.Document()
    document.core_properties.title = "The title"
    document.add_heading("First", 1)
    document.add_paragraph("Some words.")
    document.add_paragraph("one", style="List Bullet")
    table = document.add_table(2, 2)
    for n, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"c{n}"
    return saved(document)


def slides() -> bytes:
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Hello"
    slide.placeholders[1].text = "Point"
    slide.notes_slide.notes_text_frame.text = "Say it"
    return saved(deck)


def sheet() -> bytes:
    book = openpyxl.Workbook()
    book.active.append(["name", "n"])
    book.active.append(["x", 3.0])
    return saved(book)


def saved(document: object) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)  # type: ignore[attr-defined]
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def book() -> bytes:
    return zipped(
        {
            "META-INF/container.xml": b'<c><rootfile full-path="o/p.opf"/></c>',
            "o/p.opf": b'<package><dc:title xmlns:dc="d">Book</dc:title>'
            b'<item id="a" href="a.html"/><itemref idref="a"/></package>',
            "o/a.html": b"<h1>Chapter</h1><p>Text.</p>",
        }
    )


def pdf(streams: list[bytes], *, packed: bool = False) -> bytes:
    """A PDF with a page for each content stream."""
    count = len(streams)
    kids = b" ".join(b"%d 0 R" % (4 + 2 * n) for n in range(count))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [" + kids + b"] /Count %d >>" % count,
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    how = b"/Filter /FlateDecode " if packed else b""
    for n, stream in enumerate(streams):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * n)
        )
        objects.append(b"<< %s/Length %d >>\nstream\n%s\nendstream" % (how, len(stream), stream))
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start)
    return bytes(out)


def page(text: str) -> bytes:
    return b"BT /F1 12 Tf 72 700 Td (%s) Tj ET" % text.encode()


def deflated(prefix: bytes, megabytes: int) -> bytes:
    packer = zlib.compressobj(1)
    parts = [packer.compress(prefix), *[packer.compress(ZEROS) for _ in range(megabytes)]]
    return b"".join([*parts, packer.flush()])


GOOD = {
    "a.md": (b"# Head\n\nText", "# Head\n\nText\n", "Head"),
    "a.txt": (b"Plain.", "Plain.\n", "a.txt"),
    "a.html": (
        b"<title>T</title><nav>no</nav><h1>H</h1><p>Some <b>bold</b>\ntext<br>x<pre>a\n b</pre>",
        "# H\n\nSome bold text\nx\n\n```\na\n b\n```\n",
        "T",
    ),
    "a.pdf": (pdf([page("Hello PDF")]), "Hello PDF\n", "a"),
    "a.docx": (
        word(),
        "# First\n\nSome words.\n\n- one\n\n| c0 | c1 |\n| --- | --- |\n| c2 | c3 |\n",
        "The title",
    ),
    "a.pptx": (slides(), "## Hello\n\nPoint\n\nNotes: Say it\n", "Hello"),
    "a.xlsx": (sheet(), "## Sheet\n\n| name | n |\n| --- | --- |\n| x | 3 |\n", "a"),
    "a.epub": (book(), "# Chapter\n\nText.\n", "Book"),
    "a.csv": (b"a;b\n1;2\n", "| a | b |\n| --- | --- |\n| 1 | 2 |\n", "a"),
    "a.json": (b'{"title": "T"}', '{"title": "T"}\n', "T"),
    "a.jsonl": (b'{"a": 1}\n{"b": 2}\n', '{"a": 1}\n\n{"b": 2}\n', "a"),
    "a.py": (b"x = 1\n", "x = 1\n", "a.py"),
    "a.xml": (b"<d><title>T</title><p>Some <b>bold</b> text</p></d>", "T\n\nSome bold text\n", "T"),
    "wrong.txt": (pdf([page("Hello PDF")]), "Hello PDF\n", "wrong"),
}


@pytest.mark.parametrize("name", GOOD)
async def test_formats(pool: ParserPool, name: str) -> None:
    data, text, title = GOOD[name]
    parsed = await pool.parse(name, data)
    assert (parsed.text, parsed.title) == (text, title)


LAUGHS = b"<!DOCTYPE d [<!ENTITY a 'ha'>%s]><d>&z;</d>" % b"".join(
    b"<!ENTITY %c '%s'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(25)
)
QUADRATIC = b"<!DOCTYPE d [<!ENTITY a '%s'>]><d>%s</d>" % (b"x" * 50_000, b"&a;" * 50_000)
EXTERNAL = b'<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]><d>&e;</d>'
HUGE_SHEET = (
    b'<worksheet><sheetData><row r="1"><c r="A1"><v>1</v></c></row>'
    b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData></worksheet>'
)


def far_sheet() -> bytes:
    """A sheet of two cells, as far apart as they can be."""
    with zipfile.ZipFile(io.BytesIO(sheet())) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return zipped({**members, "xl/worksheets/sheet1.xml": HUGE_SHEET})


def bomb(name: str) -> bytes:
    return zipped({name: ZEROS * 60, "x": ZEROS * 60})


HOSTILE = {
    "empty.md": lambda: b"",
    "blank.md": lambda: b" \n\n ",
    "junk.bin": lambda: os.urandom(100_000),
    "junk.pdf": lambda: os.urandom(100_000),
    "junk.docx": lambda: os.urandom(100_000),
    "zip.docx": lambda: zipped({"a": b"b"}),
    "bomb.docx": lambda: bomb("word/document.xml"),
    "bomb.xlsx": lambda: bomb("xl/workbook.xml"),
    "bomb.pptx": lambda: bomb("ppt/presentation.xml"),
    "bomb.epub": lambda: bomb("META-INF/container.xml"),
    "laughs.xml": lambda: LAUGHS,
    "quadratic.xml": lambda: QUADRATIC,
    "external.xml": lambda: EXTERNAL,
    "laughs.docx": lambda: zipped({"word/document.xml": LAUGHS}),
    "nested.xml": lambda: b"<a>" * 200_000,
    "deep.json": lambda: b"[" * 100_000 + b"]" * 100_000,
    "cut.json": lambda: b'{"a": [1, 2',
    "cut.pdf": lambda: pdf([page("Hello")])[:60],
    "cut.docx": lambda: word()[:-300],
    "cut.pptx": lambda: slides()[:-300],
    "cut.xlsx": lambda: sheet()[:-300],
    "cut.epub": lambda: book()[:-30],
    "scan.pdf": lambda: pdf([b""]),
    "many.pdf": lambda: pdf([b""] * 10_000),
    "old.doc": lambda: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(5000),
    "far.xlsx": far_sheet,
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_file_is_refused_and_the_next_is_read(pool: ParserPool, name: str) -> None:
    with pytest.raises((InvalidRequest, TooLarge, Unsupported)):
        await pool.parse(name, HOSTILE[name]())
    assert (await pool.parse("next.md", b"# Next")).title == "Next"
    assert len(pool.pids) == 1
    assert rss(pool) < MEMORY


HEAVY = {
    "line.csv": lambda: b"a," * 2_000_000,
    "line.txt": lambda: b"word " * 1_000_000,
    "line.json": lambda: b"[" + b"1," * 1_000_000 + b"1]",
    "nested.html": lambda: b"<div>" * 20_000 + b"text",
    "open.html": lambda: b"<b><table><td>" * 50_000 + b"text",
    "stream.pdf": lambda: pdf([deflated(page("Hello"), 1024)], packed=True),
    "tables.html": lambda: b"<table><tr><td>x" * 5_000,
}


@pytest.mark.parametrize("name", HEAVY)
async def test_a_heavy_file_is_read_or_refused_in_bounds(pool: ParserPool, name: str) -> None:
    try:
        assert (await pool.parse(name, HEAVY[name]())).text
    except AIStackError as error:
        assert isinstance(error, TooLarge | InvalidRequest)
    assert (await pool.parse("next.md", b"# Next")).title == "Next"
    assert rss(pool) < MEMORY


async def test_a_slow_file_is_given_up_in_time() -> None:
    pool = ParserPool(1, timeout_s=0.7, memory_bytes=MEMORY)
    with pytest.raises(TooLarge, match=r"0\.7 s"):
        await pool.parse("a.json", b"[" + b"[1,2],\n" * 20_000_000 + b"1]")
    assert (await pool.parse("next.md", b"# Next")).title == "Next"
    await pool.aclose()
    assert not pool.pids


async def test_a_killed_worker_is_replaced(pool: ParserPool) -> None:
    await pool.parse("a.md", b"# A")
    psutil.Process(pool.pids[0]).kill()
    assert (await pool.parse("next.md", b"# Next")).title == "Next"


async def test_workers_are_reused_and_end_when_idle() -> None:
    pool = ParserPool(1, idle_s=0.3)
    await pool.parse("a.md", b"# A")
    first = pool.pids
    await pool.parse("b.md", b"# B")
    assert pool.pids == first
    for _ in range(40):
        if not psutil.pid_exists(first[0]):
            break
        await asyncio.sleep(0.1)
    assert not psutil.pid_exists(first[0])
    await pool.aclose()


async def test_a_path_is_read_by_the_worker(pool: ParserPool, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Grüße aus München".encode("latin-1"))
    parsed = await pool.parse("a.txt", path)
    assert parsed.text == "Grüße aus München\n"
    assert parsed.metadata["charset_guessed"] is True


async def test_nul_and_surrogates_are_replaced_and_noted(pool: ParserPool) -> None:
    parsed = await pool.parse("a.json", b'{"a":"\\ud800\\u0000 ' + b"x" * 500 + b'"}')
    assert "\ufffd" in parsed.text or "\\ud800" in parsed.text
    parsed = await pool.parse("a.md", b"# A\0b")
    assert parsed.text == "# A\ufffdb\n"
    assert parsed.metadata["replaced_characters"] == 1


SPY = """
import os, socket, sys
from ai_stack.parsers.sandbox import enter
print(enter(1 << 30))
for attempt in (socket.socket, lambda: os.execv("/bin/true", ["true"])):
    try:
        attempt()
        print("allowed")
    except PermissionError:
        print("refused")
"""


async def test_a_worker_reaches_no_network_and_starts_no_program() -> None:
    spy = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SPY, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await spy.communicate()
    assert output.split() == [b"True", b"refused", b"refused"]
