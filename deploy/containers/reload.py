"""Runs a command, and runs it anew whenever a Python or SQL file of a folder changes.

python reload.py FOLDER COMMAND …
"""

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

LOOK_S, GRACE_S = 0.5, 10.0
KINDS = (".py", ".sql")


def state(folder: Path) -> dict[Path, int]:
    """When each file was changed; one that goes away meanwhile is left out."""
    found = {}
    for path in folder.rglob("*"):
        if path.suffix in KINDS:
            try:
                found[path] = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
    return found


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def follow(folder: Path, command: list[str]) -> None:
    """Until it is told to end; a command that ended by itself waits for a change."""
    signal.signal(signal.SIGTERM, leave)
    while True:
        before = state(folder)
        process = subprocess.Popen(command)
        try:
            while state(folder) == before:
                time.sleep(LOOK_S)
        finally:
            stop(process)
        sys.stderr.write(f"{folder} has changed: {' '.join(command)} starts anew\n")


if __name__ == "__main__":
    follow(Path(sys.argv[1]), sys.argv[2:])
