"""Charsets, formats and Markdown from HTML, without a worker."""

import pytest

from ai_stack.errors import Unsupported
from ai_stack.parsers import Source, storable
from ai_stack.parsers.charset import decoded
from ai_stack.parsers.formats import format_of, parse
from ai_stack.parsers.html import markdown_table, to_markdown


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marked_and_utf8_text_is_read_as_it_is(charset: str) -> None:
    text = "Grüße, 日本語, 👩‍👩‍👧"
    assert decoded(Source("a.txt", text.encode(charset)))[0] == text


def test_a_declared_charset_is_used_and_told() -> None:
    page = '<meta charset="windows-1251"><p>Привет, мир, как дела'.encode("windows-1251")
    parsed = parse(Source("a.html", page))
    assert parsed.text == "Привет, мир, как дела\n"
    assert parsed.metadata["charset"] == "windows-1251"


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(Unsupported):
        decoded(Source("a.txt", bytes(range(256)) * 10))


def test_storable_replaces_what_postgresql_refuses() -> None:
    assert storable("a\0b\ud800c\U0001f600") == ("a\ufffdb\ufffdc\U0001f600", 2)


@pytest.mark.parametrize(
    ("name", "media_type", "expected"),
    [
        ("a.MD", None, "markdown"),
        ("dir/Makefile", None, "code"),
        ("a.py", "text/plain", "code"),
        ("page", "text/html; charset=utf-8", "html"),
        ("LICENSE", None, "text"),
        ("a.tsv", None, "csv"),
    ],
)
def test_the_format_of_a_name(name: str, media_type: str | None, expected: str) -> None:
    assert format_of(Source(name, b"words"), media_type) == expected


def test_html_keeps_structure_and_drops_the_rest() -> None:
    html = """<title>Guide — Site</title><nav>menu</nav><script>x()</script>
    <main><h1>Guide</h1><p>See <a href=x>the link</a>.</p><ol><li>one<ul><li>in</ul><li>two</ol>
    <div class="highlight-python3"><pre><span>def</span> f():\n    pass</pre></div>
    <table><tr><th>a<th>b|c<tr><td>1</table><dl><dt>term<dd>meaning</dl>"""
    markdown, title, _ = to_markdown(html + "<p>" + "word " * 60 + "</main><footer>no</footer>")
    assert title == "Guide"
    assert markdown.startswith(
        "# Guide\n\nSee the link.\n\n1. one\n  - in\n2. two\n\n```python\ndef f():\n    pass\n"
        "```\n\n| a | b\\|c |\n| --- | --- |\n| 1 |  |\n\nterm\nmeaning\n\nword"
    )
    assert "no" not in markdown.split() and "menu" not in markdown


def test_a_fence_is_longer_than_the_fences_in_it() -> None:
    assert to_markdown("<pre>```\nx\n```</pre>")[0] == "````\n```\nx\n```\n````"


def test_rows_are_filled_to_one_width() -> None:
    assert markdown_table([["a"], ["b", "c"], ["", ""]]) == "| a |  |\n| --- | --- |\n| b | c |"
