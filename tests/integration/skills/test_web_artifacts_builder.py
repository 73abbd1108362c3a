"""One file from many: opened from a disk in Chromium, where nothing leaves it."""

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from ai_stack.errors import InvalidRequest
from ai_stack.skill import SkillFailed, SkillResult
from ai_stack.skill.discovery import OURS
from skills import run

NAME = "web-artifacts-builder"
TIDES = OURS / NAME / "examples/tides"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
PIXEL = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(**files: str | bytes) -> Path:
        folder = tmp_path / "app"
        for name, content in files.items():
            path = folder / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    return made


async def bundled(folder: Path, app: Path, **given: Any) -> SkillResult:
    return await run(NAME, folder, action="bundle", app=app, **given)


@pytest.fixture(scope="module")
async def page() -> AsyncIterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "These tests need Chromium: apt-get install chromium"
    async with async_playwright() as player:
        browser = await player.chromium.launch(executable_path=chromium, args=FLAGS)
        yield await browser.new_page()
        await browser.close()


async def shown(page: Page, file: Path) -> tuple[list[str], list[str]]:
    """Open a file from the disk: what it asked for, and what went wrong."""
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(error.message))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    await page.goto(file.as_uri())
    await page.wait_for_timeout(100)
    return [url for url in asked if not url.startswith(("data:", file.as_uri()))], wrong


async def test_an_app_runs_from_a_disk_and_asks_for_nothing(page: Page, tmp_path: Path) -> None:
    await bundled(tmp_path, TIDES, engine="built-in", name="tides")
    asked, wrong = await shown(page, tmp_path / "out/tides.html")
    assert (asked, wrong) == ([], [])
    assert await page.locator("li").all_inner_texts() == ["04:10: 3.2 m", "10:31: 0.7 m"]
    assert await page.title() == "2 tides"  # a live binding, read after a dynamic import
    assert await page.eval_on_selector("h1", "e => getComputedStyle(e).color") == "rgb(11, 92, 140)"
    assert await page.eval_on_selector("img", "e => e.naturalWidth") > 0
    checked = await run(NAME, tmp_path, action="check", file=tmp_path / "out/tides.html")
    assert checked.output["self_contained"] is True


async def test_what_code_tries_to_send_is_stopped(page: Page, make: Make, tmp_path: Path) -> None:
    app = make(
        index_html="<!doctype html><script type=module src=m.js></script>",
        m_js="""const host = 'http://127.0.0.1:9';
const stopped = [];
addEventListener('securitypolicyviolation', e => stopped.push(e.effectiveDirective));
await fetch(host + '/a').catch(() => {});
new Image().src = host + '/b';
const script = document.createElement('script');
script.src = host + '/c';
document.head.append(script);
await import(host + '/d').catch(() => {});
try { new WebSocket('ws://127.0.0.1:9/e'); } catch {}
await new Promise(done => setTimeout(done, 50));
document.title = stopped.sort().join(' ');""",
    )
    result = await bundled(tmp_path, app, engine="built-in")
    await shown(page, tmp_path / "out/app.html")
    await page.wait_for_function("document.title")
    words = (await page.title()).split()
    assert words.count("connect-src") == 2 and words.count("img-src") == 1
    assert words.count("script-src-elem") == 2
    assert "import() loads there is not seen" in result.notes[0] + result.notes[-1]


async def test_every_way_to_load_is_taken_in(page: Page, make: Make, tmp_path: Path) -> None:
    app = make(
        index_html="""<!DOCTYPE html><html><head><link rel=stylesheet href="/a.css" media=all>
<style>#inner { background: url('p.gif') }</style><link rel=modulepreload href=m.js></head>
<body style="background: url(p.gif)"><img src=p.gif srcset="p.gif 1x, p.gif 2x">
<p id=inner>&lt;b&gt;</p>
<script defer src=deferred.js></script><script src="classic.js"></script>
<script type="module">import n from './sub/n.js';
document.body.dataset.inline = n;</script></body></html>""",
        a_css="@import url(b.css); @import 'b.css' print; h1::before { content: '</style' }",
        b_css="p { color: rgb(1, 2, 3); background: url('p.gif') }",
        p_gif=PIXEL,
        classic_js="window.order = [document.body.id ? 'late' : 'early', '</script>'];",
        deferred_js="order.push(document.body.dataset.inline ?? 'before modules');",
        m_js="",
        sub__n_js="""import './s.css'; import url from '../p.gif'; export * from './o';
const own = new URL('../p.gif', import.meta.url);
const data = await (await fetch('../d.json')).json();
export default [url.slice(0, 15), own.protocol, data.n].join(' ');""",
        sub__s_css="body { outline: 3px solid red }",
        sub__o_mjs="export const o = 1;",
        d_json='{"n": 7}',
    )
    result = await bundled(tmp_path, app, engine="built-in")
    asked, wrong = await shown(page, tmp_path / "out/app.html")
    assert (asked, wrong) == ([], [])
    assert await page.evaluate("document.body.dataset.inline") == "data:image/gif; data: 7"
    assert await page.evaluate("order") == ["early", "</script>", "before modules"]
    assert await page.eval_on_selector("#inner", "e => getComputedStyle(e).color") == "rgb(1, 2, 3)"
    assert await page.eval_on_selector("body", "e => getComputedStyle(e).outlineWidth") == "3px"
    assert await page.inner_text("#inner") == "<b>"
    assert any("modulepreload" in note for note in result.notes)


async def test_types_are_erased_and_nothing_else(page: Page, make: Make, tmp_path: Path) -> None:
    app = make(
        index_html="<!doctype html><script type=module src=m.ts></script>",
        m_ts="""import { type A, B, C } from './t'; import D from './t'; import * as all from './t';
declare const never: string;
type Pair<T> = [T, T]; interface Deep { type: string; readonly as?: number }
abstract class Base<T extends object = {}> { abstract go(): void; protected kept!: T;
  constructor(readonlyish: T) { this.kept = readonlyish } }
class Kid extends Base<{ n: number }> implements Deep {
  static readonly type = 'kid'; type = 'x'; private declare gone: string;
  override go(this: Kid): void {}
  get n(): number { return this.kept!.n } [key: string]: any }
function over(a: string): string; function over(a: number): number;
function over(a: any, b?: Pair<number>): any { return a as unknown satisfies unknown }
const id = async <T,>(x: T): Promise<T> => x, type = 3, as = 4, declare = 5,
  o: Deep = { type: 'a' };
function isString(x: unknown): x is string { return typeof x === 'string' }
for (const [k, v] of Object.entries(o) as [string, any][]) void k, v;
document.title = [over('1'), await id<number>(2), type, as, declare, new Kid({ n: 6 }).n, B,
  isString(''), Kid.type, all.B, o.type ? 'yes' : 'no'].join();""",
        t_ts="export interface A {} export type C = A; export const B: number = 7;"
        "export default interface D {}",
    )
    await bundled(tmp_path, app, engine="built-in")
    asked, wrong = await shown(page, tmp_path / "out/app.html")
    assert (asked, wrong) == ([], [])
    await page.wait_for_function("document.title")
    assert await page.title() == "1,2,3,4,5,6,7,true,kid,7,yes"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("export {}\nenum E { A }", "m.ts:2 has an enum"),
        ("namespace N { export const a = 1 }", "m.ts:1 has a namespace"),
        ("class A { constructor(private a: string) {} }", "declared as a parameter"),
        ("@dec class A {}", "a decorator"),
        ("import x from 'react'; x()", "m.ts:1 has the package 'react'"),
        ("const = 3", "m.ts:1 is no TypeScript"),
        ("import './none.js'", "m.ts:1 imports './none.js'"),
        ("import '../../../etc/passwd'", "not in the app"),
        ("import 'https://esm.example.com/x'", "m.ts:1 loads https://esm.example.com/x"),
    ],
)
async def test_what_cannot_be_bundled_is_named_with_its_line(
    code: str, said: str, make: Make, tmp_path: Path
) -> None:
    app = make(index_html="<script type=module src=m.ts></script>", m_ts=code)
    with pytest.raises(SkillFailed) as refused:
        await bundled(tmp_path, app, engine="built-in")
    assert said in refused.value.message and str(tmp_path) not in refused.value.message
    assert not [*(tmp_path / "out").iterdir()]


async def test_other_machines_are_refused_or_dropped(
    page: Page, make: Make, tmp_path: Path
) -> None:
    app = make(
        index_html="<!doctype html><link rel=stylesheet href=//cdn.example.com/a.css>"
        "<script src=https://cdn.example.com/b.js></script><img src=http://cdn.example.com/c.png>"
        "<style>p { background: url(https://cdn.example.com/d.png) }</style>"
        "<a href=https://example.org>a link may stay</a>",
    )
    with pytest.raises(SkillFailed) as refused:
        await bundled(tmp_path, app)
    assert all(f"/{name}" in refused.value.message for name in ("a.css", "b.js", "c.png", "d.png"))
    result = await bundled(tmp_path, app, remote="drop")
    assert len(result.notes) == 4
    assert await shown(page, tmp_path / "out/app.html") == ([], [])


async def test_links_out_of_the_folder_are_not_followed(make: Make, tmp_path: Path) -> None:
    app = make(index_html="<!doctype html><img src=secret.png>")
    (tmp_path / "secret.png").write_bytes(PIXEL)
    (app / "secret.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(SkillFailed, match=r"would still load img secret\.png"):
        await bundled(tmp_path, app)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"other_html": ""}, "no page"),
        ({"index_html": "<base href=/x/><p>"}, "base address"),
        ({"index_html": "<iframe src=other.html>", "other_html": "x"}, "still load iframe"),
        ({"index_html": b"\xff\xfe\x00"}, "not UTF-8"),
        ({"index_html": "<script type=importmap>{}</script>"}, "import map"),
    ],
)
async def test_bad_apps_are_refused(
    files: dict[str, Any], said: str, make: Make, tmp_path: Path
) -> None:
    with pytest.raises(SkillFailed, match=said):
        await bundled(tmp_path, make(**files))


async def test_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for _ in range(2):
        await bundled(tmp_path, TIDES, engine="built-in")
    assert (tmp_path / "out/app.html").read_bytes() == (tmp_path / "out/app-2.html").read_bytes()


async def test_without_esbuild_minify_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for given in ({"minify": True}, {"engine": "esbuild"}):
        with pytest.raises(SkillFailed, match="esbuild"):
            await bundled(tmp_path, TIDES, **given)
    with pytest.raises(InvalidRequest, match="engine"):
        await bundled(tmp_path, TIDES, engine="webpack")


@pytest.mark.skipif(not shutil.which("esbuild"), reason="esbuild, which this skill can do without")
async def test_esbuild_does_the_rest(page: Page, make: Make, tmp_path: Path) -> None:
    app = make(
        index_html="<!doctype html><script type=module src=m.tsx></script>",
        m_tsx="""import './s.css'; enum E { A = 'enum' }
const React = {
  createElement: (tag: string, p: object, text: string) => `<${tag}>${text}</${tag}>` };
document.title = <b>{E.A}</b> as unknown as string;""",
        s_css="body { outline: 3px solid red }",
    )
    for given in ({}, {"minify": True}):
        result = await bundled(tmp_path, app, **given)
        assert result.output["engine"] == "esbuild"
        assert {"m.tsx", "s.css"} <= set(result.output["inlined"])
        asked, wrong = await shown(page, tmp_path / "out" / str(result.output["file"]))
        assert (asked, wrong) == ([], [])
        assert await page.title() == "<b>enum</b>"
        assert await page.eval_on_selector("body", "e => getComputedStyle(e).outlineWidth") == "3px"
    (tmp_path / "outside.js").write_text("export default 1")
    (app / "m.tsx").write_text("import x from '../outside.js'; x()")
    with pytest.raises(SkillFailed, match="not in the app"):
        await bundled(tmp_path, app)
    (app / "m.tsx").write_text("import 'missing-package'")
    with pytest.raises(SkillFailed, match="missing-package"):
        await bundled(tmp_path, app)
