"""Questions and answers that documents hold, and answers to questions that are asked of them."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .notes import HEADING, text_of
from .report import Report, Section, Statement
from .sources import Source

WORD = re.compile(r"\w+")
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-ZÄÖÜ0-9\"“])")
ASKED = re.compile(r"^(?:\*\*)?Q(?:uestion)?:\s*(?:\*\*)?\s*(.+?)(?:\*\*)?$", re.IGNORECASE)
ANSWERED = re.compile(r"^(?:\*\*)?A(?:nswer)?:\s*(?:\*\*)?\s*(.+)$", re.IGNORECASE)
COMMON = frozenset(
    WORD.findall(
        "a an and are as at be by can do does for from had has have how i if in is it its me my of"
        " on or our should than that the their there these this to was we were what when where"
        " which who why will with would you your"
    )
)
ENOUGH, SENTENCES = 0.6, 2


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence, and its words by their stems."""

    text: str
    source: Source
    words: Counter[str]


def faq(title: str, paths: Sequence[Path], questions: Sequence[str]) -> Report:
    """What documents ask and answer, then what is asked of them."""
    documents = [(path.name, text_of(path)) for path in paths]
    pairs = [pair for name, text in documents for pair in _pairs(name, text)]
    passages = [p for name, text in documents for p in _passages(name, text)]
    sections, gaps = [], []
    for number, (asked, answer) in enumerate(pairs, 1):
        sections.append(Section(f"question-{number}", asked, tuple(answer)))
    for number, question in enumerate(questions, len(pairs) + 1):
        found = _answer(question, passages)
        sections.append(Section(f"question-{number}", question, tuple(found)))
        if not found:
            gaps.append(f"{question}: no document answers it.")
    return Report(title, f"From {', '.join(name for name, _ in documents)}", sections, gaps)


def _pairs(name: str, text: str) -> Iterator[tuple[str, list[Statement]]]:
    """Headings that ask with what is below them, and lines marked Q and A."""
    asked, answer, open_heading = "", list[Statement](), False
    for number, raw in enumerate([*text.splitlines(), "# end"], 1):
        line = raw.strip()
        heading, question = HEADING.match(line), ASKED.match(line)
        if heading or question:
            if asked and answer:
                yield asked, answer
            answer = []
            said = heading[2] if heading else question[1] if question else ""
            open_heading = heading is not None
            asked = said if question or said.endswith("?") else ""
        elif asked and line:
            marked = ANSWERED.match(line)
            if marked or answer or open_heading:
                source = Source("line", f"{name}:{number}", line)
                answer.append(Statement(marked[1] if marked else line, (source,)))


def _passages(name: str, text: str) -> Iterator[Passage]:
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip().lstrip("-*+> ")
        if not line or HEADING.match(raw.strip()) or line.endswith("?"):
            continue
        for sentence in SENTENCE.split(line):
            source = Source("line", f"{name}:{number}", sentence)
            yield Passage(sentence, source, Counter(_stems(sentence)))


def _stems(text: str) -> list[str]:
    words = (word.lower() for word in WORD.findall(text))
    return [re.sub(r"(?<=\w{3})(ies|es|s|ing|ed)$", "", w) for w in words if w not in COMMON]


def _answer(question: str, passages: Sequence[Passage]) -> list[Statement]:
    """The sentences with enough of a question's words, rare ones counting more; none for none."""
    asked = set(_stems(question))
    if not asked:
        return []
    weight = {
        w: math.log(1 + len(passages) / (1 + sum(w in p.words for p in passages))) for w in asked
    }
    total = sum(weight.values()) or 1.0
    scored = [(sum(weight[w] for w in asked if w in p.words) / total, p) for p in passages]
    best = sorted((pair for pair in scored if pair[0] >= ENOUGH), key=lambda pair: -pair[0])
    return [Statement(p.text, (p.source,)) for _, p in best[:SENTENCES]]
