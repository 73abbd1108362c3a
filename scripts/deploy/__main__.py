"""Deploys the stack in containers, by podman or docker and their compose; needs nothing but Python.

    ai-stack-manage.sh deploy                    build, start, wait until all is healthy
    ai-stack-manage.sh deploy restart            one gateway after the other, no request lost
    ai-stack-manage.sh deploy down               stop; the data stay
    ai-stack-manage.sh deploy status

Secrets and choices lie in <config>/containers, data in <data>; both outlive the containers.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from containers import COMPOSE_FILE, DEPLOY, Containers
from failure import Failed, say
from needs import find_engine
from place import Place, home
from verbs import OPTIONAL, deploy, down, restart, status


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ai-stack-manage.sh deploy", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = ("up", "restart", "down", "status")
    parser.add_argument("verb", nargs="?", default="up", choices=verbs)
    parser.add_argument("--replicas", type=int, help="gateways; 3 by default")
    parser.add_argument(
        "--without", action="append", choices=[*OPTIONAL, "nothing"], help="leave a service out"
    )
    parser.add_argument("--engine", choices=["podman", "docker"])
    parser.add_argument("--file", action="append", default=[], type=Path, help="a further one")
    parser.add_argument("--tls", type=Path, help="certificate, chain and key in one PEM file")
    parser.add_argument("--data", type=Path, help="folder of the data")
    parser.add_argument("--config", type=Path, help="folder of the settings and secrets")
    parser.add_argument("--no-build", action="store_true", help="use the image that is there")
    return parser.parse_args(arguments)


def opened(given: argparse.Namespace) -> Containers:
    config = given.config or os.environ.get("AI_STACK_CONFIG_DIR") or home("CONFIG", ".config")
    config = Path(config).absolute()
    earlier = Place(config, config).chosen()
    data = given.data or os.environ.get("AI_STACK_DATA_DIR") or earlier.get("AI_STACK_DATA_DIR")
    place = Place(config, Path(data or home("DATA", ".local/share")).absolute())
    os.environ |= {"AI_STACK_CONFIG_DIR": str(place.config), "AI_STACK_DATA_DIR": str(place.data)}
    tls = given.tls or earlier.get("AI_STACK_TLS_PEM")
    files = [COMPOSE_FILE, *(file.absolute() for file in given.file)]
    if tls:
        files.insert(1, DEPLOY / "docker-compose.tls.yml")
    stack = Containers(find_engine(given.engine), files, place)
    if tls:
        stack.choices["AI_STACK_TLS_PEM"] = stack.environment["AI_STACK_TLS_PEM"] = str(
            Path(tls).absolute()
        )
    _check_bind(stack)
    return stack


def _check_bind(stack: Containers) -> None:
    host = stack.environment.get("AI_STACK_BIND") or "127.0.0.1"
    own = host.startswith("127.") or host in ("localhost", "::1", "[::1]")
    if not own and not stack.environment.get("AI_STACK_TLS_PEM"):
        raise Failed(
            f"AI_STACK_BIND={host} is reached by other machines, and keys would go there in the "
            "clear: give --tls FILE, or put a proxy with TLS before 127.0.0.1."
        )


def without(given: argparse.Namespace, stack: Containers) -> list[str]:
    if given.without is None:
        return [name for name in stack.choices.get("AI_STACK_WITHOUT", "").split(",") if name]
    return [name for name in given.without if name != "nothing"]


def main(arguments: Sequence[str]) -> int:
    given = parsed(arguments)
    try:
        stack = opened(given)
        replicas = given.replicas or int(stack.choices.get("AI_STACK_REPLICAS", 3))
        if given.verb == "up":
            deploy(stack, replicas, without(given, stack), build=not given.no_build)
        else:
            {"restart": restart, "down": down, "status": status}[given.verb](stack)
    except (Failed, OSError) as error:
        say(f"deploy: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
