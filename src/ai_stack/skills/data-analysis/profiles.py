"""What a table's columns hold, and what in them deserves a look."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from ai_stack.skill import JSON

from .tables import Column, Tables
from .values import number, plain

FEW_VALUES = 1_000
SHOWN_VALUES = 5
MOST_COUNTED_ROWS = 20_000_000
FEWEST_FOR_A_KEY = 20
MOSTLY_EMPTY = 0.5
LIKELY = 0.9
FAR_RANGES = 3.0
SAME = 0.98
MOST_CORRELATED = 12
SHORTEST_TEXT = 200


@dataclass(slots=True)
class Profile:
    """One table: its columns as SUMMARIZE has them and more, and its findings."""

    name: str
    row_count: int
    columns: dict[str, dict[str, JSON]] = field(default_factory=dict)
    findings: list[JSON] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def found(self, kind: str, column: str, **numbers: JSON) -> None:
        told: dict[str, JSON] = {"table": self.name, "column": column, "kind": kind, **numbers}
        self.findings.append(told)

    def shown(self) -> dict[str, JSON]:
        return {
            "name": self.name,
            "row_count": self.row_count,
            "column_count": len(self.columns),
            "columns": [*self.columns.values()],
        }

    @property
    def summary(self) -> str:
        kinds = ", ".join(
            f"{f['kind']} ({f['column']})" for f in self.findings[:6] if isinstance(f, dict)
        )
        return (
            f"{self.name}: {self.row_count:,} rows, {len(self.columns)} columns; "
            f"{kinds or 'nothing odd'}."
        )


def profile(tables: Tables, name: str) -> Profile:
    """Everything on one table, in some passes over it."""
    columns = tables.columns(name)
    made = Profile(name, 0)
    _summarize(tables, made, columns)
    if made.row_count:
        _look_at_columns(tables, made, columns)
        _look_at_pairs(tables, made, columns)
        _look_at_rows(tables, made)
    return made


def _summarize(tables: Tables, made: Profile, columns: Sequence[Column]) -> None:
    for column, row in zip(columns, tables.rows(f"SUMMARIZE {made.name}"), strict=True):
        least, greatest, distinct, mean, deviation, q25, q50, q75, count, nulls = row[2:]
        made.row_count = int(str(count))
        shown: dict[str, JSON] = {
            "name": column.name,
            "type": column.type,
            "null_percent": round(number(nulls) or 0.0, 2),
            "distinct": min(int(str(distinct)), made.row_count),
            "min": _short(least),
            "max": _short(greatest),
        }
        if column.is_number:
            shown |= {"mean": number(mean), "std": number(deviation)}
            shown |= {"q25": number(q25), "q50": number(q50), "q75": number(q75)}
        made.columns[column.name] = shown


def _look_at_columns(tables: Tables, made: Profile, columns: Sequence[Column]) -> None:
    for column in columns:
        shown = made.columns[column.name]
        _look_at_nulls(made, column, shown)
        distinct = int(str(shown["distinct"]))
        if 0 < distinct <= FEW_VALUES and not _is_nested(column):
            distinct = _count_values(tables, made, column, shown)
        if distinct == 1 and made.row_count > 1:
            made.found("constant", column.name, value=shown["min"])
        if distinct > made.row_count * LIKELY and not _is_nested(column):
            _look_at_uniqueness(tables, made, column, shown)
        if column.is_text and distinct:
            _look_at_texts(tables, made, column)
        if column.is_number and distinct > SHOWN_VALUES:
            _look_at_outliers(tables, made, column, shown)


def _look_at_nulls(made: Profile, column: Column, shown: dict[str, JSON]) -> None:
    percent = number(shown["null_percent"]) or 0.0
    if percent >= 100:
        made.found("empty", column.name)
    elif percent >= MOSTLY_EMPTY * 100:
        made.found("mostly_empty", column.name, null_percent=percent)


def _count_values(tables: Tables, made: Profile, column: Column, shown: dict[str, JSON]) -> int:
    """The commonest values, and how many there are exactly."""
    counted = tables.rows(
        f"SELECT {column.quoted}, count(*) AS n FROM {made.name} "  # noqa: S608 (quoted names)
        f"WHERE {column.quoted} IS NOT NULL GROUP BY 1 ORDER BY n DESC, 1"
    )
    top: list[JSON] = [{"value": _short(v), "count": plain(n)} for v, n in counted[:SHOWN_VALUES]]
    shown |= {"distinct": len(counted), "top": top}
    return len(counted)


def _look_at_uniqueness(
    tables: Tables, made: Profile, column: Column, shown: dict[str, JSON]
) -> None:
    """A measurement may happen to be unique; a key is a whole number or a text."""
    if not FEWEST_FOR_A_KEY <= made.row_count <= MOST_COUNTED_ROWS:
        return
    if not column.type.endswith(("INT", "INTEGER", "VARCHAR", "UUID")):
        return
    sql = f"SELECT count(DISTINCT {column.quoted}) FROM {made.name}"  # noqa: S608 (quoted names)
    exact = int(str(tables.row(sql)[0]))
    shown["distinct"] = exact
    if exact == made.row_count:
        made.found("identifier", column.name)


def _look_at_texts(tables: Tables, made: Profile, column: Column) -> None:
    """Texts most of which are numbers or dates: the rest is what somebody typed wrong."""
    text = f"nullif(trim({column.quoted}), '')"
    for kind, type_ in (("numbers_as_text", "DOUBLE"), ("dates_as_text", "TIMESTAMP")):
        filled, fitting, odd = tables.row(
            f"SELECT count({text}), count(TRY_CAST({text} AS {type_})), "  # noqa: S608
            f"min({text}) FILTER (WHERE TRY_CAST({text} AS {type_}) IS NULL) FROM {made.name}"
        )
        share = int(str(fitting)) / max(1, int(str(filled)))
        if share >= LIKELY:
            others = int(str(filled)) - int(str(fitting))
            made.found(kind, column.name, others=others, example=_short(odd))
            return


def _look_at_outliers(
    tables: Tables, made: Profile, column: Column, shown: dict[str, JSON]
) -> None:
    low, high = number(shown["q25"]), number(shown["q75"])
    if low is None or high is None or high <= low:
        return
    reach = FAR_RANGES * (high - low)
    count, least, greatest = tables.row(
        f"SELECT count(*), min({column.quoted}), max({column.quoted}) "  # noqa: S608
        f"FROM {made.name} WHERE {column.quoted} < ? OR {column.quoted} > ?",
        (low - reach, high + reach),
    )
    if count:
        made.found(
            "outliers", column.name, count=plain(count), min=plain(least), max=plain(greatest)
        )


def _look_at_pairs(tables: Tables, made: Profile, columns: Sequence[Column]) -> None:
    numbers = [c for c in columns if c.is_number]
    if len(numbers) > MOST_CORRELATED:
        made.notes.append(
            f"{made.name}: correlation was looked for among the first {MOST_CORRELATED} numbers."
        )
    pairs = [*combinations(numbers[:MOST_CORRELATED], 2)]
    if not pairs:
        return
    for (one, other), r in zip(pairs, tables.row(_correlations(made, pairs)), strict=True):
        value = number(r)
        if value is not None and abs(value) >= SAME:
            made.found("correlated", one.name, other=other.name, r=round(value, 4))


def _correlations(made: Profile, pairs: Sequence[tuple[Column, Column]]) -> str:
    """A fixed sample tells as well as all rows: what is as good as the same stays so.

    `corr` fails on what is infinite, so that such rows are left out.
    """

    def terms() -> Iterator[str]:
        for one, other in pairs:
            a, b = (f"CAST({c.quoted} AS DOUBLE)" for c in (one, other))
            yield f"corr({a}, {b}) FILTER (WHERE isfinite({a}) AND isfinite({b}))"

    sample = f"(FROM {made.name} USING SAMPLE reservoir(100000 ROWS) REPEATABLE (1))"
    return f"SELECT {', '.join(terms())} FROM {sample}"  # noqa: S608 (quoted names)


def _look_at_rows(tables: Tables, made: Profile) -> None:
    if made.row_count > MOST_COUNTED_ROWS:
        made.notes.append(f"{made.name}: duplicate rows were not looked for in so many.")
        return
    sql = f"SELECT count(*) - count(DISTINCT hash(t)) FROM {made.name} t"  # noqa: S608
    if count := int(str(tables.row(sql)[0])):
        made.found("duplicate_rows", "", count=count)


def _is_nested(column: Column) -> bool:
    return column.type.endswith(("[]", ")")) and not column.is_number


def _short(value: object) -> JSON:
    found = plain(value)
    return found[:SHORTEST_TEXT] if isinstance(found, str) else found
