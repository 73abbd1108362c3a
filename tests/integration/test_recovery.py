"""The embedded PostgreSQL put back: to a moment, and to what was there where a backup fails."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import servers
from ai_stack.supervisor import postgres, swap
from stacks import stack as supervised

PARTS = ("postgres", "roles", "redis-kept", "migrate")


def test_the_old_data_come_back_where_the_new_do_not_serve() -> None:
    folder = Path("/tmp") / f"ai-stack-back-{os.getpid()}"
    folder.mkdir()
    try:
        with supervised(folder / "data", chosen=PARTS) as running:
            running.up(120)
            verb = [sys.executable, "-m", "ai_stack", "backup"]
            command = {"env": running.environment, "capture_output": True, "text": True}
            made = subprocess.run([*verb, "create", "--json"], check=True, **command)
            running.sql(insert("since"))
            running.down()
            words = [*verb, "restore", json.loads(made.stdout)["bundle"], "--yes"]
            with socket.create_server(("127.0.0.1", running.settings.port)):
                done = subprocess.run(words, check=False, **command)
            assert done.returncode == 1
            assert "the old is back" in done.stderr
            running.up(120)
            assert running.sql("SELECT content FROM aidb.documents") == "since"
            left = {path.name for path in (folder / "data").iterdir()}
            assert not left & {swap.STAGING, swap.REPLACED, swap.JOURNAL}
    finally:
        shutil.rmtree(folder)


def test_recovery_to_a_point_in_time() -> None:
    folder = Path("/tmp") / f"ai-stack-pitr-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o755)
    try:
        wanted = {"AI_STACK_BACKUP_WAL": "true"}
        with supervised(folder / "data", chosen=PARTS, **wanted) as running:
            running.up(120)
            base = folder / "data" / "backups" / "base"
            basebackup(running, base)
            running.sql(insert("before"))
            time.sleep(1.1)
            moment = running.sql("SELECT now()")
            time.sleep(1.1)
            running.sql(insert("after"))
            running.sql("DELETE FROM aidb.documents WHERE content = 'before'")
            archive = next((folder / "data" / "backups" / "wal").iterdir())
            superuser(running, "SELECT pg_switch_wal()")
            archived(running)
            running.down()
            data = folder / "data" / "postgres" / "data"
            data.rename(data.with_name("data.broken"))
            shutil.move(base, data)
            with (data / "postgresql.auto.conf").open("a") as file:
                file.write(f"restore_command = 'gunzip -c {archive}/%f.gz > %p'\n")
                file.write(f"recovery_target_time = '{moment}'\n")
                file.write("recovery_target_action = 'promote'\n")
            (data / "recovery.signal").touch()
            chown(data)
            running.up(120)
            assert running.sql("SELECT content FROM aidb.documents") == "before"
            running.sql(insert("anew"))
    finally:
        shutil.rmtree(folder)


def insert(content: str) -> str:
    return (
        "INSERT INTO aidb.documents (project_id, content)"
        f" SELECT id, '{content}' FROM aidb.projects"
    )


def superuser(running: Any, text: str) -> str:
    where = ("-h", str(running.settings.runtime), "-U", "postgres", "-d", "aidb")
    command = [str(postgres.binaries(18) / "psql"), "-X", "-qAt", *where, "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def basebackup(running: Any, base: Path) -> None:
    where = ("-h", str(running.settings.runtime), "-U", "postgres")
    program = postgres.binaries(18) / "pg_basebackup"
    subprocess.run([program, *where, "-D", base, "-c", "fast", "-X", "stream"], check=True)


def archived(running: Any) -> None:
    """Wait until everything written so far is in the archive."""
    deadline = time.monotonic() + 30
    query = (
        "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1)"
        " FROM pg_stat_archiver"
    )
    while superuser(running, query) != "t":
        assert time.monotonic() < deadline, superuser(running, "TABLE pg_stat_archiver")
        time.sleep(0.1)


def chown(folder: Path) -> None:
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", servers.USER, str(folder)], check=True)
