"""The containers of one project, as podman or docker and their compose handle them."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from failure import Failed, say
from needs import ROOT, find_compose
from place import Place

DEPLOY, PROJECT = ROOT / "deploy", "nixos-ai-stack"
COMPOSE_FILE = DEPLOY / "docker-compose.yml"
BALANCER, GATEWAY = "balancer", "aidb-mcp"
OWN_IMAGE = "localhost/nixos-ai-stack:${AI_STACK_TAG:-latest}"
HEALTHY_S, LOOK_S, RESTARTS = 600, 0.5, 5
VARIABLE = re.compile(r"\$\{(\w+)(?::-((?:[^${}]|\$\{[^}]*\})*))?\}")
STATS = "http://127.0.0.1:8404/stats;csv"


class Containers:
    """What podman or docker and compose do, for one project."""

    def __init__(self, engine: str, files: Sequence[Path], place: Place) -> None:
        self.engine = engine
        self.place = place
        self.choices = {**place.chosen(), **_given()}
        self.environment = {**os.environ, **self.choices}
        self._files = [word for file in files for word in ("-f", str(file))]

    @cached_property
    def _compose(self) -> list[str]:
        given = ["--env-file", str(self.place.choices), "-p", PROJECT, *self._files]
        return [*find_compose(self.engine), *given]

    def compose(self, *arguments: str) -> None:
        self._run([*self._compose, *arguments])

    def up(self, *options_and_services: str) -> None:
        """Start what does not run; nothing that runs is touched, unless it is to be another."""
        self.compose("up", "-d", "--no-deps", "--no-build", *options_and_services)

    def __call__(self, *arguments: str) -> str:
        return self._run([self.engine, *arguments])

    def _run(self, command: Sequence[str]) -> str:
        done = subprocess.run(
            command, env=self.environment, cwd=DEPLOY, capture_output=True, text=True
        )
        if done.returncode != 0:
            told = (done.stderr.strip() or done.stdout.strip())[-4000:]
            raise Failed(f"`{' '.join(command)}` failed ({done.returncode}):\n{told}")
        return done.stdout

    def names(self, service: str, *, all_of_them: bool = True) -> list[str]:
        labels = {"project": PROJECT, "service": service}
        filters = [f"--filter=label=com.docker.compose.{k}={v}" for k, v in labels.items()]
        options = ["--all"] if all_of_them else []
        found = self("ps", *options, *filters, "--format={{.Names}}").split()
        return sorted(found, key=_number)

    def image_of(self, service: str) -> str:
        """As the compose file names it."""
        block = re.search(rf"^  {service}:.*\n((?:    .*\n|\n)*)", COMPOSE_FILE.read_text(), re.M)
        named = re.search(r"^    image: (\S+)", block[1] if block else "", re.M)
        return self._expanded(named[1] if named else OWN_IMAGE)

    def _expanded(self, text: str) -> str:
        return VARIABLE.sub(lambda m: self.environment.get(m[1]) or m[2] or "", text)

    def is_healthy(self, name: str) -> bool:
        """podman asks itself here, since its own timers need systemd."""
        if self.engine == "podman":
            command = [self.engine, "healthcheck", "run", name]
            return subprocess.run(command, capture_output=True).returncode == 0
        return self("inspect", "--format={{.State.Health.Status}}", name).strip() == "healthy"

    def ill(self, name: str) -> set[str]:
        """The services that do not answer this gateway in time, as `ai-stack health` names them."""
        command = [self.engine, "exec", name, "ai-stack", "health", "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        try:
            services = json.loads(done.stdout)["services"]
        except (ValueError, KeyError):
            raise Failed(f"{name} tells nothing of its health:\n{done.stderr[-4000:]}") from None
        return {one for one, told in services.items() if told["status"] == "unhealthy"}

    def wait(self, services: Iterable[str], timeout_s: float = HEALTHY_S) -> None:
        """Until every container of these services is healthy; Failed with its log when not."""
        until = time.monotonic() + timeout_s
        for service in services:
            for name in self.names(service):
                while not self.is_healthy(name):
                    self._check_hope(name, until)
                    time.sleep(LOOK_S)
            say(f"  {service}: healthy")

    def _check_hope(self, name: str, until: float) -> None:
        ended = int(self("inspect", "--format={{.RestartCount}}", name).strip() or 0)
        if ended >= RESTARTS:
            raise Failed(f"{name} ends whenever it is started:\n{self.log(name)}")
        if time.monotonic() > until:
            raise Failed(f"{name} does not get healthy:\n{self.log(name)}")

    def log(self, name: str) -> str:
        command = [self.engine, "logs", "--tail=20", name]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.stdout + done.stderr

    def gateways_up(self) -> int:
        """How many gateways the balancer sends requests to."""
        (balancer,) = self.names(BALANCER)
        told = self("exec", balancer, "wget", "-q", "-O", "-", STATS)
        rows = [line.split(",") for line in told.splitlines()]
        return sum(r[:1] == ["gateways"] and r[1] != "BACKEND" and r[17] == "UP" for r in rows)


def _number(name: str) -> int:
    """The last part of a container's name: which of its service it is."""
    last = name.rpartition("-")[2]
    return int(last) if last.isdigit() else 0


def _given() -> dict[str, str]:
    """The variables of the compose file that this shell has set."""
    names = {found[1] for found in VARIABLE.finditer(COMPOSE_FILE.read_text())} - {"HOME"}
    return {name: os.environ[name] for name in sorted(names) if os.environ.get(name)}
