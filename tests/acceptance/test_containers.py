"""The whole stack in containers, by the one command that deploys it: for root, and without root.

Real podman, real networks, the files of `deploy/` as they stand; images of the names that they
have are made on the spot where no registry is reachable. Minutes, and some packages of Debian:

    ./scripts/ai-stack-manage.sh test -m containers tests/acceptance/test_containers.py
"""

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

import gguf
import podman
from balanced import Load
from podman import OWN, STAND_INS, Podman
from stacks import free_port

pytestmark = pytest.mark.containers

ROOT = Path(__file__).parents[2]
FOLDER = Path("/var/tmp/ai-stack-containers")  # keeps the images for the next time
USER, TUNNEL = "ai-stack-test", Path("/dev/net/tun")
LEFT_OUT = ("--without=qdrant", "--without=redis-insight")  # of which there is no image
GATEWAY, LOAD_S = "aidb-mcp", 20.0
TOOLS = ("gcc", "cc", "g++", "make", "ld", "rustc")


@dataclass
class Deployed:
    """A clone of the repository, and what it has deployed for one user."""

    podman: Podman
    clone: Path
    port: int
    settings: dict[str, str]
    key: str = ""
    said: list[str] = field(default_factory=list)

    def deploy(self, *arguments: str) -> str:
        """The one command."""
        command = [self.clone / "scripts/ai-stack-manage.sh", "deploy", *arguments]
        done = self.podman.run(command, **self.settings)
        self.said.append(done.stderr)
        return done.stdout + done.stderr

    def client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=60)

    def inside(self, service: str, *command: str) -> str:
        return self.podman("exec", self.podman.names(service)[0], *command)

    def found(self, query: str) -> list[str]:
        with self.client() as client:
            body = {"query": query, "limit": 3, "filter": {"kind": "promise"}}
            answer = client.post("/search/semantic", json=body)
        assert answer.status_code == 200, answer.text
        return [result["document"]["content"] for result in answer.json()["results"]]


def build(root: Podman) -> None:
    """All images that the compose files name and that can be had."""
    if not root.has(podman.BASE):
        podman.make_base(root)
    file = ROOT / "deploy/containers/Containerfile"
    root("build", "--format=docker", "--pull=never", "-f", file, "-t", OWN, ROOT)
    for name in STAND_INS:
        podman.make_stand_in(root, name)


def ordinary_user() -> str:
    """A user of this machine with further ids for its containers, made where it is not there."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--create-home", USER], check=True)
    TUNNEL.chmod(0o666)  # as udev has it; a machine without udev may not
    if USER not in Path("/etc/subuid").read_text():
        more = ("--add-subuids=700000-765535", "--add-subgids=700000-765535")
        subprocess.run(["usermod", *more, USER], check=True)
    return USER


@pytest.fixture(scope="module")
def root() -> Podman:
    assert os.getuid() == 0, "the images are made by root"
    podman.install()
    FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    made = Podman.of(FOLDER / "root", "root")
    build(made)
    return made


@pytest.fixture(scope="module", params=["root", "rootless"])
def deployed(request: pytest.FixtureRequest, root: Podman) -> Iterator[Deployed]:
    machine = root
    if request.param == "rootless":
        machine = Podman.of(FOLDER / "rootless", ordinary_user())
        machine.begin_anew()
        podman.hand_on(root, machine)
    made = clone(machine)
    own = ["--no-build"] if request.param == "rootless" else []
    try:
        made.deploy(*own, *LEFT_OUT)
        made.key = json.loads(made.inside(GATEWAY, "ai-stack", "keys", "create", "t", "--json"))[
            "key"
        ]
        yield made
    finally:
        names = machine("ps", "-aq").split()
        if names:
            machine("rm", "--force", "--time=5", *names)
        machine.run(["podman", "unshare", "rm", "-rf", made.clone.parent], check=False)
        shutil.rmtree(made.clone.parent, ignore_errors=True)


def clone(machine: Podman) -> Deployed:
    """What is tracked, as a clone has it, and a free port for everything that is published."""
    folder = machine.home / "user"
    shutil.rmtree(folder, ignore_errors=True)
    locks = ("requirements.lock", "requirements-dev.lock")
    files = ("deploy", "scripts", "src", "pyproject.toml", *locks, "README.md", "LICENSE")
    for name in files:
        source, target = ROOT / name, folder / "clone" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, target)
    models = folder / "data/llama-cpp-models"
    models.mkdir(parents=True)
    gguf.write_chat(models / "tiny.gguf")
    if machine.user != "root":
        subprocess.run(["chown", "-R", f"{machine.user}:", folder], check=True)
    port = free_port()
    ports = ("POSTGRES", "REDIS", "QDRANT", "QDRANT_GRPC", "LLAMA_CPP")
    settings = {f"{name}_PORT": str(free_port()) for name in ports} | {
        "AI_STACK_PORT": str(port),
        "AI_STACK_DATA_DIR": str(folder / "data"),
        "AI_STACK_CONFIG_DIR": str(folder / "config"),
        "LLAMA_CPP_SOURCE": "--model",
        "LLAMA_CPP_MODEL": "/models/tiny.gguf",
        "LLAMA_CPP_ALIAS": "tiny",
        "LLAMA_CPP_CTX_TOTAL": "16384",
        "POSTGRES_SHARED_BUFFERS": "256MB",
    }
    return Deployed(machine, folder / "clone", port, settings)


def test_one_command_leads_to_three_healthy_gateways(deployed: Deployed) -> None:
    assert f"AI Stack is at http://127.0.0.1:{deployed.port}" in deployed.said[0]
    assert len(deployed.podman.names(GATEWAY)) == 3
    status = deployed.deploy("status")
    assert "not healthy" not in status
    assert len(re.findall(r": healthy", status)) == 10
    with deployed.client() as client:
        health = client.get("/health").json()
    assert health["status"] == "healthy", health
    assert health["services"]["llama-cpp"]["status"] == "healthy"


def test_services_find_each_other_by_name(deployed: Deployed) -> None:
    look = "import socket, sys; [print(socket.gethostbyname(n)) for n in sys.argv[1:]]"
    names = (
        "postgres",
        "redis",
        "redis-kept",
        "llama-cpp",
        "balancer",
        "nixos-ai-stack-aidb-mcp-3",
    )
    found = deployed.inside("worker", "python", "-c", look, *names).split()
    assert len(found) == len(names) and all(one.startswith("10.89.91.") for one in found)
    several = "import socket; print(len(set(socket.gethostbyname_ex('aidb-mcp')[2])))"
    assert deployed.inside("worker", "python", "-c", several).strip() == "3"


def test_every_container_is_bounded(deployed: Deployed) -> None:
    for service in ("balancer", GATEWAY, "worker", "embedder", "postgres", "redis", "llama-cpp"):
        name = deployed.podman.names(service)[0]
        (told,) = json.loads(deployed.podman("inspect", name))
        assert told["HostConfig"]["ReadonlyRootfs"] is True
        assert not told["EffectiveCaps"]
        status = Path(f"/proc/{deployed.podman.pid(name)}/status").read_text()
        assert "NoNewPrivs:\t1" in status and "CapEff:\t0000000000000000" in status
        ports = [one for bound in told["NetworkSettings"]["Ports"].values() for one in bound or ()]
        assert {one["HostIp"] for one in ports} <= {"127.0.0.1"}
        assert "password" not in json.dumps(told["Config"]["Env"]).lower().replace("_password", "")
        if deployed.podman.user == "root":  # a user has no say over memory on every machine
            assert told["HostConfig"]["Memory"] > 0


def test_the_image_has_no_tool_that_builds_and_no_root(deployed: Deployed) -> None:
    for tool in (*TOOLS, "pip"):
        looked = f"command -v {tool} || ls /opt/ai-stack/bin/{tool}"
        command = ["podman", "run", "--rm", "--network=none", "--entrypoint=sh", OWN, "-c", looked]
        found = deployed.podman.run(command, check=False).stdout
        assert "/opt/ai-stack" not in found and (tool == "pip" or not found), found
    assert deployed.inside(GATEWAY, "id", "-u").strip() == "10001"
    written = deployed.podman.run(
        ["podman", "exec", deployed.podman.names(GATEWAY)[0], "touch", "/opt/ai-stack/x"],
        check=False,
    )
    assert "Read-only file system" in written.stderr


def test_nobody_comes_in_without_a_key(deployed: Deployed) -> None:
    assert httpx.get(f"http://127.0.0.1:{deployed.port}/documents").status_code == 401
    forged = {"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"}
    answer = httpx.get(f"http://127.0.0.1:{deployed.port}/documents", headers=forged)
    assert answer.status_code == 401


def test_a_document_goes_in_and_is_found(deployed: Deployed) -> None:
    with deployed.client() as client:
        body = {"content": "Old copies are kept for thirty days.", "metadata": {"kind": "promise"}}
        assert client.post("/documents", json=body).status_code == 201
    assert deployed.found("how long do we keep old copies")[0] == body["content"]


def test_a_gateway_killed_under_load_costs_nothing_that_a_retry_does_not_heal(
    deployed: Deployed,
) -> None:
    victim = deployed.podman.names(GATEWAY)[1]
    with Load(deployed.client, retries=5) as load:
        time.sleep(3)
        os.kill(deployed.podman.pid(victim), signal.SIGKILL)
        time.sleep(LOAD_S / 2)
    assert (load.failed, load.truncated) == ([], []), f"{load.failed} {load.truncated}"
    assert load.done > 50
    assert load.missing() == []
    print(f"killed: {load.told}")
    deployed.deploy("--no-build")
    assert len(deployed.podman.names(GATEWAY)) == 3


def test_a_rolling_restart_under_load_fails_nothing(deployed: Deployed) -> None:
    before = {name: deployed.podman.pid(name) for name in deployed.podman.names(GATEWAY)}
    with Load(deployed.client) as load:
        time.sleep(2)
        deployed.deploy("restart")
        time.sleep(2)
    after = {name: deployed.podman.pid(name) for name in deployed.podman.names(GATEWAY)}
    assert before.keys() == after.keys()
    assert {*before.values()}.isdisjoint(after.values())
    assert (load.failed, load.truncated) == ([], []), f"{load.failed} {load.truncated}"
    assert load.done > 100 and load.streams > 5
    assert load.missing() == []
    print(f"rolling: {load.told}")


def test_a_hasty_restart_is_seen(deployed: Deployed) -> None:
    """The planted defect of the two before: a gateway is stopped without being let go."""
    victim = deployed.podman.names(GATEWAY)[0]
    with Load(deployed.client) as load:
        time.sleep(2)
        deployed.podman("kill", "--signal=KILL", victim)
        time.sleep(3)
    assert load.failed or load.truncated
    deployed.deploy("--no-build")


def test_what_is_stored_outlives_the_containers(deployed: Deployed) -> None:
    made = deployed.inside("worker", "ai-stack", "backup", "create")
    assert "backup" in made.lower()
    listed = deployed.inside("worker", "ai-stack", "backup", "list", "--json")
    assert json.loads(listed)["items"]
    deployed.deploy("down")
    assert deployed.podman("ps", "-aq") == ""
    deployed.deploy("--no-build")
    assert deployed.found("how long do we keep old copies")[0].startswith("Old copies")
    assert len(deployed.podman.names(GATEWAY)) == 3


def test_fewer_gateways_when_fewer_are_asked_for(deployed: Deployed) -> None:
    deployed.deploy("--no-build", "--replicas=1")
    assert deployed.podman.names(GATEWAY) == ["nixos-ai-stack-aidb-mcp-1"]
    assert deployed.found("how long do we keep old copies")
