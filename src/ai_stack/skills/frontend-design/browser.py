"""Where the system's Chromium is, and how it is started: without a network, without a profile."""

import shutil
from importlib.util import find_spec

from ai_stack.skill import SkillFailed
from ai_stack.skill.browsers import PROGRAMS


class NotRendered(SkillFailed):
    """Chromium did not start here, or ended while it showed the page."""


def chromium() -> str | None:
    """The program, where there is one."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def missing() -> str:
    """What rendering lacks here, in one line; empty when nothing does."""
    if find_spec("playwright") is None:
        return "Nothing was rendered: the extra `browser` (Playwright) is not installed."
    if chromium() is None:
        return "Nothing was rendered: there is no Chromium on PATH."
    return ""
