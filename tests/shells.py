"""A user's shell with the real command, for tests that begin with an empty home."""

import json
import os
import subprocess
import sys
from pathlib import Path

from ai_stack.cli.client import Gateway
from ai_stack.cli.skill_arguments import sent
from stacks import free_port


class Shell:
    """A user's shell with an empty home of mode 0700."""

    def __init__(self, home: Path) -> None:
        home.chmod(0o700)
        self.home = home
        self.data = home / ".local/share/nixos-ai-stack"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "AI_STACK_PORT": str(free_port()),
        }

    def __call__(self, *arguments: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "ai_stack", *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd="/", capture_output=True, text=True, timeout=180
        )
        assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def give(self, path: Path) -> str:
        """Give a file or folder for a run of a skill; its name there."""
        with Gateway(f"http://127.0.0.1:{self.environment['AI_STACK_PORT']}") as gateway:
            return sent(gateway, path)

    def parts(self) -> dict[str, int]:
        found = json.loads(self("status", "--json"))
        return {part["name"]: part["pid"] for part in found["parts"] if part["pid"]}
