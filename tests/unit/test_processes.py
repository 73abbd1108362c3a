"""The stack's own processes, started without what they need."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("verb", ["serve", "worker", "migrate"])
def test_a_missing_url_is_one_line_that_names_it(verb: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ai_stack", verb],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "AI_STACK_DATABASE" in done.stderr
