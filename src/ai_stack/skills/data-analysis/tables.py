"""The files as tables of a DuckDB that can open nothing else; it does not know what is asked."""

import codecs
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from ai_stack.skill import SkillFailed

MAX_FILES = 8
MAX_COLUMNS = 500
MAX_FILE_BYTES = 64 << 30
SNIFFED_BYTES = 1 << 16
QUERY_S = 60.0
MEMORY = "1GiB"
SPILL = "16GiB"
THREADS = 4
PACKED = {b"\x1f\x8b": "gzip", b"PK": "a zip archive or spreadsheet", b"\x28\xb5": "zstd"}
READERS = {"parquet": "read_parquet(?)", "csv": "read_csv(?)", "json": "read_json(?)"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column by its name and DuckDB's word for its type."""

    name: str
    type: str

    @property
    def quoted(self) -> str:
        return quoted(self.name)

    @property
    def is_number(self) -> bool:
        words = ("INT", "DECIMAL", "FLOAT", "DOUBLE", "HUGEINT")
        return self.type.partition("(")[0].endswith(words)

    @property
    def is_time(self) -> bool:
        return self.type.startswith(("DATE", "TIMESTAMP"))

    @property
    def is_text(self) -> bool:
        return self.type == "VARCHAR"


class Tables:
    """Read-only tables; DuckDB's failures come out as SkillFailed, without paths."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, paths: Sequence[Path]) -> None:
        self.connection = connection
        self._paths = paths
        self.names = [_name(number) for number in range(len(paths))]

    def close(self) -> None:
        self.connection.close()

    def run(self, sql: str, parameters: Sequence[object] = ()) -> duckdb.DuckDBPyConnection:
        """Run a statement, no longer than a query may take."""
        with self.guarded():
            return self.connection.execute(sql, parameters)

    def row(self, sql: str, parameters: Sequence[object] = ()) -> tuple[object, ...]:
        """The one row that a statement gives."""
        with self.guarded():
            found: tuple[object, ...] = self.connection.execute(sql, parameters).fetchone() or ()
            return found

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """All rows that a statement gives: for those that give few."""
        with self.guarded():
            found: list[tuple[object, ...]] = self.connection.execute(sql, parameters).fetchall()
            return found

    def columns(self, source: str) -> list[Column]:
        """The columns of a table or of a statement in brackets; SkillFailed for too many."""
        described = self.rows(f"DESCRIBE FROM {source}")
        found = [Column(str(row[0]), str(row[1])) for row in described]
        if len(found) > MAX_COLUMNS:
            raise SkillFailed(
                f"A table has {len(found):,} columns; {MAX_COLUMNS} can be looked at."
            )
        return found

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Interrupts what takes too long, and says what failed."""
        timer = threading.Timer(QUERY_S, self.connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        except duckdb.InterruptException:
            raise SkillFailed(f"The query took longer than {QUERY_S:g} seconds.") from None
        except duckdb.OutOfMemoryException:
            raise SkillFailed("The query needs more memory than it may have.") from None
        except duckdb.PermissionException:
            raise SkillFailed("A query reads the given files only, as `data`, `data2`, …") from None
        except (duckdb.Error, UnicodeDecodeError, OverflowError) as error:
            raise SkillFailed(self._without_paths(str(error))) from None
        finally:
            timer.cancel()

    def _without_paths(self, text: str) -> str:
        """The first paragraph of a failure, with tables' names in place of their files'."""
        told = " ".join(text.partition("\n\n")[0].split())
        for name, path in zip(self.names, self._paths, strict=True):
            told = told.replace(str(path), name)
        return told[:500] or "The query failed."


def open_tables(files: Sequence[Path], scratch: Path) -> Tables:
    """A view for each file, in a database that is then shut: no other file, address, setting or
    extension; SkillFailed for a file that is no table."""
    forms = [_form(file) for file in files]
    tables = Tables(duckdb.connect(":memory:"), files)
    try:
        _shut(tables, files, scratch)
        for name, file, form in zip(tables.names, files, forms, strict=True):
            reader = READERS[form].replace("?", _text(file))
            tables.run(f"CREATE VIEW {name} AS FROM {reader}")
            tables.columns(name)
        tables.run("SET lock_configuration = true")
    except BaseException:
        tables.close()
        raise
    return tables


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever letters it has."""
    return '"' + name.replace('"', '""') + '"'


def _shut(tables: Tables, files: Sequence[Path], scratch: Path) -> None:
    allowed = ", ".join(_text(file) for file in files)
    for setting in (
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "allow_community_extensions = false",
        "allow_persistent_secrets = false",
        "python_enable_replacements = false",
        f"memory_limit = '{MEMORY}'",
        f"max_temp_directory_size = '{SPILL}'",
        f"threads = {THREADS}",
        f"temp_directory = {_text(scratch / 'spilled')}",
        f"allowed_paths = [{allowed}]",
        "enable_external_access = false",
    ):
        tables.run(f"SET {setting}")


def _form(file: Path) -> str:
    """What a file is by its first bytes."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            head = opened.read(SNIFFED_BYTES)
    except OSError:
        raise SkillFailed("A file cannot be read.") from None
    if not head.strip():
        raise SkillFailed("A file is empty: there is no table in it.")
    if size > MAX_FILE_BYTES:
        raise SkillFailed(f"A file is larger than {MAX_FILE_BYTES >> 30} GiB.")
    if head.startswith(b"PAR1"):
        return "parquet"
    _refuse_binary(head)
    return "json" if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") else "csv"


def _refuse_binary(head: bytes) -> None:
    for magic, told in PACKED.items():
        if head.startswith(magic):
            raise SkillFailed(f"A file is {told}: unpack it, or save it as CSV or Parquet first.")
    if b"\0" in head:
        raise SkillFailed("A file is neither Parquet, CSV nor JSON.")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        raise SkillFailed("A file is neither Parquet nor UTF-8: save it as UTF-8 first.") from None


def _name(number: int) -> str:
    return "data" if number == 0 else f"data{number + 1}"


def _text(value: Path) -> str:
    return "'" + str(value).replace("'", "''") + "'"
