"""Files of text, as documents to be stored or asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ai_stack.skill import JSON, SkillFailed

MAX_BYTES = 8 << 20
CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1b")
SNIFFED_BYTES = 1 << 12


def read_texts(files: Sequence[Path]) -> dict[str, str]:
    """Texts by their files' names; SkillFailed for what is no text, or too much of it."""
    found: dict[str, str] = {}
    left = MAX_BYTES
    for number, path in enumerate(files, 1):
        data = _read(path, left)
        left -= len(data)
        name = path.name if path.name not in found else f"{path.stem}-{number}{path.suffix}"
        found[name] = _decoded(path.name, data)
    return found


def new_documents(
    texts: Mapping[str, str], prefix: str, metadata: Mapping[str, JSON]
) -> list[dict[str, JSON]]:
    """What the stack takes to store them; a text without a name gets an id from the stack."""
    blank = [name for name, text in texts.items() if not text.strip()]
    if blank:
        raise SkillFailed(f"There is nothing in {', '.join(blank[:5]) or 'the text'}.")
    return [
        {"content": text, "metadata": dict(metadata), **({"id": prefix + name} if name else {})}
        for name, text in texts.items()
    ]


def _read(path: Path, left: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(left + 1)
    except OSError:
        raise SkillFailed("A file cannot be read.") from None
    if len(data) > left:
        raise SkillFailed(f"The files have more than {MAX_BYTES >> 20} MiB together.")
    return data


def _decoded(name: str, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    if data and (not text or CONTROL & set(data[:SNIFFED_BYTES])):
        raise SkillFailed(f"{name} is no text; `ai-stack import` takes other files.")
    return text
