"""Tries web applications in Chromium: steps, crawls, screenshots."""

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from playwright.async_api import Browser, Locator, Page, ViewportSize
from playwright.async_api import Error as BrowserError
from pydantic import Field

from ai_stack.skill import JSON, Folder, Skill, SkillFailed, SkillResult, action

from .browser import Reach, chromium
from .crawling import Crawl
from .site import address
from .steps import STEP_MS, Runner, Step, locate, open_page, plain
from .watching import Watch

TALLEST_PX = 12_000
Address = Annotated[
    str,
    Field(max_length=2000, description="Where it runs, http://127.0.0.1:…; of a site, a path."),
]
Site = Annotated[
    Folder | None, Field(description="A folder of files that is served on this machine meanwhile.")
]
Hosts = Annotated[
    tuple[Annotated[str, Field(max_length=253)], ...],
    Field(max_length=20, description="Other hosts that may be reached; else only this machine."),
]
Scheme = Annotated[Literal["light", "dark"], Field(description="What the reader prefers.")]
Width = Annotated[int, Field(ge=280, le=3000)]


class WebappTesting(Skill):
    @action
    async def run(
        self,
        steps: Annotated[
            list[Step], Field(min_length=1, max_length=60, description="In their order.")
        ],
        url: Address = "",
        site: Site = None,
        width: Annotated[Width, Field(description="Of the window, in pixels.")] = 1280,
        scheme: Scheme = "light",
        strict: Annotated[bool, Field(description="Errors on the way are a failure too.")] = False,
        patience_s: Annotated[
            float, Field(ge=0.1, le=30, description="How long a step waits for what it needs.")
        ] = 10,
        hosts: Hosts = (),
    ) -> SkillResult:
        """Open a page and do steps on it: click, fill, expect."""
        watch = Watch(Reach(hosts))
        async with address(url, site) as start, chromium(watch.reach, start) as browser:
            page = await _window(browser, width, scheme)
            await watch.attach(page)
            page.set_default_timeout(patience_s * 1000)
            done = await self._stepped(page, start, steps, watch, patience_s)
        return _report(done, len(steps) + 1, watch, strict)

    async def _stepped(
        self, page: Page, start: str, steps: Sequence[Step], watch: Watch, patience_s: float
    ) -> list[dict[str, JSON]]:
        """What became of each step, to the first that failed, which is pictured."""
        runner = Runner(page, watch.reach, partial(self._shot, page), patience_s * 1000)
        done = [await _opened(page, start)]
        for number, step in enumerate(steps):
            if not done[-1]["passed"]:
                break
            await self.context.progress(number, len(steps), step.told)
            watch.during = step.told
            done.append(await runner.done(step))
        if not done[-1]["passed"]:
            with suppress(BrowserError):  # what did not open has no picture
                await self._shot(page, "failure", None)
        return done

    @action
    async def crawl(
        self,
        url: Address = "",
        site: Site = None,
        pages: Annotated[int, Field(ge=1, le=100, description="How many are visited.")] = 25,
        press_buttons: Annotated[bool, Field(description="Whether buttons are tried.")] = True,
        submit: Annotated[bool, Field(description="Press what sends a form too.")] = False,
        hosts: Hosts = (),
    ) -> SkillResult:
        """Walk over all links from a page; find dead links, broken buttons and errors."""
        reach = Reach(hosts)
        async with address(url, site) as start, chromium(reach, start) as browser:
            tell = self.context.progress
            crawl = Crawl(browser, reach, start, pages, press_buttons, submit, tell)
            await crawl.walk()
            if not any(crawl.visited.values()):
                raise SkillFailed(f"{start[:100]} does not answer: start the application first.")
        return _crawled(crawl, pages)

    @action
    async def screenshot(
        self,
        url: Address = "",
        site: Site = None,
        widths: Annotated[
            tuple[Width, ...],
            Field(min_length=1, max_length=6, description="Of the window, in pixels."),
        ] = (1280,),
        target: Annotated[str, Field(max_length=500, description="One element; else all.")] = "",
        whole: Annotated[bool, Field(description="All of the page, not only the window.")] = True,
        scheme: Scheme = "light",
        name: Annotated[str, Field(max_length=60, description="Of the files.")] = "page",
        hosts: Hosts = (),
    ) -> SkillResult:
        """Take a PNG of a page, or of a part of it."""
        watch = Watch(Reach(hosts))
        files: list[JSON] = []
        async with address(url, site) as start, chromium(watch.reach, start) as browser:
            for width in widths:
                await self.context.progress(len(files), len(widths), f"{width} pixels")
                page = await _window(browser, width, scheme)
                await watch.attach(page)
                opened = await _opened(page, start)
                if not opened["passed"]:
                    raise SkillFailed(f"The page cannot be opened: {opened['wrong']}")
                found = locate(page, target) if target else None
                try:
                    path = await self._shot(page, f"{name}-{width}", found, whole=whole)
                except BrowserError as error:
                    raise SkillFailed(f"No picture could be taken: {plain(str(error))}") from None
                files.append(path.name)
                title = await page.title()
                await page.close()
        output: dict[str, JSON] = {"files": files, "title": title, **_heard(watch)}
        return SkillResult(output, f"{', '.join(map(str, files))}: {title}", _notes(watch.reach))

    async def _shot(
        self, page: Page, name: str, target: Locator | None, *, whole: bool = False
    ) -> Path:
        plain_name = re.sub(r"[^\w-]+", "-", name).strip("-") or "page"
        path = self.context.artifact(f"{plain_name}.png")
        if target is not None:
            await target.screenshot(path=path)
        else:
            await _stretch(page, whole)
            await page.screenshot(path=path)
        return path


async def _window(browser: Browser, width: int, scheme: Literal["light", "dark"]) -> Page:
    size: ViewportSize = {"width": width, "height": 900}
    page = await browser.new_page(viewport=size, color_scheme=scheme)
    page.set_default_timeout(STEP_MS)
    return page


async def _stretch(page: Page, whole: bool) -> None:
    """The window as tall as the page, within bounds, so that all of it is in the picture."""
    size = page.viewport_size
    if whole and size:
        tall = int(await page.evaluate("document.documentElement.scrollHeight"))
        tall = min(max(tall, 100), TALLEST_PX)
        await page.set_viewport_size({"width": size["width"], "height": tall})


async def _opened(page: Page, url: str) -> dict[str, JSON]:
    told: dict[str, JSON] = {"step": f"open {url}"}
    try:
        status = await open_page(page, url)
    except BrowserError as error:
        return {**told, "passed": False, "wrong": plain(str(error))}
    wrong: dict[str, JSON] = {"wrong": f"answers {status}"} if status >= 400 else {}
    return {**told, "passed": status < 400, "status": status, **wrong}


def _heard(watch: Watch) -> dict[str, JSON]:
    errors: list[JSON] = [trouble.told() for trouble in watch.troubles]
    return {"errors": errors, "dialogs": [*watch.dialogs], "blocked": [*watch.reach.blocked]}


def _notes(reach: Reach) -> tuple[str, ...]:
    if not reach.blocked:
        return ()
    return (f"{len(reach.blocked)} requests to other machines were refused: see `blocked`.",)


def _report(done: Sequence[dict[str, JSON]], count: int, watch: Watch, strict: bool) -> SkillResult:
    good = len(done) == count and all(step["passed"] for step in done)
    passed = good and not (strict and watch.troubles)
    last = done[-1]
    told = f"All {count} steps passed" if good else f"{last['step']} failed: {last.get('wrong')}"
    errors = f"{len(watch.troubles)} errors on the way" if watch.troubles else "no errors"
    steps: list[JSON] = [*done]
    output: dict[str, JSON] = {"passed": passed, "steps": steps, **_heard(watch)}
    return SkillResult(output, f"{told}; {errors}.", _notes(watch.reach))


def _crawled(crawl: Crawl, pages: int) -> SkillResult:
    counts: dict[str, JSON] = {}
    for fault in crawl.faults:
        kind = str(fault["kind"])
        counts[kind] = int(str(counts.get(kind, 0))) + 1
    found: list[JSON] = [*crawl.faults]
    output: dict[str, JSON] = {
        "pages": {**crawl.visited},
        "buttons_pressed": crawl.pressed,
        "left_alone": [*dict.fromkeys(crawl.left_alone)],
        "findings": found,
        "counts": counts,
        "blocked": [*crawl.reach.blocked],
    }
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing wrong"
    notes = [*_notes(crawl.reach)]
    if len(crawl.visited) == pages:
        notes.append(f"The crawl ended at {pages} pages; there may be more.")
    summary = f"{len(crawl.visited)} pages, {crawl.pressed} buttons pressed: {told}."
    return SkillResult(output, summary, tuple(notes))
