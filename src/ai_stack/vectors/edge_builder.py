"""Builds a shard's graph in a process of its own; it knows no socket and no other shard.

    python -m ai_stack.vectors.edge_builder PARENT DIMENSIONS THREADS TARGET --source A --field F

It copies the sources, says `copied` so that their owner may write again, merges the copies into
the first, builds the graph and exits 0 with the new shard at TARGET. With --afresh they are merged
into an empty one: files keep what was deleted in them.
"""

import argparse
import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from qdrant_edge import EdgeConfig

from ai_stack.vectors.edge_shard import Shard, configuration

PAGE = 500
PR_SET_PDEATHSIG = 1


def build(
    sources: Sequence[Path],
    target: Path,
    config: EdgeConfig,
    fields: Sequence[str],
    empty: int = 0,
) -> None:
    """`empty` is the width of the vectors where nothing but live points may be in the target."""
    copies = [target.with_name(f"{target.name}.{i}") for i in range(len(sources))]
    if empty:
        Shard.create(target, empty, fields).close()
    else:
        copies[0] = target
    for source, copy in zip(sources, copies, strict=True):
        shutil.copytree(source, copy)
    sys.stdout.write("copied\n")
    sys.stdout.flush()
    merged = Shard.load(target, config)
    for field in () if empty else fields:
        merged.index(field)
    for copy in copies if empty else copies[1:]:
        _pour(copy, merged)
    merged.optimize()
    merged.flush()
    merged.close()


def _pour(copy: Path, merged: Shard) -> None:
    """Move all points over, a page at a time; a page begins with the last of the one before."""
    source, after = Shard.load(copy), None
    while True:
        page = source.page(after, PAGE + 1, everything=True)
        if points := page[:PAGE]:
            rows = np.asarray([p.vector for p in points], dtype=np.float32)
            merged.upsert([str(p.id) for p in points], [p.payload or {} for p in points], rows)
        if len(page) <= PAGE:
            break
        after = str(page[-1].id)
    source.close()
    shutil.rmtree(copy)


def die_with(parent: int) -> None:
    """Be killed when the parent is, also when it died before this call."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ai_stack.vectors.edge_builder")
    parser.add_argument("parent", type=int)
    parser.add_argument("dimensions", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("target", type=Path)
    parser.add_argument("--source", type=Path, action="append", required=True)
    parser.add_argument("--afresh", action="store_true")
    parser.add_argument("--field", action="append", default=[])
    given = parser.parse_args()
    die_with(given.parent)
    os.nice(10)
    config = configuration(given.dimensions, given.threads)
    empty = given.dimensions if given.afresh else 0
    build(given.source, given.target, config, given.field, empty)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
