"""Questions with the documents that answer them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_stack.skill import SkillFailed

MAX_QUESTIONS = 2_000
MAX_BYTES = 16 << 20
MAX_RELEVANT = 1_000
MAX_QUERY = 8_192
TUNE, TEST = "tune", "test"


@dataclass(frozen=True, slots=True)
class Question:
    """`split` is empty where the file does not say it."""

    id: str
    question: str
    relevant: frozenset[str]
    split: str = ""
    kind: str = ""


def read_golden(file: Path, prefix: str) -> list[Question]:
    """The questions of a file; SkillFailed names the line that is none."""
    found: list[Question] = []
    for number, line in enumerate(read_lines(file), 1):
        if line.strip():
            found.append(_question(number, line, prefix))
    if not found:
        raise SkillFailed("The golden set holds no question.")
    if len(found) > MAX_QUESTIONS:
        raise SkillFailed(f"The golden set has more than {MAX_QUESTIONS:,} questions.")
    if len({one.id for one in found}) < len(found):
        raise SkillFailed("Two questions of the golden set have one id.")
    return found


def halves(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """Those to choose by and those to judge by; every other one where none are marked."""
    tune = [one for one in questions if one.split == TUNE]
    test = [one for one in questions if one.split != TUNE]
    if tune and test:
        return tune, test
    return [*questions[::2]], [*questions[1::2]]


def read_lines(file: Path) -> list[str]:
    """The lines of a file of text; SkillFailed for one that is too large or none."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError:
        raise SkillFailed("A file cannot be read.") from None
    if len(data) > MAX_BYTES:
        raise SkillFailed(f"A file is larger than {MAX_BYTES >> 20} MiB.")
    try:
        return data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SkillFailed("A file is not UTF-8.") from None


def parsed(line: str) -> dict[str, object]:
    """An object of JSON; empty for what is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def texts(value: object) -> list[str] | None:
    """A list of texts that are not empty; None for what is none."""
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
        return None
    return value


def _question(number: int, line: str, prefix: str) -> Question:
    found = parsed(line)
    id, question, relevant = found.get("id"), found.get("question"), texts(found.get("relevant"))
    if not isinstance(id, str) or not isinstance(question, str) or not question.strip():
        raise SkillFailed(f"Line {number} of the golden set has no `id` and `question`.")
    if not relevant or len(relevant) > MAX_RELEVANT or len(question) > MAX_QUERY:
        raise SkillFailed(f"Line {number} of the golden set names no `relevant` documents.")
    named = frozenset(prefix + one for one in relevant)
    split, kind = str(found.get("split") or ""), str(found.get("kind") or "")
    return Question(id, question, named, split, kind[:100])
