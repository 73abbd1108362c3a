"""Looks into tables: what they hold, what a query says, what a chart shows."""

import asyncio
import json
from contextlib import closing
from typing import Annotated, Literal

from pydantic import Field

from ai_stack.skill import File, Skill, SkillResult, action

from .charts import Aggregate, Chart, Kind, draw
from .profiles import Profile, profile
from .queries import Answer, ask, check, save_csv, save_jsonl
from .tables import MAX_FILES, Tables, open_tables

Files = Annotated[
    list[File],
    Field(
        min_length=1,
        max_length=MAX_FILES,
        description="Parquet, CSV or JSON files: the first is the table `data`, then `data2`, …",
    ),
]
Sql = Field(max_length=20_000, description="One statement that reads, on `data`, `data2`, …")
LONGEST_NAME = 500


class DataAnalysis(Skill):
    @action
    async def profile(self, files: Files) -> SkillResult:
        """Say what each column holds, and what in it deserves a look."""
        tables = await self._opened(files)
        with closing(tables):
            found: list[Profile] = []
            for number, name in enumerate(tables.names):
                await self.context.progress(number, len(tables.names), f"profiling {name}")
                found.append(await asyncio.to_thread(profile, tables, name))
        return SkillResult(
            {
                "tables": [one.shown() for one in found],
                "findings": [finding for one in found for finding in one.findings],
            },
            summary="\n".join(one.summary for one in found),
            notes=tuple(note for one in found for note in one.notes),
        )

    @action
    async def query(
        self,
        files: Files,
        sql: Annotated[str, Sql],
        limit: Annotated[int, Field(ge=1, le=1000, description="Rows in the output.")] = 100,
        save: Annotated[
            Literal["nothing", "csv", "jsonl"], Field(description="A file that gets all rows.")
        ] = "nothing",
    ) -> SkillResult:
        """Answer a question in SQL that only reads."""
        tables = await self._opened(files)
        with closing(tables):
            await asyncio.to_thread(check, tables, sql)
            answer = await asyncio.to_thread(ask, tables, sql, limit)
            notes = [*answer.notes]
            if save != "nothing":
                write = save_csv if save == "csv" else save_jsonl
                path = self.context.artifact(f"result.{save}")
                notes += await asyncio.to_thread(write, tables, sql, path)
        return SkillResult(answer.shown(), summary=_told(answer), notes=tuple(notes))

    @action
    async def chart(
        self,
        files: Files,
        kind: Annotated[Kind, Field(description="The form of the chart.")],
        x: Annotated[str, Field(max_length=LONGEST_NAME, description="Column along the bottom.")],
        y: Annotated[
            str, Field(max_length=LONGEST_NAME, description="Column of the height; empty to count.")
        ] = "",
        color: Annotated[
            str, Field(max_length=LONGEST_NAME, description="Column that parts it into series.")
        ] = "",
        aggregate: Annotated[
            Aggregate, Field(description="What is shown of `y` in each group.")
        ] = "sum",
        sql: Annotated[str, Sql] = "",
        title: Annotated[str, Field(max_length=200, description="Above the chart.")] = "",
        bins: Annotated[int, Field(ge=2, le=200, description="Bars of a histogram.")] = 30,
        width: Annotated[int, Field(ge=100, le=2000, description="Pixels.")] = 640,
        height: Annotated[int, Field(ge=100, le=2000, description="Pixels.")] = 400,
        format: Annotated[Literal["png", "svg"], Field(description="Of the picture.")] = "png",
    ) -> SkillResult:
        """Draw a chart."""
        asked = Chart(kind, x, y, color, aggregate, title, bins, width, height)
        tables = await self._opened(files)
        with closing(tables):
            if sql:
                await asyncio.to_thread(check, tables, sql)
            drawn = await asyncio.to_thread(draw, tables, asked, sql, format)
        self.context.artifact(f"chart.{format}").write_bytes(drawn.picture)
        self.context.artifact("chart.vl.json").write_text(json.dumps(drawn.spec, indent=1))
        summary = f"A {kind} chart of {drawn.points:,} points."
        return SkillResult(drawn.shown(), summary=summary, notes=drawn.notes)

    async def _opened(self, files: list[File]) -> Tables:
        return await asyncio.to_thread(open_tables, files, self.context.scratch)


def _told(answer: Answer) -> str:
    if len(answer.rows) == 1 and len(answer.columns) == 1:
        return f"{answer.columns[0]}: {answer.rows[0][0]}"
    more = " (and more)" if answer.is_cut else ""
    return f"{len(answer.rows):,} rows{more} of {', '.join(answer.columns[:8])}."
