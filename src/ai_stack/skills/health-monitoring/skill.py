"""Checks this machine and the stack on it: now, for a while, and over what was recorded."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from pydantic import Field

from ai_stack.skill import File, Skill, SkillResult, action

from .checks import Checked, worst
from .history import History, read_samples
from .machine import Limits, check_machine, check_services
from .reach import check_certificates, check_gateway, check_ports
from .samples import Sample, changes, sample, spread

GATEWAY = "http://127.0.0.1:8091"
MOST = 20
Url = Annotated[str, Field(max_length=500, description="The stack's gateway; empty for none.")]
Names = Annotated[str, Field(min_length=1, max_length=300)]
Disks = Annotated[
    list[Names],
    Field(max_length=MOST, description="Folders whose disks count; all mounted ones by default."),
]


class HealthMonitoring(Skill):
    @action
    async def check(
        self,
        gateway: Url = GATEWAY,
        disks: Disks = [],  # noqa: B006 (pydantic copies it)
        ports: Annotated[
            list[Names], Field(max_length=MOST, description="`host:port` that must be open.")
        ] = [],  # noqa: B006
        certificates: Annotated[
            list[Names], Field(max_length=MOST, description="`host:port` that speaks TLS.")
        ] = [],  # noqa: B006
        services: Annotated[
            list[Names],
            Field(max_length=MOST, description="Processes, or `NAME.service` of systemd."),
        ] = [],  # noqa: B006
        min_free_percent: Annotated[
            float, Field(ge=0, le=100, description="Of a disk; less is a fault.")
        ] = 5,
        max_memory_percent: Annotated[
            float, Field(ge=0, le=100, description="Of memory; more is a fault.")
        ] = 95,
        min_certificate_days: Annotated[
            float, Field(ge=0, le=3650, description="That a certificate must last.")
        ] = 14,
    ) -> SkillResult:
        """Say what is wrong now."""
        limits = Limits(min_free_percent, max_memory_percent)
        found = await asyncio.gather(
            asyncio.to_thread(check_machine, limits, disks),
            asyncio.to_thread(check_services, services),
            check_ports(ports),
            check_certificates(certificates, min_certificate_days),
            check_gateway(gateway),
        )
        checks = [one for part in found for one in part]
        ill = [one for one in checks if one.status != "ok"]
        return SkillResult(
            {
                "status": worst(checks),
                "faults": sum(one.status == "fault" for one in checks),
                "warnings": sum(one.status == "warning" for one in checks),
                "checks": [one.shown() for one in sorted(checks, key=_by_status)],
            },
            summary="\n".join(_told(checks, ill)),
        )

    @action
    async def watch(
        self,
        seconds: Annotated[float, Field(ge=1, le=600, description="How long.")] = 30,
        every_s: Annotated[float, Field(ge=0.1, le=60, description="Between samples.")] = 1,
        gateway: Url = GATEWAY,
        disks: Disks = [],  # noqa: B006
    ) -> SkillResult:
        """Watch for a while, and write each sample to samples.jsonl."""
        samples = await self._collected(seconds, every_s, gateway, disks)
        moments = changes(samples)
        summary = [f"{len(samples)} samples in {seconds:g} s; {len(moments)} changes."]
        summary += [f"{one['at']}: {one['told']}" for one in moments[:4]]
        return SkillResult(
            {"samples": len(samples), "measures": spread(samples), "changes": [*moments]},
            summary="\n".join(summary),
        )

    @action
    async def history(
        self,
        files: Annotated[
            list[File], Field(max_length=100, description="`samples.jsonl` of earlier watches.")
        ] = [],  # noqa: B006
        seconds: Annotated[
            float, Field(ge=1, le=600, description="To collect for where no files are given.")
        ] = 10,
        gateway: Url = GATEWAY,
    ) -> SkillResult:
        """Say how things went: trends, forecasts, outages."""
        notes: list[str] = []
        if files:
            samples = await asyncio.to_thread(read_samples, files, notes)
        else:
            samples = await self._collected(seconds, seconds / 20, gateway, [])
            notes.append(f"No files were given, so that this is of {seconds:g} seconds only.")
        history = History(samples)
        return SkillResult(history.shown(), summary=history.summary, notes=tuple(notes))

    async def _collected(
        self, seconds: float, every_s: float, gateway: str, disks: Sequence[str]
    ) -> list[Sample]:
        """Samples, each also a line of the artifact."""
        found: list[Sample] = []
        total = max(1, int(seconds / every_s))
        with self.context.artifact("samples.jsonl").open("w") as file:
            async for taken in _sampled(total, every_s, gateway, disks):
                found.append(taken)
                file.write(json.dumps(taken.shown()) + "\n")
                await self.context.progress(len(found), total, taken.told)
        return found


async def _sampled(
    total: int, every_s: float, gateway: str, disks: Sequence[str]
) -> AsyncIterator[Sample]:
    """So many samples, each at its own time, however long the one before it took."""
    clock = asyncio.get_running_loop()
    begun = clock.time()
    for number in range(total):
        await asyncio.sleep(max(0.0, begun + number * every_s - clock.time()))
        yield await sample(gateway, disks)


def _by_status(one: Checked) -> int:
    return ("fault", "warning", "ok").index(one.status)


def _told(checks: Sequence[Checked], ill: Sequence[Checked]) -> list[str]:
    if not ill:
        return [f"All {len(checks)} checks are well."]
    ranked = sorted(ill, key=_by_status)
    return [f"{len(ill)} of {len(checks)} checks are not well."] + [
        f"{one.status}: {one.told}" for one in ranked[:4]
    ]
