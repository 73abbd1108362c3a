"""Walks an application from one address over its links, and presses its buttons."""

import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urldefrag, urljoin, urlsplit

from playwright.async_api import Browser, BrowserContext, Locator, Page
from playwright.async_api import Error as BrowserError

from ai_stack.skill import JSON

from .browser import Reach
from .steps import STEP_MS, open_page, plain
from .watching import Watch

Fault = Literal[
    "dead_link",
    "broken_button",
    "console_error",
    "exception",
    "failed_request",
    "broken_image",
]
MOST_LINKS, MOST_BUTTONS, BUTTONS_OF_PAGE = 2_000, 200, 40
SETTLE_MS, LOOKS, PRESS_MS, ASK_MS = 150, 5, 3_000, 8_000
BUTTONS = "button, [role=button], input[type=button], input[type=submit], summary"
SHOWN = "visible=true"
HARMFUL = re.compile(
    r"(?i)\b(delete|remove|destroy|drop|reset|erase|wipe|pay|buy|order|purchase|send|sign ?out"
    r"|log ?out|unsubscribe|deactivate|shut ?down|löschen|abmelden|supprimer|borrar)\b"
)
STATE = """() => {
  const html = document.documentElement.outerHTML;
  const values = [...document.querySelectorAll('input, select, textarea')]
    .map(e => e.type === 'checkbox' || e.type === 'radio' ? e.checked : e.value).join('|');
  return [location.href, html, values, scrollX, scrollY,
          document.querySelectorAll('dialog[open]').length, document.title].join('\\n');
}"""
LINKS = "links => links.map(a => a.href)"
IMAGES = "all => all.filter(i => i.complete && !i.naturalWidth).map(i => i.currentSrc || i.src)"
Tell = Callable[[int, int, str], Awaitable[None]]


@dataclass(slots=True)
class Crawl:
    """What was walked and what was found; addresses are told without their fragment."""

    browser: Browser
    reach: Reach
    start: str
    pages: int
    press: bool
    submit: bool
    tell: Tell
    visited: dict[str, int] = field(default_factory=dict)
    faults: list[dict[str, JSON]] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    pressed: int = 0
    asked: dict[str, int] = field(default_factory=dict)
    anchors: dict[str, set[str]] = field(default_factory=dict)

    async def walk(self) -> None:
        """Visit pages in the order in which they are found, then judge the anchors."""
        waiting: deque[tuple[str, str]] = deque([(urldefrag(self.start)[0], "")])
        wanted: list[tuple[str, str, str]] = []
        while waiting and len(self.visited) < self.pages:
            url, source = waiting.popleft()
            if url in self.visited:
                continue
            await self.tell(len(self.visited), self.pages, url)
            for link in await self._visit(url, source):
                plain_url, fragment = urldefrag(link)
                if fragment:
                    wanted.append((url, plain_url, fragment))
                if self._ours(plain_url):
                    waiting.append((plain_url, url))
                else:
                    await self._ask(plain_url, url)
        for source, url, fragment in wanted:
            known = self.anchors.get(url)
            if known is not None and fragment not in known and fragment != "top":
                self._add("dead_link", source, f"{url}#{fragment}", "there is no such anchor")

    def _ours(self, url: str) -> bool:
        one, other = urlsplit(url), urlsplit(self.start)
        return (one.scheme, one.netloc) == (other.scheme, other.netloc)

    def _add(self, kind: Fault, page: str, target: str, detail: str) -> None:
        one: dict[str, JSON] = {"kind": kind, "page": page, "target": target, "detail": detail}
        if one not in self.faults:
            self.faults.append(one)

    async def _visit(self, url: str, source: str) -> list[str]:
        """Open a page, look at it, press its buttons; the links that it has."""
        context = await self.browser.new_context()
        try:
            context.set_default_timeout(STEP_MS)
            watch = Watch(self.reach)
            page = await context.new_page()
            await watch.attach(page)
            try:
                status = await open_page(page, url)
            except BrowserError as error:
                self.visited[url] = 0
                if not watch.acts or "Download is starting" not in str(error):
                    self._add("dead_link", source or url, url, plain(str(error)))
                return []
            self.visited[url] = status
            if status >= 400:
                self._add("dead_link", source or url, url, f"answers {status}")
                return []
            await page.wait_for_timeout(SETTLE_MS)
            links = await self._look(page, url)
            self._take(watch, url)
        finally:
            await context.close()
        if self.press:
            await self._press_all(url)
        return links

    async def _look(self, page: Page, url: str) -> list[str]:
        ids = await page.eval_on_selector_all(
            "[id], a[name]", "all => all.map(e => e.id || e.name)"
        )
        self.anchors[url] = {str(id) for id in ids}
        for source in await page.eval_on_selector_all("img[src]", IMAGES):
            if self.reach.allows(str(source)):
                self._add("broken_image", url, str(source)[:200], "is not shown")
        links = await page.eval_on_selector_all("a[href]", LINKS)
        found = [urljoin(url, str(link)) for link in links[:MOST_LINKS]]
        return [link for link in dict.fromkeys(found) if urlsplit(link).scheme in ("http", "https")]

    def _take(self, watch: Watch, url: str) -> None:
        for trouble in watch.troubles:
            during = "" if trouble.during == "loading" else f" ({trouble.during})"
            self._add(trouble.kind, url, trouble.message, f"while loading{during}")

    async def _ask(self, url: str, source: str) -> None:
        """A link to another origin: asked for where that is allowed, else left."""
        if url in self.asked or not self.reach.allows(url):
            if url not in self.asked:
                self.reach.blocked[url] = None
            return
        context = await self.browser.new_context()
        try:
            answer = await context.request.get(url, timeout=ASK_MS, max_redirects=0)
            self.asked[url] = answer.status
            if answer.status >= 400:
                self._add("dead_link", source, url, f"answers {answer.status}")
        except BrowserError as error:
            self.asked[url] = 0
            self._add("dead_link", source, url, plain(str(error)))
        finally:
            await context.close()

    async def _press_all(self, url: str) -> None:
        """Each button of a page, on a copy that is loaded anew."""
        number = 0
        while number < BUTTONS_OF_PAGE and self.pressed < MOST_BUTTONS:
            context = await self.browser.new_context()
            try:
                if not await self._press(context, url, number):
                    return
            finally:
                await context.close()
            number += 1

    async def _press(self, context: BrowserContext, url: str, number: int) -> bool:
        """Press the button of this number; False when there is none."""
        context.set_default_timeout(STEP_MS)
        watch = Watch(self.reach)
        page = await context.new_page()
        await watch.attach(page)
        await open_page(page, url)
        buttons = page.locator(BUTTONS).locator(SHOWN)
        if number >= await buttons.count():
            return False
        button = buttons.nth(number)
        name = await _name(button)
        if await button.is_disabled():
            return True
        if HARMFUL.search(name) or (not self.submit and await button.evaluate(SUBMITS)):
            self.left_alone.append(f"{name} on {url}")
            return True
        await page.wait_for_timeout(SETTLE_MS)
        await self._judge(page, watch, button, name, url)
        return True

    async def _judge(self, page: Page, watch: Watch, button: Locator, name: str, url: str) -> None:
        """What pressing it does."""
        self.pressed += 1
        watch.troubles.clear()
        watch.during, acts, before = f"pressing {name!r}", watch.acts, await page.evaluate(STATE)
        try:
            await button.click(timeout=PRESS_MS)
        except BrowserError as error:
            self._add("broken_button", url, name, f"cannot be pressed: {plain(str(error))}")
            return
        changed = await _changes(page, watch, acts, before)
        thrown = [t.message for t in watch.troubles if t.kind == "exception"]
        if thrown:
            self._add("broken_button", url, name, f"throws {thrown[0]}")
        elif not changed:
            self._add("broken_button", url, name, "does nothing that can be seen")
        for trouble in watch.troubles:
            if trouble.kind != "exception":
                self._add(trouble.kind, url, trouble.message, watch.during)


SUBMITS = """e => (e.type === 'submit' || e.type === 'image') && !!e.form
  && e.form.method !== 'dialog'"""


async def _changes(page: Page, watch: Watch, acts: int, before: str) -> bool:
    """Whether anything happens within a moment."""
    for _ in range(LOOKS):
        await page.wait_for_timeout(SETTLE_MS)
        if watch.acts != acts or watch.troubles or await _state(page) != before:
            return True
    return False


async def _state(page: Page) -> str:
    try:
        return str(await page.evaluate(STATE))
    except BrowserError:
        return "the page is another by now"


async def _name(button: Locator) -> str:
    told = await button.evaluate(
        "e => e.getAttribute('aria-label') || e.innerText || e.value || e.title || e.id"
        " || e.outerHTML.slice(0, 80)"
    )
    return " ".join(str(told).split())[:80]
