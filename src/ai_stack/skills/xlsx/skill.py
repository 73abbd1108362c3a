"""Excel workbooks: created, read, edited, recalculated, charted."""

import asyncio
import math
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action

from .book import Saved, saved, stored_values
from .cells import Value
from .charts import Chart, add_chart
from .edits import Change, apply_changes
from .package import WORKBOOK, lost_parts, opened
from .reading import Window, contents
from .recalculation import Place
from .sheets import MAX_SHEETS, Sheet, created

Name: TypeAlias = Annotated[str, Field(max_length=120, description="Name of the file it makes.")]
Source: TypeAlias = Annotated[File, Field(description="An Excel workbook (.xlsx).")]
Charts: TypeAlias = Annotated[list[Chart], Field(max_length=100, description="Charts of cells.")]
AllowErrors: TypeAlias = Annotated[
    bool, Field(description="Keep formulas that give #REF! or #NAME?.")
]
EXACT, SHOWN = 1e-9, 200


class ExcelWorkbooks(Skill):
    @action
    async def create(
        self,
        sheets: Annotated[
            list[Sheet], Field(min_length=1, max_length=MAX_SHEETS, description="The sheets.")
        ],
        charts: Charts = [],  # noqa: B006
        name: Name = "workbook.xlsx",
        allow_errors: AllowErrors = False,
    ) -> SkillResult:
        """Make a workbook of rows, formulas and charts."""

        def made() -> Saved:
            book = created(sheets)
            for chart in charts:
                add_chart(book, chart)
            return saved(book, {})

        return self._result(await asyncio.to_thread(made), name, "Made", {}, allow_errors)

    @action
    async def read(
        self,
        file: Source,
        sheet: Annotated[str, Field(max_length=31, description="Only this sheet.")] = "",
        range: Annotated[str, Field(max_length=60, description="Only these cells: B2:D9.")] = "",
        max_rows: Annotated[int, Field(ge=1, le=20_000, description="Rows of each sheet.")] = 1000,
    ) -> SkillResult:
        """Give a workbook's values, formulas, tables, names and charts."""
        window = Window(sheet, range, max_rows)
        output, notes = await asyncio.to_thread(_read, file, window)
        shown = output["sheets"]
        assert isinstance(shown, list)
        lines = [f"{s['name']}: {s['size']}, {len(s['formulas'])} formulas" for s in shown[:5]]
        return SkillResult(output, "\n".join(lines), notes)

    @action
    async def edit(
        self,
        file: Source,
        changes: Annotated[
            list[Change],
            Field(min_length=1, max_length=1000, description="Done in order, all or none."),
        ],
        name: Name = "",
        allow_errors: AllowErrors = False,
    ) -> SkillResult:
        """Change cells, rows, looks and sheets; formulas follow."""

        def made() -> tuple[Saved, dict[str, str], bytes]:
            data = WORKBOOK.checked(file)
            book = opened(data)
            before = saved(opened(data), stored_values(data, book)).broken()
            stored = stored_values(data, book)
            apply_changes(book, changes)
            return saved(book, _kept(stored, changes)), before, data

        done, before, data = await asyncio.to_thread(made)
        name = name or file.name
        return self._result(
            done, name, "Changed", before, allow_errors, lost_parts(data, done.data)
        )

    @action
    async def formulas(self, file: Source, name: Name = "") -> SkillResult:
        """Recalculate every formula and list errors, circles and stored values that are wrong."""

        def done() -> tuple[Saved, dict[str, JSON]]:
            data = WORKBOOK.checked(file)
            book = opened(data)
            stored = stored_values(data, book)
            result = saved(book, stored)
            found = result.outcome.values.items()
            wrong = [p for p, v in found if p in stored and not _same(stored[p], v)]
            absent = [p for p, v in found if p not in stored and v is not None]
            cells = {result.place(p): _difference(stored[p], result, p) for p in wrong[:SHOWN]}
            told: dict[str, JSON] = {"mismatches": cells, "without_value": len(absent)}
            return result, told

        result, told = await asyncio.to_thread(done)
        output = {**result.told(), **told, "file": None}
        if told["mismatches"] or told["without_value"]:
            output["file"] = self._written(result, name or file.name)
        counts = (len(result.outcome.values), len(result.outcome.errors))
        summary = f"{counts[0]} formulas: {counts[1]} errors, {told['without_value']} without value"
        return SkillResult(output, summary + ".", result.notes())

    @action
    async def chart(
        self,
        file: Source,
        charts: Annotated[
            list[Chart], Field(min_length=1, max_length=100, description="Charts of its cells.")
        ],
        name: Name = "",
    ) -> SkillResult:
        """Add charts to a workbook."""

        def made() -> tuple[Saved, list[str], bytes]:
            data = WORKBOOK.checked(file)
            book = opened(data)
            stored = stored_values(data, book)
            places = [add_chart(book, one) for one in charts]
            return saved(book, stored), places, data

        done, places, data = await asyncio.to_thread(made)
        lost = lost_parts(data, done.data)
        result = self._result(done, name or file.name, "Charted", {}, True, lost)
        return SkillResult({**result.output, "anchors": places}, result.summary, result.notes)

    def _result(
        self,
        done: Saved,
        name: str,
        verb: str,
        before: dict[str, str],
        allow_errors: bool,
        lost: list[str] = [],  # noqa: B006
    ) -> SkillResult:
        """The workbook as an artifact, unless formulas lead nowhere that did not before."""
        broken = {cell: error for cell, error in done.broken().items() if cell not in before}
        if broken and not allow_errors:
            told = ", ".join(f"{cell} gives {error}" for cell, error in [*broken.items()][:10])
            raise SkillFailed(f"Formulas lead nowhere, so nothing is written: {told}.")
        output: dict[str, JSON] = {"file": self._written(done, name), **done.told()}
        notes = [f"Excel's {', '.join(lost)} could not be kept."] if lost else []
        n, errors = len(done.outcome.values), len(done.outcome.errors)
        summary = f"{verb} {output['file']}: {n} formulas recalculated, {errors} errors."
        return SkillResult(output, summary, (*notes, *done.notes()))

    def _written(self, done: Saved, name: str) -> str:
        stem = name if name.lower().endswith(".xlsx") else f"{Path(name).stem or 'workbook'}.xlsx"
        path = self.context.artifact(stem)
        path.write_bytes(done.data)
        return path.name


def _read(file: Path, window: Window) -> tuple[dict[str, JSON], tuple[str, ...]]:
    data = WORKBOOK.checked(file)
    book = opened(data)
    stored = stored_values(data, book)
    output, notes = contents(book, saved(opened(data), stored).outcome.values, stored, window)
    return output, notes


def _kept(stored: dict[Place, Value], changes: list[Change]) -> dict[Place, Value]:
    """Stored values of formulas, where these are still in their places."""
    moved = any(change.do in ("insert_rows", "delete_rows", "rename_sheet") for change in changes)
    return {} if moved else stored


def _same(stored: object, value: object) -> bool:
    if isinstance(stored, bool) or isinstance(value, bool):
        return stored == value
    if isinstance(stored, int | float) and isinstance(value, int | float):
        return math.isclose(stored, value, rel_tol=EXACT, abs_tol=1e-12)
    return stored == value


def _difference(stored: JSON, result: Saved, place: Place) -> JSON:
    return {"stored": stored, "recalculated": result.outcome.values[place]}
