"""Images that a document is given: known formats of a bearable size, by name."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

from ai_stack.skill import SkillFailed

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF")
MAX_BYTES, MAX_PIXELS = 32 << 20, 100_000_000


def by_name(files: Iterable[Path]) -> dict[str, Path]:
    """Each image under its file's name; SkillFailed for one that is no image."""
    return {file.name: _checked(file) for file in files}


def _checked(file: Path) -> Path:
    if not file.is_file() or file.stat().st_size > MAX_BYTES:
        raise SkillFailed(f"{file.name} must be an image of at most {MAX_BYTES >> 20} MiB.")
    try:
        with warnings.catch_warnings(), Image.open(file, formats=FORMATS) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            pixels = image.width * image.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise SkillFailed(f"{file.name} is no image of {', '.join(FORMATS)}.") from None
    if pixels > MAX_PIXELS:
        raise SkillFailed(f"{file.name} has more than {MAX_PIXELS // 1_000_000} million pixels.")
    return file


def named(images: Mapping[str, Path], name: str) -> Path:
    """The image of this name; SkillFailed tells which there are."""
    if name not in images:
        known = ", ".join(images) or "none was given"
        raise SkillFailed(f"The image {name!r} is not in `images` ({known}).")
    return images[name]
