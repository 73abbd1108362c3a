"""System bootstrap: from an empty home to a client that is proved to work with the stack."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from ai_stack.skill import JSON, Skill, SkillResult, action

from .program import run
from .steps import CONNECT_S, PULL_S, UP_S, Name, Step, Wish, examined, names, planned, shown_by

TIMES_S = {"start": UP_S, "pull": PULL_S}
# Programs that skills use where they are there, by what they are for.
PROGRAMS = {
    "bwrap": "walls around skills that open foreign files",
    "git": "reports from a repository",
    "chromium": "testing web pages",
    "soffice": "recalculating spreadsheets",
    "nix-instantiate": "checking Nix files",
}
STOPPED = "The stack did not start, so nothing was connected to it."

Clients = Annotated[
    tuple[Name, ...], Field(max_length=7, description="Clients that are to work with the stack.")
]
Model = Annotated[
    str,
    Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._:/@-]{0,199})?$", description="Model for clients."),
]
Pull = Annotated[
    str,
    Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._:/@-]{0,199})?$", description="Model to download."),
]
Address = Annotated[
    str,
    Field(
        pattern=r"^(http://(127\.0\.0\.1|localhost|\[::1\]):[0-9]{1,5})?$",
        description="A gateway of this machine other than this stack's.",
    ),
]
Start = Annotated[bool, Field(description="Whether a stack that does not run is started.")]


class SystemBootstrap(Skill):
    @action
    async def plan(
        self,
        *,
        clients: Clients = (),
        start: Start = True,
        pull: Pull = "",
        model: Model = "",
        url: Address = "",
    ) -> SkillResult:
        """Examine the machine and list the steps that are needed."""
        health = await examined()
        steps = await planned(Wish(clients, start, pull, model, url), health)
        needed = [step for step in steps if step.needed]
        lines = [f"{len(needed)} of {len(steps)} steps are needed."]
        lines += [f"{step.to_json()['command']}: {step.why}" for step in needed[:4]]
        rows: list[JSON] = [step.to_json() for step in steps]
        return SkillResult({"steps": rows, **_health(health), **_programs()}, "\n".join(lines))

    @action
    async def apply(
        self,
        *,
        clients: Clients = (),
        start: Start = False,
        pull: Pull = "",
        model: Model = "",
        url: Address = "",
        dry_run: Annotated[bool, Field(description="Only tell what would be done.")] = False,
    ) -> SkillResult:
        """Carry the steps out: start, download, connect clients and prove them."""
        health = await examined() if start else {"findings": []}
        steps = await planned(Wish(clients, start, pull, model, url), health)
        rows: list[JSON] = []
        notes: tuple[str, ...] = ()
        for number, step in enumerate(steps, 1):
            await self.context.progress(number - 1, len(steps), step.name)
            row = {**step.to_json(), "done": False} if dry_run else await _done(step)
            rows.append(row)
            if step.name == "start" and row.get("fault"):
                notes = (STOPPED,)
                break
        failed = [row for row in rows if isinstance(row, Mapping) and row.get("fault")]
        lines = [f"{len(rows)} steps, {len(failed)} failed."]
        lines += [f"{row['step']}: {row['fault']}" for row in failed[:4]]
        output: dict[str, JSON] = {"ok": not failed, "dry_run": dry_run, "steps": rows}
        return SkillResult(output, "\n".join(lines), notes)

    @action
    async def verify(
        self, *, clients: Clients = (), model: Model = "", url: Address = ""
    ) -> SkillResult:
        """Examine the machine again and prove each client; it changes nothing."""
        health = await examined()
        wish = Wish(clients, model=model, url=url)
        rows: list[JSON] = []
        for number, client in enumerate(clients, 1):
            await self.context.progress(number, len(clients), client)
            rows.append(await _proved(wish, client))
        works = [row for row in rows if isinstance(row, Mapping) and row["works"]]
        found = health["findings"]
        lines = [f"{len(works)} of {len(rows)} clients work; doctor finds {len(found)} faults."]
        lines += [f"{f['what']} {f['mend']}" for f in found[:4]]
        ok = len(works) == len(rows) and not found
        return SkillResult({"ok": ok, "clients": rows, **_health(health)}, "\n".join(lines))


async def _done(step: Step) -> dict[str, JSON]:
    """One step carried out; what was done already is left alone, but clients are proved anew."""
    row = step.to_json()
    if not step.needed and not step.name.startswith("connect"):
        return {**row, "done": True, "fault": ""}
    ran = await run(step.arguments, TIMES_S.get(step.name, CONNECT_S))
    verified = [dict(proof) for proof in ran.output.get("verified", ())]
    failures = [f"{p['capability']}: {p['failure']}" for p in verified if p["failure"]]
    fault = "; ".join(failures) or ran.fault
    written: list[JSON] = [dict(file) for file in ran.output.get("files", ())]
    steps: list[JSON] = [str(text) for text in ran.output.get("steps", ())]
    row |= {"done": not fault, "fault": fault[:1000], "written": written, "next": steps}
    return {**row, "verified": _proofs(verified)}


async def _proved(wish: Wish, client: Name) -> dict[str, JSON]:
    ran = await shown_by(wish, client, "--verify")
    address = str(ran.output.get("address", ""))
    files = [str(file["path"]) for file in ran.output.get("files", ())]
    unnamed = [file for file in files if not names(file, address)]
    verified = [dict(proof) for proof in ran.output.get("verified", ())]
    failures = [str(p["failure"]) for p in verified if p["failure"]]
    fault = "; ".join(failures) or ran.fault
    fault = fault or (f"{unnamed[0]} does not name the gateway: apply." if unnamed else "")
    return {
        "client": client,
        "works": not fault,
        "configured": not unnamed and not ran.fault,
        "fault": fault[:1000],
        "model": str(ran.output.get("model", "")),
        "verified": _proofs(verified),
    }


def _proofs(verified: Sequence[Mapping[str, Any]]) -> list[JSON]:
    return [
        {"capability": p["capability"], "through": p["through"], "failure": p["failure"]}
        for p in verified
    ]


def _health(health: Mapping[str, Any]) -> dict[str, JSON]:
    findings: list[JSON] = [dict(finding) for finding in health["findings"]]
    return {"checks": len(health["checks"]), "findings": findings}


def _programs() -> dict[str, JSON]:
    rows: list[JSON] = [
        {"program": name, "for": purpose, "there": shutil.which(name) is not None}
        for name, purpose in PROGRAMS.items()
    ]
    return {"programs": rows}
