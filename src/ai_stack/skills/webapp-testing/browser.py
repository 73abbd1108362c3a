"""The system's Chromium, started for one run; knows which hosts it may reach, and no others."""

import ipaddress
import re
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from playwright.async_api import Browser, Route, async_playwright
from playwright.async_api import Error as BrowserError

from ai_stack.skill import SkillFailed
from ai_stack.skill.browsers import FLAGS, PROGRAMS

INNER = ("data", "blob", "about")
HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def _rules(hosts: Iterable[str]) -> str:
    known = ("localhost", "*.localhost", "127.*", "[::1]", *hosts)
    return ", ".join(["MAP * ~NOTFOUND", *(f"EXCLUDE {host}" for host in known)])


class Reach:
    """The hosts that may be reached: loopback, and those that were allowed. Keeps what was not."""

    def __init__(self, hosts: Iterable[str] = ()) -> None:
        self.hosts = {host.lower() for host in hosts}
        if wrong := [host for host in self.hosts if not HOST.fullmatch(host)]:
            raise SkillFailed(f"{wrong[0][:60]!r} in `hosts` is no name of a host.")
        self.blocked: dict[str, None] = {}

    def allows(self, url: str) -> bool:
        """Whether an address may be asked."""
        parts = urlsplit(url)
        if parts.scheme in INNER:
            return True
        host = (parts.hostname or "").lower()
        secure = parts.scheme in ("http", "https", "ws", "wss")
        return secure and (is_loopback(host) or host in self.hosts)

    def checked(self, url: str) -> str:
        """The address; SkillFailed for one that may not be visited."""
        if urlsplit(url).scheme not in ("http", "https") or not self.allows(url):
            raise SkillFailed(
                f"{url[:100]!r} is not an http address on this machine; `hosts` allows others."
            )
        return url

    async def decide(self, route: Route) -> None:
        """Let a request go where it may, and refuse it elsewhere."""
        if self.allows(route.request.url):
            await route.continue_()
        else:
            self.blocked[route.request.url[:200]] = None
            await route.abort("blockedbyclient")


@asynccontextmanager
async def chromium(reach: Reach, start: str) -> AsyncIterator[Browser]:
    """The browser; SkillFailed where there is none, where it does not start, or where `start` may
    not be visited.

    It finds no host but those within reach, whoever asks: redirects and sockets among them.
    """
    reach.checked(start)
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        raise SkillFailed("There is no Chromium on PATH; install your system's package of it.")
    async with async_playwright() as player:
        try:
            flags = [*FLAGS, f"--host-resolver-rules={_rules(reach.hosts)}"]
            browser = await player.chromium.launch(executable_path=program, args=flags)
        except BrowserError:
            raise SkillFailed("Chromium is there but did not start.") from None
        try:
            yield browser
        finally:
            await browser.close()


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine by itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
