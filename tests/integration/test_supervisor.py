"""The supervisor on real PostgreSQL and Redis: what it keeps running, ends, refuses and tells."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stacks import Stack, alive, part, stack

pytestmark = pytest.mark.alone

SLEEPER = """Part(name="sleeper", command=(sys.executable, "-c", "import time; time.sleep(999)"),
                  needs=("redis",))"""
FAILING = (
    """Part(name="broken", command=(sys.executable, "-c", "print('no such flag: --x'); 1/0"))"""
)
TALKER = """Part(name="talker", command=(sys.executable, "-c",
                 "import os\\nwhile True: os.write(1, b'x' * 65535 + b'\\\\n')"))"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder under closed folders, as a home of mode 0700 is."""
    tmp_path.chmod(0o700)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):
    """One stack that the gentle tests share."""
    with stack(tmp_path_factory.mktemp("shared") / "data") as made:
        made.up()
        yield made


def test_serves_postgres_and_redis_on_sockets_only(running: Stack):
    assert running.sql(
        "SELECT current_user || ' ' || extname FROM pg_extension WHERE extname = 'vector'"
    ) == ("aidb_owner vector")
    assert running.sql("SHOW listen_addresses") == ""
    assert running.sql("SHOW data_checksums") == "on"
    assert (
        running.sql(
            "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles "
            "WHERE rolname LIKE 'aidb%' AND NOT rolsuper"
        )
        == "aidb_control aidb_gateway aidb_owner"
    )
    assert "+PONG" in running.redis("PING")
    pids = {p.pid for p in running.until(lambda s: s.healthy).parts if p.pid}
    inodes = {link for pid in pids for link in _sockets(pid)}
    assert not inodes & _listening_on_tcp()


def test_redis_keeps_what_the_specification_says_and_runs_no_scripts(running: Stack):
    assert "900 1 300 10 60 10000" in running.redis("CONFIG GET save")
    assert "yes" in running.redis("CONFIG GET appendonly")
    assert "allkeys-lru" in running.redis("CONFIG GET maxmemory-policy")
    assert "-NOPERM" in running.redis('EVAL "return 1" 0')


@pytest.mark.skipif(os.getuid() != 0, reason="only root drops its rights")
def test_parts_of_root_run_as_nobody_with_one_capability_at_most(running: Stack):
    for found in running.until(lambda s: s.healthy).parts:
        if found.pid:
            lines = dict(
                line.split(":\t", 1)
                for line in Path(f"/proc/{found.pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            assert lines["Uid"].split() == ["65534"] * 4
            assert {int(lines[c], 16) for c in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} <= {4}
            assert lines["NoNewPrivs"] == "1"


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_a_killed_part_comes_back_with_its_data(running: Stack, name: str):
    running.sql("CREATE TABLE IF NOT EXISTS kept (word text)")
    running.sql(f"INSERT INTO kept VALUES ('{name}')")
    running.redis(f"SET kept-{name} {name}")
    time.sleep(1.1)  # Redis writes its log once a second
    before = part(running.until(lambda s: s.healthy), name)
    os.kill(before.pid, signal.SIGKILL)
    after = part(running.until(lambda s: s.healthy and part(s, name).pid != before.pid), name)
    assert after.restarts == before.restarts + 1
    assert running.sql(f"SELECT DISTINCT word FROM kept WHERE word = '{name}'") == name
    assert name in running.redis(f"GET kept-{name}")


def test_one_part_restarts_by_name_and_the_others_stay(running: Stack):
    before = running.until(lambda s: s.healthy)
    done = _call(running, "restart", "redis")
    after = running.until(lambda s: s.healthy)
    assert done.returncode == 0, done.stderr
    assert part(after, "redis").pid != part(before, "redis").pid
    assert part(after, "postgres").pid == part(before, "postgres").pid
    unknown = _call(running, "restart", "mysql")
    assert unknown.returncode == 1
    assert "There is no part mysql; there are postgres, redis" in unknown.stderr


def test_up_twice_says_so_and_status_is_json(running: Stack):
    again = _call(running, "up", "--detach")
    assert again.returncode == 0
    assert "running already" in again.stdout
    found = json.loads(_call(running, "status", "--json").stdout)
    assert found["running"]
    assert {p["name"] for p in found["parts"]} == {"postgres", "roles", "redis"}


def test_logs_of_one_part_and_of_all(running: Stack):
    one = _call(running, "logs", "redis", "-n", "500").stdout
    assert "eady to accept connections" in one
    every = _call(running, "logs", "-n", "1000").stdout.splitlines()
    assert {line.partition(" |")[0].strip() for line in every} == {
        "postgres",
        "redis",
        "supervisor",
    }
    assert "There is no log of mysql" in _call(running, "logs", "mysql").stderr


def test_a_killed_supervisor_leaves_nobody_and_the_next_one_finds_the_data(folder: Path):
    with stack(folder, SLEEPER) as first:
        status = first.up()
        first.sql("CREATE TABLE kept AS SELECT 7 AS number")
        pids = [p.pid for p in status.parts if p.pid]
        first.kill()
        second = first.up()
        assert not [pid for pid in pids if alive(pid)]
        assert first.sql("SELECT number FROM kept") == "7"
        first.kill()
        _gone([p.pid for p in second.parts if p.pid], within_s=5)


def test_a_killed_supervisor_of_a_hung_part_is_cleared_up_by_the_next(folder: Path):
    with stack(folder, SLEEPER) as first:
        status = first.up()
        hung = part(status, "postgres").pid
        os.kill(hung, signal.SIGSTOP)
        first.kill()
        assert alive(hung)
        first.up(within_s=60)
        assert not alive(hung)


def test_down_stops_in_reverse_order(folder: Path):
    with stack(folder, SLEEPER) as made:
        pids = [p.pid for p in made.up().parts if p.pid]
        assert _call(made, "down").returncode == 0
        assert not [pid for pid in pids if alive(pid)]
        said = made.said.read_text()
        assert said.index("sleeper is stopped") < said.index("redis is stopping")
        assert _call(made, "down").stdout == "The stack is not running.\n"
        assert _call(made, "status").returncode == 3
        assert "database system is shut down" in (folder / "logs/postgres.log").read_text()


def test_two_stacks_side_by_side(tmp_path: Path):
    with stack(tmp_path / "one") as one, stack(tmp_path / "two") as two:
        one.up()
        two.up()
        one.sql("CREATE TABLE here AS SELECT 1 AS number")
        assert two.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'here'") == "0"
        assert one.settings.runtime != two.settings.runtime


def test_a_part_that_never_starts_is_told_with_its_last_lines(folder: Path):
    with stack(folder, FAILING) as made:
        said = made.failure()
    assert "FAILED StartFailed broken exited with status 1" in said
    assert "redis is stopped" in said


def test_a_crash_loop_shows_in_the_status_with_the_log(folder: Path):
    script = folder.parent / "loop.py"
    script.write_text(
        "import os, sys, time\n"
        f"mark = {str(folder.parent / 'mark')!r}\n"
        "if os.path.exists(mark): print('the mark is there', flush=True); sys.exit(4)\n"
        "time.sleep(999)\n"
    )
    loop = f'Part(name="loop", command=(sys.executable, {str(script)!r}))'
    with stack(folder, loop) as made:
        pid = part(made.up(), "loop").pid
        (folder.parent / "mark").touch()
        os.kill(pid, signal.SIGKILL)
        status = made.until(lambda s: part(s, "loop").state == "failing")
        assert part(status, "loop").log == ("the mark is there",)
        assert part(status, "loop").detail == "exited with status 4"
        assert not status.healthy
        assert part(status, "redis").state == "running"
        (folder.parent / "mark").unlink()
        made.until(lambda s: s.healthy)


def test_a_taken_port_is_told_before_anything_starts(folder: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with stack(folder, AI_STACK_PORT=str(port)) as made:
            said = made.failure()
    assert f"Port {port} on 127.0.0.1 is taken" in said
    assert f"AI_STACK_PORT={port + 1}" in said
    assert not (folder / "postgres").exists()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("layout.json", '{"version": 99}', "has layout 99, from a newer AI Stack"),
        ("layout.json", "{", "is damaged"),
        ("postgres/data/PG_VERSION", "15", "was not laid out by this AI Stack"),
    ],
)
def test_a_foreign_data_folder_is_refused_untouched(
    folder: Path, file: str, text: str, message: str
):
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(text)
    with stack(folder) as made:
        said = made.failure()
    assert message in said
    assert "Nothing was touched" in said
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {file, "supervisor.lock"}


def test_a_newer_postgres_is_refused_untouched(folder: Path):
    (folder / "postgres/data").mkdir(parents=True)
    (folder / "postgres/data/PG_VERSION").write_text("19\n")
    (folder / "layout.json").write_text('{"version": 1}')
    with stack(folder) as made:
        assert "was made by PostgreSQL 19, and this AI Stack brings 16 and 18" in made.failure()
    assert [p.name for p in (folder / "postgres/data").iterdir()] == ["PG_VERSION"]


def test_the_older_postgres_runs_too(folder: Path):
    with stack(folder, AI_STACK_POSTGRES_MAJOR="16") as made:
        made.up()
        assert made.sql("SHOW server_version_num").startswith("16")
        made.down()
        made.variables["AI_STACK_POSTGRES_MAJOR"] = "18"
        made.up()
        assert made.sql("SELECT lower('ÄÖ') || current_setting('server_version_num')")[:4] == "äö16"


def test_an_unknown_user_is_told(folder: Path):
    if os.getuid() != 0:
        pytest.skip("only root changes the user")
    with stack(folder, AI_STACK_RUN_AS="noone-here") as made:
        assert "AI_STACK_RUN_AS names the user noone-here" in made.failure()


def test_stale_files_of_a_crashed_machine_are_no_obstacle(folder: Path):
    with stack(folder) as made:
        made.up()
        made.down()
        runtime = made.settings.runtime
        (folder / "postgres/data/postmaster.pid").write_text(
            f"{os.getpid()}\n{folder}/postgres/data\n1\n5432\n{runtime}\n\n  1 1\nready\n"
        )
        (folder / "children.json").write_text(json.dumps([[os.getpid(), "other-boot:1", 9]]))
        (folder / "supervisor.lock").write_text(f"{os.getpid()}\n")
        for name in ("redis.sock", "supervisor.sock", ".s.PGSQL.5432"):
            with socket.socket(socket.AF_UNIX) as stale:
                stale.bind(str(runtime / name))
        made.up()


def test_a_full_disk_is_told_before_anything_is_made(tmp_path: Path):
    with _mounted(tmp_path / "data", "size=20m") as folder, stack(folder) as made:
        said = made.failure()
    assert "is full" in said
    assert "needs 400 MiB" in said


def test_a_read_only_data_folder_is_told(tmp_path: Path):
    with _mounted(tmp_path / "data", "size=20m,ro") as folder, stack(folder) as made:
        assert "read-only" in made.failure()


def test_a_flood_of_output_rotates_and_stops_nobody(folder: Path):
    with stack(folder, TALKER) as made:
        made.up()
        log = folder / "logs/talker.log"
        deadline = time.monotonic() + 30
        while not log.with_name("talker.log.5").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        files = sorted(p.name for p in (folder / "logs").glob("talker.log*"))
        assert files == ["talker.log", *(f"talker.log.{n}" for n in range(1, 6))]
        assert all(p.stat().st_size <= 10 << 20 for p in (folder / "logs").glob("talker.log*"))
        assert "+PONG" in made.redis("PING")


def _call(made: Stack, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ai_stack", *arguments]
    return subprocess.run(command, env=made.environment, capture_output=True, text=True, timeout=60)


def _gone(pids: list[int], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _sockets(pid: int) -> set[str]:
    links = (str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir())
    return {found[1] for link in links if (found := re.match(r"socket:\[(\d+)\]", link))}


def _listening_on_tcp() -> set[str]:
    rows = [
        line.split()
        for file in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{file}").read_text().splitlines()[1:]
    ]
    return {row[9] for row in rows if row[3] == "0A"}


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
