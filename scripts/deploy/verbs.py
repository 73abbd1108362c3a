"""What is done with the containers: deployed, replaced in turn, stopped, told of."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence

from containers import BALANCER, DEPLOY, GATEWAY, LOOK_S, Containers
from failure import Failed, say
from needs import ROOT, check_tunnel
from place import OWNERS

STORES = ("postgres", "redis", "redis-kept", "qdrant", "embedder", "llama-cpp", "redis-insight")
LATER = ("qdrant", "llama-cpp", "redis-insight")  # the gateway answers without them
NEEDED = {"postgres", "redis", "embedder", "jobs"}  # and not without these, as /health names them
# What may be left out, and what then stands in its place.
OPTIONAL = {
    "qdrant": {"AI_STACK_VECTORS_URL": "pgvector:"},
    "llama-cpp": {"AI_STACK_ENGINES": "llama-cpp:"},
    "redis-insight": {},
}
GRACE_S, REACHED_S = 690, 60


def deploy(stack: Containers, replicas: int, without: Sequence[str], *, build: bool) -> None:
    """Everything that is missing, in order; a gateway of an older image is replaced in turn."""
    check_tunnel(stack.engine)
    stack.place.make()
    choose(stack, replicas, without)
    if build:
        say("Building the image of the gateway (the first time takes some minutes)")
        build_image(stack)
    stores = [name for name in STORES if name not in without]
    say("Starting PostgreSQL, Redis and what else keeps data")
    own_folders(stack, without)
    replace(stack, [name for name in ("embedder",) if is_older(stack, name)])
    stack.up(*stores)
    stack.wait(name for name in stores if name not in LATER)
    say("Bringing the database to this version")
    stack.compose("run", "--rm", "--no-deps", "migrate")
    say(f"Starting {replicas} gateways, the worker and the balancer")
    older = is_older(stack, GATEWAY)
    replace(stack, [name for name in ("worker",) if is_older(stack, name)])
    for name in stack.names(GATEWAY)[replicas:]:
        take_away(stack, name)
    stack.up("--no-recreate", GATEWAY)
    stack.up("worker", BALANCER)
    if older:
        restart(stack)
    stack.wait([GATEWAY, "worker", BALANCER])
    await_gateways(stack)
    await_services(stack)
    conclude(stack, [name for name in stores if name in LATER])


def choose(stack: Containers, replicas: int, without: Sequence[str]) -> None:
    """Keep what was asked for, so that later calls need not say it again."""
    chosen = {"AI_STACK_REPLICAS": str(replicas), "AI_STACK_WITHOUT": ",".join(without)}
    for name, instead in OPTIONAL.items():
        for variable, value in instead.items():
            if name in without:
                chosen[variable] = value
            elif stack.choices.get(variable) == value:
                del stack.choices[variable], stack.environment[variable]
    stack.choices |= chosen
    stack.environment |= chosen
    stack.place.choose(stack.choices)


def build_image(stack: Containers) -> None:
    options = ["--format=docker"] if stack.engine == "podman" else []
    base = os.environ.get("AI_STACK_BASE_IMAGE")
    options += [f"--build-arg=BASE={base}"] if base else []
    file, image = DEPLOY / "containers/Containerfile", stack.image_of(GATEWAY)
    command = [stack.engine, "build", *options, "-f", str(file), "-t", image, str(ROOT)]
    if subprocess.run(command, stdout=sys.stderr).returncode != 0:
        raise Failed("the image could not be built")


def own_folders(stack: Containers, without: Sequence[str]) -> None:
    """Give each folder to the user of its service, as root of a container that has that right."""
    together: dict[tuple[str, str], list[str]] = {}
    for folder, owner in OWNERS.items():
        if owner[0] not in without:
            together.setdefault(owner, []).append(folder)
    for (service, user), folders in together.items():
        once = ("run", "--rm", "--no-healthcheck", "--network=none", "--user=0")
        volumes = [f"--volume={stack.place.data / folder}:/own/{folder}" for folder in folders]
        command = ("--entrypoint=chown", stack.image_of(service), user)
        stack(*once, *volumes, *command, *(f"/own/{folder}" for folder in folders))


def is_older(stack: Containers, service: str) -> bool:
    """Whether a container runs another image than the one that is there now."""
    now = stack("image", "inspect", "--format={{.Id}}", stack.image_of(service)).strip()
    found = [stack("inspect", "--format={{.Image}}", name).strip() for name in stack.names(service)]
    return any(one.removeprefix("sha256:") != now.removeprefix("sha256:") for one in found)


def replace(stack: Containers, services: Iterable[str]) -> None:
    """Take their containers away, for `up` to make new ones."""
    for service in services:
        for name in stack.names(service):
            take_away(stack, name)


def take_away(stack: Containers, name: str) -> None:
    """Have it end what it has begun, and remove it."""
    stack("stop", f"--time={GRACE_S}", name)
    stack("rm", "--force", name)


def restart(stack: Containers) -> None:
    """A new container for each gateway in turn: the balancer turns away from one that leaves,
    which ends what it has begun, and to the next only once the new one answers.
    """
    for name in stack.names(GATEWAY):
        say(f"  {name}: leaves")
        take_away(stack, name)
        stack.up("--no-recreate", GATEWAY)
        stack.wait([GATEWAY])
        await_gateways(stack)


def await_gateways(stack: Containers) -> None:
    """Until the balancer sends requests to all gateways."""
    wanted, until = len(stack.names(GATEWAY)), time.monotonic() + REACHED_S
    while stack.gateways_up() < wanted:
        if time.monotonic() > until:
            raise Failed(f"the balancer finds {stack.gateways_up()} of {wanted} gateways")
        time.sleep(LOOK_S)


def await_services(stack: Containers) -> None:
    """Until each gateway reaches all that it cannot do without."""
    until = time.monotonic() + REACHED_S
    for name in stack.names(GATEWAY):
        while ill := sorted(stack.ill(name) & NEEDED):
            if time.monotonic() > until:
                raise Failed(f"{name} does not reach {', '.join(ill)}:\n{stack.log(name)}")
            time.sleep(LOOK_S)
    say("  all that they need answers them")


def conclude(stack: Containers, later: Iterable[str]) -> None:
    for service in later:
        for name in stack.names(service):
            word = "healthy" if stack.is_healthy(name) else "not yet healthy; the gateway goes on"
            say(f"  {service}: {word}")
    host = stack.environment.get("AI_STACK_BIND") or "127.0.0.1"
    scheme = "https" if stack.environment.get("AI_STACK_TLS_PEM") else "http"
    say(f"AI Stack is at {scheme}://{host}:{stack.environment.get('AI_STACK_PORT') or 8091}")
    name = stack.names(GATEWAY)[0]
    say(f"The first key: {stack.engine} exec {name} ai-stack keys create NAME")


def down(stack: Containers) -> None:
    """Stop all, the gateways first and by their grace; the data stay."""
    for service in (BALANCER, GATEWAY, "worker"):
        names = stack.names(service)
        if names:
            stack("stop", f"--time={GRACE_S}", *names)
    stack.compose("down")


def status(stack: Containers) -> None:
    for service in (BALANCER, GATEWAY, "worker", *STORES):
        for name in stack.names(service):
            word = "healthy" if stack.is_healthy(name) else "not healthy"
            sys.stdout.write(f"{name}: {word}\n")
