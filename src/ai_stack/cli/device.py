"""Signing this shell in by a browser, on this machine or on another (RFC 8628)."""

import getpass
import platform
import sys
import time
from urllib.parse import urlencode

from ai_stack.cli.client import Answer, Gateway, Refused
from ai_stack.cli.options import say

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
LONGER_S = 5
LONGEST_NAME = 100


def sign_in(gateway: Gateway, issuer: str | None) -> str:
    """A login's token, once a person has approved this shell in a browser.

    Raises Refused for one that was denied, or that nobody approved in time.
    """
    started = gateway.ask("POST", "/auth/device", data={"client_id": own_name()})
    more = f"&{urlencode({'issuer': issuer})}" if issuer else ""
    say(f"Open {started['verification_uri_complete']}{more}")
    say(f"in a browser, sign in, and approve the code {started['user_code']}.")
    sys.stdout.flush()  # whatever reads it, now is the time
    return _awaited(gateway, started)


def own_name() -> str:
    """What this shell calls itself, which the person who approves it reads."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    told = f"ai-stack of {user} on {platform.node() or 'a machine'}"
    return "".join(one for one in told if one.isprintable())[:LONGEST_NAME]


def _awaited(gateway: Gateway, started: Answer) -> str:
    body = {"grant_type": GRANT, "device_code": started["device_code"]}
    interval_s = float(started["interval"])
    while True:
        time.sleep(interval_s)
        try:
            return str(gateway.insist("POST", "/auth/device/token", data=body)["access_token"])
        except Refused as error:
            if error.reason not in ("authorization_pending", "slow_down"):
                raise
            interval_s += LONGER_S if error.reason == "slow_down" else 0
