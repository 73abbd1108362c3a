"""Why a deployment cannot go on, and how it tells what it does."""

import sys


class Failed(Exception):
    """The deployment cannot go on; the text says why, and what to do."""


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
