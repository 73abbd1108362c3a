"""Known vulnerabilities, asked of OSV (https://osv.dev) by names and versions alone."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from .faults import Fault
from .packages import Lock, Package
from .project import Project

OSV = "https://api.osv.dev"
ECOSYSTEMS = {"pypi": "PyPI", "npm": "npm", "cargo": "crates.io"}
BATCH, MAX_DESCRIBED, TIMEOUT_S, AT_ONCE = 500, 300, 20.0, 8


@dataclass(slots=True)
class Advice:
    """`reached` is false where the source did not answer: then nothing is known."""

    reached: bool = False
    asked: int = 0
    faults: list[Fault] = field(default_factory=list)
    why: str = ""


async def ask(project: Project, url: str) -> Advice:
    """The vulnerable packages of a project; a source that does not answer is no failure."""
    rows = [(lock, p) for lock in project.locks for p in lock.packages if _askable(p)]
    advice = Advice(asked=len(rows))
    try:
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as client:
            named = await _named(client, rows)
            unique = [*dict.fromkeys(id for ids in named for id in ids)][:MAX_DESCRIBED]
            described = await _described(client, unique)
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        advice.why = type(error).__name__
        return advice
    advice.reached = True
    for (lock, package), ids in zip(rows, named, strict=True):
        advice.faults += [_fault(lock, package, id, described.get(id, {})) for id in ids]
    return advice


def _askable(package: Package) -> bool:
    return bool(package.version and package.registry and package.ecosystem in ECOSYSTEMS)


async def _named(
    client: httpx.AsyncClient, rows: Sequence[tuple[Lock, Package]]
) -> list[list[str]]:
    """The identifiers of each package's advisories."""
    found: list[list[str]] = []
    for start in range(0, len(rows), BATCH):
        queries = [_query(package) for _, package in rows[start : start + BATCH]]
        response = await client.post("/v1/querybatch", json={"queries": queries})
        results = response.raise_for_status().json()["results"]
        if len(results) != len(queries):
            raise ValueError("OSV answered another number of packages than it was asked for.")
        found += [[str(v["id"]) for v in (row or {}).get("vulns", ())] for row in results]
    return found


def _query(package: Package) -> dict[str, Any]:
    named = {"name": package.name, "ecosystem": ECOSYSTEMS[package.ecosystem]}
    return {"package": named, "version": package.version}


async def _described(client: httpx.AsyncClient, ids: Sequence[str]) -> dict[str, Any]:
    """The records of advisories; one that is not to be had stays a mere name."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(id: str) -> tuple[str, Any]:
        async with room:
            response = await client.get(f"/v1/vulns/{id}")
        return id, response.json() if response.is_success else {}

    return dict(await asyncio.gather(*map(one, ids)))


def _fault(lock: Lock, package: Package, id: str, record: Mapping[str, Any]) -> Fault:
    aliases = [a for a in record.get("aliases", ()) if str(a).startswith("CVE-")]
    mended = _mended(record, package)
    parts = [
        id + (f" ({aliases[0]})" if aliases else ""),
        str(record.get("summary") or "").strip()[:200],
        f"mended in {', '.join(mended)}" if mended else "",
    ]
    told = "; ".join(filter(None, parts))
    return Fault("vulnerable", lock.path, package.line, package.name, package.version, told)


def _mended(record: Mapping[str, Any], package: Package) -> list[str]:
    """The versions of the package with which the fault ends."""
    found = [
        str(event["fixed"])
        for affected in record.get("affected", ())
        if affected.get("package", {}).get("name") == package.name
        for span in affected.get("ranges", ())
        if span.get("type") != "GIT"
        for event in span.get("events", ())
        if "fixed" in event
    ]
    return [*dict.fromkeys(found)][:5]
