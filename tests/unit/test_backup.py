"""Backups: the file's format and its damage, the keys, the swap at every step, the shelf."""

import asyncio
import hashlib
import io
import json
import os
import random
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyrage
import pytest

from ai_stack.database import replacing
from ai_stack.database.dumps import Snapshot
from ai_stack.errors import AIStackError, NotFound, SettingsError, StackError
from ai_stack.models.backups import Probe
from ai_stack.services.backup import Header, Manifest, bundle, creating, shelf, silent, sources
from ai_stack.services.backup.ages import read_identities, read_recipients
from ai_stack.services.backup.bundle import Damaged
from ai_stack.services.backup.checking import find, refuse_newer
from ai_stack.settings import Settings, load_settings
from ai_stack.supervisor import programs, swap

HEADER = Header("2026-11-29T00:00:00+00:00", "0.1.0", "0001", 18, encrypted=False)
FILES = {
    "config/.env": b"A=1\n",
    "imports/a b/\u00e9.md": b"text" * 1000,
    "secrets/x": os.urandom(32),
}
BIG = random.Random(1).randbytes(9 << 20)


def write(path: Path, header: Header = HEADER, recipients: tuple[object, ...] = ()) -> Path:
    with path.open("wb") as file, bundle.create(file, header, recipients, 0) as writer:
        for name, content in FILES.items():
            writer.add(name, content)
        pieces = writer.pieces("database")
        for start in range(0, len(BIG), 1000_000):
            pieces.write(BIG[start : start + 1000_000])
        pieces.close()
        writer.manifest(manifest(header, writer))
    return path


def manifest(header: Header, writer: bundle.Writer) -> Manifest:
    probes = (Probe(1, "a", ("a", "b")),)
    return Manifest(header, 1, None, {"aidb.documents": 2}, (), probes, writer.tallies.shares())


def contents(path: Path, identities: tuple[object, ...] = ()) -> tuple[dict[str, bytes], Manifest]:
    bundle.check_bytes(path)
    with bundle.opened(path, identities) as reader:
        found = {entry.name: b"".join(entry.pieces()) for entry in reader.entries()}
    assert reader.manifest is not None
    return found, reader.manifest


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bundles") / "plain.aibackup")


@pytest.fixture(scope="module")
def key() -> object:
    return pyrage.x25519.Identity.generate()


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, key: pyrage.x25519.Identity) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "sealed.aibackup"
    return write(path, replace(HEADER, encrypted=True), (key.to_public(),))


def test_what_is_written_is_read(plain: Path) -> None:
    found, told = contents(plain)
    pieces = [found.pop(name) for name in sorted(found) if name.startswith("database/")]
    assert found == FILES
    assert b"".join(pieces) == BIG
    assert len(pieces) == 3
    assert told.shares["database"].size_bytes == len(BIG)
    assert told.counts == {"aidb.documents": 2}
    assert told.probes == (Probe(1, "a", ("a", "b")),)


def test_an_encrypted_one_tells_nothing_without_its_key(
    sealed: Path, key: pyrage.x25519.Identity
) -> None:
    assert contents(sealed, (key,))[0]["config/.env"] == FILES["config/.env"]
    assert bundle.read_header(sealed).encrypted
    assert FILES["secrets/x"] not in sealed.read_bytes()
    with pytest.raises(StackError, match="--identity"):
        contents(sealed)
    with pytest.raises(StackError, match="another key"):
        contents(sealed, (pyrage.x25519.Identity.generate(),))


def test_tar_and_age_alone_open_it(sealed: Path, key: pyrage.x25519.Identity) -> None:
    body = sealed.read_bytes().split(b"\n", 2)[2]
    with tarfile.open(fileobj=io.BytesIO(pyrage.decrypt(body, [key]))) as tar:
        member = tar.extractfile("config/.env")
        assert member is not None
        assert member.read() == FILES["config/.env"]
        assert tar.getnames()[-1] == bundle.MANIFEST


def places(path: Path) -> Iterator[int]:
    """One byte in each region: both lines, headers and bodies of members, the manifest, the end."""
    content = path.read_bytes()
    yield from (0, 16, 20, 85, bundle.FIRST_BYTES - 1, bundle.FIRST_BYTES + 5)
    start = content.index(b"\n", bundle.FIRST_BYTES) + 1
    yield from (start, start + 100, start + 600, len(content) // 2)
    yield from (len(content) - 20_000, len(content) - 3000, len(content) - 1)


@pytest.mark.parametrize("which", ["plain", "sealed"])
def test_a_flipped_byte_anywhere_is_seen(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    whole = request.getfixturevalue(which)
    keys = (request.getfixturevalue("key"),)
    for place in places(whole):
        damaged = bytearray(whole.read_bytes())
        damaged[place] ^= 0x01
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        with pytest.raises(StackError):
            contents(path, keys)


def test_the_digests_within_see_what_the_first_line_was_changed_to_hide(
    plain: Path, tmp_path: Path
) -> None:
    content = plain.read_bytes()
    changed = content.replace(b"A=1\n", b"A=2\n")
    body = changed[bundle.FIRST_BYTES :]
    digest = hashlib.sha256(body).hexdigest().encode()
    path = tmp_path / "changed"
    path.write_bytes(b"%s1 %s %020d\n" % (bundle.MAGIC, digest, len(body)) + body)
    bundle.check_bytes(path)
    with pytest.raises(Damaged):
        contents(path)


@pytest.mark.parametrize("length", [0, 10, 60, 200, 5000, 1 << 20, -1, -1024])
def test_a_truncated_one_is_seen(plain: Path, tmp_path: Path, length: int) -> None:
    path = tmp_path / "short"
    path.write_bytes(plain.read_bytes()[:length])
    with pytest.raises(StackError):
        contents(path)


def test_more_than_was_written_is_seen(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(plain.read_bytes() + b"\0")
    with pytest.raises(Damaged, match="longer"):
        contents(path)


def test_foreign_files_and_newer_formats_are_told_apart(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "other"
    for foreign in (b"", b"PGDMP\x01\x0e", b"\x1f\x8b" + bytes(5000), os.urandom(5000)):
        path.write_bytes(foreign)
        with pytest.raises(StackError, match="no backup of AI Stack"):
            contents(path)
    content = plain.read_bytes()
    path.write_bytes(content.replace(bundle.MAGIC + b"1 ", bundle.MAGIC + b"2 ", 1))
    with pytest.raises(StackError, match="install the version that made it"):
        contents(path)
    with pytest.raises(StackError, match="install that version"):
        refuse_newer(replace(HEADER, revision="9999"))


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "imports/../../up"])
def test_no_name_leaves_the_folder_it_is_written_to(tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile"
    with path.open("wb") as file, bundle.create(file, HEADER, (), 0) as writer:
        writer.add(name, b"x")
        writer.manifest(manifest(HEADER, writer))
    with pytest.raises(Damaged):
        contents(path)


def test_recipients_and_identities_are_read(tmp_path: Path, key: pyrage.x25519.Identity) -> None:
    text = f"{key.to_public()}, {pyrage.x25519.Identity.generate().to_public()}"
    assert len(read_recipients(text)) == 2
    assert read_recipients("") == []
    file = tmp_path / "key.txt"
    file.write_text(f"# created: today\n# public key: {key.to_public()}\n{key}\n")
    assert len(read_identities(file)) == 1
    assert read_identities(None) == []
    for wrong in (str(key), "age1nothing", "nonsense"):
        with pytest.raises(SettingsError) as caught:
            read_recipients(wrong)
        assert str(key)[20:] not in caught.value.message
    for content in ("", "AGE-SECRET-KEY-1WRONG", str(key.to_public())):
        file.write_text(content)
        with pytest.raises(SettingsError):
            read_identities(file)
    with pytest.raises(SettingsError):
        read_identities(tmp_path / "absent")


# The swap ------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


def laid_out(data: Path) -> list[swap.Item]:
    """Old data in force, and new ones that were built beside."""
    (data / "one").mkdir(parents=True)
    (data / "one" / "file").write_text("old")
    items = [
        swap.inside(data, "one"),
        swap.inside(data, "two"),
        swap.beside(data / "out" / "three"),
    ]
    (data / "out").mkdir()
    (data / "out" / "three").write_text("old")
    return items


def build(items: list[swap.Item]) -> None:
    for item in items:
        built = Path(item.built)
        built.parent.mkdir(parents=True, exist_ok=True)
        if built.name.startswith("."):
            built.write_text("new")
        else:
            built.mkdir()
            (built / "file").write_text("new")


class Server:
    """The databases of a server by their names, renamed as PostgreSQL does: together or not."""

    place = "db at host"

    def __init__(self) -> None:
        self.databases = {"db": "old"}

    def make(self) -> None:
        self._become({**self.databases, "db_restoring": "new"})

    async def forward(self) -> None:
        if "db_restoring" in self.databases:
            self._become({"db": "new", "db_replaced": self.databases["db"]})

    async def backward(self) -> None:
        if "db_replaced" in self.databases:
            self._become({"db": self.databases["db_replaced"], "db_restoring": "new"})

    async def clear(self, *, replaced: bool) -> None:
        gone = "db_replaced" if replaced else "db_restoring"
        self._become({name: v for name, v in self.databases.items() if name != gone})

    def _become(self, databases: dict[str, str]) -> None:
        self.databases = databases


def state(data: Path, server: Server) -> str:
    """`old` or `new`; anything between the two is a failure."""
    found = (
        (data / "one" / "file").read_text(),
        (data / "two").exists(),
        (data / "out" / "three").read_text(),
        server.databases["db"],
    )
    return {("old", False, "old", "old"): "old", ("new", True, "new", "new"): "new"}[found]


def planned(items: list[swap.Item], *, keep: bool = False) -> swap.Swap:
    return swap.Swap("b", "building", tuple(items), Server.place, keep=keep)


async def swapped(data: Path, items: list[swap.Item], server: Server) -> swap.Swap:
    work = swap.begin(data, planned(items))
    build(items)
    server.make()
    swap.answered(data)  # nothing has been swapped, so nothing is noted
    return await swap.commit(data, work, server)


async def restored(data: Path, items: list[swap.Item], server: Server) -> None:
    await swapped(data, items, server)
    swap.answered(data)
    assert server.databases["db_replaced"] == "old"
    found = swap.read(data)
    assert found is not None
    await swap.finish(data, found, server)


async def taken_back(data: Path, items: list[swap.Item], server: Server) -> None:
    await swap.revert(data, await swapped(data, items, server), server)


@pytest.mark.parametrize("work", [restored, taken_back])
def test_a_kill_at_every_step_leaves_the_old_or_the_new(
    work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every change of the disk is a step; the kill comes before it, and again in the mending."""
    step = 0
    seen: set[str] = set()
    while True:
        data = tmp_path / str(step)
        data.mkdir()
        items, server = laid_out(data), Server()
        if not killed(monkeypatch, step, partial(work, data, items, server)):
            break
        for second in (step % 3, 99):
            killed(monkeypatch, second, partial(swap.settle, data, server))
        asyncio.run(swap.settle(data, server))
        seen.add(state(data, server))
        left = swap.read(data)
        assert left is None or left.state in ("swapped", "served"), step
        step += 1
    assert step > 10
    assert state(data, server) == ("new" if work is restored else "old")
    assert set(server.databases) == {"db"}
    assert seen == {"old", "new"}
    assert not (data / swap.STAGING).exists()
    assert not (data / swap.REPLACED).exists()
    assert [p.name for p in (data / "out").iterdir()] == ["three"]


def killed(monkeypatch: pytest.MonkeyPatch, step: int, work) -> bool:
    """Do some work that is killed before its n-th change of the disk; whether it was."""
    left = [step]
    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "unlink"):
            patch.setattr(Path, name, counted(getattr(Path, name), left))
        patch.setattr("shutil.rmtree", counted(swap.shutil.rmtree, left))
        patch.setattr(Server, "_become", counted(Server._become, left))
        try:
            asyncio.run(work())
        except Killed:
            return True
    return False


def counted(original, left: list[int]):
    def change(*arguments: object, **options: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return original(*arguments, **options)

    return change


async def test_two_restores_at_once_are_refused(tmp_path: Path) -> None:
    with swap.only_one(tmp_path):
        assert swap.is_held(tmp_path)
        with pytest.raises(StackError, match="going on"), swap.only_one(tmp_path):
            pass
        swap.begin(tmp_path, swap.Swap("b", "building"))
        assert await swap.settle(tmp_path) == []  # it is at work
    assert not swap.is_held(tmp_path)
    assert "broken off" in (await swap.settle(tmp_path))[0]
    assert await swap.settle(tmp_path) == []


async def test_no_other_database_is_touched_than_the_one_written_down(tmp_path: Path) -> None:
    items, server, other = laid_out(tmp_path), Server(), Server()
    other.place = "db at another"
    swap.to(tmp_path, await swapped(tmp_path, items, server), "reverting")
    for wrong in (other, None):
        with pytest.raises(StackError, match="db at host"):
            await swap.settle(tmp_path, wrong)
    assert state(tmp_path, server) == "new"
    await swap.settle(tmp_path, server)
    assert state(tmp_path, server) == "old"


@pytest.mark.parametrize("is_killed", [False, True])
async def test_what_is_kept_is_all_that_was_replaced(is_killed: bool, tmp_path: Path) -> None:
    items, server = laid_out(tmp_path), Server()
    work = swap.begin(tmp_path, planned(items, keep=True))
    build(items)
    server.make()
    work = swap.to(tmp_path, await swap.commit(tmp_path, work, server), "served")
    if is_killed:  # the next start is to know what was asked for
        assert "kept" in (await swap.settle(tmp_path, server))[0]
    else:
        await swap.finish(tmp_path, work, server)
    assert state(tmp_path, server) == "new"
    assert server.databases["db_replaced"] == "old"
    (inside,) = tmp_path.glob("replaced-*")
    (outside,) = (tmp_path / "out").glob("three.replaced-*")
    assert (inside / "one" / "file").read_text() == outside.read_text() == "old"
    swap.begin(tmp_path, planned(items))
    assert (inside.exists(), outside.exists()) == (True, True)


def test_a_database_is_named_without_its_password() -> None:
    url = "postgresql://me:hush@host:5433/db?sslmode=disable"
    assert replacing.place_of(url) == "db at host:5433"
    assert replacing.place_of("postgresql://me@/db?host=/run/x") == "db at /run/x"


# The shelf -----------------------------------------------------------------------------------


def shelve(folder: Path, at: datetime) -> Path:
    path = folder / f"{at:%Y%m%d}" / f"{at:%H%M%S}.aibackup"
    path.parent.mkdir(parents=True, exist_ok=True)
    header = replace(HEADER, created_at=at.isoformat())
    with path.open("wb") as file, bundle.create(file, header, (), 0) as writer:
        writer.manifest(manifest(header, writer))
    return path


def test_days_and_weeks_are_kept(tmp_path: Path) -> None:
    days = [datetime(2026, 11, day, hour, tzinfo=UTC) for day in range(1, 30) for hour in (3, 15)]
    for moment in days:
        shelve(tmp_path, moment)
    broken = tmp_path / "20261101" / "999999.aibackup"
    broken.write_bytes(b"not one")
    shelf.prune(tmp_path, 3, 2)
    found = shelf.shelved(tmp_path)
    kept = [datetime.fromtimestamp(e.made_at, UTC) for e in found if e.header is not None]
    assert [(m.day, m.hour) for m in kept] == [(29, 15), (28, 15), (27, 15), (22, 15)]
    assert broken.exists()  # nobody knows what it was
    assert not (tmp_path / "20261115").exists()
    assert [e.fault for e in found if e.header is None] == [f"{broken} is no backup of AI Stack."]
    assert shelf.prune(tmp_path, 3, 2) == []


def test_the_newest_is_never_pruned(tmp_path: Path) -> None:
    path = shelve(tmp_path, datetime(2001, 1, 1, tzinfo=UTC))
    assert shelf.prune(tmp_path, 1, 0) == []
    assert find(tmp_path) == path
    assert shelf.newest_age_s(tmp_path) == pytest.approx(
        time.time() - datetime(2001, 1, 1, tzinfo=UTC).timestamp(), abs=5
    )


def test_drafts_of_broken_off_backups_go_after_a_day(tmp_path: Path) -> None:
    folder = tmp_path / "20261129"
    folder.mkdir()
    old, new = folder / ".a.1.part", folder / ".b.2.part"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    assert shelf.prune(tmp_path, 1, 1) == [old]
    assert new.exists()


def test_a_name_finds_a_bundle_or_says_that_there_is_none(tmp_path: Path) -> None:
    for name in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NotFound):
            find(name)
    old, new = (shelve(tmp_path, datetime(2026, 11, d, tzinfo=UTC)) for d in (1, 2))
    assert (find(tmp_path), find(old.parent), find(new)) == (new, old, new)


def test_the_newest_is_the_one_made_last_whatever_its_name(tmp_path: Path) -> None:
    moment = datetime(2026, 11, 29, 12, tzinfo=UTC)
    first = shelve(tmp_path, moment)
    second = first.with_name("120000-2.aibackup")
    first.rename(second)
    shelve(tmp_path, moment)
    assert find(tmp_path) == second  # of one second, the higher number
    tenth = second.with_name("120000-10.aibackup")
    second.rename(tenth)
    assert find(tmp_path) == shelf.shelved(tmp_path)[0].path == tenth
    later = shelve(tmp_path, moment.replace(microsecond=9))
    assert find(tmp_path) == shelf.shelved(tmp_path)[0].path == later
    shelve(tmp_path, moment).rename(tmp_path / "20261129" / "130000.aibackup")
    east = shelve(tmp_path, moment.replace(minute=5))  # the clock went back an hour before it
    assert find(tmp_path) == shelf.shelved(tmp_path)[0].path == east


def test_a_failed_daily_backup_is_told(tmp_path: Path) -> None:
    assert shelf.care(tmp_path) == shelf.Care(None, "")
    (tmp_path / shelf.FAILURE).write_text(json.dumps({"at": "", "message": "pg_dump: /secret"}))
    told = shelf.care(tmp_path).told()
    assert "failed" in told
    assert "/secret" not in told
    shelve(tmp_path, datetime.now(UTC))
    assert "0 h old" in shelf.care(tmp_path).told()


# The settings --------------------------------------------------------------------------------


def settings_in(folder: Path, text: str) -> Settings:
    config = folder / "config"
    config.mkdir(exist_ok=True)
    (config / ".env").write_text(text)
    return load_settings(
        {"AI_STACK_CONFIG_DIR": str(config), "AI_STACK_DATA_DIR": str(folder / "data")}
    )


def test_no_secret_of_the_settings_is_in_a_plain_backup(tmp_path: Path) -> None:
    text = (
        "# AI_STACK_KEY=hush\nAI_STACK_PORT=8100\nPOSTGRES_HOST=db\nPOSTGRES_PASSWORD=hush\n"
        "AI_STACK_REDIS_URL=redis://:hush@r\nHUGGING_FACE_HUB_TOKEN=hush\nOTHER=hush\n"
        "AI_STACK_SKILL_FOLDERS='/a b:/c'\n"
    )
    settings = settings_in(tmp_path, text)
    found = sources.environment(settings, secrets=False)
    assert found is not None
    assert "hush" not in found
    assert "AI_STACK_PORT=8100" in found
    assert sources.environment(settings, secrets=True) == text
    again = settings_in(tmp_path, found)
    assert again.skill_folders == "/a b:/c"


def test_restored_settings_name_no_server_and_no_folder(tmp_path: Path) -> None:
    places = "POSTGRES_HOST=db\nAI_STACK_DATA_DIR=/x\nAI_STACK_VECTORS_URL=pgvector:\n"
    text = f"AI_STACK_PORT=8100\n{places}"
    assert sources.moved(text) == "AI_STACK_PORT=8100\n"


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_a_master_key_that_no_backup_holds_is_told(
    encrypted: bool, apart: bool, tmp_path: Path
) -> None:
    place = tmp_path / "elsewhere" if apart else tmp_path / "data" / "secrets" / "master"
    settings = settings_in(tmp_path, f"AI_STACK_MASTER_KEY_FILE={place}\n")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(bytes(32))
    told = warnings(settings, encrypted=encrypted, sealed=True)
    assert ("keep it apart" in told) == apart
    assert ("that it lacks" in told) == (not apart and not encrypted)
    assert "master" not in warnings(settings, encrypted=encrypted, sealed=False)


def warnings(settings: Settings, *, encrypted: bool, sealed: bool) -> str:
    """What a backup of these settings warns of."""
    moment = Snapshot("", 18, "0001", 1, None, {}, (), (), sealed)
    servers, recipients = sources.Servers("", "", ""), ("somebody",) if encrypted else ()
    made = creating._Creation(settings, servers, moment, recipients, silent)
    return " ".join(made._warnings())


def test_links_and_special_files_are_left_out(tmp_path: Path) -> None:
    imports = tmp_path / "data" / "imports"
    (imports / "deep").mkdir(parents=True)
    (imports / "deep" / "a.md").write_text("a")
    (imports / "link").symlink_to("/etc/passwd")
    os.mkfifo(imports / "pipe")
    settings = settings_in(tmp_path, "")
    assert [name for name, _ in sources.files(settings)] == ["imports/deep/a.md"]


def test_every_failure_is_one_of_the_stack(tmp_path: Path) -> None:
    assert issubclass(Damaged, AIStackError)
    assert Damaged().message.startswith("The backup is damaged")


@pytest.mark.parametrize(
    ("url", "shown", "password"),
    [
        ("postgresql://u:p%40s@h:5/d?sslmode=off", "postgresql://u@h:5/d?sslmode=off", "p@s"),
        ("postgresql://u@/d?host=/x&password=hush", "postgresql://u@/d?host=%2Fx", "hush"),
        ("postgresql://h/d", "postgresql://h/d", ""),
    ],
)
def test_no_password_is_in_the_list_of_processes(url: str, shown: str, password: str) -> None:
    assert programs._parted(url) == (shown, password)
