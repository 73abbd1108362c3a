"""One HTML file from an application of many."""

import asyncio
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ai_stack.skill import JSON, File, Folder, Skill, SkillFailed, SkillResult, action

from .app import App, opened
from .compiling import compiled, esbuild
from .loads import loads
from .modules import Modules
from .page import Page
from .typescript import NeedsCompiler

LARGEST_RESULT, LARGEST_PAGE = 80 << 20, 80 << 20
Engine = Literal["auto", "built-in", "esbuild"]


class WebArtifacts(Skill):
    @action
    async def bundle(
        self,
        app: Annotated[Folder, Field(description="The application's folder, or a zip of it.")],
        entry: Annotated[str, Field(max_length=300, description="Its page.")] = "index.html",
        engine: Annotated[Engine, Field(description="auto: esbuild only where needed.")] = "auto",
        minify: Annotated[bool, Field(description="Make scripts small; needs esbuild.")] = False,
        remote: Annotated[
            Literal["refuse", "drop"], Field(description="What is loaded from other machines.")
        ] = "refuse",
        name: Annotated[str, Field(max_length=60, description="Without .html.")] = "app",
    ) -> SkillResult:
        """Bundle an application into one HTML file that needs nothing else."""
        files, html, used = await asyncio.to_thread(_bundled, app, entry, engine, minify)
        if files.remote and remote == "refuse":
            told = "; ".join(f"{place} loads {address}" for place, address in [*files.remote][:10])
            raise SkillFailed(f"It needs other machines: {told}. `remote: drop` takes that out.")
        content = html.encode()
        if len(content) > LARGEST_RESULT:
            raise SkillFailed(f"The result has more than {LARGEST_RESULT >> 20} MiB.")
        path = self.context.artifact(f"{re.sub(r'[^a-zA-Z0-9_-]+', '-', name) or 'app'}.html")
        path.write_bytes(content)
        dropped = [f"{place}: {address} was taken out." for place, address in files.remote]
        inlined: dict[str, JSON] = {**files.inlined}
        output: dict[str, JSON] = {
            "file": path.name,
            "bytes": len(content),
            "engine": used,
            "inlined": inlined,
            "loads": [],
        }
        summary = f"{path.name}: {len(files.inlined)} files in {len(content)} bytes, by {used}."
        return SkillResult(output, summary, (*files.notes, *dropped))

    @action
    async def check(self, file: Annotated[File, Field(description="An HTML file.")]) -> SkillResult:
        """Say what a page would load."""
        if not file.is_file() or not 0 < file.stat().st_size <= LARGEST_PAGE:
            raise SkillFailed(f"The file is empty, or larger than {LARGEST_PAGE >> 20} MiB.")
        html = file.read_bytes().decode(errors="replace")
        found = await asyncio.to_thread(loads, html)
        listed: list[JSON] = [{"line": n, "tag": tag, "address": to} for n, tag, to in found]
        output: dict[str, JSON] = {"self_contained": not listed, "loads": listed}
        told = f"It loads {len(listed)} things" if listed else "It loads nothing"
        return SkillResult(output, f"{told} from outside itself.")


def _bundled(folder: Path, entry: str, engine: Engine, minify: bool) -> tuple[App, str, str]:
    """The bundle by the engine that is asked for, or that it takes."""
    if engine == "esbuild" or (engine == "auto" and minify and esbuild()):
        return _by_esbuild(folder, entry, minify)
    if minify:
        raise SkillFailed("`minify` needs esbuild, which is not on PATH or not asked for.")
    try:
        return _built_in(folder, entry)
    except NeedsCompiler:
        if engine == "auto" and esbuild():
            return _by_esbuild(folder, entry, minify)
        raise


def _built_in(folder: Path, entry: str) -> tuple[App, str, str]:
    app = opened(folder)
    path = _entry(app, entry)
    html = Page(path, app, Modules(app), None).written(app.text(path))
    return app, _checked(html), "built-in"


def _by_esbuild(folder: Path, entry: str, minify: bool) -> tuple[App, str, str]:
    app = opened(folder)
    path = _entry(app, entry)

    def compile_script(script: Path) -> tuple[str, str]:
        found = compiled(script, app, minify=minify)
        return found.script, found.style

    html = Page(path, app, Modules(app), compile_script).written(app.text(path))
    return app, _checked(html), "esbuild"


def _entry(app: App, entry: str) -> Path:
    path = (app.folder / entry).resolve()
    if not path.is_relative_to(app.folder) or not path.is_file():
        raise SkillFailed(f"There is no page {entry[:100]!r} in the app.")
    return path


def _checked(html: str) -> str:
    """The bundle, once nothing was found in it that it would load."""
    if left := loads(html):
        told = "; ".join(f"{tag} {address}" for _, tag, address in left[:5])
        raise SkillFailed(f"The bundle would still load {told}; mend or take out what that is.")
    return html
