"""Excel's own charts: made from ranges of a workbook, and listed."""

from typing import Annotated, Literal, TypeAlias

from openpyxl import Workbook
from openpyxl.chart import AreaChart, BarChart, LineChart, PieChart, Reference, ScatterChart, Series
from openpyxl.chart.label import DataLabelList
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.worksheet import Worksheet
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.skill import JSON, SkillFailed

from .references import Area, area_of

Kind: TypeAlias = Literal["bar", "column", "line", "area", "pie", "scatter"]
ROWS_OF_A_CHART, COLUMNS_OF_A_CHART = 16, 9
KINDS = {"line": LineChart, "area": AreaChart, "pie": PieChart, "scatter": ScatterChart}
Range: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


class Chart(BaseModel):
    """A chart of a sheet's cells; the first cell of each of `values` names the series."""

    model_config = ConfigDict(extra="forbid")

    sheet: Annotated[str, Field(description="The sheet that it stands on.")]
    kind: Kind
    values: Annotated[list[Range], Field(min_length=1, max_length=20)]
    categories: Annotated[str, Field(max_length=200, description="Labels; x of a scatter.")] = ""
    title: Annotated[str, Field(max_length=250)] = ""
    x_title: Annotated[str, Field(max_length=250)] = ""
    y_title: Annotated[str, Field(max_length=250)] = ""
    anchor: Annotated[str, Field(max_length=10, description="Its upper left cell.")] = ""


def add_chart(book: Workbook, spec: Chart) -> str:
    """Add a chart; the cell where it stands. SkillFailed for a range that holds no numbers."""
    sheet = sheet_named(book, spec.sheet)
    chart = _empty(spec.kind)
    labels = _reference(book, sheet, spec.categories) if spec.categories else None
    for text in spec.values:
        area = _area(sheet, text)
        _check_numbers(book, area, text)
        chart.series.append(_series(book, area, labels, spec.kind))
    if labels is not None and spec.kind != "scatter":
        chart.set_categories(labels)
    _entitle(chart, spec)
    anchor = spec.anchor or _free_place(sheet)
    if area_of(anchor, "") is None or ":" in anchor:
        raise SkillFailed(f"The anchor {anchor[:20]!r} is no cell.")
    sheet.add_chart(chart, anchor)
    return anchor


def charts_of(sheet: Worksheet) -> list[JSON]:
    """The charts that stand on a sheet."""
    return [
        {
            "kind": type(chart).__name__.removesuffix("Chart").lower(),
            "at": _at(chart),
            "values": [s.val.numRef.f for s in chart.series if s.val and s.val.numRef]
            + [s.yVal.numRef.f for s in chart.series if getattr(s, "yVal", None) and s.yVal.numRef],
        }
        for chart in sheet._charts
    ]


def sheet_named(book: Workbook, name: str) -> Worksheet:
    """The sheet of this name; SkillFailed tells which there are."""
    for sheet in book.worksheets:
        if sheet.title.casefold() == name.casefold():
            return sheet
    known = ", ".join(sheet.title for sheet in book.worksheets[:20])
    raise SkillFailed(f"There is no sheet {name[:60]!r}; there are {known}.")


def _empty(kind: Kind):  # type: ignore[no-untyped-def]
    if kind in ("bar", "column"):
        chart = BarChart()
        chart.type = "bar" if kind == "bar" else "col"
        return chart
    return KINDS[kind]()


def _series(book: Workbook, area: Area, labels: Reference | None, kind: Kind):  # type: ignore[no-untyped-def]
    values = _as_reference(book, area)
    head = sheet_named(book, area.sheet).cell(area.top, area.left)
    titled = head.data_type == "s" and area.size > 1
    if kind == "scatter":
        if labels is None:
            raise SkillFailed("A scatter chart needs `categories`: the cells of its x values.")
        return Series(values, labels, title_from_data=titled)
    return Series(values, title_from_data=titled)


def _entitle(chart, spec: Chart) -> None:  # type: ignore[no-untyped-def]
    chart.title = spec.title or None
    if spec.kind == "pie":
        chart.dataLabels = DataLabelList(showPercent=True)
        return
    chart.x_axis.title, chart.y_axis.title = spec.x_title or None, spec.y_title or None
    chart.x_axis.delete = chart.y_axis.delete = False
    if len(spec.values) == 1 and spec.title:
        chart.legend = None


def _area(sheet: Worksheet, text: str) -> Area:
    area = area_of(text, sheet.title)
    if area is None or area.size > 100_000:
        raise SkillFailed(f"The range {text[:60]!r} is none, or too large for a chart.")
    return area


def _reference(book: Workbook, sheet: Worksheet, text: str) -> Reference:
    return _as_reference(book, _area(sheet, text))


def _as_reference(book: Workbook, area: Area) -> Reference:
    sheet = sheet_named(book, area.sheet)
    return Reference(sheet, area.left, area.top, area.right, area.bottom)


def _check_numbers(book: Workbook, area: Area, text: str) -> None:
    cells = sheet_named(book, area.sheet)._cells
    rows, columns = range(area.top, area.bottom + 1), range(area.left, area.right + 1)
    found = [cells[r, c] for r in rows for c in columns if (r, c) in cells]
    if not any(cell.data_type in ("n", "f") and cell.value is not None for cell in found):
        raise SkillFailed(f"The range {text[:60]!r} holds no number to draw.")


def _free_place(sheet: Worksheet) -> str:
    """Beside the data, below the charts that are there."""
    column = get_column_letter(min(sheet.max_column + 2, 16_000))
    return f"{column}{2 + ROWS_OF_A_CHART * len(sheet._charts)}"


def _at(chart) -> str:  # type: ignore[no-untyped-def]
    if isinstance(chart.anchor, str):
        return chart.anchor
    corner = chart.anchor._from
    return f"{get_column_letter(corner.col + 1)}{corner.row + 1}"
