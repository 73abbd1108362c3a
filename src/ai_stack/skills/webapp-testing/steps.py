"""Does the steps of a run, one after the other, each within its time."""

import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urljoin

from playwright.async_api import Error as BrowserError
from playwright.async_api import Locator, Page, expect
from pydantic import BaseModel, ConfigDict, Field

from ai_stack.skill import JSON, SkillFailed

from .browser import Reach

STEP_MS, LONGEST_WAIT_MS = 10_000, 10_000
Verb = Literal[
    "click",
    "hover",
    "check",
    "uncheck",
    "fill",
    "select",
    "press",
    "goto",
    "wait",
    "expect_visible",
    "expect_hidden",
    "expect_text",
    "expect_value",
    "expect_count",
    "expect_url",
    "expect_title",
    "screenshot",
]
ALONE = {"goto", "wait", "expect_url", "expect_title", "screenshot"}


class Step(BaseModel):
    """One thing to do on a page."""

    model_config = ConfigDict(extra="forbid")
    do: Annotated[Verb, Field(description="What to do.")]
    target: Annotated[str, Field(max_length=500, description="CSS, text=, label=, role=name:…")] = (
        ""
    )
    value: Annotated[str, Field(max_length=5000, description="What it needs.")] = ""

    @property
    def told(self) -> str:
        return " ".join(part for part in (self.do, self.target, repr(self.value)[:80]) if part)


Shoot = Callable[[str, Locator | None], Awaitable[Path]]


class Runner:
    """Does steps on one page; `shoot` takes pictures."""

    def __init__(self, page: Page, reach: Reach, shoot: Shoot, patience_ms: float) -> None:
        self.page, self.reach, self.shoot = page, reach, shoot
        self.patience_ms = patience_ms

    async def done(self, step: Step) -> dict[str, JSON]:
        """Do a step: whether it passed, its time, and what was wrong."""
        began = time.monotonic()
        wrong = ""
        try:
            await self._do(step)
        except (BrowserError, AssertionError) as error:
            wrong = plain(str(error))
        took_ms = round((time.monotonic() - began) * 1000)
        return {
            "step": step.told,
            "passed": not wrong,
            "took_ms": took_ms,
            **({"wrong": wrong} if wrong else {}),
        }

    async def _do(self, step: Step) -> None:
        if not step.target and step.do not in ALONE:
            raise SkillFailed(f"The step {step.do} needs a target.")
        if step.do.startswith("expect_"):
            await self._expect(step)
        elif step.do in ("goto", "wait", "screenshot"):
            await self._go(step)
        else:
            await self._act(step)

    async def _act(self, step: Step) -> None:
        target = locate(self.page, step.target)
        match step.do:
            case "fill":
                await target.fill(step.value)
            case "select":
                await target.select_option(step.value)
            case "press":
                await target.press(step.value or "Enter")
            case "hover":
                await target.hover()
            case "check":
                await target.check()
            case "uncheck":
                await target.uncheck()
            case _:
                await target.click()

    async def _go(self, step: Step) -> None:
        if step.do == "goto":
            await open_page(self.page, self.reach.checked(urljoin(self.page.url, step.value)))
        elif step.do == "screenshot":
            target = locate(self.page, step.target) if step.target else None
            await self.shoot(step.value or "step", target)
        elif step.target:
            await locate(self.page, step.target).wait_for()
        else:
            await self.page.wait_for_timeout(_milliseconds(step.value))

    async def _expect(self, step: Step) -> None:
        target = expect(locate(self.page, step.target or "html"))
        ms = self.patience_ms
        match step.do:
            case "expect_visible":
                await target.to_be_visible(timeout=ms)
            case "expect_hidden":
                await target.to_be_hidden(timeout=ms)
            case "expect_text":
                await target.to_contain_text(step.value, timeout=ms)
            case "expect_value":
                await target.to_have_value(step.value, timeout=ms)
            case "expect_count":
                await target.to_have_count(_milliseconds(step.value), timeout=ms)
            case "expect_title":
                wanted = re.compile(re.escape(step.value))
                await expect(self.page).to_have_title(wanted, timeout=ms)
            case _:
                wanted = re.compile(re.escape(step.value))
                await expect(self.page).to_have_url(wanted, timeout=ms)


def locate(page: Page, target: str) -> Locator:
    """The element that a target means."""
    kind, _, rest = target.partition("=")
    match kind:
        case "text":
            return page.get_by_text(rest)
        case "label":
            return page.get_by_label(rest)
        case "placeholder":
            return page.get_by_placeholder(rest)
        case "testid":
            return page.get_by_test_id(rest)
        case "role":
            role, _, name = rest.partition(":")
            named = f'[name="{name.replace(chr(34), chr(92) + chr(34))}"i]' if name else ""
            return page.locator(f"role={role.strip()}{named}")
    return page.locator(f"css={target}")


async def open_page(page: Page, url: str) -> int:
    """Open an address, and the status of its answer; 0 for one that has none."""
    response = await page.goto(url, wait_until="load")
    return response.status if response else 0


def plain(error: str) -> str:
    """The part of a browser's message that people can use."""
    head = re.split("Call log:|Browser logs:", error, maxsplit=1)[0]
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in head.splitlines()]
    told = "; ".join(line for line in lines if line)
    return re.sub(r"^(Page|Locator|BrowserType|Error)\.?\w*: ", "", told)[:600]


def _milliseconds(value: str) -> int:
    if not value.strip().isdigit():
        raise SkillFailed(f"{value[:40]!r} must be a whole number.")
    return min(int(value), LONGEST_WAIT_MS)
