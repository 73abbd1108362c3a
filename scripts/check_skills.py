"""Checks the types of all skills at once: `python scripts/check_skills.py`.

A skill's folder has hyphens in its name and is its own package, which mypy does not know. So it is
shown one package of links to them.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SKILLS = Path(__file__).parent.parent / "src/ai_stack/skills"
PACKAGE = "ai_stack_skills"


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / PACKAGE
        package.mkdir()
        (package / "__init__.py").touch()
        for code in sorted(SKILLS.glob("*/skill.py")):
            _link(code.parent, package / code.parent.name.replace("-", "_"))
        config = SKILLS.parents[2] / "pyproject.toml"
        command = [sys.executable, "-m", "mypy", "--config-file", str(config), "-p", PACKAGE]
        env = {**os.environ, "MYPYPATH": str(SKILLS.parents[1])}
        return subprocess.run(command, cwd=scratch, env=env, check=False).returncode


def _link(folder: Path, package: Path) -> None:
    """A package that is the skill: skill.py is its __init__."""
    package.mkdir()
    for file in folder.glob("*.py"):
        (package / ("__init__.py" if file.name == "skill.py" else file.name)).symlink_to(file)


if __name__ == "__main__":
    sys.exit(main())
