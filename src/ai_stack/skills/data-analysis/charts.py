"""A chart: DuckDB brings the rows down to what is drawn, Vega-Lite draws it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import altair as alt
import vl_convert

from ai_stack.skill import JSON, SkillFailed

from .tables import Column, Tables
from .values import plain

Kind: TypeAlias = Literal["bar", "line", "area", "scatter", "histogram", "box", "pie", "heatmap"]
Aggregate: TypeAlias = Literal["sum", "mean", "median", "min", "max", "count"]
MAX_POINTS = 5_000
MAX_SERIES = 50
SCALE = 2
FUNCTIONS = {"mean": "avg"}
MARKS: Mapping[str, str] = {
    "bar": "bar",
    "line": "line",
    "area": "area",
    "scatter": "point",
    "histogram": "bar",
    "box": "boxplot",
    "pie": "arc",
    "heatmap": "rect",
}
RAW = ("scatter", "box")


@dataclass(frozen=True, slots=True)
class Chart:
    """What is asked for."""

    kind: Kind
    x: str
    y: str
    color: str
    aggregate: Aggregate
    title: str
    bins: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture, the description that it was drawn from, and what was left out."""

    picture: bytes
    spec: Mapping[str, Any]
    points: int
    notes: tuple[str, ...]

    def shown(self) -> dict[str, JSON]:
        values = self.spec["data"]["values"]
        return {"points": self.points, "data": values[:20], "mark": self.spec["mark"]["type"]}


@dataclass(slots=True)
class _Points:
    rows: list[dict[str, JSON]]
    types: Mapping[str, str]
    titles: Mapping[str, str]
    notes: list[str] = field(default_factory=list)


def draw(tables: Tables, chart: Chart, sql: str, format: Literal["png", "svg"]) -> Drawn:
    """Draw it; SkillFailed for columns that are not there or do not fit the kind."""
    source = f"({sql.strip().rstrip(';')}\n)" if sql else "data"
    points = _points(tables, chart, source)
    if not points.rows:
        raise SkillFailed("There are no rows to draw.")
    spec = _spec(chart, points)
    try:
        picture = _rendered(spec, format)
    except ValueError:
        raise SkillFailed("Vega-Lite cannot draw this chart; try another kind.") from None
    return Drawn(picture, spec, len(points.rows), tuple(points.notes))


def _rendered(spec: dict[str, Any], format: Literal["png", "svg"]) -> bytes:
    if format == "svg":
        return str(vl_convert.vegalite_to_svg(spec)).encode()
    return bytes(vl_convert.vegalite_to_png(spec, scale=SCALE))


def _points(tables: Tables, chart: Chart, source: str) -> _Points:
    known = {column.name: column for column in tables.columns(source)}
    named = {role: _column(known, getattr(chart, role)) for role in ("x", "y", "color")}
    columns = {role: column for role, column in named.items() if column is not None}
    _check(chart, columns)
    if chart.kind == "histogram":
        return _binned(tables, chart, source, columns)
    if chart.kind in RAW:
        return _sampled(tables, chart, source, columns)
    return _grouped(tables, chart, source, columns)


def _column(known: Mapping[str, Column], name: str) -> Column | None:
    if name and name not in known:
        some = ", ".join([*known][:30])
        raise SkillFailed(f"There is no column {name!r}; there are {some}.")
    return known.get(name)


def _check(chart: Chart, columns: Mapping[str, Column]) -> None:
    needed = {"scatter": ("x", "y"), "box": ("x", "y"), "heatmap": ("x", "color")}
    for role in needed.get(chart.kind, ("x",)):
        if role not in columns:
            raise SkillFailed(f"A {chart.kind} chart needs `{role}`.")
    measured = columns.get("x" if chart.kind == "histogram" else "y")
    counts = chart.aggregate == "count" and chart.kind not in (*RAW, "histogram")
    if measured is not None and not measured.is_number and not counts:
        raise SkillFailed(
            f"{measured.name!r} is {measured.type}, and a {chart.kind} needs a number there."
        )


def _grouped(tables: Tables, chart: Chart, source: str, columns: Mapping[str, Column]) -> _Points:
    keys = [role for role in ("x", "color") if role in columns]
    measure, title = _measure(chart, columns.get("y"))
    selected = ", ".join(f"{columns[role].quoted} AS {role}" for role in keys)
    order = "x" if _is_ordered(columns["x"]) or chart.kind in ("line", "area") else "y DESC, x"
    rows = tables.rows(
        f"SELECT {selected}, {measure} AS y FROM {source} "  # noqa: S608 (quoted names)
        f"GROUP BY {', '.join(keys)} ORDER BY {order} LIMIT {MAX_POINTS + 1}"
    )
    types = {role: _key_type(chart, columns[role]) for role in keys} | {"y": "quantitative"}
    titles = {role: columns[role].name for role in keys} | {"y": title}
    made = _Points(_named([*keys, "y"], rows[:MAX_POINTS]), types, titles)
    if len(rows) > MAX_POINTS:
        made.notes.append(f"Only the first {MAX_POINTS:,} groups are drawn.")
    _check_series(chart, made)
    return made


def _measure(chart: Chart, y: Column | None) -> tuple[str, str]:
    if y is None:
        return "count(*)", "rows"
    function = FUNCTIONS.get(chart.aggregate, chart.aggregate)
    return f"{function}({y.quoted})", f"{chart.aggregate} of {y.name}"


def _sampled(tables: Tables, chart: Chart, source: str, columns: Mapping[str, Column]) -> _Points:
    selected = ", ".join(f"{column.quoted} AS {role}" for role, column in columns.items())
    count = int(str(tables.row(f"SELECT count(*) FROM {source}")[0]))  # noqa: S608
    sample = f"USING SAMPLE reservoir({MAX_POINTS} ROWS) REPEATABLE (1)"
    drawn = f"(SELECT {selected} FROM {source})"  # noqa: S608 (quoted names)
    rows = tables.rows(f"FROM {drawn} {sample if count > MAX_POINTS else ''}")
    steps = {"x"} if chart.kind == "box" else set()
    types = {
        role: "ordinal" if role in steps and column.is_number else _type(column)
        for role, column in columns.items()
    }
    titles = {role: column.name for role, column in columns.items()}
    made = _Points(_named([*columns], rows), types, titles)
    if count > MAX_POINTS:
        made.notes.append(f"A fixed sample of {MAX_POINTS:,} of {count:,} rows is drawn.")
    _check_series(chart, made)
    return made


def _binned(tables: Tables, chart: Chart, source: str, columns: Mapping[str, Column]) -> _Points:
    """Bars of equal width from the least to the greatest value."""
    x = f"CAST({columns['x'].quoted} AS DOUBLE)"
    finite = f"(SELECT {x} AS v FROM {source} WHERE isfinite({x}))"  # noqa: S608 (quoted names)
    low, high = tables.row(f"SELECT min(v), max(v) FROM {finite}")  # noqa: S608
    if low is None or high is None:
        raise SkillFailed(f"{columns['x'].name!r} has no numbers.")
    start, width = float(str(low)), (float(str(high)) - float(str(low))) / chart.bins or 1.0
    counted = tables.rows(
        f"SELECT least(floor((v - ?) / ?), ?) AS bin, count(*) FROM {finite} "  # noqa: S608
        "GROUP BY bin ORDER BY bin",
        (start, width, chart.bins - 1),
    )
    rows: list[dict[str, JSON]] = [
        {"x": start + float(str(n)) * width, "x2": start + (float(str(n)) + 1) * width,
         "y": plain(count)}
        for n, count in counted
    ]  # fmt: skip
    types = {"x": "quantitative", "y": "quantitative"}
    return _Points(rows, types, {"x": columns["x"].name, "y": "rows"})


def _spec(chart: Chart, points: _Points) -> dict[str, Any]:
    base = alt.Chart(width=chart.width, height=chart.height)
    marked = getattr(base, f"mark_{MARKS[chart.kind]}")()
    encoded = marked.encode(**_channels(chart, points))
    titled = encoded.properties(title=chart.title) if chart.title else encoded
    spec: dict[str, Any] = titled.to_dict()
    return {**spec, "data": {"values": points.rows}}


def _channels(chart: Chart, points: _Points) -> dict[str, Any]:
    def of(channel: Any, role: str, **options: Any) -> Any:
        return channel(field=role, type=points.types[role], title=points.titles[role], **options)

    if chart.kind == "pie":
        return {"theta": of(alt.Theta, "y"), "color": of(alt.Color, "x", sort=None)}
    if chart.kind == "heatmap":
        return {"x": of(alt.X, "x"), "y": of(alt.Y, "color"), "color": of(alt.Color, "y")}
    order = {} if chart.kind in RAW else {"sort": None}  # grouped rows come in theirs
    channels = {"x": of(alt.X, "x", **order), "y": of(alt.Y, "y")}
    if chart.kind == "histogram":
        channels |= {"x": of(alt.X, "x", bin="binned"), "x2": alt.X2("x2")}
    if "color" in points.types:
        channels["color"] = of(alt.Color, "color")
    return channels


def _type(column: Column) -> str:
    if column.is_time:
        return "temporal"
    return "quantitative" if column.is_number else "nominal"


def _key_type(chart: Chart, column: Column) -> str:
    """Numbers that bars stand side by side for are steps, not places on a line."""
    if chart.kind == "pie":
        return "nominal"
    steps = column.is_number and chart.kind not in ("line", "area")
    return "ordinal" if steps else _type(column)


def _is_ordered(column: Column) -> bool:
    return column.is_time or column.is_number


def _named(roles: Sequence[str], rows: Sequence[Sequence[object]]) -> list[dict[str, JSON]]:
    return [dict(zip(roles, map(plain, row), strict=True)) for row in rows]


def _check_series(chart: Chart, points: _Points) -> None:
    if chart.kind != "heatmap" and points.types.get("color") == "nominal":
        count = len({str(row["color"]) for row in points.rows})
        if count > MAX_SERIES:
            raise SkillFailed(f"`color` has {count:,} values; more than {MAX_SERIES} help nobody.")
