"""Posters, cards and diagrams: what they say of themselves is measured again, in the files."""

import itertools
import random
import re
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pdfplumber
import pytest
import reportlab
from PIL import Image, ImageChops
from playwright.async_api import async_playwright

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed, SkillResult
from skills import run

NAME = "canvas-design"
PALETTES = ["ink", "harbour", "forest", "clay", "plum", "slate", "night", "signal"]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
BRIEF = """Harbour Hall presents
# Night of Öpen Workshops
## Twelve makers, one evening
Come and try the lathe yourself, and bring whoever has the time: {long}
- Woodturning, from 18:00
> Bring an old shirt.
When: Friday, 12 June
---
Free entry
"""
SVG = "{http://www.w3.org/2000/svg}"


def brief(words: int = 0, seed: int = 1) -> str:
    chance = random.Random(seed)
    said = ["".join(chance.choices("abcdefgijlmw", k=chance.randint(1, 12))) for _ in range(words)]
    return BRIEF.format(long=" ".join(said))


def inside(
    box: list[float], x0: float, top: float, x1: float, bottom: float, slack: float = 0.6
) -> bool:
    x, y, wide, high = box
    right, low = x + wide + slack, y + high + slack
    return x0 >= x - slack and top >= y - slack and x1 <= right and bottom <= low


def astray(result: SkillResult, content: bytes) -> list[str]:
    """The letters of a PDF that are outside of every box that the result names."""
    boxes = [text["box"] for text in result.output["texts"]]
    with pdfplumber.open(BytesIO(content)) as document:
        (page,) = document.pages
        return [
            c["text"]
            for c in page.chars
            if not any(inside(box, c["x0"], c["top"], c["x1"], c["bottom"]) for box in boxes)
        ]


CASES = [
    *(("poster", size, words) for size in ("a4", "wide", "square") for words in (0, 60, 250)),
    *(("card", size, words) for size in ("business", "a6", "wide") for words in (0, 15)),
]


@pytest.mark.parametrize(("action", "size", "words"), CASES)
async def test_no_letter_of_the_pdf_leaves_its_box(
    action: str, size: str, words: int, tmp_path: Path
) -> None:
    given = {"action": action, "size": size, "brief": brief(words), "formats": ["pdf"]}
    result = await run(NAME, tmp_path, **given)
    content = (tmp_path / f"out/{action}.pdf").read_bytes()
    assert astray(result, content) == []
    assert all(text["size_pt"] >= 6 for text in result.output["texts"])
    page = [0, 0, *result.output["page_pt"]]
    for text in result.output["texts"]:
        x, y, wide, high = text["box"]
        assert inside(page, x, y, x + wide, y + high)


async def test_boxes_of_text_do_not_overlap(tmp_path: Path) -> None:
    result = await run(NAME, tmp_path, action="poster", brief=brief(80), formats=["svg"])
    boxes = {tuple(text["box"]) for text in result.output["texts"]}
    for (ax, ay, aw, ah), (bx, by, bw, bh) in itertools.combinations(boxes, 2):
        assert (
            ax + aw <= bx + 0.1 or bx + bw <= ax + 0.1 or ay + ah <= by + 0.1 or by + bh <= ay + 0.1
        )


async def test_the_pixels_of_the_png_stay_in_the_boxes(tmp_path: Path) -> None:
    words = "# Quiet jagged Typography\nAll of it, gjpqy, stays Ångström-tight within its own box."
    result = await run(
        NAME, tmp_path, action="card", brief=words, size="a6", formats=["png"], dpi=144
    )
    with Image.open(tmp_path / "out/card.png") as opened:
        picture = opened.convert("RGB")
    left = round(picture.width * 0.3) + 2  # beside the art
    column = picture.crop((left, 0, picture.width, picture.height))
    ground = column.getpixel((column.width - 1, 0))
    for text in result.output["texts"]:
        x, y, wide, high = (value * 2 for value in text["box"])
        column.paste(
            ground, (int(x - left - 1), int(y - 1), int(x + wide - left + 1), int(y + high + 1))
        )
    assert ImageChops.difference(column, Image.new("RGB", column.size, ground)).getbbox() is None
    assert len(picture.getcolors(1 << 16)) > 10


async def test_a_browser_measures_the_same_and_asks_for_nothing(tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "This test needs Chromium: apt-get install chromium"
    posters = await run(NAME, tmp_path, action="poster", brief=brief(60), formats=["svg"])
    drawn = await run(
        NAME,
        tmp_path,
        action="diagram",
        brief="a = A longer label (diamond)\na -> b: asks",
        formats=["svg"],
    )
    async with async_playwright() as player:
        browser = await player.chromium.launch(executable_path=chromium, args=FLAGS)
        page = await browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for name, result in (("poster", posters), ("diagram", drawn)):
            await page.goto((tmp_path / f"out/{name}.svg").as_uri())
            found = await page.evaluate(
                "async () => { await document.fonts.ready; return [...document.querySelectorAll"
                "('text')].map(t => { const b = t.getBBox(); return [t.textContent, b.x, b.y,"
                " b.x + b.width, b.y + b.height, document.fonts.check('10px ' +"
                " t.getAttribute('font-family').split(',')[0])] }) }"
            )
            assert len(found) == len(result.output["texts"])
            for (text, *corners, loaded), told in zip(found, result.output["texts"], strict=True):
                assert text == told["text"] and loaded
                # Chromium rounds the ink of a letter up to whole pixels.
                assert inside(told["box"], *corners, slack=1.0), text
        await browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("palette", PALETTES)
async def test_each_palette_is_legible_as_it_is(palette: str, tmp_path: Path) -> None:
    posters = await run(
        NAME, tmp_path, action="poster", brief=brief(), palette=palette, formats=["pdf"]
    )
    drawn = await run(
        NAME,
        tmp_path,
        action="diagram",
        brief="a = One (accent)\na -> b: label",
        palette=palette,
        formats=["svg"],
    )
    assert posters.notes == drawn.notes == ()
    for pair in [*posters.output["contrast"], *drawn.output["contrast"]]:
        assert pair["passes"] and pair["ratio"] >= pair["needed"] >= 3


async def test_faint_text_is_mended_and_told(tmp_path: Path) -> None:
    faint = {
        "ground": "#ffffff",
        "surface": "#fafafa",
        "ink": "#767676",
        "muted": "#c0c0c0",
        "accent": "#ffee00",
        "on_accent": "#ffffff",
    }
    words = "before\n# Title\nWhen: now"
    result = await run(NAME, tmp_path, action="poster", brief=words, palette=faint, formats=["pdf"])
    assert {"#c0c0c0", "#ffee00"} <= set(re.findall(r"#\w{6}", " ".join(result.notes)))
    assert all(pair["passes"] for pair in result.output["contrast"])
    known = {p["text"]: p["ratio"] for p in result.output["contrast"]}
    assert known["#767676"] == 4.54  # the grey that is known to pass on white by a hair


def graph(nodes: int, edges: int, seed: int) -> str:
    chance = random.Random(seed)
    forms = ["box", "round", "ellipse", "diamond", "cylinder", "accent"]
    names = [f"node {n}" for n in range(nodes)]
    lines = [f"{n} = {n} {'x' * chance.randint(0, 30)} ({chance.choice(forms)})" for n in names]
    for n in range(edges):
        a, b = chance.choice(names), chance.choice(names)
        lines.append(f"{a} {chance.choice(['->', '-->'])} {b}" + (f": e{n}" if n % 3 else ""))
    return "\n".join(lines)


@pytest.mark.parametrize("direction", ["down", "right"])
@pytest.mark.parametrize(("nodes", "edges"), [(1, 0), (5, 7), (20, 30), (60, 90)])
async def test_nodes_never_overlap_and_arrows_cross_none(
    nodes: int, edges: int, direction: str, tmp_path: Path
) -> None:
    result = await run(
        NAME,
        tmp_path,
        action="diagram",
        brief=graph(nodes, edges, nodes),
        direction=direction,
        formats=["svg"],
    )
    boxes = result.output["nodes"]
    assert len(boxes) == nodes
    for one, other in itertools.combinations(boxes.values(), 2):
        assert not meet(one, other)
    page = [0, 0, *result.output["page_pt"]]
    assert all(inside(page, x, y, x + w, y + h) for x, y, w, h in boxes.values())
    crossed = [
        p for p in lines(tmp_path / "out/diagram.svg") for b in boxes.values() if cuts(*p, b)
    ]
    assert crossed == []


def meet(one: list[float], other: list[float]) -> bool:
    (ax, ay, aw, ah), (bx, by, bw, bh) = one, other
    return ax < bx + bw and bx < ax + aw and ay < by + bh and by < ay + ah


def lines(path: Path) -> Iterator[tuple[float, float, float, float]]:
    """Every piece of every arrow of an SVG."""
    for line in ElementTree.parse(path).iter(f"{SVG}polyline"):
        points = [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]
        for (ax, ay), (bx, by) in itertools.pairwise(points):
            yield ax, ay, bx, by


def cuts(ax: float, ay: float, bx: float, by: float, box: list[float]) -> bool:
    """Whether a line goes through the inside of a box."""
    x, y, wide, high = box
    if not meet([min(ax, bx), min(ay, by), abs(bx - ax) + 1e-6, abs(by - ay) + 1e-6], box):
        return False
    for n in range(1, 60):
        px, py = ax + (bx - ax) * n / 60, ay + (by - ay) * n / 60
        if x + 0.5 < px < x + wide - 0.5 and y + 0.5 < py < y + high - 0.5:
            return True
    return False


async def test_a_chain_has_no_crossing_and_a_circle_is_fine(tmp_path: Path) -> None:
    words = "a -> b\nb -> c\nc -> a: again\nc -> c: waits\na -> d\nd -> c"
    result = await run(NAME, tmp_path, action="diagram", brief=words, formats=["svg"])
    assert result.output["crossings"] == 0
    assert result.output["ranks"] == 3 and result.output["arrows"] == 6


async def test_twice_gives_the_same_bytes_and_another_seed_another_art(tmp_path: Path) -> None:
    given = {"action": "poster", "brief": brief(), "formats": ["pdf", "svg"]}
    for _ in range(2):
        await run(NAME, tmp_path, **given)
    await run(NAME, tmp_path, **given, seed="other")
    out = tmp_path / "out"
    for form in ("pdf", "svg"):
        first, second, third = ((out / f"poster{n}.{form}").read_bytes() for n in ("", "-2", "-3"))
        assert first == second != third


async def test_text_is_text_in_the_pdf_and_markup_is_none_in_the_svg(tmp_path: Path) -> None:
    hostile = '# <script>alert(1)</script> & "Ünïcode"\n## </text><image href="http://x"/>'
    await run(NAME, tmp_path, action="poster", brief=hostile, formats=["pdf", "svg"])
    tags = {e.tag.removeprefix(SVG) for e in ElementTree.parse(tmp_path / "out/poster.svg").iter()}
    assert tags <= {"svg", "title", "style", "rect", "polygon", "text"}
    with pdfplumber.open(tmp_path / "out/poster.pdf") as document:
        assert '"Ünïcode"' in document.pages[0].extract_text()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"action": "poster", "brief": ""}, "needs a title"),
        ({"action": "poster", "brief": "just a line"}, "needs a title"),
        ({"action": "poster", "brief": "# שלום"}, "reordered"),
        ({"action": "poster", "brief": "# Hi \U0001fae8"}, "No font here has"),
        ({"action": "card", "brief": "# Title\n" + "many words " * 300}, "do not fit"),
        ({"action": "diagram", "brief": ""}, "names no node"),
        ({"action": "diagram", "brief": "a -> "}, "Line 1"),
        ({"action": "diagram", "brief": "a -> " + "b" * 81}, "at most 80"),
        ({"action": "diagram", "brief": "\n".join(map(str, range(61)))}, "60 nodes"),
    ],
)
async def test_what_cannot_be_done_is_said_in_a_sentence(
    given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(SkillFailed, match=said):
        await run(NAME, tmp_path, **given)
    assert [*(tmp_path / "out").iterdir()] == []


async def test_a_font_of_ones_own_is_used_and_a_wrong_one_refused(tmp_path: Path) -> None:
    own = Path(reportlab.__file__).parent / "fonts/VeraIt.ttf"
    result = await run(NAME, tmp_path, action="card", brief="# Own", font=own, formats=["pdf"])
    assert astray(result, (tmp_path / "out/card.pdf").read_bytes()) == []
    with pdfplumber.open(tmp_path / "out/card.pdf") as document:
        assert "Oblique" in document.pages[0].chars[0]["fontname"]
    for content in (b"", b"not a font", own.read_bytes()[:3000]):
        (tmp_path / "bad.ttf").write_bytes(content)
        with pytest.raises(SkillFailed, match="font"):
            await run(NAME, tmp_path, action="card", brief="# Own", font=tmp_path / "bad.ttf")


async def test_a_word_without_end_is_broken(tmp_path: Path) -> None:
    words = f"# Title\nhttps://example.org/{'a' * 300}"
    result = await run(NAME, tmp_path, action="card", brief=words, size="a6", formats=["pdf"])
    assert astray(result, (tmp_path / "out/card.pdf").read_bytes()) == []


async def test_too_fine_a_png_is_made_coarser_and_told(tmp_path: Path) -> None:
    given = {"action": "poster", "size": "a3", "brief": "# Large", "art": "plain", "dpi": 300}
    result = await run(NAME, tmp_path, **given, formats=["png"])
    assert "too large" in result.notes[0]
    with Image.open(tmp_path / "out/poster.png") as picture:
        assert 10e6 < picture.width * picture.height <= 12.1e6


async def test_wrong_colours_name_their_field(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="palette"):
        await run(NAME, tmp_path, action="poster", brief="# x", palette="mauve")
