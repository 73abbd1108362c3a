"""Tables looked into: a million rows, planted oddities, pictures; nothing is written or reached."""

import csv
import json
import struct
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed
from skills import run

NAME = "data-analysis"
ROWS = 1_000_000


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A million rows with a constant, a key, planted outliers and holes."""
    path = tmp_path_factory.mktemp("tables") / "million.parquet"
    with duckdb.connect() as made:
        made.execute(
            f"""COPY (SELECT i AS id, i % 7 AS weekday, 'city ' || (i % 90) AS city,
            CASE WHEN i IN (5, 500_000, 999_999) THEN 1e6 ELSE i % 1000 / 10.0 END AS amount,
            i % 7 * 2 AS twice, 'EUR' AS currency, CASE WHEN i % 10 = 0 THEN 'x' END AS rare,
            DATE '2024-01-01' + CAST(i % 365 AS INTEGER) AS day FROM range({ROWS}) t(i))
            TO '{path}'"""
        )
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.csv"
    path.write_text("place,day,n\nBern,2026-01-01,1\nBern,2026-01-02,2\nChur,2026-01-02,30\n")
    return path


async def query(folder: Path, file: Path, sql: str, **more: Any):
    return await run(NAME, folder, action="query", files=[str(file)], sql=sql, **more)


async def test_a_million_rows_are_profiled_in_seconds(parquet: Path, tmp_path: Path):
    started = time.perf_counter()
    found = await run(NAME, tmp_path, action="profile", files=[str(parquet)])
    assert time.perf_counter() - started < 10
    (table,) = found.output["tables"]
    assert (table["row_count"], table["column_count"]) == (ROWS, 8)
    columns = {column["name"]: column for column in table["columns"]}
    assert columns["id"]["distinct"] == ROWS
    assert columns["city"]["distinct"] == 90
    assert columns["weekday"]["mean"] == pytest.approx(3, abs=0.01)
    assert columns["rare"]["null_percent"] == 90
    assert columns["day"]["max"] == "2024-12-30"
    kinds = {(f["kind"], f["column"]): f for f in found.output["findings"]}
    assert set(kinds) == {
        ("identifier", "id"),
        ("outliers", "amount"),
        ("constant", "currency"),
        ("mostly_empty", "rare"),
        ("constant", "rare"),
        ("correlated", "weekday"),
    }
    assert kinds["outliers", "amount"]["count"] == 3


async def test_a_clean_table_has_no_findings(small: Path, tmp_path: Path):
    found = await run(NAME, tmp_path, action="profile", files=[str(small)])
    assert found.output["findings"] == []


async def test_repeated_rows_and_numbers_among_words_are_found(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text(
        "a,b\n" + "".join(f"{n % 15},{n % 15 if n % 15 else 'none'}\n" for n in range(30))
    )
    found = await run(NAME, tmp_path, action="profile", files=[str(path)])
    kinds = {f["kind"]: f for f in found.output["findings"]}
    assert kinds["duplicate_rows"]["count"] == 15
    assert kinds["numbers_as_text"]["example"] == "none"


WRITES = (
    "INSERT INTO data VALUES (1)",
    "DROP VIEW data",
    "CREATE TABLE t AS FROM data",
    "UPDATE data SET n = 0",
    "COPY data TO '/tmp/stolen.csv'",
    "EXPORT DATABASE '/tmp/stolen'",
    "ATTACH '/tmp/other.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "SELECT 1; DROP VIEW data",
    "CREATE SECRET (TYPE s3)",
)
REACHES = (
    "FROM read_text('/etc/passwd')",
    "FROM glob('/etc/*')",
    "FROM read_csv('http://127.0.0.1:1/x.csv')",
    "FROM '/etc/passwd'",
    "FROM query('DROP VIEW data')",
    "SELECT getenv('HOME')",
    "FROM parquet_scan('/etc/*')",
    "FROM files",
)


@pytest.mark.parametrize("sql", WRITES)
async def test_a_write_is_refused(small: Path, tmp_path: Path, sql: str):
    before = small.read_bytes()
    with pytest.raises(SkillFailed, match=r"Only statements that read|Give one statement"):
        await query(tmp_path, small, sql)
    assert small.read_bytes() == before


@pytest.mark.parametrize("sql", REACHES)
async def test_nothing_but_the_files_is_reached(small: Path, tmp_path: Path, sql: str):
    files = ["not a variable of Python's"]
    assert files
    with pytest.raises(SkillFailed):
        await query(tmp_path, small, sql)


async def test_the_engine_itself_is_shut(small: Path, tmp_path: Path):
    """Were the check of the statement passed, DuckDB would refuse as well."""
    module = __import__("sys").modules
    await query(tmp_path, small, "FROM data")
    opened = module["ai_stack_skills.data_analysis.tables"].open_tables([small], tmp_path)
    try:
        for sql in ("COPY (SELECT 1) TO '/tmp/stolen.csv'", "SET threads = 9", "LOAD httpfs"):
            with pytest.raises(SkillFailed):
                opened.run(sql)
    finally:
        opened.close()


async def test_values_come_as_they_are(small: Path, tmp_path: Path):
    sql = (
        "SELECT DATE '2026-02-03', 1.5::DECIMAL(4,2), NULL, 'nan'::DOUBLE, [1, 2], {'a': 'b'}, "
        "2::HUGEINT ** 3, 9007199254740993, 'x'::BLOB, true"
    )
    (row,) = (await query(tmp_path, small, sql)).output["rows"]
    assert row == [
        *("2026-02-03", 1.5, None, None, [1, 2], {"a": "b"}),
        *(8.0, "9007199254740993", "78", True),
    ]


async def test_rows_are_bounded_and_all_of_them_saved(parquet: Path, tmp_path: Path):
    sql = "SELECT id, '=1+1' AS text FROM data WHERE id < 25000 ORDER BY id"
    found = await query(tmp_path, parquet, sql, limit=10, save="csv")
    assert (found.output["row_count"], found.output["is_cut"]) == (10, True)
    with (tmp_path / "out/result.csv").open() as file:
        rows = [*csv.reader(file)]
    assert len(rows) == 25_001
    assert rows[-1] == ["24999", "'=1+1"]


async def test_very_wide_rows_are_cut_with_a_note(small: Path, tmp_path: Path):
    sql = "SELECT [repeat('x', 10_000)].list_resize(60, repeat('x', 10_000)) AS wide FROM range(60)"
    found = await query(tmp_path, small, sql, save="jsonl")
    assert found.output["row_count"] == 1
    assert "wide" in found.notes[0]
    assert len((tmp_path / "out/result.jsonl").read_text().splitlines()) == 60


async def test_files_are_joined(small: Path, tmp_path: Path):
    other = tmp_path / "other"  # what it is shows in its content
    other.write_text('{"place": "Bern", "people": 134}\n{"place": "Chur", "people": 37}\n')
    sql = "SELECT place, sum(n * people) FROM data JOIN data2 USING (place) GROUP BY 1 ORDER BY 1"
    found = await run(NAME, tmp_path, action="query", files=[str(small), str(other)], sql=sql)
    assert found.output["rows"] == [["Bern", 402], ["Chur", 1110]]


async def test_a_wrong_column_is_named_and_no_path(small: Path, tmp_path: Path):
    with pytest.raises(SkillFailed, match="nope") as failed:
        await query(tmp_path, small, "SELECT nope FROM data")
    assert str(tmp_path) not in failed.value.message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"\x1f\x8b\x08rest", "gzip"),
        (b"PK\x03\x04rest", "zip"),
        (b"a,b\0c\n", "neither"),
        (b"PAR1 and then nothing", "data"),
        (b'{"a": [1, ', "Malformed"),
        (b"\xff\xfe\xfa" * 40, "UTF-8"),
    ],
)
async def test_what_is_no_table_is_refused_in_a_sentence(tmp_path: Path, content: bytes, told: str):
    path = tmp_path / "strange"
    path.write_bytes(content)
    with pytest.raises(SkillFailed, match=told) as failed:
        await run(NAME, tmp_path, action="profile", files=[str(path)])
    assert str(tmp_path) not in failed.value.message


MANY = "SELECT i AS n, hash(i) || '' AS c FROM range(60) t(i)"
CHARTS: tuple[dict[str, Any], ...] = (
    {"kind": "bar", "x": "city", "y": "amount", "color": "weekday"},
    {"kind": "line", "x": "day", "y": "amount", "aggregate": "mean"},
    {"kind": "area", "x": "day"},
    {"kind": "pie", "x": "weekday"},
    {"kind": "histogram", "x": "twice", "bins": 20},
    {"kind": "scatter", "x": "twice", "y": "amount"},
    {"kind": "box", "x": "weekday", "y": "twice"},
    {"kind": "heatmap", "x": "weekday", "color": "city", "y": "twice", "aggregate": "mean"},
)


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart["kind"])
async def test_every_kind_of_chart_of_a_million_rows(
    parquet: Path, tmp_path: Path, chart: dict[str, Any]
):
    found = await run(NAME, tmp_path, action="chart", files=[str(parquet)], **chart)
    png = (tmp_path / "out/chart.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    assert width > 2 * 640 - 200
    assert height > 2 * 400 - 200
    spec = json.loads((tmp_path / "out/chart.vl.json").read_text())
    assert len(spec["data"]["values"]) == found.output["points"] <= 5000
    assert bool(found.notes) == (chart["kind"] in ("scatter", "box"))


async def test_a_chart_shows_what_the_query_says(small: Path, tmp_path: Path):
    await run(
        *(NAME, tmp_path), action="chart", files=[str(small)], kind="bar", x="town", y="total",
        sql="SELECT place AS town, n * 2 AS total FROM data -- doubled", format="svg",
        title="Twice as many",
    )  # fmt: skip
    spec = json.loads((tmp_path / "out/chart.vl.json").read_text())
    assert spec["data"]["values"] == [{"x": "Chur", "y": 60}, {"x": "Bern", "y": 6}]
    svg = (tmp_path / "out/chart.svg").read_text()
    for text in ("Twice as many", "Chur", "sum of total", "town"):
        assert text in svg


async def test_a_histogram_counts_every_row(small: Path, tmp_path: Path):
    found = await run(
        NAME, tmp_path, action="chart", files=[str(small)], kind="histogram", x="n", bins=2
    )
    assert found.output["data"] == [
        {"x": 1.0, "x2": 15.5, "y": 2},
        {"x": 15.5, "x2": 30.0, "y": 1},
    ]


@pytest.mark.parametrize(
    ("chart", "told"),
    [
        ({"kind": "bar", "x": "plaec"}, "place"),
        ({"kind": "scatter", "x": "n"}, "`y`"),
        ({"kind": "bar", "x": "n", "y": "place"}, "number"),
        ({"kind": "bar", "x": "n", "sql": "SELECT n FROM data WHERE n > 99"}, "no rows"),
        ({"kind": "bar", "x": "n", "sql": "DROP VIEW data"}, "Only statements"),
        ({"kind": "bar", "x": "n", "color": "c", "sql": MANY}, "60"),
    ],
)  # fmt: skip
async def test_a_chart_that_cannot_be_is_refused(
    small: Path, tmp_path: Path, chart: dict[str, Any], told: str
):
    with pytest.raises(SkillFailed, match=told):
        await run(NAME, tmp_path, action="chart", files=[str(small)], **chart)


async def test_odd_names_of_columns_are_names(tmp_path: Path):
    path = tmp_path / "odd.csv"
    path.write_text('"a.b[0]","say ""x""; DROP VIEW data"\nu,1\nv,2\n')
    found = await run(
        NAME, tmp_path, action="chart", files=[str(path)], kind="bar", x="a.b[0]",
        y='say "x"; DROP VIEW data',
    )  # fmt: skip
    assert found.output["data"] == [{"x": "v", "y": 2}, {"x": "u", "y": 1}]
    assert (await run(NAME, tmp_path, action="profile", files=[str(path)])).output["tables"]


async def test_an_unknown_kind_names_its_field(small: Path, tmp_path: Path):
    with pytest.raises(InvalidRequest, match="kind"):
        await run(NAME, tmp_path, action="chart", files=[str(small)], kind="donut", x="n")
