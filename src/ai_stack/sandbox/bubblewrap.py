"""Bubblewrap's command line: a machine of its own for one process.

As root it would keep nearly all capabilities, so a user without any is asked for in every case.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

TRIED_S = 10.0
ALONE = (
    *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"),
    *("--uid", "65534", "--gid", "65534", "--cap-drop", "ALL", "--hostname", "skill"),
    *("--die-with-parent", "--new-session"),
)
BARE = ("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/run")  # noqa: S108


def find() -> str | None:
    """The program, where the machine has it."""
    return shutil.which("bwrap")


def works(command: Sequence[str]) -> bool:
    """Whether a command ends well: user namespaces may be forbidden, or a folder closed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIED_S,
            check=False,
            env={},
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def command(
    program: str,
    arguments: Sequence[str],
    *,
    reads: Sequence[Path],
    writes: Sequence[Path],
    network: bool,
) -> list[str]:
    """The command that runs `arguments` where only these files are, and maybe the network."""
    shared = [] if network else ["--unshare-net"]
    mounts = [part for path in _outer_first(reads) for part in _mount(path)]
    bound = [part for path in writes for part in ("--bind", str(path), str(path))]
    return [program, *ALONE, *shared, *BARE, *mounts, *bound, "--", *arguments]


def _mount(path: Path) -> tuple[str, ...]:
    """A link stays one, so that /lib leads into /usr/lib as it does outside."""
    if path.is_symlink() and path.parent == Path("/"):
        return ("--symlink", str(path.readlink()), str(path))
    return ("--ro-bind", str(path), str(path))


def _outer_first(paths: Sequence[Path]) -> list[Path]:
    """Folders before what is in them, since a mount hides what was there."""
    return sorted(paths, key=lambda path: len(path.parts))
