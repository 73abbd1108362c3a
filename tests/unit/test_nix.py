"""The flake and its modules, parsed and evaluated by Nix against a small library of its own."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

import ai_stack
from ai_stack.settings import Settings, load_settings, variable_of
from ai_stack.settings.exposure import check_exposure

ROOT = Path(__file__).parents[2]
NIX = ROOT / "nix"
CHECK = NIX / "lib-check/check.nix"
FILES = [ROOT / "flake.nix", *sorted(NIX.rglob("*.nix"))]
STRICT, LOOSE = 2.0, 4.0
ON = "services.ai-stack.enable = true;"
OTHER = 'services.postgresql.enable = true; users.users.someone.group = "users";'
FULL = """
services.ai-stack = {
  enable = true;
  openFirewall = true;
  environmentFile = "/run/secrets/ai-stack.env";
  credentials.ai-stack-master = "/run/secrets/master";
  postgresql = { createLocally = true; timescaledb = true; };
  redis.createLocally = true;
  qdrant.createLocally = true;
  llama-cpp.createLocally = true;
  vllm = { createLocally = true; model = "Qwen/Qwen2.5-Coder-7B-Instruct"; };
  settings = {
    port = 9000;
    host = "0.0.0.0";
    auth = "required";
    hosts = "ai.example.org";
    tls_certificate = "/etc/ai-stack/chain.pem";
    tls_key = "/run/credentials/ai-stack.service/tls-key";
    hybrid_weight = 0.25;
    inference_timeout_s = 30;
    watch_imports = false;
    redis_maxmemory = "100mb";
    backup_dir = "/srv/backups";
  };
};
"""


def nix(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["nix-instantiate", "--store", "dummy://", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def evaluated(part: str, user: str = "", *more: str) -> Any:
    """`part` of what the module makes of a machine's configuration."""
    done = nix(
        *("--eval", "--strict", "--json", str(CHECK), "-A", part),
        *("--arg", "user", f"{{ {user} }}", *more),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(user: str) -> str:
    """Why this configuration cannot be evaluated."""
    command = ("--eval", "--strict", "--json", str(CHECK), "-A", "config", "--arg", "user")
    done = nix(*command, f"{{ {user} }}")
    assert done.returncode != 0, "it was taken"
    return done.stderr


def unit_of(user: str) -> dict[str, Any]:
    unit: dict[str, Any] = evaluated("config.systemd.services.ai-stack", user)
    return unit


def settings_of(variables: dict[str, str]) -> Settings:
    return load_settings({"HOME": "/var/empty", **variables})


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nix_generate", NIX / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_is_nix(file: Path) -> None:
    done = nix("--parse", str(file))
    assert done.returncode == 0, done.stderr


def test_what_is_not_nix_is_seen(tmp_path: Path) -> None:
    planted = tmp_path / "planted.nix"
    planted.write_text("{ services.ai-stack.enable = true }")
    assert nix("--parse", str(planted)).returncode != 0


def test_the_flake_offers_its_parts() -> None:
    package = '{ outPath = "/package"; }'
    packages = f"callPackage = _: _: {package}; mkShell = _: {package}; nixfmt-tree = {package};"
    given = (
        "{ self = outputs; nixpkgs.legacyPackages.x86_64-linux = "
        f"{{ {packages} testers.runNixOSTest = test: test.name; }}; }}"
    )
    names = "builtins.mapAttrs (_: builtins.attrNames)"
    expression = f"let outputs = (import {ROOT}/flake.nix).outputs {given}; in {names} outputs"
    done = nix("--eval", "--strict", "--json", "--expr", expression)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "checks": ["x86_64-linux"],
        "devShells": ["x86_64-linux"],
        "formatter": ["x86_64-linux"],
        "homeModules": ["ai-stack", "default"],
        "nixosModules": ["ai-stack", "default"],
        "packages": ["x86_64-linux"],
    }


def test_the_options_are_made_from_the_settings(generate: ModuleType) -> None:
    assert (NIX / "settings.json").read_text() == generate.text(), "run `make docs`"


def test_each_option_has_its_settings_name_type_and_default() -> None:
    options = evaluated("options")
    assert list(options) == sorted(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        option, default = options[name], field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        assert option["default"] == (None if default is PydanticUndefined else default), name
        assert option["type"].startswith(nix_type(field.annotation)), name
        assert variable_of(name, field) in option["description"], name


def nix_type(annotation: Any) -> str:
    written = str(annotation)
    kinds = {"Literal": "one of", "bool": "boolean", "int": "integer", "float": "number"}
    plain = next((kind for word, kind in kinds.items() if word in written), "string")
    kind = "absolute path" if "Path" in written else plain
    optional = "None" in written or written in REQUIRED
    return f"null or {kind}" if optional else kind


REQUIRED = {
    str(Settings.model_fields["data_dir"].annotation)
}  # worked out where they are not given


def test_nothing_changes_until_it_is_enabled() -> None:
    without = evaluated("others", OTHER, "--arg", "module", "null")
    assert evaluated("others", OTHER) == without
    settled = "services.ai-stack = { postgresql.createLocally = true; redis.createLocally = true; "
    settled += "qdrant.createLocally = true; llama-cpp.createLocally = true; openFirewall = true; "
    settled += 'vllm.createLocally = true; settings.key = "secret"; };'
    assert evaluated("others", OTHER + settled) == without
    assert evaluated("others", OTHER + ON) != without


def test_alone_it_defines_one_unit_and_no_server() -> None:
    found = evaluated("others", ON)
    assert list(found["systemd"]["services"]) == ["ai-stack"]
    assert found["services"]["postgresql"]["enable"] is False
    assert found["services"]["redis"]["servers"] == {}
    assert found["networking"]["firewall"]["allowedTCPPorts"] == []
    settings = settings_of(found["systemd"]["services"]["ai-stack"]["environment"])
    assert (settings.data_dir, settings.runtime) == (
        Path("/var/lib/ai-stack"),
        Path("/run/ai-stack"),
    )
    assert settings.database is settings.redis is settings.redis_kept is None  # supervised


def test_the_whole_composes_the_servers_of_the_system() -> None:
    found = evaluated("config", FULL)
    services, unit = found["services"], found["systemd"]["services"]["ai-stack"]
    assert services["postgresql"]["extensions"] == ["pgvector", "timescaledb-apache"]
    assert services["postgresql"]["settings"] == {"shared_preload_libraries": ["timescaledb"]}
    assert set(services["redis"]["servers"]) == {"ai-stack", "ai-stack-kept"}
    assert services["qdrant"]["settings"]["service"]["host"] == "127.0.0.1"
    assert services["llama-cpp"] == {"enable": True, "host": "127.0.0.1", "port": 8080}
    container = found["virtualisation"]["oci-containers"]["containers"]["ai-stack-vllm"]
    assert container["ports"] == ["127.0.0.1:8000:8000"]
    assert found["networking"]["firewall"]["allowedTCPPorts"] == [9000]
    assert unit["requires"] == ["postgresql.target"]
    assert {"redis-ai-stack.service", "qdrant.service", "llama-cpp.service"} < {*unit["after"]}
    assert unit["serviceConfig"]["LoadCredential"] == ["ai-stack-master:/run/secrets/master"]
    assert unit["serviceConfig"]["EnvironmentFile"] == "/run/secrets/ai-stack.env"
    assert unit["serviceConfig"]["ReadWritePaths"] == ["/srv/backups"]


def test_the_stack_reads_what_the_options_say() -> None:
    settings = settings_of(unit_of(FULL)["environment"])
    assert settings.database == "postgresql://aidb_gateway@/aidb?host=/run/postgresql"
    assert settings.redis is not None and settings.redis.startswith("unix:///run/redis")
    assert settings.vectors == "qdrant://127.0.0.1:6333"
    assert settings.engine_urls == ["llama-cpp://127.0.0.1:8080", "vllm://127.0.0.1:8000"]
    assert (settings.port, settings.hybrid_weight, settings.watch_imports) == (9000, 0.25, False)
    check_exposure(settings, has_credentials=None)


def test_a_newer_llama_cpp_is_set_up_too() -> None:
    newer = """given: let
      old = (import OLD given).options;
      inherit (old.services) llama-cpp qdrant;
      place = { llama-cpp = { inherit (llama-cpp) enable; inherit (qdrant) settings; }; };
    in { options = old // { services = old.services // place; }; }"""
    user = ON + "services.ai-stack.llama-cpp.createLocally = true;"
    given = ("--arg", "system", newer.replace("OLD", str(NIX / "lib-check/nixos.nix")))
    found = evaluated("config.services.llama-cpp", user, *given)
    assert found == {"enable": True, "settings": {"host": "127.0.0.1", "port": 8080}}


def test_an_engine_of_your_own_wins() -> None:
    user = ON + "services.ai-stack.llama-cpp.createLocally = true;"
    user += 'services.ai-stack.settings.engines = "http://10.0.0.2/v1";'
    assert unit_of(user)["environment"]["AI_STACK_ENGINES"] == "http://10.0.0.2/v1"


@pytest.mark.parametrize(
    ("user", "told"),
    [
        ("services.ai-stack.settings.port = 0;", "is not of type `integer"),
        ("services.ai-stack.settings.port = 65536;", "is not of type `integer"),
        ('services.ai-stack.settings.port = "8091";', "is not of type `integer"),
        ("services.ai-stack.settings.hybrid_weight = 1.5;", "is not of type `number"),
        ("services.ai-stack.settings.slow_s = 0;", "above 0"),
        ('services.ai-stack.settings.auth = "maybe";', "is not of type `one of"),
        ('services.ai-stack.settings.memory = "much";', "is not of type `null or string like"),
        ('services.ai-stack.settings.data_dir = "data";', "absolute path"),
        ("services.ai-stack.settings.prot = 8091;", "`services.ai-stack.settings.prot' does not"),
        ("services.ai-stack.enabled = true;", "`services.ai-stack.enabled' does not exist"),
        ("services.ai-stack.llama-cpp.port = 70000;", "is not of type `integer"),
    ],
)
def test_what_is_wrong_is_refused(user: str, told: str) -> None:
    assert told in refusal(ON + user)


@pytest.mark.parametrize(
    "user",
    [
        'settings.postgres_password = "hunter2";',
        'settings.redis_password = "hunter2";',
        'settings.qdrant_api_key = "hunter2";',
        'settings.embedder_api_key = "hunter2";',
        'settings.huggingface_token = "hunter2";',
        'settings.key = "hunter2";',
        'settings.database_url = "postgresql://me:hunter2@db/aidb";',
        'settings.database_url = "postgresql://me@db/aidb?password=hunter2";',
        'settings.redis_url = "rediss://:hunter2@redis";',
        'settings.engines = "llama-cpp: https://:hunter2@api.example.org/v1";',
        'settings.rerank_url = "https://me:hunter2@rerank.example.org/v1/rerank";',
        "settings.tls_key = STORED;",
        "settings.master_key_file = STORED;",
        "settings.backup_identity = STORED;",
        "environmentFile = STORED;",
        "credentials.ai-stack-master = STORED;",
        'vllm = { createLocally = true; model = "m"; environmentFile = STORED; };',
    ],
)
def test_a_secret_in_the_store_is_refused(user: str) -> None:
    user = user.replace("STORED", '"${builtins.storeDir}/file"')
    (told,) = evaluated("refused", f"{ON} services.ai-stack = {{ {user} }};")
    assert "would lie in the Nix store" in told
    assert "hunter2" not in told


def test_what_is_no_secret_is_taken() -> None:
    user = """services.ai-stack = { environmentFile = "/run/secrets/env"; settings = {
      database_url = "postgresql://aidb_gateway@db.example:5432/aidb?host=/run/postgresql";
      redis_url = "redis://redis.example:6379"; public_url = "https://ai.example.org";
      engines = "llama-cpp://host:8080 vllm://other:8000"; }; };"""
    assert evaluated("refused", ON + user) == []
    assert evaluated("refused", FULL) == []


def test_a_part_says_what_it_lacks() -> None:
    (told,) = evaluated("refused", ON + "services.ai-stack.vllm.createLocally = true;")
    assert "services.ai-stack.vllm.model" in told
    (told,) = evaluated("refused", ON + "services.ai-stack.postgresql.timescaledb = true;")
    assert "needs services.ai-stack.postgresql.createLocally" in told


def test_a_percent_sign_reaches_the_stack() -> None:
    user = ON + 'services.ai-stack.settings.postgres_db = "50%n";'
    assert unit_of(user)["environment"]["POSTGRES_DB"] == "50%%n"


def written(unit: dict[str, Any]) -> str:
    """The unit as NixOS writes it into a file."""
    lines = ["[Unit]", f"Description={unit['description']}", "[Service]"]
    lines += [f'Environment="{name}={value}"' for name, value in unit["environment"].items()]
    for name, value in unit["serviceConfig"].items():
        values = value if isinstance(value, list) else [value]
        lines += [f"{name}={str(v).lower() if isinstance(v, bool) else v}" for v in values]
    return "\n".join(lines) + "\n"


def exposure(user: str, folder: Path) -> float:
    """What systemd makes of the unit, from 0 to 10; less is safer."""
    file = folder / "ai-stack.service"
    file.write_text(written(unit_of(user)))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for ai-stack.service: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert "Unknown" not in done.stderr and "ignoring" not in done.stderr, done.stderr
    return float(found[1])


@pytest.mark.parametrize("user", [ON, FULL], ids=["alone", "full"])
def test_the_unit_exposes_little(user: str, tmp_path: Path) -> None:
    assert exposure(user, tmp_path) <= STRICT


def test_an_open_unit_is_seen(tmp_path: Path) -> None:
    with_root = ON + "systemd.services.ai-stack.serviceConfig.CapabilityBoundingSet = FORCED;"
    forced = '{ _type = "override"; priority = 50; content = "~"; }'
    assert exposure(with_root.replace("FORCED", forced), tmp_path) > STRICT


def test_the_unit_exposes_more_with_bubblewrap(tmp_path: Path) -> None:
    user = ON + "services.ai-stack.bubblewrap = true;"
    assert STRICT < exposure(user, tmp_path) <= LOOSE


def home(part: str, user: str) -> Any:
    given = ("--arg", "module", str(NIX / "home-manager.nix"))
    return evaluated(part, user, *given, "--arg", "system", str(NIX / "lib-check/home.nix"))


def blocks() -> list[str]:
    """The guide's examples, the flake of another machine aside."""
    text = (ROOT / "docs/guides/nix.md").read_text()
    return [b for b in re.findall(r"^```nix\n(.*?)^```", text, re.M | re.S) if b[0] != "{"]


@pytest.mark.parametrize("block", blocks())
def test_the_guides_examples_are_taken(block: str) -> None:
    assert evaluated("refused", block) == []
    assert evaluated("config.services.ai-stack.enable", block) is True


def test_home_manager_runs_the_stack_for_one_user() -> None:
    user = f"{ON} services.ai-stack.settings.default_model = ''a \"$b\" 50%'';"
    found = home("others", user)
    service = found["systemd"]["user"]["services"]["ai-stack"]["Service"]
    assert service["ExecStart"].endswith("/bin/ai-stack up")
    assert service["Environment"] == ['"AI_STACK_DEFAULT_MODEL=a \\"$b\\" 50%%"']
    assert found["home"]["sessionVariables"] == {"AI_STACK_DEFAULT_MODEL": 'a \\"\\$b\\" 50%'}
    assert home("refused", user) == []
    (told,) = home("refused", ON + 'services.ai-stack.settings.key = "hunter2";')
    assert "services.ai-stack.settings.key" in told


def test_home_manager_changes_nothing_until_it_is_enabled() -> None:
    found = home("others", "services.ai-stack.settings.port = 9000;")
    nothing = {"home": {"packages": [], "sessionVariables": {}}, "assertions": [], "services": {}}
    assert found == {**nothing, "systemd": {"user": {"services": {}}}}


PACKAGE = """import FILE {
  lib = {
    fileset = { toSource = given: given.fileset; unions = files: files; };
    fetchers.proxyImpureEnvVars = [ ];
    getLib = package: package;
    licenses.mit = "mit";
    makeBinPath = packages: "/bin";
    trim = text: builtins.head (builtins.match "([^\\n]*)\\n?" text);
  };
  autoPatchelfHook = ""; bubblewrap = ""; cacert = ""; makeWrapper = ""; zlib = "";
  python311 = { withPackages = choose: ""; interpreter = "/bin/python"; };
  stdenv = { mkDerivation = given: given; cc.cc = ""; };
  stdenvNoCC.mkDerivation = given: given // { outPath = "/wheels"; };
}"""


def test_the_package_is_of_this_version_and_lock() -> None:
    package = PACKAGE.replace("FILE", str(NIX / "package.nix"))
    wanted = (
        "inherit (p) version; inherit (p.meta) mainProgram; hash = p.passthru.wheels.outputHash;"
    )
    files = (
        "absent = builtins.filter (f: !(builtins.pathExists f)) (p.src ++ p.passthru.wheels.src);"
    )
    expression = f"let p = {package}; in {{ {wanted} {files} }}"
    done = nix("--eval", "--strict", "--json", "--expr", expression)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", found.pop("hash"))
    assert found == {"version": ai_stack.__version__, "mainProgram": "ai-stack", "absent": []}


def test_the_extras_of_the_package_are_in_the_lock() -> None:
    extras = re.search(r"extras='([^']+)'", (NIX / "wheels.sh").read_text())
    assert extras is not None
    locked = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements-dev.lock").read_text(), re.M)
    assert {*extras[1].split()} <= {*locked}
    assert {"qdrant-client", "opentelemetry-sdk"} <= {*extras[1].split()}
