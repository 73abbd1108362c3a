"""Whether a golden set still fits its corpus: every page is there and holds its evidence.

python benchmarks/golden/check.py benchmarks/golden/python.jsonl /path/to/html
"""

import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from ai_stack.services.evaluation import Question, load_golden

QUOTES = str.maketrans("‘’“”", "''\"\"")


def main(golden: str, root: str) -> int:
    questions = load_golden(Path(golden))
    faults = [fault for question in questions for fault in faults_of(question, Path(root))]
    print("\n".join([*faults, f"{len(questions)} questions, {len(faults)} faults"]))
    return bool(faults)


def faults_of(question: Question, root: Path) -> Iterator[str]:
    for page, evidence in zip(question.relevant, question.evidence, strict=True):
        path = root / page
        if not path.is_file():
            yield f"{question.id}: no {page}"
        elif squeezed(evidence) not in squeezed(text_of(path)):
            yield f"{question.id}: {page} does not say {evidence!r}"


def text_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="replace")
    return html.unescape(re.sub(r"<[^>]+>", "", text)) if path.suffix == ".html" else text


def squeezed(text: str) -> str:
    """The text without what markup, typography and layout change."""
    return re.sub(r"[\s¶]+", "", text).translate(QUOTES).lower()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
