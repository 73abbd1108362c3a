"""Renders a page in Chromium at several widths, and measures it there. Judges no markup."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

from playwright.async_api import (
    CDPSession,
    ConsoleMessage,
    Page,
    Route,
    ViewportSize,
    async_playwright,
)
from playwright.async_api import Error as BrowserError

from ai_stack.skill.browsers import FLAGS

from .browser import NotRendered, chromium

HEIGHT = 900
PATIENCE_MS = 15_000
TALLEST_SHOT = 6_000
PROBE = (Path(__file__).parent / "probe.js").read_text()
SELECTOR = PROBE[PROBE.index("const selector =") : PROBE.index("const tell =")]
NAMED = {
    "button",
    "link",
    "textbox",
    "searchbox",
    "combobox",
    "listbox",
    "checkbox",
    "radio",
    "switch",
    "slider",
    "spinbutton",
    "tab",
    "menuitem",
    "image",
    "img",
    "dialog",
}
LOCAL = ("file:", "data:", "blob:", "about:")
Scheme = Literal["light", "dark"]


class Found(TypedDict):
    """What the probe gives for one fault."""

    rule: str
    selector: str
    detail: str


@dataclass(slots=True)
class Seen:
    """A page as it was at one width, in one scheme."""

    width: int
    scheme: Scheme
    found: list[Found] = field(default_factory=list)
    measured: int = 0
    unmeasured: int = 0
    named: int = 0


@dataclass(slots=True)
class Rendered:
    """All that was seen; `requests` are those that would have left the page."""

    seen: list[Seen] = field(default_factory=list)
    requests: dict[str, None] = field(default_factory=dict)
    errors: dict[str, None] = field(default_factory=dict)


async def rendered(html: Path, widths: Sequence[int], shots: dict[int, Path]) -> Rendered:
    """The page at each width in light, and at the widest in dark too; `shots` get pictures."""
    result = Rendered()
    try:
        async with async_playwright() as player:
            browser = await player.chromium.launch(executable_path=chromium(), args=[*FLAGS])
            try:
                page = await browser.new_page(viewport=_window(widths[0]), color_scheme="light")
                await _watch(page, result)
                await page.goto(html.as_uri(), wait_until="load", timeout=PATIENCE_MS)
                for width in widths:
                    result.seen.append(await _seen(page, width, "light", shots.get(width)))
                await page.emulate_media(color_scheme="dark")
                result.seen.append(await _seen(page, max(widths), "dark", None))
            finally:
                await browser.close()
    except BrowserError:
        raise NotRendered from None
    return result


def _window(width: int, height: int = HEIGHT) -> ViewportSize:
    return {"width": width, "height": height}


async def _seen(page: Page, width: int, scheme: Scheme, shot: Path | None) -> Seen:
    await page.set_viewport_size(_window(width))
    probed = await page.evaluate(PROBE)
    seen = Seen(width, scheme, probed["found"], probed["measured"], probed["unmeasured"])
    await _names(page, seen)
    if shot:
        tall = min(await page.evaluate("document.documentElement.scrollHeight"), TALLEST_SHOT)
        await page.set_viewport_size(_window(width, max(tall, HEIGHT)))
        await page.screenshot(path=shot)
    return seen


async def _watch(page: Page, result: Rendered) -> None:
    """Let nothing leave the page, and remember what wanted to."""

    async def decide(route: Route) -> None:
        if route.request.url.startswith(LOCAL):
            await route.continue_()
        else:
            result.requests[route.request.url[:200]] = None
            await route.abort()

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error" and "ERR_FAILED" not in message.text:
            result.errors[message.text[:300]] = None

    await page.route("**/*", decide)
    page.on("console", heard)
    page.on("pageerror", lambda error: result.errors.setdefault(error.message[:300], None))
    page.on("dialog", lambda dialog: dialog.dismiss())


async def _names(page: Page, seen: Seen) -> None:
    """Controls and pictures without a name, by the tree that the browser gives to readers."""
    session = await page.context.new_cdp_session(page)
    tree = await session.send("Accessibility.getFullAXTree")
    for node in tree["nodes"]:
        role = node.get("role", {}).get("value")
        if node.get("ignored") or role not in NAMED:
            continue
        seen.named += 1
        if not str(node.get("name", {}).get("value", "")).strip():
            place = await _selector(session, node.get("backendDOMNodeId"))
            detail = f"a {role} without an accessible name"
            seen.found.append({"rule": "name", "selector": place, "detail": detail})
    await session.detach()


async def _selector(session: CDPSession, node: int | None) -> str:
    if node is None:
        return "?"
    resolved = await session.send("DOM.resolveNode", {"backendNodeId": node})
    declared = f"function() {{ {SELECTOR} return selector(this); }}"
    given = {"objectId": resolved["object"]["objectId"], "functionDeclaration": declared}
    answer = await session.send("Runtime.callFunctionOn", {**given, "returnByValue": True})
    return str(answer["result"].get("value", "?"))
