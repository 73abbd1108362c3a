"""Downloads one model in a process of its own, which leaves no memory behind.

    python -m ai_stack.supervisor.pull_child NAME

The settings come from the environment. It tells the reason of a failure in its last line.
"""

import logging
import sys

from ai_stack.errors import AIStackError
from ai_stack.hub import Hub
from ai_stack.settings import load_settings
from ai_stack.weights import names, pull
from ai_stack.weights.shelf import FOLDER, Shelf

EVERY_BYTES = 256 << 20

log = logging.getLogger("ai_stack.models")


class Told:
    """Writes down how far a download is, now and then."""

    def __init__(self, name: str) -> None:
        self._name, self._next_bytes = name, 0

    def __call__(self, step: pull.Step) -> None:
        if step.text:
            log.info("%s", step.text)
        if step.stage == "downloading" and step.done_bytes >= self._next_bytes:
            self._next_bytes = step.done_bytes + EVERY_BYTES
            mib = step.done_bytes >> 20, step.size_bytes >> 20
            log.info("downloading %s: %d of %d MiB", self._name, *mib)


def main(name: str) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = load_settings()
    token = settings.huggingface_token
    hub = Hub(settings.hub_url, token.get_secret_value() if token else None)
    try:
        pull.pull(names.resolve(name), Shelf(settings.data_dir / FOLDER), hub, Told(name))
    except AIStackError as error:
        log.error("%s", error.message)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
