"""The protocol's own suites on the product's face, through the real transport and gate."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest

import mcp_fixtures as fixtures
import mcp_suites as suites
from ai_stack.mcp import Mcp
from ai_stack.rest.requests import caller_of
from ai_stack.rest.weight import check_weight
from ai_stack.settings import Settings
from gateways import gateway

SKILLS = ("sep-2640-skills-directory", "sep-2640-skills-enumeration", "sep-2640-skills-manifest")
WITHOUT_SESSIONS = {
    "tools-call-with-logging",
    "tools-call-sampling",
    "tools-call-elicitation",
    "elicitation-sep1034-defaults",
    "elicitation-sep1330-enums",
}


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    suites.install()


@asynccontextmanager
async def served(settings: Settings, *, sessions: bool = False) -> AsyncIterator[str]:
    fixtures.write_skill(settings.config_dir / "skills")
    face = Mcp(caller_of, check_weight, partial(fixtures.with_fixtures, sessions=sessions))
    async with gateway(settings, face) as client, asyncio.timeout(240):
        yield f"{client.base_url}/mcp"


async def scored(url: str, suite: str, options: Sequence[str] = ()) -> suites.Outcome:
    found = await suites.judge(suite, url, options)
    print(found.said)
    return found


async def test_requirements_of_2026_07_28(memory_settings: Settings) -> None:
    """All that count, and those that were added too late to count; tasks are an extension."""
    async with served(memory_settings) as url:
        found = await scored(url, suites.NEWER, ("--requirements", "2026-07-28"))
    faults = {name for name in found.failures if not name.startswith("tasks-")}
    assert not faults, found.said
    assert found.passed >= 149


@pytest.mark.parametrize("scenario", SKILLS)
async def test_skills_of_2026_07_28(memory_settings: Settings, scenario: str) -> None:
    async with served(memory_settings) as url:
        found = await scored(url, suites.NEWER, ("--scenario", scenario))
    assert (found.failures, found.warnings) == ({}, 0), found.said
    assert found.passed >= 6


async def test_suite_of_2025_11_25(memory_settings: Settings) -> None:
    async with served(memory_settings, sessions=True) as url:
        found = await scored(url, suites.OLDER)
    assert (found.passed, found.failures) == (40, {}), found.said


async def test_what_needs_sessions_is_all_that_the_product_leaves_out(
    memory_settings: Settings,
) -> None:
    async with served(memory_settings) as url:
        found = await scored(url, suites.OLDER)
    assert set(found.failures) == WITHOUT_SESSIONS, found.said
