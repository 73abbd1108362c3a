"""Pages a second of HTML in one process, and megabytes a second of the chunker.

`python benchmarks/parsing.py FOLDER` with a tree of HTML files, e.g. Debian's python3-doc.
"""

import re
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from ai_stack.parsers import Source
from ai_stack.parsers.formats import parse
from ai_stack.services.chunking import chunk

TOKENS = re.compile(r"\w{1,6}|[^\w\s]")


def main(folder: Path) -> None:
    files = [p for p in sorted(folder.rglob("*.html")) if p.is_file() and not p.is_symlink()]
    pages = [Source(path.name, path.read_bytes()) for path in files]
    started = perf_counter()
    texts = [parse(page).text for page in pages]
    took = perf_counter() - started
    size = sum(len(page.data) for page in pages) / 1e6
    print(f"html: {len(pages)} pages, {size:.1f} MB, {len(pages) / took:.0f} pages/s")
    whole = "\n".join(texts)[:10_000_000]
    spans = np.array([match.span() for match in TOKENS.finditer(whole)], dtype=np.int32)
    started = perf_counter()
    chunks = chunk(whole, spans, budget=254, title="all of it")
    took = perf_counter() - started
    print(f"chunker: {len(whole) / 1e6:.1f} MB, {len(chunks)} chunks, {took:.2f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
