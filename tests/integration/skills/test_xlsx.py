"""Excel workbooks: stored values equal the recalculation, and edits leave no #REF! behind."""

import io
import time
import zipfile
from pathlib import Path
from typing import Any

import formulas
import pytest
from openpyxl import Workbook, load_workbook
from openpyxl.workbook.defined_name import DefinedName
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.table import Table

from ai_stack.skill import SkillFailed
from skills import run

DATA = [["Name", "A", "B"], *[[f"n{n}", n, n * n - 7] for n in range(1, 11)]]
FORMULAS = [
    "=SUM(Data!B2:B11)",
    "=AVERAGE(Data!C2:C11)",
    '=SUMIFS(Data!B2:B11,Data!C2:C11,">10")',
    '=COUNTIF(Data!B2:B11,"<=4")',
    '=VLOOKUP("n3",Data!A2:C11,3,FALSE)',
    "=INDEX(Data!A2:A11,MATCH(7,Data!B2:B11,0))",
    "=XLOOKUP(5,Data!B2:B11,Data!A2:A11)",
    '=IF(A1>50,"much","little")',
    '=A8&" of "&TEXT(A2,"0.0")',
    '=IFERROR(A1/0,"none")',
    "=ROUND(PMT(0.05/12,360,-200000),2)",
    "=SUMPRODUCT(Data!B2:B11,Data!C2:C11)",
    "=MAX(Data!C2:C11)-MIN(Data!C2:C11)",
    "=AND(A1>1,A2<1000)",
    "=DATE(2024,2,30)",
    '=LEFT("spread",3)&RIGHT("sheet",2)&MID("abcdef",2,3)',
    "=STDEV(Data!B2:B11)",
    "=ROW(A5)+COLUMNS(Data!A1:C1)",
    "=1/0",
    "=-2^2+50%",
    "=COUNTA(Data!A:A)",
    "=MEDIAN(Data!B:B)*2",
    "=A19+1",
    "=Data!Z99+1",
]
SHEETS: list[dict[str, Any]] = [
    {"name": "Data", "rows": DATA},
    {"name": "Sums", "rows": [[f] for f in FORMULAS], "header": False},
]


async def made(folder: Path, sheets: list[dict[str, Any]], **more: Any) -> Path:
    result = await run("xlsx", folder, action="create", sheets=sheets, **more)
    return folder / "out" / str(result.output["file"])


def values(file: Path, sheet: str) -> list[list[Any]]:
    book = load_workbook(file, data_only=True)
    return [list(row) for row in book[sheet].iter_rows(values_only=True)]


def recalculated(file: Path) -> dict[str, Any]:
    """The whole `formulas` library's own answer for a file, cell by cell."""
    found = formulas.ExcelModel().loads(str(file)).finish().calculate()
    return {
        key.partition("]")[2].replace("'!", "!"): ranges.value[0, 0]
        for key, ranges in found.items()
        if hasattr(ranges, "value") and ":" not in key
    }


async def test_stored_values_equal_the_recalculation(tmp_path: Path) -> None:
    whole_columns = [f for f in FORMULAS if ":A)" not in f and ":B)" not in f]
    sheets = [SHEETS[0], {**SHEETS[1], "rows": [[f] for f in whole_columns]}]
    file = await made(tmp_path, sheets)
    expected = recalculated(file)
    for n, (value,) in enumerate(values(file, "Sums"), 1):
        wanted = expected[f"SUMS!A{n}"]
        wanted = wanted if isinstance(wanted, int | float) else str(wanted)  # also numpy's bool
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        value = value if is_number else str(value)
        assert value == pytest.approx(wanted), whole_columns[n - 1]


async def test_values_are_what_they_should_be(tmp_path: Path) -> None:
    found = [row[0] for row in values(await made(tmp_path, SHEETS), "Sums")]
    assert found[:4] == [55, 31.5, 45, 4]
    assert found[4:10] == [2, "n7", "n5", "much", "much of 31.5", "none"]
    assert found[10:14] == [1073.64, 2640, 99, True]
    assert found[14:17] == [45352, "spretbcd", pytest.approx(3.02765, abs=1e-5)]
    assert found[17:] == [8, "#DIV/0!", 4.5, 11, 11, "#DIV/0!", 1]


async def test_reading_gives_values_formulas_and_dates(tmp_path: Path) -> None:
    rows = [["When", "Then"], ["2024-05-31", "=A2+1"], ["'2024-05-31", "'=1+1"]]
    sheets = [{"name": "D", "rows": rows, "formats": {"B": "yyyy-mm-dd"}}]
    file = await made(tmp_path, sheets)
    sheet: Any = (await run("xlsx", tmp_path, action="read", file=file)).output["sheets"]
    assert sheet[0]["values"][1:] == [["2024-05-31", "2024-06-01"], ["2024-05-31", "=1+1"]]
    assert sheet[0]["formulas"] == {"B2": "=A2+1"}


async def test_what_another_program_left_without_values_is_worked_out(tmp_path: Path) -> None:
    book = Workbook()
    book.active.append([1, 2, "=A1+B1"])
    book.save(tmp_path / "b.xlsx")
    result = await run("xlsx", tmp_path, action="read", file=tmp_path / "b.xlsx", range="C1:C1")
    assert result.output["sheets"][0]["values"] == [[3]]  # type: ignore
    assert "1 formula" in result.notes[0]


@pytest.mark.parametrize("broken", ["=Nowhere!A1", "=SUM(A1)+#REF!", "=SUMME(A1)", "=no_name*2"])
async def test_a_formula_that_leads_nowhere_is_refused(tmp_path: Path, broken: str) -> None:
    sheets = [{"name": "S", "rows": [["x"], [broken]]}]
    with pytest.raises(SkillFailed, match=r"S!A2 gives #(REF!|NAME\?)"):
        await run("xlsx", tmp_path, action="create", sheets=sheets)
    assert list((tmp_path / "out").iterdir()) == []
    result = await run("xlsx", tmp_path, action="create", sheets=sheets, allow_errors=True)
    assert result.output["errors"]


async def edited(folder: Path, file: Path, *changes: dict[str, Any]) -> Path:
    result = await run("xlsx", folder, action="edit", file=file, changes=list(changes))
    return folder / "out" / str(result.output["file"])


@pytest.mark.parametrize("row", [1, 2, 5, 11, 12])
async def test_inserted_rows_change_no_result(tmp_path: Path, row: int) -> None:
    file = await made(tmp_path, SHEETS)
    before = [r[0] for r in values(file, "Sums")]
    change = {"do": "insert_rows", "sheet": "Data", "row": row, "count": 3}
    after = [r[0] for r in values(await edited(tmp_path, file, change), "Sums")]
    assert after == before


async def test_deleted_rows_shrink_ranges_and_are_refused_where_one_would_go(
    tmp_path: Path,
) -> None:
    rows = [[1], [2], [3], [4], ["=SUM(A1:A4)"], ["=A2*10"]]
    file = await made(tmp_path, [{"name": "S", "rows": rows, "header": False}])
    new = await edited(tmp_path, file, {"do": "delete_rows", "sheet": "S", "row": 3, "count": 2})
    assert [r[0] for r in values(new, "S")] == [1, 2, 3, 20]
    assert load_workbook(new)["S"]["A3"].value == "=SUM(A1:A2)"
    with pytest.raises(SkillFailed, match="S!A5 gives #REF!"):
        await edited(tmp_path, file, {"do": "delete_rows", "sheet": "S", "row": 2})


async def test_a_renamed_sheet_takes_its_formulas_along(tmp_path: Path) -> None:
    file = await made(tmp_path, SHEETS)
    before = values(file, "Sums")
    new = await edited(tmp_path, file, {"do": "rename_sheet", "sheet": "data", "to": "It's new"})
    assert values(new, "Sums") == before
    assert load_workbook(new)["Sums"]["A1"].value == "=SUM('It''s new'!B2:B11)"
    with pytest.raises(SkillFailed, match="#REF!"):
        await edited(tmp_path, file, {"do": "delete_sheet", "sheet": "Data"})


async def test_appended_rows_continue_the_formulas(tmp_path: Path) -> None:
    rows = [["a", "b", "c"], [1, 2, "=A2*B2+$A$2"]]
    file = await made(tmp_path, [{"name": "S", "rows": rows}])
    change = {"do": "append", "sheet": "S", "rows": [[3, 4], [5, 6]], "copy_formulas": True}
    new = await edited(tmp_path, file, change)
    assert values(new, "S")[2:] == [[3, 4, 13], [5, 6, 31]]


async def test_an_edit_keeps_what_it_does_not_name(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.active
    sheet.append(["a", 1])
    sheet["B1"].number_format = "0.000"
    sheet.merge_cells("D1:E1")
    sheet.add_data_validation(DataValidation(type="list", formula1='"x,y"', sqref="C1"))
    book.save(tmp_path / "b.xlsx")
    changes = [
        {"do": "format", "sheet": "Sheet", "range": "A1:A1", "bold": True, "fill": "#ffee00"},
        {"do": "insert_rows", "sheet": "Sheet", "row": 1},
    ]
    sheet = load_workbook(await edited(tmp_path, tmp_path / "b.xlsx", *changes))["Sheet"]
    assert (sheet["B2"].number_format, sheet["A2"].font.bold) == ("0.000", True)
    assert [str(r) for r in sheet.merged_cells.ranges] == ["D2:E2"]
    assert sheet.data_validations.dataValidation[0].formula1 == '"x,y"'


async def test_names_and_tables_are_followed(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.active
    for row in (["Item", "Price"], ["a", 2], ["b", 5]):
        sheet.append(row)
    sheet.add_table(Table(displayName="Prices", ref="A1:B3"))
    book.defined_names["Rate"] = DefinedName("Rate", attr_text="Other!$A$1")
    other = book.create_sheet("Other")
    other["A1"] = 3
    other["A2"] = "=SUM(Prices[Price])*Rate"
    book.save(tmp_path / "b.xlsx")
    change = {"do": "insert_rows", "sheet": "Other", "row": 1}
    new = await edited(tmp_path, tmp_path / "b.xlsx", change)
    assert values(new, "Other")[2] == [21]
    assert load_workbook(new).defined_names["Rate"].attr_text == "Other!$A$2"


async def test_what_is_not_known_here_keeps_its_value_and_is_told(tmp_path: Path) -> None:
    rows = [[2], ['=INDIRECT("A1")'], ["=A2+1"], ["=[1]Book!A1"], ["=A1+1"]]
    result = await run(
        "xlsx", tmp_path, action="create", sheets=[{"name": "S", "rows": rows, "header": False}]
    )
    assert sorted(result.output["unknown"]) == ["S!A2", "S!A3", "S!A4"]  # type: ignore
    assert values(tmp_path / "out/workbook.xlsx", "S")[4] == [3]
    assert "3 formula" in result.notes[0]


async def test_a_circle_ends_and_is_told(tmp_path: Path) -> None:
    rows = [["=B1"], ["=A2"], ["=A4"], ["=SUM(A1:A3)"], [5], ["=A5"]]
    result = await run(
        "xlsx", tmp_path, action="create", sheets=[{"name": "S", "rows": rows, "header": False}]
    )
    assert sorted(result.output["circular"]) == ["S!A2", "S!A3", "S!A4"]  # type: ignore
    assert values(tmp_path / "out/workbook.xlsx", "S")[5] == [5]


async def test_a_clean_workbook_has_no_finding(tmp_path: Path) -> None:
    file = await made(tmp_path, [{"name": "S", "rows": [["a"], [1], ["=A2*2"]]}])
    found = (await run("xlsx", tmp_path, action="formulas", file=file)).output
    kinds = ("errors", "unknown", "circular", "mismatches", "without_value", "file")
    assert [found[kind] for kind in kinds] == [{}, {}, [], {}, 0, None]


async def test_charts_point_to_their_cells(tmp_path: Path) -> None:
    charts = [
        {"sheet": "Data", "kind": kind, "values": ["B1:B11", "C1:C11"], "categories": "A2:A11"}
        for kind in ("bar", "column", "line", "area", "pie")
    ]
    xs = {"sheet": "Data", "kind": "scatter", "values": ["C1:C11"], "categories": "B2:B11"}
    file = await made(tmp_path, SHEETS, charts=[*charts, xs])
    read: Any = (await run("xlsx", tmp_path, action="read", file=file, sheet="Data")).output
    shown = read["sheets"][0]["charts"]
    assert [c["kind"] for c in shown] == ["bar", "bar", "line", "area", "pie", "scatter"]
    assert shown[0]["values"] == ["'Data'!$B$2:$B$11", "'Data'!$C$2:$C$11"]
    assert len({c["at"] for c in shown}) == 6
    with pytest.raises(SkillFailed, match="no number"):
        wrong = [{"sheet": "Data", "kind": "bar", "values": ["A1:A11"]}]
        await run("xlsx", tmp_path, action="chart", file=file, charts=wrong)


async def test_thousands_of_formulas_take_seconds(tmp_path: Path) -> None:
    rows = [[n, f"=A{n}*2", f"=SUM(B$1:B{n})"] for n in range(1, 1001)]
    began = time.monotonic()
    file = await made(tmp_path, [{"name": "S", "rows": rows, "header": False}])
    assert values(file, "S")[-1] == [1000, 2000, 1_001_000]
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "hostile",
    [
        "=cmd|' /C calc'!A0",
        "=" + "(" * 300 + "1" + ")" * 300,
        '=REPT("x",99999999999)',
        "=" + "+".join(["A1"] * 4000),
        "=9^9^9^9^9",
        "=(",
    ],
)
async def test_a_hostile_formula_does_no_harm(tmp_path: Path, hostile: str) -> None:
    sheets = [{"name": "S", "rows": [[1], [hostile], ["=1+1"]], "header": False}]
    try:
        file = await made(tmp_path, sheets)
    except SkillFailed:
        return
    assert values(file, "S")[2] == [2]


def changed(source: Path, path: Path, parts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name not in parts:
                new.writestr(name, old.read(name))
        for name, data in parts.items():
            new.writestr(name, data)
    return path


async def test_hostile_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    Workbook().save(tmp_path / "good.xlsx")
    good = tmp_path / "good.xlsx"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as other:
        other.writestr("word/document.xml", "<x/>")
    plain = {"empty": b"", "text": b"a,b", "old": b"\xd0\xcf\x11\xe0" + bytes(99)}
    for name, data in {
        **plain,
        "cut": good.read_bytes()[:-300],
        "docx": archive.getvalue(),
    }.items():
        (tmp_path / f"{name}.xlsx").write_bytes(data)
    sheet, entity = "xl/worksheets/sheet1.xml", b'<!DOCTYPE a [<!ENTITY x "y">]><worksheet/>'
    changed(good, tmp_path / "entity.xlsx", {sheet: entity})
    changed(good, tmp_path / "macro.xlsx", {"xl/vbaProject.bin": b"x"})
    changed(good, tmp_path / "broken.xlsx", {sheet: b"<worksheet"})
    changed(good, tmp_path / "bomb.xlsx", {sheet: bytes(200 << 20)})
    good.unlink()
    for file in sorted(tmp_path.glob("*.xlsx")):
        for action in ("read", "formulas"):
            with pytest.raises(SkillFailed) as refusal:
                await run("xlsx", tmp_path, action=action, file=file)
            assert str(tmp_path) not in refusal.value.message


@pytest.mark.parametrize(
    ("sheets", "told"),
    [
        ([{"name": "a/b", "rows": []}], "named"),
        ([{"name": "a", "rows": []}, {"name": "A", "rows": []}], "two sheets"),
        ([{"name": "a", "rows": [[1]], "formats": {"1": "0"}}], "column letters"),
    ],
)
async def test_wrong_sheets_are_told(tmp_path: Path, sheets: Any, told: str) -> None:
    with pytest.raises(SkillFailed, match=told):
        await run("xlsx", tmp_path, action="create", sheets=sheets)
