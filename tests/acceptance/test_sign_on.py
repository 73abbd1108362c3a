"""People sign on in a real browser, and sign their shells in by it, at two independent issuers."""

import asyncio
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

import issuers
from ai_stack.settings import Settings
from ai_stack.skill.browsers import FLAGS, PROGRAMS
from gateways import gateway
from stacks import free_port

CODE = re.compile(r"code ([A-Z]{5}-[A-Z]{5})")
ELSEWHERE = re.compile(r"^https?://(?!localhost[:/]|127\.0\.0\.1[:/])")
GRANTS = [{"project": "default", "role": "editor"}]


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert found is not None, "this test needs Chromium; on Debian: apt install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        await browser.close()


@pytest.fixture
async def page(chromium: Browser) -> AsyncIterator[Page]:
    """A page of a browser that knows nobody, on which nothing of ours goes wrong."""
    context = await chromium.new_context()
    await context.route(ELSEWHERE, lambda route: route.abort())
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if is_ours(said) else None)
    yield page
    await context.close()
    assert faults == []


def is_ours(said: ConsoleMessage) -> bool:
    return "127.0.0.1" in said.location["url"]


@dataclass(frozen=True)
class Site:
    """A gateway at `here` that trusts one real issuer, and whom it knows alice as."""

    here: str
    name: str
    alice: str


@pytest.fixture(scope="module", params=[issuers.panva, issuers.mock], ids=["panva", "mock"])
async def site(
    request: pytest.FixtureRequest,
    memory_settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Site]:
    port, make = free_port(), request.param
    here, name = f"http://127.0.0.1:{port}", make.__name__
    with make(free_port(), here, domains=[f"{name}.example"], grants=GRANTS) as entry:
        if make is issuers.mock:
            told = {"email": "alice@mock.example", "email_verified": True}
            await asyncio.to_thread(issuers.say_of, entry, "alice", **told)
        given = {"issuers": issuers.written(tmp_path_factory.mktemp("site"), entry)}
        async with gateway(memory_settings.model_copy(update=given), port=port):
            yield Site(here, name, f"alice@{name}.example")


async def sign_in_at_the_issuer(page: Page, site: Site) -> None:
    """What a person does on the issuer's own pages."""
    if site.name == "panva":
        await page.get_by_placeholder("Enter any login").fill("alice")
        await page.get_by_placeholder("and password").fill("any")
        await page.get_by_role("button", name="Sign-in").click()
        await page.get_by_role("button", name="Continue").click()
    else:
        await page.get_by_placeholder("sub").fill("alice")
        await page.get_by_role("button", name="Authorize").click()


async def test_a_person_signs_on_and_out(site: Site, tmp_path: Path, page: Page) -> None:
    await page.goto(f"{site.here}/login")
    await page.get_by_role("link", name=f"Sign in with {site.name.capitalize()}").click()
    await sign_in_at_the_issuer(page, site)
    await expect(page.get_by_text(site.alice)).to_be_visible()
    assert page.url == f"{site.here}/login"
    cookies = {cookie["name"]: cookie for cookie in await page.context.cookies(site.here)}
    assert cookies["aidb_session"]["httpOnly"]
    assert cookies["aidb_session"]["sameSite"] == "Lax"
    assert "aidb_sign_on" not in cookies
    mine = await page.request.get(f"{site.here}/auth/me")
    assert (await mine.json())["name"] == site.alice
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Password")).to_be_visible()
    assert (await page.request.get(f"{site.here}/auth/me")).status == 401


async def test_a_shell_is_signed_in_by_the_browser(site: Site, tmp_path: Path, page: Page) -> None:
    environment = {"HOME": str(tmp_path), "AI_STACK_URL": site.here}
    waiting = await command(environment, "login", "--issuer", site.name)
    assert waiting.stdout is not None
    address = (await waiting.stdout.readline()).decode().split()[1]
    code = CODE.search((await waiting.stdout.readline()).decode())
    assert code is not None
    await page.goto(address)
    await sign_in_at_the_issuer(page, site)
    await expect(page.get_by_text(code[1])).to_be_visible()
    await expect(page.get_by_text(site.alice)).to_be_visible()
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_role("heading", name="Approved")).to_be_visible()
    said, _ = await asyncio.wait_for(waiting.communicate(), 30)
    assert waiting.returncode == 0, said
    kept = tmp_path / ".config/nixos-ai-stack/credentials.json"
    assert kept.stat().st_mode & 0o077 == 0
    asked = await command(environment, "whoami")
    assert site.alice in (await asked.communicate())[0].decode()
    left = await command(environment, "logout")
    await left.communicate()
    asked = await command(environment, "whoami")
    await asked.communicate()
    assert asked.returncode == 1


async def test_a_shell_that_is_denied_says_so(site: Site, tmp_path: Path, page: Page) -> None:
    environment = {"HOME": str(tmp_path), "AI_STACK_URL": site.here}
    waiting = await command(environment, "login", "--browser")
    assert waiting.stdout is not None
    address = (await waiting.stdout.readline()).decode().split()[1]
    await page.goto(address)
    await page.get_by_role("link", name=f"Sign in with {site.name.capitalize()}").click()
    await sign_in_at_the_issuer(page, site)
    await page.get_by_role("button", name="Deny").click()
    await expect(page.get_by_role("heading", name="Denied")).to_be_visible()
    said, _ = await asyncio.wait_for(waiting.communicate(), 30)
    assert (waiting.returncode, b"denied" in said) == (1, True)
    assert not (tmp_path / ".config/nixos-ai-stack/credentials.json").exists()


async def test_no_page_of_another_origin_can_frame_or_post(site: Site, chromium: Browser) -> None:
    """Clickjacking and CSRF as a browser sees them, from another port of the same machine."""
    pages = ("/login", "/device", "/health/live")
    framed = "".join(f"<iframe src='{site.here}{path}'></iframe>" for path in pages)
    posting = f"<form method=post action='{site.here}/login'><input name=name></form>"
    context = await chromium.new_context()
    page = await context.new_page()
    async with elsewhere(framed + posting) as evil:
        await page.goto(evil)
        shown = [frame.url for frame in page.frames[1:]]
        assert shown == [*["chrome-error://chromewebdata/"] * 2, f"{site.here}/health/live"]
        async with page.expect_navigation() as moved:
            await page.evaluate("document.forms[0].submit()")
        answer = await moved.value
    assert answer is not None and answer.status in (403, 421)
    await context.close()


@asynccontextmanager
async def elsewhere(content: str) -> AsyncIterator[str]:
    """A page at another port of this machine."""
    body = f"<!doctype html>{content}".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def command(environment: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    """The real command, in a shell with an empty home."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ai_stack", *arguments),
        env={"PATH": "/usr/bin:/bin", **environment},
        cwd="/",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
