"""Bundles one script with esbuild, the program, where it is on PATH."""

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ai_stack.skill import SkillFailed

from .app import App

TIME_S = 60
DATA = ("png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "woff", "woff2", "ttf", "otf", "wasm")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A script in one piece, and the styles that it imports."""

    script: str
    style: str


def esbuild() -> str | None:
    """The program, where there is one."""
    return shutil.which("esbuild")


def compiled(entry: Path, app: App, *, minify: bool) -> Compiled:
    """A module with all that it imports as one; SkillFailed tells what esbuild says of it."""
    program = esbuild()
    if program is None:
        raise SkillFailed("There is no esbuild on PATH; `npm install --global esbuild` brings it.")
    with tempfile.TemporaryDirectory() as out:
        target = Path(out) / "bundle.js"
        loaders = [f"--loader:.{kind}=dataurl" for kind in DATA]
        options = ["--bundle", "--format=esm", "--target=es2022", "--log-level=error", *loaders]
        options += ["--charset=utf8", f"--outfile={target}", *(["--minify"] if minify else [])]
        meta = Path(out) / "meta.json"
        try:
            done = subprocess.run(
                [program, str(entry), *options, f"--metafile={meta}"],
                cwd=app.folder,
                capture_output=True,
                text=True,
                timeout=TIME_S,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired):
            raise SkillFailed("esbuild did not run, or not within its time.") from None
        if done.returncode != 0:
            raise SkillFailed(f"esbuild: {_said(done.stderr)}")
        for path in _inputs(meta, app):
            app.inlined[app.name(path)] = path.stat().st_size
        style = target.with_suffix(".css")
        return Compiled(target.read_text(), style.read_text() if style.is_file() else "")


def _inputs(meta: Path, app: App) -> list[Path]:
    """The files of the app that went in; SkillFailed when one is from outside of it."""
    names = [name for name in json.loads(meta.read_text())["inputs"] if not name.startswith("<")]
    found = [(app.folder / name).resolve() for name in names]
    for path in found:
        if not path.is_relative_to(app.folder):
            raise SkillFailed(f"A script imports {path.name[:100]!r}, which is not in the app.")
    return found


def _said(text: str) -> str:
    """Its first errors, without colours and source lines."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in text.splitlines()]
    told = [line.removeprefix("✘ [ERROR] ") for line in lines if "ERROR" in line]
    places = [line.rstrip(":") for line in lines if re.match(r"^\S+:\d+:\d+:$", line)]
    return "; ".join([*told[:3], *places[:3]])[:600] or "it failed without a word."
