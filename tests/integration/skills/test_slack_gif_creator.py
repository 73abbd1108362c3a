"""GIFs for Slack: within its limits by Pillow's own reading, looping, without a jump."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageSequence

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed
from ai_stack.skill.discovery import OURS
from skills import run

NAME = "slack-gif-creator"
MOTIONS = ["bounce", "spin", "pulse", "shake", "swing", "fade", "slide", "float", "pop"]
SHAPES = [
    "circle",
    "ring",
    "rectangle",
    "rounded",
    "triangle",
    "star",
    "heart",
    "check",
    "cross",
    "arrow",
]


async def made(folder: Path, **arguments: Any) -> Path:
    result = await run(NAME, folder, **arguments)
    return folder / "out" / str(result.output["file"])


def frames(path: Path) -> list[Image.Image]:
    with Image.open(path) as picture:
        return [frame.convert("RGBA") for frame in ImageSequence.Iterator(picture)]


def noise(path: Path, size: tuple[int, int], count: int) -> Path:
    pictures = [
        Image.frombytes("RGB", size, os.urandom(size[0] * size[1] * 3)) for _ in range(count)
    ]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40, loop=0)
    return path


@pytest.mark.parametrize("motion", MOTIONS)
async def test_each_motion_keeps_an_emojis_limits_and_loops_without_a_jump(
    motion: str, tmp_path: Path
) -> None:
    element = {"shape": "star", "motion": motion, "fill": "#e8a200"}
    result = await run(NAME, tmp_path, action="create", elements=[element], seconds=1, fps=20)
    path = tmp_path / "out/animation.gif"
    with Image.open(path) as picture:
        assert picture.size == (128, 128)
        assert picture.info["loop"] == 0
        assert 2 <= picture.n_frames <= 50
    assert path.stat().st_size <= 128 * 1024
    assert result.output["seamless"] is True


@pytest.mark.parametrize("shape", SHAPES)
async def test_each_shape_is_drawn_in_its_colour_on_nothing(shape: str, tmp_path: Path) -> None:
    element = {"shape": shape, "fill": "#1264a3", "motion": "float"}
    first = frames(await made(tmp_path, action="create", elements=[element], seconds=0.5))[0]
    solid = [colour for n, colour in first.getcolors(1 << 16) if colour[3] == 255]
    assert any(max(abs(a - b) for a, b in zip(c, (18, 100, 163), strict=False)) < 12 for c in solid)
    assert first.getpixel((1, 1))[3] == 0


async def test_text_stays_inside_the_picture(tmp_path: Path) -> None:
    word = {"shape": "text", "text": "Wg/jÅ\nlonger", "fill": "#000000", "width": 1, "height": 1}
    path = await made(tmp_path, action="create", elements=[word, {**word, "motion": "shake"}])
    first = frames(path)[0]
    box = first.getchannel("A").getbbox()
    assert box is not None and box[0] >= 1 and box[2] <= 127 and box[2] - box[0] > 90


async def test_a_jump_at_the_end_is_told(tmp_path: Path) -> None:
    track = {"property": "x", "values": [0.1, 0.9], "easing": "linear"}
    element = {"shape": "circle", "width": 0.2, "height": 0.2, "tracks": [track]}
    result = await run(NAME, tmp_path, action="create", elements=[element])
    assert result.output["seamless"] is False


async def test_easing_decides_where_it_is_in_the_middle(tmp_path: Path) -> None:
    def element(easing: str) -> dict[str, Any]:
        track = {"property": "x", "values": [0.1, 0.9], "easing": easing}
        return {"shape": "circle", "width": 0.1, "height": 0.1, "tracks": [track]}

    middles = {}
    for easing in ("linear", "in_quad", "out_quad"):
        path = await made(tmp_path, action="create", elements=[element(easing)], name=easing)
        shown = frames(path)
        box = shown[len(shown) // 2].getchannel("A").getbbox()
        assert box is not None
        middles[easing] = (box[0] + box[2]) / 2
    assert middles["in_quad"] < middles["linear"] - 10 < middles["out_quad"] - 20


async def test_too_many_frames_are_spread_over_the_same_time(tmp_path: Path) -> None:
    element = {"shape": "heart", "motion": "swing"}
    result = await run(NAME, tmp_path, action="create", elements=[element], seconds=5, fps=25)
    assert 40 <= result.output["frames"] <= 50  # equal neighbours are one frame
    assert result.output["duration_ms"] == 5000
    assert any("125 frames" in note for note in result.notes)


async def test_what_is_too_large_is_made_to_fit_and_says_what_it_took(tmp_path: Path) -> None:
    given = noise(tmp_path / "noise.gif", (150, 150), 10)
    checked = await run(NAME, tmp_path, action="check", file=given)
    assert len(checked.output["faults"]) == 2 and not checked.output["fits"]
    result = await run(NAME, tmp_path, action="fit", file=given, crop=True)
    assert result.output["size_bytes"] <= 128 * 1024
    assert result.notes
    again = await run(NAME, tmp_path, action="check", file=tmp_path / "out/fitted.gif")
    assert again.output["fits"] is True


async def test_a_wide_picture_keeps_margins_or_is_cropped(tmp_path: Path) -> None:
    Image.new("RGB", (400, 100), "#cc0000").save(tmp_path / "wide.png")
    whole = frames(await made(tmp_path, action="fit", file=tmp_path / "wide.png"))[0]
    cut = frames(await made(tmp_path, action="fit", file=tmp_path / "wide.png", crop=True))[0]
    assert whole.getpixel((64, 5))[3] == 0 and whole.getpixel((64, 64))[3] == 255
    assert cut.getpixel((64, 5))[3] == 255


async def test_twice_gives_the_same_pictures_under_two_names(tmp_path: Path) -> None:
    given = {"action": "create", "elements": [{"shape": "ring", "motion": "pulse"}], "name": "a"}
    one, two = await made(tmp_path, **given), await made(tmp_path, **given)
    assert (one.name, two.name) == ("a.gif", "a-2.gif")
    assert all(
        ImageChops.difference(a, b).getbbox() is None
        for a, b in zip(frames(one), frames(two), strict=True)
    )


def bomb() -> bytes:
    out = BytesIO()
    Image.new("1", (12_000, 12_000)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"GIF89a", "damaged"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "damaged"),
        (bomb(), "."),
        ((OURS / NAME / "examples/wide.gif").read_bytes()[:150], "damaged"),
    ],
    ids=["empty", "header only", "svg", "bomb", "cut off"],
)
async def test_bad_files_are_refused_in_a_sentence(
    content: bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.gif").write_bytes(content)
    for name in ("fit", "check"):
        with pytest.raises(SkillFailed) as refused:
            await run(NAME, tmp_path, action=name, file=tmp_path / "bad.gif")
        assert said in refused.value.message and str(tmp_path) not in refused.value.message


async def test_letters_that_the_font_lacks_are_named(tmp_path: Path) -> None:
    with pytest.raises(SkillFailed, match="🎉"):
        await run(NAME, tmp_path, action="create", elements=[{"shape": "text", "text": "Hi 🎉"}])
    with pytest.raises(SkillFailed, match="needs a text"):
        await run(NAME, tmp_path, action="create", elements=[{"shape": "text", "text": "  "}])
    tiny = {"shape": "text", "text": "a long line of text", "width": 0.02, "height": 0.02}
    with pytest.raises(SkillFailed, match="does not fit"):
        await run(NAME, tmp_path, action="create", elements=[tiny])


@pytest.mark.parametrize(
    "wrong",
    [
        {"elements": []},
        {"elements": [{"shape": "dog"}]},
        {"elements": [{"shape": "star", "fill": "red"}]},
        {"elements": [{"shape": "star"}] * 25},
        {"elements": [{"shape": "star"}], "seconds": 1e9},
        {"elements": [{"shape": "star", "tracks": [{"property": "x", "values": [1]}]}]},
    ],
)
async def test_wrong_arguments_name_their_field(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await run(NAME, tmp_path, action="create", **wrong)
    assert refused.value.message.startswith("create cannot take this")
