"""podman for tests: for root or for an ordinary user, with a storage of its own, systemd or not."""

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "tests/images"
PACKAGES = (
    *("podman", "runc", "netavark", "aardvark-dns", "catatonit", "debootstrap"),
    *("uidmap", "slirp4netns", "fuse-overlayfs", "iptables", "iproute2"),
)
BASE = "docker.io/library/python:3.11-slim-bookworm"
OWN = "localhost/nixos-ai-stack:latest"
STAND_INS = {
    "haproxy": "docker.io/library/haproxy:3.0-alpine",
    "redis": "docker.io/library/redis:7-alpine",
    "postgres": "docker.io/timescale/timescaledb-ha:pg17",
    "llama-cpp": "ghcr.io/ggml-org/llama.cpp:server",
}
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
CONFIGURATION = """\
[containers]
volumes = ["{authorities}:{authorities}:ro"]
env = ["PIP_CERT={authorities}"]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "netavark"
"""
STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""


def install() -> None:
    """What is missing, as root on a Debian; AssertionError where that is not possible."""
    have = ("podman", "runc", "debootstrap", "newuidmap", "catatonit", "slirp4netns")
    if all(
        shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/libexec/podman")
        for name in have
    ):
        return
    assert os.getuid() == 0, f"apt install {' '.join(PACKAGES)}"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (
        ["update", "-qq"],
        ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES],
    ):
        subprocess.run(
            ["apt-get", *command], env=environment, check=True, stdout=subprocess.DEVNULL
        )


@dataclass(frozen=True)
class Podman:
    """podman as one user; `folder` holds its storage and configuration."""

    folder: Path
    user: str

    @classmethod
    def of(cls, folder: Path, user: str) -> "Podman":
        made = cls(folder, user)
        for part in ("storage", "run", "home", "runtime"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "containers.conf").write_text(CONFIGURATION.format(authorities=AUTHORITIES))
        (folder / "storage.conf").write_text(STORAGE.format(folder=folder))
        (folder / "runtime").chmod(0o700)
        if user != "root":
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, user, user)
        return made

    def begin_anew(self) -> None:
        """End what podman keeps of an ordinary user between commands, as a new login would.

        A run that was broken off leaves a network there that is none.
        """
        self.run(["podman", "system", "migrate"], check=False)
        runtime = self.folder / "runtime"
        shutil.rmtree(runtime)
        runtime.mkdir(mode=0o700)
        shutil.chown(runtime, self.user, self.user)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.folder / "runtime"),
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }

    def run(
        self, command: Sequence[str | Path], *, check: bool = True, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """A command of this user; AssertionError with what it said where it fails."""
        done = subprocess.run(
            [str(word) for word in command],
            env={**self.environment, **more},
            cwd=ROOT if self.user == "root" else "/",
            capture_output=True,
            text=True,
            **self._as_user(),
        )
        assert done.returncode == 0 or not check, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def _as_user(self) -> dict[str, Any]:
        if self.user == "root":
            return {}
        entry = pwd.getpwnam(self.user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def __call__(self, *arguments: str | Path) -> str:
        return self.run(["podman", *arguments]).stdout

    def has(self, image: str) -> bool:
        return self.run(["podman", "image", "exists", image], check=False).returncode == 0

    def names(self, service: str) -> list[str]:
        label = f"--filter=label=com.docker.compose.service={service}"
        return sorted(self("ps", label, "--format={{.Names}}").split())

    def pid(self, name: str) -> int:
        return int(json.loads(self("inspect", name))[0]["State"]["Pid"])


def make_base(root: Podman) -> None:
    """The base of all images, by debootstrap."""
    tree = root.folder / "base"
    shutil.rmtree(tree, ignore_errors=True)
    packages = "--include=python3,python3-venv,ca-certificates"
    root.run(["debootstrap", "--variant=minbase", packages, "bookworm", tree])
    packed = root.folder / "base.tar"
    root.run(["tar", "-C", tree, "--exclude=./var/cache/apt/*.deb", "-cf", packed, "."])
    root("import", "--change=ENV LANG=C.UTF-8", packed, BASE)
    shutil.rmtree(tree)
    packed.unlink()


def make_stand_in(root: Podman, name: str) -> None:
    file, context = IMAGES / f"{name}.Containerfile", ROOT if name == "llama-cpp" else IMAGES
    root("build", "--format=docker", "--pull=never", "-f", file, "-t", STAND_INS[name], context)


def hand_on(root: Podman, user: Podman) -> None:
    """Give the images of root to another user."""
    packed = user.folder / "images.tar"
    root("save", "--multi-image-archive", "-o", packed, BASE, OWN, *STAND_INS.values())
    shutil.chown(packed, user.user)
    user("load", "--input", packed)
    packed.unlink()
