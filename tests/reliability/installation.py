"""Row 28: what is installed is what the locks say, down to the hash, and nothing runs by itself.

A gateway's stolen release once ran code at every start of Python, by a `.pth` file.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import orjson
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import skills
from reliability.verdicts import Measured, Row, Trial

ROOT = Path(__file__).parents[2]
LOCK, DEV_LOCK = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"
OURS = "nixos-ai-stack"
OF_THE_VENV = frozenset({OURS, "pip", "setuptools"})  # what makes the environment itself
MAY_RUN = frozenset({"distutils-precedence.pth"})  # setuptools' own, in Python 3.11's venv
WHEEL = {
    "METADATA": "Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n",
    "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "RECORD": "",
}
Versions = dict[str, str]


async def measure(trial: Trial) -> Measured:
    """Compare the environment that the tests run in with the locks that it was made from."""
    with _site(trial.plant) as site, tempfile.TemporaryDirectory() as scratch:
        lock, everything = locked(LOCK), locked(LOCK) | locked(DEV_LOCK)
        installed = _installed(site)
        faults = [
            *_drift(everything, installed),
            *_files_that_run(site),
            *_unhashed(),
            *await _bill(lock, Path(scratch)),
            *_wrong_hash(Path(scratch)),
        ]
    figures = {"packages": len(installed), "locked": len(everything), "drift": len(faults)}
    return Measured(figures, tuple(faults))


def locked(file: Path) -> Versions:
    """Name to version, of what a lock has for this machine."""
    lines = file.read_text().replace("\\\n", " ").splitlines()
    found = [Requirement(line.split(" --hash")[0]) for line in lines if line.strip()]
    here = [one for one in found if one.marker is None or one.marker.evaluate()]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in here}


def _installed(site: Path) -> Versions:
    found = metadata.distributions(path=[str(site)])
    named = {canonicalize_name(one.metadata["Name"]): one.version for one in found}
    return {name: version for name, version in named.items() if name not in OF_THE_VENV}


def _drift(lock: Versions, installed: Versions) -> Iterator[str]:
    for name in sorted({*lock, *installed} - OF_THE_VENV):
        if lock.get(name) != installed.get(name):
            yield f"{name}: locked {lock.get(name)}, installed {installed.get(name)}"


def _files_that_run(site: Path) -> Iterator[str]:
    """`.pth` files that have Python do more than look for modules elsewhere; sitecustomize too."""
    for file in sorted(site.glob("*.pth")):
        lines = file.read_text().splitlines()
        if file.name not in MAY_RUN and any(re.match(r"import[ \t]", line) for line in lines):
            yield f"{file.name} runs code at every start of Python"
    for name in ("sitecustomize.py", "usercustomize.py"):
        if (site / name).exists():
            yield f"{name} runs at every start of Python"


def _unhashed() -> Iterator[str]:
    """Every package of a lock has a SHA-256, and no line names another place."""
    for file in (LOCK, DEV_LOCK):
        text = file.read_text().replace("\\\n", " ")
        for line in filter(str.strip, text.splitlines()):
            if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", line) or "://" in line:
                yield f"{file.name}: {line.split()[0]} has no hash, or an address"


async def _bill(lock: Versions, folder: Path) -> list[str]:
    """The bill of materials that the stack's own skill writes of the lock has the same packages."""
    project = folder / "project"
    project.mkdir()
    shutil.copy(LOCK, project / "requirements.txt")
    await skills.run("dependency-audit", folder, action="sbom", folder=str(project))
    written = orjson.loads((folder / "out" / "sbom.cdx.json").read_bytes())
    bill = {(canonicalize_name(one["name"]), one["version"]) for one in written["components"]}
    missing = sorted(set(lock.items()) - bill)
    return [f"{name} {version} is not in the bill of materials" for name, version in missing]


def _wrong_hash(folder: Path) -> list[str]:
    """A wheel that is not the one of the lock is refused by the installer."""
    wheel = folder / "planted-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("planted.py", "")
        for name, text in WHEEL.items():
            file.writestr(f"planted-1.0.dist-info/{name}", text)
    lock = folder / "planted.lock"
    lock.write_text(f"planted==1.0 --hash=sha256:{'0' * 64}\n")
    where = ("--no-index", "--find-links", str(folder), "--target", str(folder / "target"))
    asked = ("install", "--require-hashes", "--no-deps", *where, "-r", str(lock))
    done = subprocess.run([*_installer(), *asked], capture_output=True, text=True, check=False)
    refused = done.returncode != 0 and "HASH" in (done.stdout + done.stderr).upper()
    return [] if refused else ["a wheel with another hash was installed"]


def _installer() -> list[str]:
    """The one that made this environment: uv leaves no pip behind."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    return ["uv", "pip"]


@contextmanager
def _site(plant: str | None) -> Iterator[Path]:
    """The environment's packages; with a plant, a copy of what is compared, with its defect."""
    site = Path(sysconfig.get_path("purelib"))
    if plant is None:
        yield site
        return
    with tempfile.TemporaryDirectory() as copy:
        for entry in (*site.glob("*.dist-info"), *site.glob("*.pth")):
            (shutil.copytree if entry.is_dir() else shutil.copy)(entry, Path(copy) / entry.name)
        PLANTED[plant](Path(copy))
        yield Path(copy)


def _stray_pth(site: Path) -> None:
    (site / "stolen.pth").write_text("import os; os.environ.get('OPENAI_API_KEY')\n")


def _other_version(site: Path) -> None:
    file = next(site.glob("httpx-*.dist-info")) / "METADATA"
    file.write_text(re.sub(r"(?m)^Version: .*", "Version: 99.0", file.read_text(), count=1))


PLANTED = {"stray-pth": _stray_pth, "other-version": _other_version}
ROWS = (
    Row(
        28,
        "what is installed is what the locks say, and nothing runs by itself",
        "0 drift",
        measure,
        tuple(PLANTED),
        calm=True,
    ),
)
