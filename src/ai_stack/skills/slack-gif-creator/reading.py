"""Reads pictures that callers give, within bounds, and measures GIFs."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageChops, ImageOps, ImageSequence, ImageStat, UnidentifiedImageError

from ai_stack.skill import SkillFailed

from .limits import Facts

LARGEST_BYTES, MOST_PIXELS, MOST_FRAMES = 32 << 20, 25_000_000, 1_000
FORMATS = ("GIF", "PNG", "JPEG", "WEBP")
FAULTS = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    struct.error,
)


def content_of(path: Path) -> bytes:
    """A file's bytes; SkillFailed for an empty or a huge one."""
    if not path.is_file():
        raise SkillFailed("The file is not there, or is no file.")
    size = path.stat().st_size
    if not 0 < size <= LARGEST_BYTES:
        what = "is empty" if not size else f"is larger than {LARGEST_BYTES >> 20} MiB"
        raise SkillFailed(f"The file {what}.")
    return path.read_bytes()


@contextmanager
def opened(content: bytes, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """A picture whose size was checked before it is decoded; SkillFailed for what is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(content), formats=formats) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise SkillFailed(f"The picture has more than {MOST_PIXELS} pixels.")
                yield picture
    except FAULTS:
        known = ", ".join(formats)
        raise SkillFailed(f"The file is damaged, or is none of {known}.") from None


def measured(content: bytes) -> Facts:
    """What a GIF is; SkillFailed for what is none."""
    with opened(content, ("GIF",)) as picture:
        durations = []
        for frame in ImageSequence.Iterator(picture):
            durations.append(int(frame.info.get("duration", 0)))
            if len(durations) > MOST_FRAMES:
                raise SkillFailed(f"The GIF has more than {MOST_FRAMES} frames.")
        width, height, loops = picture.width, picture.height, picture.info.get("loop")
    return Facts(width, height, len(durations), len(content), sum(durations), min(durations), loops)


def sampled(
    content: bytes, size: tuple[int, int], most: int, crop: bool
) -> tuple[list[Image.Image], int]:
    """A picture's frames at another size, evenly spread in time, and what each lasts in ms."""
    with opened(content) as picture:
        pictures: list[tuple[int, Image.Image]] = []
        for frame in ImageSequence.Iterator(picture):
            lasts = max(20, int(frame.info.get("duration", 100) or 100))
            pictures.append((lasts, _fitted(frame.convert("RGBA"), size, crop)))
            if len(pictures) > MOST_FRAMES:
                raise SkillFailed(f"The picture has more than {MOST_FRAMES} frames.")
    total = sum(lasts for lasts, _ in pictures)
    shortest = min(lasts for lasts, _ in pictures)
    count = min(most, max(1, round(total / shortest))) if len(pictures) > 1 else 1
    step = max(20, round(total / count / 10) * 10)
    return [_shown_at(pictures, (n + 0.5) * total / count) for n in range(count)], step


def _shown_at(pictures: list[tuple[int, Image.Image]], moment: float) -> Image.Image:
    passed = 0
    for lasts, picture in pictures:
        passed += lasts
        if moment < passed:
            return picture
    return pictures[-1][1]


def _fitted(frame: Image.Image, size: tuple[int, int], crop: bool) -> Image.Image:
    if crop:
        return ImageOps.fit(frame, size, Image.Resampling.LANCZOS)
    return ImageOps.pad(frame, size, Image.Resampling.LANCZOS, color=(0, 0, 0, 0))


def seamless(content: bytes) -> bool:
    """Whether the step from the last frame to the first is no larger than the others are."""
    with opened(content, ("GIF",)) as picture:
        frames = [frame.convert("RGBA") for frame in ImageSequence.Iterator(picture)]
    if len(frames) < 3:
        return True
    steps = [_distance(a, b) for a, b in pairwise(frames)]
    return _distance(frames[-1], frames[0]) <= max(1.5 * max(steps), 1.0)


def _distance(one: Image.Image, other: Image.Image) -> float:
    return float(sum(ImageStat.Stat(ImageChops.difference(one, other)).mean))
