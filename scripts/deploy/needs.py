"""The programs that a deployment needs: found, installed from a lock, or missed by name."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from failure import Failed, say

ROOT = Path(__file__).resolve().parents[2]
TUNNEL = Path("/dev/net/tun")
LOCK = ROOT / "deploy/containers/compose.lock"


def find_engine(wanted: str | None) -> str:
    """podman, or docker where that is all there is."""
    names = (wanted,) if wanted else ("podman", "docker")
    for name in names:
        if shutil.which(name):
            return name
    raise Failed(
        f"there is no {' and no '.join(names)} on PATH. Install podman; on Debian:\n"
        "  apt install podman netavark aardvark-dns catatonit uidmap slirp4netns fuse-overlayfs"
    )


def check_tunnel(engine: str) -> None:
    """Return where this user can have networks of its own; Failed says how, where not."""
    if engine != "podman" or os.geteuid() == 0 or os.access(TUNNEL, os.R_OK | os.W_OK):
        return
    raise Failed(
        f"{TUNNEL} cannot be opened by this user, and podman without root has no network without "
        f"it. As root: `modprobe tun` where it is missing, `chmod 666 {TUNNEL}` where it is there."
    )


def find_compose(engine: str) -> list[str]:
    """docker's plugin, or podman-compose: that on PATH, else the one of the lock."""
    if engine == "docker":
        if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
            return ["docker", "compose"]
        raise Failed("docker has no `compose` here: install its plugin (docker-compose-plugin).")
    program = ROOT / ".work/compose/bin/podman-compose"
    found = shutil.which("podman-compose")
    if found and _is_new_enough(found):
        return [found]
    if not program.exists():
        _install_compose(program.parents[1])
    return [str(program)]


def _is_new_enough(program: str) -> bool:
    """From 1.5 on it knows what the compose files say."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    found = re.search(r"podman-compose version (\d+)\.(\d+)", done.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= (1, 5)


def _install_compose(folder: Path) -> None:
    say("Installing podman-compose from its lock")
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = (folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-input")
        subprocess.run([*pip, "--require-hashes", "--no-deps", "--requirement", LOCK], check=True)
    except subprocess.CalledProcessError:
        shutil.rmtree(folder, ignore_errors=True)
        raise Failed(
            "podman-compose could not be installed. Install one from 1.5 on yourself; on Debian "
            "`apt install python3-venv` may be all that is missing."
        ) from None
