"""One statement that reads, and its rows; what it may touch is the tables' business."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from ai_stack.skill import JSON, SkillFailed

from .tables import Tables
from .values import plain

MAX_SAVED_ROWS = 1_000_000
BATCH_ROWS = 10_000
MAX_OUTPUT_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """The first rows of a statement; `is_cut` when there are more."""

    columns: Sequence[str]
    types: Sequence[str]
    rows: Sequence[Sequence[JSON]]
    is_cut: bool
    notes: Sequence[str] = ()

    def shown(self) -> dict[str, JSON]:
        return {
            "columns": [*self.columns],
            "types": [*self.types],
            "rows": [[*row] for row in self.rows],
            "row_count": len(self.rows),
            "is_cut": self.is_cut,
        }


def check(tables: Tables, sql: str) -> None:
    """SkillFailed unless it is one statement, and one that reads."""
    with tables.guarded():
        statements = tables.connection.extract_statements(sql)
    if len(statements) != 1:
        raise SkillFailed(f"Give one statement; this has {len(statements)}.")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        name = str(kind).rpartition(".")[2]
        raise SkillFailed(f"Only statements that read are run, and this one is {name}.")


def ask(tables: Tables, sql: str, limit: int) -> Answer:
    """The first `limit` rows, fewer where they are very wide."""
    with tables.guarded():
        cursor = tables.connection.execute(sql)
        columns = [(str(d[0]), str(d[1])) for d in cursor.description or ()]
        found = cursor.fetchmany(limit + 1)
    rows = [[plain(value) for value in row] for row in found[:limit]]
    kept = _fitting(rows)
    notes = ("The output has fewer rows than asked for, since they are very wide.",)
    return Answer(
        [name for name, _ in columns],
        [kind for _, kind in columns],
        kept,
        is_cut=len(found) > len(kept),
        notes=notes if len(kept) < len(rows) else (),
    )


def save_csv(tables: Tables, sql: str, path: Path) -> list[str]:
    """Write all rows to a CSV file; notes say where some were left out.

    A text that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        rows = _all_rows(tables, sql)
        writer.writerow(_harmless(name) for name in next(rows))
        count = 0
        for row in rows:
            writer.writerow(_harmless(value) for value in row)
            count += 1
    return _left_out(count)


def save_jsonl(tables: Tables, sql: str, path: Path) -> list[str]:
    """Write all rows to a file of JSON lines; notes say where some were left out."""
    rows = _all_rows(tables, sql)
    names = [str(name) for name in next(rows)]
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n")
            count += 1
    return _left_out(count)


def _all_rows(tables: Tables, sql: str) -> Iterator[list[JSON]]:
    """The names of the columns, then the rows, a batch of them in memory at a time."""
    with tables.guarded():
        cursor = tables.connection.execute(sql)
        yield [str(d[0]) for d in cursor.description or ()]
        left = MAX_SAVED_ROWS
        while left and (batch := cursor.fetchmany(min(BATCH_ROWS, left))):
            left -= len(batch)
            yield from ([plain(value) for value in row] for row in batch)


def _left_out(count: int) -> list[str]:
    if count < MAX_SAVED_ROWS:
        return []
    return [f"The file ends after {MAX_SAVED_ROWS:,} rows."]


def _fitting(rows: Sequence[list[JSON]]) -> list[list[JSON]]:
    left, kept = MAX_OUTPUT_CHARACTERS, list[list[JSON]]()
    for row in rows:
        left -= len(json.dumps(row))
        if left < 0:
            break
        kept.append(row)
    return kept


def _harmless(value: JSON) -> JSON:
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
