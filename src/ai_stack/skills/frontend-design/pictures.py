"""Pictures that become a part of the page: checked, made no larger than needed, as data URLs."""

import base64
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ai_stack.skill import SkillFailed

from .markup import Markup, tag

LARGEST_BYTES, MOST_PIXELS, WIDEST = 20 << 20, 40_000_000, 1600
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")


def picture(path: Path | None, alt: str | None, where: str) -> Markup | None:
    """The element, its size said so that nothing jumps; SkillFailed for one without alt."""
    if path is None:
        return None
    if alt is None:
        raise SkillFailed(f"The picture of {where} needs `alt`; an empty one says decoration.")
    content, kind, width, height = _encoded(path)
    data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return tag("img", src=data, alt=alt, width=width, height=height, decoding="async")


def _encoded(path: Path) -> tuple[bytes, str, int, int]:
    if not path.is_file() or not 0 < path.stat().st_size <= LARGEST_BYTES:
        raise SkillFailed(f"A picture is empty, or larger than {LARGEST_BYTES >> 20} MiB.")
    try:
        with Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise SkillFailed(f"A picture has more than {MOST_PIXELS} pixels.")
            return _written(opened, path)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        raise SkillFailed(f"A picture is damaged, or is none of {', '.join(FORMATS)}.") from None


def _written(opened: Image.Image, path: Path) -> tuple[bytes, str, int, int]:
    """As it is when it is small and moves, else anew, without what a camera adds."""
    if getattr(opened, "is_animated", False):
        return path.read_bytes(), str(opened.format).lower(), opened.width, opened.height
    clear = opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info
    made = opened.convert("RGBA" if clear else "RGB")
    made.thumbnail((WIDEST, WIDEST * 4))
    out = BytesIO()
    made.save(out, "WEBP", quality=82)
    return out.getvalue(), "webp", made.width, made.height
