"""Frames to a GIF that keeps to limits: colours go first, then frames, then size."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from ai_stack.skill import SkillFailed

from .limits import Limits

COLOURS = (255, 127, 63, 31, 15)
SIZES = (1.0, 0.75, 0.5)
SOLID = 128  # alpha from which a pixel is drawn


@dataclass(frozen=True, slots=True)
class Encoded:
    """A GIF, and what it took to keep it within its limits."""

    content: bytes
    colours: int
    kept_every: int
    scale: float

    @property
    def given_up(self) -> list[str]:
        """In words; empty where nothing had to go."""
        told = []
        if self.colours < COLOURS[0]:
            told.append(f"Colours were reduced to {self.colours} to keep the file small enough.")
        if self.kept_every > 1:
            told.append(f"Only one frame of {self.kept_every} was kept, shown as much longer.")
        if self.scale < 1:
            told.append(f"It was made smaller, to {self.scale:.0%}, to keep the file small enough.")
        return told


def encoded(frames: list[Image.Image], frame_ms: int, limits: Limits) -> Encoded:
    """The first of the attempts, from the best down, that is within the limits; SkillFailed."""
    for colours, every, scale in _attempts(len(frames)):
        content = gif(_scaled(frames[::every], scale), frame_ms * every, colours)
        if len(content) <= limits.size_bytes:
            return Encoded(content, colours, every, scale)
    raise SkillFailed(
        f"This cannot be made smaller than {limits.size_bytes} bytes; make it shorter or simpler."
    )


def _attempts(count: int) -> Iterator[tuple[int, int, float]]:
    for scale in SIZES:
        for every in (1, 2, 3):
            if every == 1 or count // every >= 4:
                for colours in COLOURS:
                    yield colours, every, scale


def _scaled(frames: list[Image.Image], scale: float) -> list[Image.Image]:
    if scale == 1.0:
        return frames
    size = tuple(max(1, round(side * scale)) for side in frames[0].size)
    return [frame.resize((size[0], size[1]), Image.Resampling.LANCZOS) for frame in frames]


def gif(frames: list[Image.Image], frame_ms: int, colours: int) -> bytes:
    """One palette for all frames, the last of its colours transparent; loops without end."""
    palette = _palette(frames, colours)
    clear = _is_clear(frames)
    indexed = [_indexed(frame, palette, colours) for frame in frames]
    options = {"transparency": colours, "disposal": 2} if clear else {"disposal": 1}
    out = BytesIO()
    indexed[0].save(
        out,
        "GIF",
        save_all=True,
        append_images=indexed[1:],
        duration=frame_ms,
        loop=0,
        optimize=False,
        **options,
    )
    return out.getvalue()


def _is_clear(frames: list[Image.Image]) -> bool:
    """Whether any pixel is to be seen through."""
    return any(sum(frame.getchannel("A").histogram()[:SOLID]) for frame in frames)


def _palette(frames: list[Image.Image], colours: int) -> Image.Image:
    """A palette from up to twelve frames, side by side; what is transparent has no say."""
    shown = frames[:: max(1, len(frames) // 12)][:12]
    width, height = shown[0].size
    sheet = Image.new("RGB", (width * len(shown), height), _ground(shown[0]))
    for n, frame in enumerate(shown):
        sheet.paste(frame.convert("RGB"), (n * width, 0), _mask(frame))
    return sheet.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def _ground(frame: Image.Image) -> tuple[int, int, int]:
    """A colour that the frame has anyway, for where it shows nothing."""
    solid = frame.convert("RGB").crop(_mask(frame).getbbox())
    middle = solid.getpixel((solid.width // 2, solid.height // 2))
    assert isinstance(middle, tuple)
    return int(middle[0]), int(middle[1]), int(middle[2])


def _mask(frame: Image.Image) -> Image.Image:
    return frame.getchannel("A").point(lambda a: 255 if a >= SOLID else 0)


def _indexed(frame: Image.Image, palette: Image.Image, colours: int) -> Image.Image:
    found = frame.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    values = (found.getpalette() or [])[: colours * 3]
    found.putpalette([*values, *[0] * (768 - len(values))])
    clear = frame.getchannel("A").point(lambda a: 0 if a >= SOLID else 255)
    found.paste(colours, (0, 0), clear)
    return found
