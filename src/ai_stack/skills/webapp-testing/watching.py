"""Collects what goes wrong on a page while something is done on it."""

from dataclasses import asdict, dataclass, field
from typing import Literal

from playwright.async_api import ConsoleMessage, Dialog, Download, Page, Request, Response

from ai_stack.skill import JSON

from .browser import Reach

Kind = Literal["console_error", "exception", "failed_request"]
MOST, LONGEST = 500, 500
REFUSED = "net::ERR_BLOCKED_BY_CLIENT"
ECHO = "Failed to load resource"  # the console repeats what the request has told


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that went wrong, on which page, and during what."""

    kind: Kind
    page: str
    during: str
    message: str

    def told(self) -> dict[str, JSON]:
        return {**asdict(self)}


@dataclass  # without slots, since Playwright keeps a mark on whoever listens
class Watch:
    """What was heard of a page; `during` is set by whoever does something on it.

    `acts` counts what a press may lead to: requests, dialogs, downloads, windows.
    """

    reach: Reach
    during: str = "loading"
    troubles: list[Trouble] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    acts: int = 0

    async def attach(self, page: Page) -> None:
        """Listen to a page from now on, and let it reach what it may."""
        await page.route("**/*", self.reach.decide)
        page.on("console", lambda message: self._console(page, message))
        page.on("pageerror", lambda error: self._add("exception", page, error.message))
        page.on("requestfailed", lambda request: self._failed(page, request))
        page.on("request", self._asked)
        page.on("response", lambda response: self._answered(page, response))
        page.on("dialog", self._dialog)
        page.on("download", self._download)
        page.on("popup", lambda other: self._acted())

    def _asked(self, request: Request) -> None:
        self.acts += 1
        if not self.reach.allows(request.url):  # as a redirect may lead to
            self.reach.blocked[request.url[:200]] = None

    def _acted(self) -> None:
        self.acts += 1

    def _add(self, kind: Kind, page: Page, message: str) -> None:
        if len(self.troubles) < MOST:
            self.troubles.append(Trouble(kind, page.url, self.during, message[:LONGEST]))

    def _console(self, page: Page, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(ECHO):
            self._add("console_error", page, message.text)

    def _failed(self, page: Page, request: Request) -> None:
        why = request.failure or ""
        if why not in (REFUSED, "net::ERR_ABORTED") and self.reach.allows(request.url):
            self._add("failed_request", page, f"{request.method} {request.url}: {why}")

    def _answered(self, page: Page, response: Response) -> None:
        if response.status >= 400 and not response.request.is_navigation_request():
            told = f"{response.request.method} {response.url}: {response.status}"
            self._add("failed_request", page, told)

    async def _dialog(self, dialog: Dialog) -> None:
        self.acts += 1
        self.dialogs.append(f"{dialog.type}: {dialog.message[:LONGEST]}")
        await dialog.accept()

    async def _download(self, download: Download) -> None:
        self.acts += 1
        await download.cancel()
