"""Reads logs: what is in them, their patterns, their course, and what is unusual."""

import asyncio
import csv
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action

from .anomalies import Watch
from .clusters import Clusters
from .counts import Counts
from .lines import open_lines
from .records import LEVELS, Level, Record, Records, moment, rank
from .series import Series
from .times import iso_seconds

BATCH = 20_000
Take = Callable[[Record], object]


class Only(BaseModel):
    """Which records count; all by default."""

    model_config = ConfigDict(extra="forbid")

    level: Level | None = Field(None, description="This level or a worse one.")
    source: str = Field("", max_length=200, description="The source, as `parse` names it.")
    contains: str = Field("", max_length=500, description="A text in the message, in any case.")
    since: str = Field("", max_length=40, description="ISO 8601; records from then on.")
    until: str = Field("", max_length=40, description="ISO 8601; records before then.")


Log = Annotated[File, Field(description="A log: journald JSON, JSON lines, text; or gzip of one.")]
Narrowed = Annotated[Only, Field(description="Which records count.")]
EVERYTHING = Only.model_construct(level=None, source="", contains="", since="", until="")


class LogAnalysis(Skill):
    @action
    async def parse(
        self,
        file: Log,
        only: Narrowed = EVERYTHING,
        limit: Annotated[int, Field(ge=0, le=500, description="Records in the output.")] = 5,
        save: Annotated[bool, Field(description="Write records.jsonl, in one form.")] = False,
    ) -> SkillResult:
        """Say what a log has in it: form, times, levels, sources."""
        counts = Counts(limit)
        with ExitStack() as opened:
            take: Take = counts.add
            if save:
                out = opened.enter_context(self.context.artifact("records.jsonl").open("w"))

                def take(record: Record) -> object:
                    counts.add(record)
                    return out.write(json.dumps(record.shown(), ensure_ascii=False) + "\n")

            records = await self._through(file, only, take)
        forms: dict[str, JSON] = {**records.forms}
        output: dict[str, JSON] = {
            "lines": records.lines.count,
            "forms": forms,
            "continuations": records.continuations,
            **counts.shown(),
        }
        return SkillResult(output, summary=_told(counts), notes=_notes(records))

    @action
    async def cluster(
        self,
        file: Log,
        only: Narrowed = EVERYTHING,
        top: Annotated[int, Field(ge=1, le=1000, description="Patterns in the output.")] = 50,
    ) -> SkillResult:
        """Group messages that differ in their variable parts only."""
        clusters = Clusters()
        records = await self._through(file, only, clusters.add)
        ranked = clusters.ranked()
        output: dict[str, JSON] = {
            "records": clusters.records,
            "cluster_count": len(ranked),
            "clusters": [one.shown() for one in ranked[:top]],
        }
        lines = [f"{clusters.records:,} records have {len(ranked):,} patterns."]
        lines += [f"{one.count:,} × {one.template[:100]}" for one in ranked[:4]]
        return SkillResult(output, summary="\n".join(lines), notes=_notes(records))

    @action
    async def timeline(
        self,
        file: Log,
        only: Narrowed = EVERYTHING,
        by: Annotated[
            Literal["level", "source"], Field(description="What is counted apart.")
        ] = "level",
        steps: Annotated[int, Field(ge=10, le=1000, description="Most steps in time.")] = 60,
    ) -> SkillResult:
        """Count records over time, and write the counts as timeline.csv."""
        series = Series(steps, most_keys=50)
        without_time = 0

        def take(record: Record) -> None:
            nonlocal without_time
            if record.time is None:
                without_time += 1
            else:
                series.add(getattr(record, by) or "none", record.time)

        records = await self._through(file, only, take)
        if not len(series):
            raise SkillFailed("No record of this log has a time that is known.")
        points = _points(series)
        self._write_csv(series, points)
        peak = max(points, key=lambda point: int(str(point["total"])))
        summary = (
            f"{len(points)} steps of {series.step_s} s; the most, {peak['total']:,} records, "
            f"from {peak['at']} on."
        )
        output: dict[str, JSON] = {
            "step_s": series.step_s,
            "without_time": without_time,
            "points": [*points],
        }
        return SkillResult(output, summary=summary, notes=_notes(records))

    @action
    async def anomalies(self, file: Log, only: Narrowed = EVERYTHING) -> SkillResult:
        """Find bursts, silences, and errors that are new or rare."""
        watch = Watch()
        records = await self._through(file, only, watch.add)
        found = await asyncio.to_thread(watch.anomalies)
        notes = _notes(records)
        if not watch.can_tell_bursts:
            notes += ("The log spans too little time to tell bursts and silences.",)
        lines = [f"{len(found)} things are unusual in {watch.clusters.records:,} records."]
        lines += [
            f"{one.kind} at {'?' if one.since is None else moment(one.since)}: "
            f"{str(one.facts.get('template', 'all records'))[:80]}"
            for one in found[:4]
        ]
        output: dict[str, JSON] = {
            "records": watch.clusters.records,
            "step_s": watch.series.step_s,
            "anomalies": [one.shown() for one in found],
        }
        return SkillResult(output, summary="\n".join(lines), notes=notes)

    async def _through(self, file: Path, only: Only, take: Take) -> Records:
        """Every record that counts, through `take`, a batch at a time off the event loop."""
        passes = _filter(only)
        records = Records(open_lines(file), _year(file))
        kept = (record for record in records if passes(record))
        while await asyncio.to_thread(_take_some, kept, take):
            lines = records.lines
            await self.context.progress(
                lines.read_bytes, lines.size_bytes, f"{lines.count:,} lines"
            )
        return records

    def _write_csv(self, series: Series, points: list[dict[str, JSON]]) -> None:
        keys = [str(key) for key in series.counts]
        with self.context.artifact("timeline.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["at", "total", *(_harmless(key) for key in keys)])
            columns = [series.of(key) for key in keys]
            for place, point in enumerate(points):
                writer.writerow([point["at"], point["total"], *(c[place] for c in columns)])


def _take_some(records: Iterator[Record], take: Take) -> bool:
    taken = 0
    for record in islice(records, BATCH):
        take(record)
        taken += 1
    return taken == BATCH


def _filter(only: Only) -> Callable[[Record], bool]:
    least = -1 if only.level is None else LEVELS.index(only.level)
    since, until = _bound(only.since, "since"), _bound(only.until, "until")
    words = only.contains.lower()

    def passes(record: Record) -> bool:
        return (
            (least < 0 or rank(record.level) >= least)
            and (not only.source or record.source == only.source)
            and (not words or words in record.message.lower())
            and (since is None or (record.time is not None and record.time >= since))
            and (until is None or (record.time is not None and record.time < until))
        )

    return passes if only != EVERYTHING else lambda record: True


def _bound(text: str, name: str) -> float | None:
    found = iso_seconds(text) if text else None
    if text and found is None:
        raise SkillFailed(f"`only.{name}` must be a time as 2026-11-29T15:00:00Z.")
    return None if found is None else found[0]


def _year(file: Path) -> int:
    return datetime.fromtimestamp(file.stat().st_mtime if file.is_file() else 0, UTC).year


def _points(series: Series) -> list[dict[str, JSON]]:
    columns = {str(key): series.of(key) for key in series.counts}
    return [
        {
            "at": moment(start),
            "total": sum(counts[place] for counts in columns.values()),
            "counts": {key: counts[place] for key, counts in columns.items() if counts[place]},
        }
        for place, start in enumerate(series.starts())
    ]


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _told(counts: Counts) -> str:
    bad = sum(counts.levels[level] for level in ("error", "critical"))
    when = "without times"
    if counts.start is not None and counts.end is not None:
        when = f"from {moment(counts.start)} to {moment(counts.end)}"
    return f"{counts.records:,} records {when}, {bad:,} of them errors."


def _notes(records: Records) -> tuple[str, ...]:
    zone = ("Times without a zone are taken as UTC.",) if records.without_zone else ()
    return records.lines.notes + zone
