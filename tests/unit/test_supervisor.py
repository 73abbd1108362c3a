"""The supervisor's parts that need no server: logs, backoff, layout, account, descriptions."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from ai_stack.cli.masking import masked
from ai_stack.errors import SettingsError, StackError
from ai_stack.settings import environment_of, load_settings, read_settings
from ai_stack.supervisor import Part, folder, leftovers, parts, postgres, redis
from ai_stack.supervisor.account import Account, closed_folder, find_account
from ai_stack.supervisor.child import Launcher
from ai_stack.supervisor.journal import Follower, Journal, stamped, tail
from ai_stack.supervisor.keeper import Backoff, Keeper

ME = Account(os.getuid(), os.getgid(), "me", "me")


def settings_with(tmp_path: Path, **variables: str):
    return load_settings({"HOME": str(tmp_path), **variables})


def test_a_journal_rotates_by_size_and_keeps_a_few(tmp_path: Path):
    journal = Journal(tmp_path / "a.log", max_bytes=100, kept=2)
    for number in range(40):
        journal.write(b"%09d\n" % number)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2"]
    assert all(p.stat().st_size <= 100 for p in tmp_path.iterdir())
    assert tail(tmp_path / "a.log", 12) == [f"{n:09d}" for n in range(28, 40)]


def test_a_journal_drops_what_the_disk_refuses_and_tells_afterwards(tmp_path: Path):
    journal = Journal(tmp_path / "gone" / "a.log")
    journal.write(b"lost\n")
    assert journal.recent_lines(5) == ["lost"]
    (tmp_path / "gone").mkdir()
    journal.write(b"kept\n")
    assert tail(journal.path, 9) == ["[5 bytes were dropped: the disk was full]", "kept"]


def test_a_follower_sees_new_lines_through_a_rotation(tmp_path: Path):
    journal = Journal(tmp_path / "a.log", max_bytes=20, kept=2)
    journal.write(b"before\n")
    follower = Follower(journal.path)
    journal.write(b"one\ntw")
    assert follower.new_lines() == ["one"]
    journal.write(b"o\n")
    assert follower.new_lines() == ["two"]
    journal.write(b"after the rotation\n")
    assert follower.new_lines() == ["after the rotation"]


def test_lines_of_all_logs_are_put_in_the_order_of_their_times():
    lines = ["7:M 22 Nov 2026 10:00:02.500 * redis", "2026-11-22T10:00:03.1Z python", "  trace"]
    times = [time for time, _, _ in stamped(lines, "x")]
    assert times == ["2026-11-22 10:00:02.500000", "2026-11-22 10:00:03.1", "2026-11-22 10:00:03.1"]


async def test_a_part_is_not_well_from_the_moment_that_its_process_has_ended(tmp_path: Path):
    part, journal = Part("sleeper", ("sleep", "60")), Journal(tmp_path / "a.log")
    launcher = Launcher(find_account("nobody", ()), Path("/"), {"PATH": os.environ["PATH"]})
    keeper = Keeper(part, launcher, journal, say=print, changed=lambda: None, backoff=Backoff())
    living = asyncio.create_task(keeper.run([]))
    await keeper.ready.wait()
    assert keeper.is_well and keeper.child is not None
    keeper.child.send(signal.SIGKILL)
    while keeper.child.exit_status is None:
        await asyncio.sleep(0)
    assert not keeper.is_well
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)


def test_the_pause_doubles_is_capped_and_spread():
    backoff = Backoff(first_s=1, longest_s=8)
    for crashes, middle in ((1, 1), (2, 2), (3, 4), (4, 8), (99, 8)):
        pauses = {backoff.pause_s(crashes) for _ in range(20)}
        assert all(0.75 * middle <= pause <= 1.25 * middle for pause in pauses)
        assert len(pauses) > 1


def test_a_leftover_is_known_by_its_start_and_not_by_its_pid_alone():
    began = leftovers.start_time(os.getpid())
    assert leftovers.Leftover(os.getpid(), began).alive
    assert not leftovers.Leftover(os.getpid(), began + "0").alive


def test_the_lock_is_held_once_and_tells_by_whom(tmp_path: Path):
    assert folder.holder(tmp_path) is None
    with folder.lock(tmp_path):
        assert folder.holder(tmp_path) == os.getpid()
        with pytest.raises(folder.AlreadyRunning), folder.lock(tmp_path):
            pass
    assert folder.holder(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": 2}', "newer AI Stack"),
        ('{"version": 0}', "no AI Stack wrote"),
        ("[]", "damag"),
    ],
)
def test_a_foreign_layout_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "layout.json").write_text(text)
    with pytest.raises(StackError, match=message):
        folder.check_layout(tmp_path)


def test_a_new_folder_is_marked_and_then_known(tmp_path: Path):
    folder.check_layout(tmp_path)
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    folder.check_layout(tmp_path)


def test_no_other_user_reads_what_the_folder_holds(tmp_path: Path):
    folder.fill(tmp_path, Account(os.getuid(), os.getgid(), "own", "own"))
    assert {f.name: f.stat().st_mode & 0o77 for f in tmp_path.iterdir()} == dict.fromkeys(
        (*folder.OWNED, *folder.SHARED, "logs"), 0
    )


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path):
    (tmp_path / "postgres").mkdir()
    other = Account(os.getuid() + 4321, 1, "other", "other", (1, 1, []))
    if os.getuid() == 0:
        os.chown(tmp_path / "postgres", 77, 77)
    else:
        pytest.skip("only root gives folders away")
    with pytest.raises(StackError, match="belongs to the user id 77"):
        folder.fill(tmp_path, other)


def test_a_long_runtime_folder_is_refused(tmp_path: Path):
    with pytest.raises(StackError, match="AI_STACK_RUNTIME_DIR"):
        folder.make_runtime(tmp_path / ("x" * 100), ME)


def test_the_first_closed_folder_is_named(tmp_path: Path):
    tmp_path.chmod(0o755)
    closed = tmp_path / "home"
    (closed / "data").mkdir(parents=True)
    closed.chmod(0o700)
    stranger = (os.getuid() + 4321, 1, [])
    open_to_all = [p for p in closed.parents if p.stat().st_mode & 1]
    expected = (
        closed if len(open_to_all) == len(closed.parents) else closed_folder(tmp_path, *stranger)
    )
    assert closed_folder(closed / "data", *stranger) == expected
    assert closed_folder(closed / "data", closed.stat().st_uid, 0, []) in (None, expected)


@pytest.mark.skipif(os.getuid() != 0, reason="only root changes the user")
@pytest.mark.parametrize(
    ("name", "message"), [("no-one-such", "does not know"), ("root", "cannot be")]
)
def test_an_unfit_user_is_refused(name: str, message: str):
    with pytest.raises(StackError, match=message):
        find_account(name, [])


def test_parts_start_by_need_and_in_the_order_of_the_specification(tmp_path: Path):
    found = parts.describe(settings_with(tmp_path), ME, {})
    names = [part.name for part in found]
    assert names == [
        *("postgres", "roles", "redis", "redis-kept", "embedder", "vectors", "llama-cpp"),
        *("migrate", "worker", "aidb-mcp"),
    ]
    by_name = {part.name: part for part in found}
    assert by_name["aidb-mcp"].needs == ("migrate",)
    assert by_name["aidb-mcp"].answers_to("gateway")
    assert "AI_STACK_DATABASE_URL" in by_name["worker"].env
    assert by_name["embedder"].env["ORT_DISABLE_TELEMETRY"] == "1"
    assert not by_name["redis"].env
    assert "llama-cpp" in by_name["aidb-mcp"].uses


def test_the_gateway_finds_the_hosted_models_and_the_other_engines(tmp_path: Path):
    mixed = settings_with(tmp_path, AI_STACK_ENGINES="vllm://gpu:8000 llama-cpp:")
    socket = mixed.runtime / "models.sock"
    assert parts.addresses(mixed)["AI_STACK_ENGINES"] == f"vllm://gpu:8000 llama-cpp://{socket}"
    remote = settings_with(tmp_path, AI_STACK_ENGINES="llama-cpp://gpu:8080")
    assert "llama-cpp" not in [part.name for part in parts.describe(remote, ME, {})]
    assert "AI_STACK_ENGINES" not in parts.addresses(remote)


def test_a_part_whose_url_is_set_is_not_started(tmp_path: Path):
    settings = settings_with(
        tmp_path,
        AI_STACK_DATABASE_URL="postgresql://h/d",
        AI_STACK_REDIS_URL="redis://h",
        AI_STACK_EMBEDDER_URL="http://h/v1",
        AI_STACK_VECTORS_URL="pgvector:",
        AI_STACK_ENGINES="http://h/v1",
    )
    found = parts.describe(settings, ME, {})
    assert [part.name for part in found] == ["migrate", "worker", "aidb-mcp"]
    assert found[0].needs == ()
    assert parts.addresses(settings) == {}


def test_children_read_the_very_same_settings(tmp_path: Path):
    settings = settings_with(
        tmp_path, POSTGRES_PASSWORD="s", AI_STACK_PORT="99", AI_STACK_WATCH_IMPORTS="false"
    )
    again = load_settings({**environment_of(settings), "AI_STACK_SUPERVISED": "x"})
    assert again == settings.model_copy(update={"runtime_dir": settings.runtime})


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("redis_url", "redis://:pa@ss:1@h:6/0", "redis://:••••••@h:6/0"),
        (
            "database_url",
            "postgresql://u@/d?host=/x&password=p",
            "postgresql://u@/d?host=/x&password=••••••",
        ),
        ("embedder_url", "onnx:", "onnx:"),
    ],
)
def test_secrets_in_urls_are_masked(tmp_path: Path, name: str, value: str, shown: str):
    settings = settings_with(tmp_path, **{f"AI_STACK_{name.upper()}": value})
    assert masked(name, getattr(settings, name)) == shown


def test_secrets_are_masked_whole(tmp_path: Path):
    settings, origins = read_settings({"HOME": str(tmp_path), "POSTGRES_PASSWORD": "a:b://c"})
    assert masked("postgres_password", settings.postgres_password) == "••••••"
    assert {o.source for o in origins if o.field == "postgres_password"} == {"environment"}


def test_a_secret_may_lie_in_a_file(tmp_path: Path):
    file = tmp_path / "password"
    file.write_text("hunter2 \n")
    given = {"HOME": str(tmp_path), "POSTGRES_PASSWORD_FILE": str(file)}
    settings, origins = read_settings(given)
    assert settings.postgres_password is not None
    assert settings.postgres_password.get_secret_value() == "hunter2 "
    assert {o.source for o in origins if o.field == "postgres_password"} == {str(file)}
    assert load_settings({**given, "AI_STACK_PORT_FILE": str(file)}).port == 8091
    nearer = load_settings({**given, "POSTGRES_PASSWORD": "nearer"}).postgres_password
    assert nearer is not None and nearer.get_secret_value() == "nearer"


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "No such file"), (b"", "is empty"), (b"\n", "is empty"), (b"\xff", "no text")],
)
def test_a_file_without_a_secret_is_refused(tmp_path: Path, content: bytes | None, told: str):
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=f"AI_STACK_DATABASE_URL_FILE: .*{told}") as refused:
        load_settings({"HOME": str(tmp_path), "AI_STACK_DATABASE_URL_FILE": str(file)})
    assert set(refused.value.fields) == {"AI_STACK_DATABASE_URL"}


def test_the_version_of_postgres_is_the_data_folders(tmp_path: Path):
    assert postgres.major_of(tmp_path, 18) == 18
    (tmp_path / "PG_VERSION").write_text("16\n")
    assert postgres.major_of(tmp_path, 18) == 16
    (tmp_path / "PG_VERSION").write_text("17\n")
    with pytest.raises(StackError, match="was made by PostgreSQL 17"):
        postgres.major_of(tmp_path, 18)


def test_redis_is_found():
    assert redis.find_program().exists()
