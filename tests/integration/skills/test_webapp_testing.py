"""A local application with planted faults: each is found, and a sound one gives none."""

import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed
from ai_stack.skill.discovery import OURS
from skills import run

pytestmark = pytest.mark.alone

NAME = "webapp-testing"
SHOP = OURS / NAME / "examples/shop"
HEAD = "<!doctype html><html lang=en><link rel=icon href='data:,'><title>App</title>"
PAGES = {
    "/": HEAD + "<h1>Sound</h1><a href=/second>Second</a><a href='#here'>Here</a><p id=here>x</p>"
    "<button onclick=\"this.textContent += '!'\">Count</button>"
    "<details><summary>More</summary>y</details>"
    "<button onclick=\"fetch('/data')\">Load</button>"
    "<button onclick=\"confirm('sure?')\">Ask</button>"
    "<button disabled>Later</button>",
    "/second": HEAD + "<a href=/>Back</a><input aria-label=Name><select aria-label=Of><option>a"
    "<option>b</select><p class=many>1<p class=many>2",
    "/data": "{}",
    "/outside": HEAD
    + "<img src='http://elsewhere.invalid/a.png'><a href='http://elsewhere.invalid/'>"
    "out</a><img src='/leads-out'><script>fetch('http://elsewhere.invalid/b');"
    "new WebSocket('ws://elsewhere.invalid/c')</script>",
    "/slow": HEAD
    + "<p id=late></p><script>setTimeout(() => late.textContent = 'now', 300)</script>",
    "/broken": HEAD + "<script>fetch('/fails'); throw new Error('planted')</script>",
}


class App(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path in PAGES
        status = (
            302
            if self.path == "/leads-out"
            else 200
            if known
            else 500
            if self.path == "/fails"
            else 404
        )
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://elsewhere.invalid/d")
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGES.get(self.path, "no").encode())

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    found = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    assert found, "These tests need Chromium: apt-get install chromium"
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def step(do: str, target: str = "", value: str = "") -> dict[str, str]:
    return {"do": do, "target": target, "value": value}


async def stepped(folder: Path, url: str, *steps: dict[str, str], **given: Any) -> Any:
    return await run(NAME, folder, action="run", url=url, steps=[*steps], **given)


async def test_each_planted_fault_is_found_and_nothing_harmful_is_pressed(tmp_path: Path) -> None:
    result = await run(NAME, tmp_path, action="crawl", site=SHOP)
    found = {(f["kind"], f["target"].rpartition("/")[2]): f for f in result.output["findings"]}
    assert found["dead_link", "gone.html"]["detail"] == "answers 404"
    assert found["dead_link", "gone.html"]["page"].endswith("/index.html") or found[
        "dead_link", "gone.html"
    ]["page"].endswith("/")
    assert found["dead_link", "#nowhere"]["detail"] == "there is no such anchor"
    assert "basket is not defined" in found["broken_button", "Add to basket"]["detail"]
    assert "nothing that can be seen" in found["broken_button", "Compare"]["detail"]
    assert ("console_error", "prices could not be read") in found
    assert ("broken_image", "missing.png") in found
    assert any(name.startswith("Delete everything") for name in result.output["left_alone"])
    assert any(name.startswith("Join") for name in result.output["left_alone"])
    assert not any(kind == "broken_button" and "More" in name for kind, name in found)


async def test_a_sound_application_gives_nothing(app: str, tmp_path: Path) -> None:
    result = await run(NAME, tmp_path, action="crawl", url=app + "/", pages=10)
    assert result.output["findings"] == []
    assert result.output["pages"] == {f"{app}/": 200, f"{app}/second": 200}
    assert result.output["buttons_pressed"] == 4


async def test_steps_of_every_kind_pass(app: str, tmp_path: Path) -> None:
    steps = [
        step("expect_title", value="App"),
        step("click", "role=button:Count"),
        step("expect_text", "role=button:Count!", "Count!"),
        step("hover", "text=Second"),
        step("click", "text=Second"),
        step("expect_url", value="/second"),
        step("fill", "label=Name", "Mara"),
        step("expect_value", "label=Name", "Mara"),
        step("press", "label=Name", "Tab"),
        step("select", "label=Of", "b"),
        step("expect_count", ".many", "2"),
        step("goto", value="/slow"),
        step("expect_text", "#late", "now"),
        step("wait", value="1"),
        step("expect_hidden", "#never"),
        step("screenshot", "#late", "late"),
    ]
    result = await stepped(tmp_path, app, *steps, strict=True)
    assert result.output["passed"] is True, result.output
    assert len(result.output["steps"]) == 17
    with Image.open(tmp_path / "out/late.png") as picture:
        assert picture.format == "PNG" and picture.height < 100


async def test_the_step_that_fails_is_named_and_pictured(app: str, tmp_path: Path) -> None:
    result = await stepped(
        tmp_path, app, step("expect_count", "button", "3"), step("click", "#never"), patience_s=0.3
    )
    first, failed = result.output["steps"]
    assert result.output["passed"] is False and first["passed"]
    assert "3" in failed["wrong"] and "4" in failed["wrong"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["failure.png"]


async def test_errors_on_the_way_are_told_and_fail_a_strict_run(app: str, tmp_path: Path) -> None:
    for strict in (False, True):
        result = await stepped(tmp_path, f"{app}/broken", step("wait", value="100"), strict=strict)
        assert result.output["passed"] is not strict
        kinds = {(e["kind"], e["message"].rpartition("/")[2]) for e in result.output["errors"]}
        assert kinds == {("exception", "planted"), ("failed_request", "fails: 500")}


async def test_no_request_leaves_this_machine(app: str, tmp_path: Path) -> None:
    result = await run(NAME, tmp_path, action="crawl", url=f"{app}/outside")
    blocked = {url.rpartition("/")[2] for url in result.output["blocked"]}
    assert {"a.png", "b", "d", ""} <= blocked
    assert "refused" in result.notes[0]
    for url in (
        "http://example.org",
        "file:///etc/passwd",
        "javascript:1",
        "http://127.0.0.1.example.org",
    ):
        with pytest.raises(SkillFailed, match="not an http address on this machine"):
            await run(NAME, tmp_path, action="screenshot", url=url)
    left = await stepped(tmp_path, app, step("expect_visible", "h1"))
    assert left.output["blocked"] == []


async def test_a_step_cannot_leave_either(app: str, tmp_path: Path) -> None:
    with pytest.raises(SkillFailed, match="not an http address"):
        await stepped(tmp_path, app, step("goto", value="http://example.org/"))
    with pytest.raises(SkillFailed, match="no name of a host"):
        await stepped(tmp_path, app, step("wait", value="1"), hosts=["x, EXCLUDE *"])


async def test_pictures_of_several_widths_and_of_a_part(app: str, tmp_path: Path) -> None:
    result = await run(
        NAME, tmp_path, action="screenshot", url=app, widths=[320, 800], scheme="dark"
    )
    assert result.output["files"] == ["page-320.png", "page-800.png"]
    for width in (320, 800):
        with Image.open(tmp_path / f"out/page-{width}.png") as picture:
            assert picture.width == width
    await run(NAME, tmp_path, action="screenshot", url=app, target="h1", name="head")
    with Image.open(tmp_path / "out/head-1280.png") as picture:
        assert picture.height < 100


async def test_what_does_not_answer_is_said(app: str, tmp_path: Path) -> None:
    dead = "http://127.0.0.1:9/"
    with pytest.raises(SkillFailed, match="does not answer"):
        await run(NAME, tmp_path, action="crawl", url=dead)
    with pytest.raises(SkillFailed, match="cannot be opened"):
        await run(NAME, tmp_path, action="screenshot", url=f"{app}/none")
    result = await stepped(tmp_path, dead, step("wait", value="1"))
    assert result.output["passed"] is False and len(result.output["steps"]) == 1


async def test_links_out_of_a_site_are_not_followed(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "secret.html").write_text("secret")
    (site / "index.html").write_text(HEAD + "<a href=out.html>x</a>")
    (site / "out.html").symlink_to(tmp_path / "secret.html")
    result = await run(NAME, tmp_path, action="crawl", site=site)
    assert result.output["counts"] == {"dead_link": 1}


async def test_without_chromium_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SkillFailed, match="no Chromium on PATH"):
        await run(NAME, tmp_path, action="screenshot", site=SHOP)
    with pytest.raises(SkillFailed, match="or give a `site`"):
        await run(NAME, tmp_path, action="screenshot")


@pytest.mark.parametrize(
    "wrong", [{"steps": []}, {"steps": [{"do": "dance"}]}, {"width": 1, "steps": [{"do": "wait"}]}]
)
async def test_wrong_arguments_name_their_field(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(wrong))):
        await run(NAME, tmp_path, **{"action": "run", "url": "http://127.0.0.1", **wrong})
