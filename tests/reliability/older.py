"""A stack of an earlier version, out of the history: its code before the packages of today."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from reliability.verdicts import NotRunHere
from stacks import free_port

ROOT = Path(__file__).parents[2]
NEXT = "src/ai_stack/database/migrations/versions/0007_trust.py"  # the first that it lacks
COUNT = 5


def differs_after_restore() -> bool:
    """Whether documents of an earlier version are others after a backup of its data folder by
    this one, a wipe and a restore; NotRunHere without the history.
    """
    folder = Path(tempfile.mkdtemp(prefix="ai-stack-older-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        python = _earlier(folder)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "AI_STACK_DATA_DIR": str(folder / "data"),
            "AI_STACK_PORT": str(free_port()),
        }
        return _differs(folder, python, environment)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _differs(folder: Path, python: Path, environment: Mapping[str, str]) -> bool:
    now = {**environment, "AI_STACK_AUTH": "off"}
    port = environment["AI_STACK_PORT"]
    _run(environment, python, "up", "--detach")
    try:
        for number in range(COUNT):
            _ask(
                port, {"id": f"k{number}", "content": f"old {number} é", "metadata": {"n": number}}
            )
        before = _ask(port)
    finally:
        _run(environment, python, "down")
    made = json.loads(_run(now, Path(sys.executable), "backup", "create", "--json"))
    bundle = shutil.copy(made["bundle"], folder / "old.aibackup")
    shutil.rmtree(folder / "data")
    _run(now, Path(sys.executable), "backup", "restore", str(bundle), "--yes")
    _run(now, Path(sys.executable), "up", "--detach")
    try:
        return _ask(port) != before
    finally:
        _run(now, Path(sys.executable), "down")


def _earlier(folder: Path) -> Path:
    """A Python that has the earlier version's code, and the packages of this one."""
    commits = _git("log", "--diff-filter=A", "--format=%H", "--", NEXT).split()
    if not commits:
        raise NotRunHere("the history does not reach to an earlier version")
    code = folder / "code"
    code.mkdir()
    archive = folder / "code.tar"
    _git("archive", "-o", str(archive), f"{commits[-1]}^", "src")
    shutil.unpack_archive(archive, code)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    packages = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (packages / "older.pth").write_text(f"{code / 'src'}\n" + _paths())
    return folder / "venv" / "bin" / "python"


def _paths() -> str:
    return "".join(f"{path}\n" for path in sys.path if path.endswith("site-packages"))


def _git(*words: str) -> str:
    command = ["git", "-C", str(ROOT), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotRunHere("there is no history of an earlier version here")
    return done.stdout


def _run(environment: Mapping[str, str], python: Path, *words: str) -> str:
    done = subprocess.run(
        [python, "-m", "ai_stack", *words],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _ask(port: str, document: object = None) -> bytes:
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/documents", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: bytes = answer.read()
        return found
