"""The hub, asked only with --online: whether models can be fetched, and what time it is there."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import httpx

from ai_stack.cli.diagnosis import Finding, Stack

APART_S = 120.0
TIMEOUT_S = 10.0


def hub(stack: Stack) -> Iterator[Finding]:
    if not stack.online:
        return
    url = stack.settings.hub_url
    try:
        date = httpx.head(url, timeout=TIMEOUT_S, follow_redirects=True).headers.get("date", "")
    except (httpx.HTTPError, httpx.InvalidURL):
        yield Finding(
            "hub",
            f"{url} does not answer.",
            "Models cannot be fetched; those that are here work.",
            "look at the network and the proxy (HTTPS_PROXY), set AI_STACK_HUB_URL to a mirror, "
            "or copy a .gguf file into the folder of models",
        )
        return
    apart = abs(_seconds(date) - time.time())
    if apart > APART_S:
        yield Finding(
            "clock",
            f"The clock is {apart / 60:.0f} minutes apart from that of {url}.",
            "Certificates and keys count as expired, or as not yet valid.",
            "timedatectl set-ntp true",
        )


def _seconds(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return time.time()
