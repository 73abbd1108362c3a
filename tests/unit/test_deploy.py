"""The compose files, the image, the balancer, the units: what they say, and that they agree.

Nothing is started here; `test_containers` of the acceptance tests runs it all by podman.
"""

import copy
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from ai_stack.errors import SettingsError
from ai_stack.settings import Settings, load_settings, variable_of
from ai_stack.settings.exposure import check_exposure
from imported import imported

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
HAPROXY = DEPLOY / "haproxy/haproxy.cfg"
MAIN, DEV, MINIMAL = (DEPLOY / f"docker-compose{kind}.yml" for kind in ("", ".dev", ".minimal"))
OVERLAYS = sorted({*DEPLOY.glob("docker-compose.*.yml")} - {MAIN, MINIMAL})
INNERMOST = re.compile(r"\$\{(\w+)(?::[-?]([^${}]*))?\}")
OURS = ("aidb-mcp", "worker", "embedder", "migrate")
# The specification's services, and the ports that each is published on.
PORTS = {
    "aidb-mcp": (),  # by the balancer
    "balancer": (8091,),
    "llama-cpp": (8080,),
    "postgres": (5432,),
    "redis": (6379,),
    "qdrant": (6333, 6334),
    "redis-insight": (5540,),
}
FOLDERS = {"postgres": "postgres", "redis": "redis", "qdrant": "qdrant"}
FOLDERS |= {"llama-cpp": "llama-cpp-models", "redis-kept": "redis-kept"}
SECRET = re.compile(r"PASSWORD|SECRET|_KEY$|TOKEN|_URL$")


def resolved(value: Any, given: dict[str, str]) -> Any:
    """With every variable replaced as compose does it."""
    if isinstance(value, dict):
        return {key: resolved(one, given) for key, one in value.items()}
    if isinstance(value, list):
        return [resolved(one, given) for one in value]
    while isinstance(value, str) and INNERMOST.search(value):
        value = INNERMOST.sub(lambda found: given.get(found[1]) or found[2] or "", value)
    return value


def read(file: Path, **given: str) -> dict[str, Any]:
    text = yaml.safe_load(file.read_text())
    found: dict[str, Any] = resolved(text, {"HOME": "/user", **given})
    return found


def merged(over: Path, **given: str) -> dict[str, Any]:
    """The production file with another over it, as far as environments and commands go."""
    compose, more = read(MAIN, **given), read(over, **given)
    for name, service in more["services"].items():
        base = compose["services"].setdefault(name, {})
        together = {**base.get("environment", {}), **service.get("environment", {})}
        base |= {**service, **({"environment": together} if together else {})}
    return compose


def services_of(compose: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from compose["services"].items()


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def faults(compose: dict[str, Any]) -> list[str]:
    """What a service of the whole stack lacks of its bounds, or is open to."""
    found = []
    for name, service in services_of(compose):
        found += [f"{name}: {lack}" for lack in lacks(service)]
        found += [f"{name}: {port} is wide" for port in service.get("ports", ()) if wide(port)]
        found += [f"{name}: {key} is a secret in the clear" for key in in_the_clear(service)]
        found += [f"{name}: {secret} is not declared" for secret in undeclared(service, compose)]
    return found


def lacks(service: dict[str, Any]) -> Iterator[str]:
    wanted = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
    wanted |= {"networks": ["nixos-ai-stack-net"], "init": True}
    yield from (key for key, value in wanted.items() if service.get(key) != value)
    yield from (key for key in ("mem_limit", "pids_limit", "healthcheck") if key not in service)
    yield from (key for key in ("privileged", "cap_add", "pid", "network_mode") if key in service)
    if service.get("user", "") in ("root", "0", "0:0"):
        yield "another user than root"


def wide(port: str) -> bool:
    return not str(port).startswith("127.0.0.1:")


def in_the_clear(service: dict[str, Any]) -> Iterator[str]:
    for key, value in service.get("environment", {}).items():
        named = SECRET.search(key) and not key.endswith("_FILE")
        if named and value and ("URL" not in key or re.search(r"://[^/]*:[^/]*@", str(value))):
            yield key


def undeclared(service: dict[str, Any], compose: dict[str, Any]) -> set[str]:
    used = {s if isinstance(s, str) else s["source"] for s in service.get("secrets", ())}
    named = re.findall(r"/run/secrets/(\w+)", str(service.get("environment", {})))
    return ({*used} - {*compose["secrets"]}) | ({*named} - used)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported(monkeypatch, DEPLOY / "containers", "packages")


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported(monkeypatch, ROOT / "scripts/deploy", "verbs")


def test_every_service_is_bounded_and_closed() -> None:
    assert faults(read(MAIN)) == []
    assert faults(merged(DEPLOY / "docker-compose.vllm.yml")) == []
    assert faults(merged(DEV)) == []


PLANTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a writable root": lambda s: s["redis"].pop("read_only"),
    "a capability": lambda s: s["aidb-mcp"].update(cap_add=["NET_ADMIN"]),
    "capabilities kept": lambda s: s["qdrant"].pop("cap_drop"),
    "new privileges": lambda s: s["worker"].update(security_opt=[]),
    "no bound of memory": lambda s: s["embedder"].pop("mem_limit"),
    "no bound of processes": lambda s: s["postgres"].pop("pids_limit"),
    "no health check": lambda s: s["balancer"].pop("healthcheck"),
    "root": lambda s: s["postgres"].update(user="root"),
    "a wide port": lambda s: s["postgres"].update(ports=["5432:5432"]),
    "another network": lambda s: s["redis"].update(networks=["default"]),
    "the host's network": lambda s: s["worker"].update(network_mode="host"),
    "a password": lambda s: s["postgres"]["environment"].update(POSTGRES_PASSWORD="x"),
    "a password in a URL": lambda s: s["worker"]["environment"].update(
        AI_STACK_DATABASE_URL="postgresql://me:x@postgres/mcp"
    ),
    "a secret of no file": lambda s: s["redis"].update(secrets=["nothing"]),
    "a secret that is not given": lambda s: s["migrate"].update(secrets=[]),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_fault_in_a_service_is_seen(plant: str) -> None:
    compose = copy.deepcopy(read(MAIN))
    PLANTS[plant](compose["services"])
    assert len(faults(compose)) >= 1


def test_asked_for_it_only_the_gateway_is_open_to_others() -> None:
    compose = read(MAIN, AI_STACK_BIND="0.0.0.0")
    assert faults(compose) == ["balancer: 0.0.0.0:8091:8091 is wide"]


def test_no_folder_of_a_container_is_taken_for_one_of_the_machine() -> None:
    """podman-compose fills in what a service is told where the shell has no such variable."""
    named = {*re.findall(r"\$\{(\w+_DIR)\b", MAIN.read_text())}
    for _, service in services_of(read(MAIN)):
        assert named.isdisjoint(service.get("environment", {}))


def test_names_ports_network_and_folders_are_the_specifications() -> None:
    compose = read(MAIN)
    assert compose["networks"]["nixos-ai-stack-net"]["name"] == "nixos-ai-stack-net"
    for name, ports in PORTS.items():
        published = [port.split(":")[1:] for port in compose["services"][name].get("ports", ())]
        assert published == [[str(port)] * 2 for port in ports], name
    for name, folder in FOLDERS.items():
        sources = [volume.split(":")[0] for volume in compose["services"][name]["volumes"]]
        assert f"/user/.local/share/nixos-ai-stack/{folder}" in sources
    minimal = read(MINIMAL)
    assert list(minimal["services"]) == ["llama-cpp"]
    assert minimal["services"]["llama-cpp"]["extends"] == {
        "file": MAIN.name,
        "service": "llama-cpp",
    }
    assert compose["services"]["llama-cpp"].keys().isdisjoint({"secrets", "depends_on"})


def test_what_is_mounted_from_here_is_here() -> None:
    for file in (MAIN, DEV):
        for name, service in services_of(read(file)):
            for volume in service.get("volumes", ()):
                source = volume.split(":")[0]
                assert not source.startswith(".") or (DEPLOY / source).exists(), (name, source)
    image = read(MAIN)["services"]["aidb-mcp"]["build"]
    assert (DEPLOY / image["context"] / image["dockerfile"]).exists()


def settings_in(compose: dict[str, Any], service: str, folder: Path) -> Settings:
    """What the process of a service reads, its secrets from files of this test."""
    image = re.findall(r"(AI_STACK_\w+)=(\S+)", (DEPLOY / "containers/Containerfile").read_text())
    found = dict(image)
    for key, value in compose["services"][service]["environment"].items():
        found[key] = str(value)
        if key.endswith("_FILE"):
            name = Path(found[key]).name
            (folder / name).write_text("redis://:x@redis:6379" if "redis" in name else name)
            found[key] = str(folder / name)
    return load_settings({"HOME": str(folder), **found})


@pytest.mark.parametrize("file", [MAIN, *OVERLAYS], ids=lambda file: file.stem)
@pytest.mark.parametrize("service", OURS)
def test_the_stack_reads_what_the_files_say(file: Path, service: str, tmp_path: Path) -> None:
    compose = merged(file) if file != MAIN else read(MAIN)
    settings = settings_in(compose, service, tmp_path)
    assert settings.data_dir == Path("/var/lib/ai-stack")
    known = {variable_of(name, field) for name, field in Settings.model_fields.items()}
    given = compose["services"][service]["environment"]
    ours = {key for key in given if key.startswith("AI_STACK_")}
    assert {key for key in ours if key.removesuffix("_FILE") not in known} == set()
    check_exposure(settings, has_credentials=False)


def test_the_gateway_asks_who_comes_and_believes_the_balancer_alone(tmp_path: Path) -> None:
    settings = settings_in(read(MAIN), "aidb-mcp", tmp_path)
    assert (settings.auth, settings.trusted_proxies) == ("required", "10.89.91.0/24")
    assert settings.vectors == "qdrant://qdrant:6333"
    assert settings.engine_urls == ["llama-cpp://llama-cpp:8080"]
    both = settings_in(merged(DEPLOY / "docker-compose.vllm.yml"), "aidb-mcp", tmp_path)
    assert both.engine_urls == ["llama-cpp://llama-cpp:8080", "vllm://vllm:8000"]
    compose = merged(DEV)
    assert settings_in(compose, "aidb-mcp", tmp_path).log_level == "debug"
    compose = merged(DEV, AI_STACK_BIND="0.0.0.0")
    with pytest.raises(SettingsError, match="authentication"):
        check_exposure(settings_in(compose, "aidb-mcp", tmp_path), has_credentials=False)


def graces(compose: dict[str, Any], balancer: str) -> list[int]:
    """Each is longer than the one before: an answer, a gateway, the balancer, a container."""
    given, services = compose["services"]["aidb-mcp"]["environment"], compose["services"]
    timeouts = [
        int(t) for t in re.findall(r"(?:timeout (?:client|server)|-after) (\d+)s", balancer)
    ]
    assert len(timeouts) == 3 and len(set(timeouts)) == 1
    return [
        int(Settings.model_fields["inference_timeout_s"].default),
        given["AI_STACK_SHUTDOWN_GRACE_S"] + given["AI_STACK_DRAIN_S"],
        timeouts[0],
        *{seconds(services[name]["stop_grace_period"]) for name in ("aidb-mcp", "balancer")},
    ]


def test_nothing_is_stopped_before_its_longest_answer_can_end(verbs: ModuleType) -> None:
    found = graces(read(MAIN), HAPROXY.read_text())
    assert found == sorted(set(found)) and found[-1] == verbs.GRACE_S
    planted = read(MAIN)
    planted["services"]["aidb-mcp"]["environment"]["AI_STACK_SHUTDOWN_GRACE_S"] = 300
    hasty = graces(planted, HAPROXY.read_text())
    assert hasty != sorted(set(hasty))


def noticed_s(text: str) -> float:
    """The longest that the balancer takes to notice a gateway that is about to end."""
    server = re.search(r"inter (\d+)ms fall (\d+)", text)
    assert server is not None
    return 2 * int(server[1]) * int(server[2]) / 1000


def test_a_gateway_that_leaves_answers_until_the_balancer_knows() -> None:
    drain_s = read(MAIN)["services"]["aidb-mcp"]["environment"]["AI_STACK_DRAIN_S"]
    text = HAPROXY.read_text()
    assert noticed_s(text) < drain_s
    assert noticed_s(text.replace("fall 2", "fall 6")) > drain_s
    assert "retry-on conn-failure" in text


def haproxy(file: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "apt install haproxy, or ./scripts/ai-stack-manage.sh test"
    command = [program, "-c", "-f", str(file)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_balancer_takes_its_configuration(tmp_path: Path) -> None:
    done = haproxy(HAPROXY)
    assert done.returncode == 0, done.stderr
    without = haproxy(HAPROXY, TLS_CERTIFICATE=str(tmp_path / "none.pem"))
    assert "none.pem" in without.stderr and without.returncode != 0
    planted = tmp_path / "haproxy.cfg"
    planted.write_text(HAPROXY.read_text().replace("balance leastconn", "balance lestconn"))
    assert haproxy(planted).returncode != 0


def test_prometheus_watches_every_gateway_by_a_name_that_it_answers_to(tmp_path: Path) -> None:
    file = DEPLOY / "prometheus/containers.yml"
    compose, config = read(MAIN), yaml.safe_load(file.read_text())
    targets = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert len(targets) == int(compose["services"]["aidb-mcp"]["scale"])
    hosts = settings_in(compose, "aidb-mcp", tmp_path).hosts_known
    assert {target.removesuffix(":8091") for target in targets} <= hosts


def test_the_image_holds_what_was_locked_and_no_tool_that_builds(packages: ModuleType) -> None:
    text = (DEPLOY / "containers/Containerfile").read_text()
    stages = text.split("\nFROM ")[1:]
    assert len(stages) == 2
    assert "--require-hashes --no-deps" in stages[0]
    last = re.sub(r"\\\n", " ", stages[1])
    assert re.search(r"^USER 10001:10001$", last, re.M) and "HEALTHCHECK" in last
    assert not re.search(r"apt-get|pip install|gcc", last)
    locks = [(ROOT / name).read_text() for name in ("requirements.lock", "requirements-dev.lock")]
    chosen = "".join(packages.chosen(*locks))
    ours, theirs = (packages.pins(lock) for lock in locks)
    assert {*packages.pins(chosen)} == ({*ours} - packages.LEFT_OUT) | packages.EXTRAS
    assert {*theirs} >= packages.EXTRAS
    assert {*ours} >= packages.LEFT_OUT
    assert "".join(ours.values()).count("==") == locks[0].count("==")


def test_the_image_has_the_extras_of_the_nix_package(packages: ModuleType) -> None:
    extras = re.search(r"extras='([^']+)'", (ROOT / "nix/wheels.sh").read_text())
    assert extras is not None
    assert {*extras[1].split()} == packages.EXTRAS


def test_only_what_is_built_from_goes_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "containers/Containerfile").read_text(), re.M
    )
    for path in " ".join(copied).split():
        assert any(path == one or path.startswith(f"{one}/") for one in let_in), path
