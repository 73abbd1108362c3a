"""The tool that deploys: what it needs, makes, keeps and refuses; nothing is started here."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from imported import imported

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy/docker-compose.yml"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported(monkeypatch, ROOT / "scripts/deploy", "place")


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported(monkeypatch, ROOT / "scripts/deploy", "verbs")


@pytest.fixture
def containers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported(monkeypatch, ROOT / "scripts/deploy", "containers")


def told(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / "scripts/deploy"), *arguments]
    given = {"HOME": str(folder), "PATH": "/nonexistent", **environment}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_it_says_what_is_missing(tmp_path: Path) -> None:
    status, said = told(tmp_path)
    assert status == 1 and "no podman and no docker on PATH" in said and "apt install" in said


def test_who_cannot_have_a_network_is_told_how(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needs = imported(monkeypatch, ROOT / "scripts/deploy", "needs")
    device = tmp_path / "tun"
    monkeypatch.setattr(needs, "TUNNEL", device)
    monkeypatch.setattr(needs.os, "geteuid", lambda: 1000)
    with pytest.raises(needs.Failed, match="modprobe tun"):
        needs.check_tunnel("podman")
    needs.check_tunnel("docker")
    device.touch()
    needs.check_tunnel("podman")


def test_it_opens_to_others_by_tls_alone(tmp_path: Path) -> None:
    program = tmp_path / "podman"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    status, said = told(tmp_path, PATH=str(tmp_path), AI_STACK_BIND="0.0.0.0")
    assert status == 1 and "give --tls FILE" in said
    status, said = told(tmp_path, "--tls", "x.pem", PATH=str(tmp_path), AI_STACK_BIND="0.0.0.0")
    assert status == 1 and "--tls" not in said


def test_secrets_are_made_once_and_agree(place: ModuleType, tmp_path: Path) -> None:
    made = place.Place(tmp_path / "config", tmp_path / "data")
    made.make()
    declared = {*yaml.safe_load(COMPOSE.read_text())["secrets"]}
    files = {file.name: file.read_text() for file in made.folder.iterdir()}
    assert {*files} == declared
    assert made.folder.stat().st_mode & 0o777 == 0o700
    assert files["database_url"] == (
        f"postgresql://aidb_gateway:{files['gateway_password']}@postgres:5432/mcp"
    )
    assert files["redis_auth"].split()[1] in files["redis_kept_url"]
    (made.folder / "database_url").unlink()
    made.make()
    assert {file.name: file.read_text() for file in made.folder.iterdir()} == files


def test_the_folder_of_an_embedded_stack_is_not_touched(place: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text('{"version": 1}')
    with pytest.raises(Exception, match="belongs to a stack that `ai-stack up` runs"):
        place.Place(tmp_path / "config", tmp_path).make()
    assert [file.name for file in tmp_path.iterdir()] == ["layout.json"]


def test_choices_are_kept(
    verbs: ModuleType, containers: ModuleType, place: ModuleType, tmp_path: Path
) -> None:
    made = place.Place(tmp_path / "config", tmp_path / "data")
    made.make()
    stack = containers.Containers("podman", [], made)
    verbs.choose(stack, 2, ["qdrant"])
    again = containers.Containers("podman", [], made)
    assert again.choices["AI_STACK_VECTORS_URL"] == "pgvector:"
    assert again.choices["AI_STACK_REPLICAS"] == "2"
    verbs.choose(again, 3, [])
    assert "AI_STACK_VECTORS_URL" not in made.chosen()


def test_it_knows_the_image_of_each_service(containers: ModuleType, tmp_path: Path) -> None:
    stack = containers.Containers.__new__(containers.Containers)
    stack.environment = {}
    services = {
        "postgres": "docker.io/timescale/timescaledb-ha:pg17",
        "redis": "docker.io/library/redis:7-alpine",
    }
    services |= {
        "aidb-mcp": "localhost/nixos-ai-stack:latest",
        "embedder": "localhost/nixos-ai-stack:latest",
    }
    for name, image in services.items():
        assert stack.image_of(name) == image
    stack.environment = {"AI_STACK_POSTGRES_IMAGE": "mine:1"}
    assert stack.image_of("postgres") == "mine:1"


class Gateways:
    """Three gateways, and what is ill each time that one of them is asked."""

    def __init__(self, ill: list[set[str]]) -> None:
        self._ill = ill

    def names(self, service: str) -> list[str]:
        return [f"{service}-{number}" for number in (1, 2, 3)]

    def ill(self, name: str) -> set[str]:
        return self._ill.pop(0) if self._ill else set()

    def log(self, name: str) -> str:
        return f"what {name} logged"


def test_it_ends_when_every_gateway_reaches_what_it_needs(
    verbs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "LOOK_S", 0.0)
    waiting: list[set[str]] = [{"redis", "embedder"}, {"redis"}, {"llama-cpp", "vectors"}]
    verbs.await_services(Gateways(waiting))
    assert waiting == []


def test_it_says_what_a_gateway_does_not_reach(
    verbs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "REACHED_S", 0.0)
    with pytest.raises(verbs.Failed, match="aidb-mcp-1 does not reach jobs, redis:\nwhat aidb"):
        verbs.await_services(Gateways([{"redis", "jobs", "vectors"}] * 9))


@pytest.mark.parametrize(
    ("printed", "ill"),
    [
        (
            '{"services": {"redis": {"status": "unhealthy"}, "jobs": {"status": "healthy"}}}',
            {"redis"},
        ),
        ('{"services": {"vectors": {"status": "disabled"}}}', set()),
        ("", None),
    ],
)
def test_a_gateway_tells_what_does_not_answer_it(
    containers: ModuleType, place: ModuleType, tmp_path: Path, printed: str, ill: set[str] | None
) -> None:
    program = tmp_path / "podman"
    program.write_text(f"#!/bin/sh\necho '{printed}'\necho no gateway >&2\nexit 1\n")
    program.chmod(0o755)
    stack = containers.Containers(str(program), [COMPOSE], place.Place(tmp_path, tmp_path))
    if ill is None:
        with pytest.raises(containers.Failed, match="no gateway"):
            stack.ill("aidb-mcp-1")
    else:
        assert stack.ill("aidb-mcp-1") == ill
