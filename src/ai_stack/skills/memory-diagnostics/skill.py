"""Memory: who holds it, who grows, what a model will take."""

import asyncio
import csv
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ai_stack.skill import JSON, File, Skill, SkillFailed, SkillResult, action

from .estimates import CacheType, Estimate, choices, estimate
from .gguf import read_model
from .processes import MIB, chosen, listed, memory
from .trends import Followed, follow

MOST_PROCESSES = 200


class MemoryDiagnostics(Skill):
    @action
    async def processes(
        self,
        top: Annotated[int, Field(ge=1, le=500, description="How many, the largest first.")] = 20,
        name: Annotated[str, Field(max_length=200, description="A part of the name.")] = "",
        group: Annotated[bool, Field(description="Add up processes of one name.")] = False,
    ) -> SkillResult:
        """Say which processes hold the memory."""
        rows, unread = await asyncio.to_thread(listed, top, name, group)
        state = memory()
        lines = [
            f"{state['available_bytes'] // MIB:,} MiB of {state['total_bytes'] // MIB:,} are left."
        ]
        lines += [f"{row['name']}: {int(str(row['rss_bytes'])) // MIB:,} MiB" for row in rows[:4]]
        notes = (f"{unread} of them do not show what is their own.",) if unread else ()
        output: dict[str, JSON] = {"memory": {**state}, "processes": [*rows]}
        return SkillResult(output, summary="\n".join(lines), notes=notes)

    @action
    async def trend(
        self,
        pids: Annotated[
            list[int], Field(max_length=MOST_PROCESSES, description="Processes to follow.")
        ] = [],  # noqa: B006 (pydantic copies it)
        names: Annotated[
            list[str], Field(max_length=20, description="Or their names, exactly.")
        ] = [],  # noqa: B006
        seconds: Annotated[float, Field(ge=1, le=600, description="How long.")] = 30,
        every_s: Annotated[float, Field(ge=0.05, le=60, description="Between samples.")] = 1,
    ) -> SkillResult:
        """Follow processes for a while, and say which grow and how fast."""
        found = await asyncio.to_thread(chosen, pids, names, MOST_PROCESSES)
        if not found:
            raise SkillFailed("There is no such process that may be read.")
        followed = [Followed(process) for process in found]
        total = max(3, int(seconds / every_s) + 1)
        async for number in follow(followed, total, every_s):
            await self.context.progress(number, total, f"following {len(followed)} processes")
        self._write(followed)
        available = memory()["available_bytes"]
        rows = [one.shown(available) for one in sorted(followed, key=lambda f: -f.slope)]
        growing = [row for row in rows if row["verdict"] == "growing"]
        lines = [f"{len(growing)} of {len(rows)} processes grow."] + [
            f"{row['name']} ({row['pid']}): {row['slope_mib_per_minute']} MiB a minute"
            for row in growing[:4]
        ]
        output: dict[str, JSON] = {"processes": [*rows], "growing": len(growing)}
        return SkillResult(output, summary="\n".join(lines))

    @action
    async def estimate(
        self,
        files: Annotated[
            list[File],
            Field(min_length=1, max_length=200, description="A GGUF model; all parts of one."),
        ],
        context: Annotated[
            int, Field(ge=0, le=1 << 24, description="Tokens of each slot; 0: the model's own.")
        ] = 0,
        slots: Annotated[int, Field(ge=1, le=256, description="Requests at the same time.")] = 1,
        cache_type: Annotated[CacheType, Field(description="Of keys and values.")] = "f16",
        ubatch: Annotated[
            int, Field(ge=1, le=16384, description="Tokens that are worked on at once.")
        ] = 512,
        kind: Annotated[
            Literal["model", "embedding"],
            Field(description="Whether it generates, or embeds and ranks with no cache kept."),
        ] = "model",
    ) -> SkillResult:
        """Estimate what a GGUF model will take, and whether it fits."""
        model, notes = await asyncio.to_thread(read_model, files)
        if kind == "embedding":
            model = model.without_cache()
        made = estimate(model, context, slots, cache_type, ubatch)
        available = memory()["available_bytes"]
        output: dict[str, JSON] = {
            "model": model.shown(),
            **made.shown(),
            "available_bytes": available,
            "fits": made.total_bytes <= available,
            "choices": [*choices(model, slots, ubatch, available)],
        }
        return SkillResult(output, summary=_told(made, available), notes=tuple(notes))

    def _write(self, followed: Sequence[Followed]) -> None:
        with self.context.artifact("memory.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["seconds", "pid", "name", "rss_bytes"])
            for one in followed:
                for at, size in zip(one.times, one.sizes, strict=True):
                    writer.writerow([round(at, 3), one.pid, one.name.lstrip("=+-@"), size])


def _told(made: Estimate, available: int) -> str:
    word = "fits" if made.total_bytes <= available else "does not fit"
    parts = f"{made.weights_bytes // MIB:,} weights, {made.cache_bytes // MIB:,} cache"
    return (
        f"It needs {made.total_bytes // MIB:,} MiB ({parts}) for {made.slots} slots of "
        f"{made.context:,} tokens and {word} into {available // MIB:,} MiB."
    )
