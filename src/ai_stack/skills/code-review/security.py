"""Security holes in Python, as bandit finds them."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from .findings import SEVERITIES, Finding
from .lint import SUFFIXES
from .sources import Source

with warnings.catch_warnings():  # bandit loads its tests in a way that stevedore calls old
    warnings.simplefilter("ignore", DeprecationWarning)
    from bandit.core.config import BanditConfig
    from bandit.core.manager import BanditManager

# Notes that are hardly ever a fault: assert, importing subprocess, programs without a shell.
LEFT_OUT = ["B101", "B404", "B603", "B607"]


def examine(sources: Sequence[Source], folder: Path, suppressions: bool) -> list[Finding]:
    """Findings in the Python sources, which lie in `folder`."""
    paths = [folder / s.path for s in sources if s.whole and s.path.endswith(SUFFIXES)]
    manager = BanditManager(
        BanditConfig(), "file", quiet=True,
        profile={"exclude": LEFT_OUT}, ignore_nosec=not suppressions,
    )  # fmt: skip
    with warnings.catch_warnings():  # of the reviewed code: the parser warns of odd escapes
        warnings.simplefilter("ignore")
        manager.discover_files([str(path) for path in paths])
        manager.run_tests()
    return [
        Finding(
            path=Path(issue.fname).relative_to(folder).as_posix(),
            line=issue.lineno,
            end_line=max(issue.linerange, default=issue.lineno),
            kind="security",
            rule=issue.test_id,
            severity=next((s for s in SEVERITIES if s == issue.severity.lower()), "low"),
            message=issue.text,
        )
        for issue in manager.get_issue_list()
    ]
