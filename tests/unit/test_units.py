"""systemd's units as its own tools judge them, and that they agree with the rest."""

import os
import re
import subprocess
from pathlib import Path

import yaml

from ai_stack.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def section(file: Path, name: str = "Service") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    block = re.search(rf"^\[{name}\]\n(.*?)(?=^\[|\Z)", file.read_text(), re.M | re.S)
    assert block is not None
    for key, value in re.findall(r"^(\w+)=(.*)$", block[1], re.M):
        found.setdefault(key, []).append(value)
    return found


USER_UNIT = DEPLOY / "systemd/user/ai-stack.service"
SYSTEM_UNIT = DEPLOY / "systemd/system/ai-stack.service"


def analyzed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    given = {**os.environ, **environment}
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


def exposure(file: Path) -> float:
    done = analyzed("security", "--offline=true", "--no-pager", str(file))
    found = re.search(r"Overall exposure level for ai-stack.service: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    return float(found[1])


def test_the_units_are_what_systemd_takes(tmp_path: Path) -> None:
    for name in ("ai-stack/scripts/ai-stack-manage.sh", "opt/ai-stack"):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    given = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    done = analyzed("verify", "--man=no", "--user", str(USER_UNIT), **given)
    assert (done.returncode, done.stderr) == (0, "")
    system = tmp_path / "ai-stack.service"
    text = SYSTEM_UNIT.read_text().replace("/opt/ai-stack/.venv/bin", str(tmp_path / "opt"))
    system.write_text(text)
    done = analyzed("verify", "--man=no", str(system))
    assert (done.returncode, done.stderr) == (0, "")
    system.write_text(text.replace("KillMode=mixed", "KillMode=mixd"))
    assert "mixd" in analyzed("verify", "--man=no", str(system)).stderr


def test_the_system_unit_exposes_little(tmp_path: Path) -> None:
    assert exposure(SYSTEM_UNIT) <= 2.0
    planted = tmp_path / "ai-stack.service"
    planted.write_text(SYSTEM_UNIT.read_text().replace("CapabilityBoundingSet=\n", ""))
    assert exposure(planted) > 2.0


def test_the_system_unit_is_bounded_like_the_nixos_unit() -> None:
    expression = (
        f"import {ROOT}/nix/hardening.nix "
        "{ bubblewrap = false; lib.optional = yes: one: if yes then [ one ] else [ ]; }"
    )
    command = ["nix-instantiate", "--store", "dummy://", "--eval", "--strict", "--json", "--expr"]
    done = subprocess.run([*command, expression], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours = section(SYSTEM_UNIT)
    for key, value in yaml.safe_load(done.stdout).items():
        several = value if isinstance(value, list) else [value]
        wanted = [str(one).lower() if isinstance(one, bool) else str(one) for one in several]
        assert " ".join(ours[key]).split() == " ".join(wanted).split(), key


def test_the_units_wait_for_the_gateway_to_end() -> None:
    grace_s = int(Settings.model_fields["shutdown_grace_s"].default)
    for file in (USER_UNIT, SYSTEM_UNIT):
        assert int(section(file)["TimeoutStopSec"][0]) >= grace_s + 60
