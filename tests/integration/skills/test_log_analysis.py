"""Logs read as streams: every form, a million lines in bounded memory, planted oddities found."""

import csv
import gzip
import json
import random
import resource
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ai_stack.skill import SkillFailed
from skills import run

NAME = "log-analysis"
START = datetime(2026, 11, 29, 10, tzinfo=UTC)
MILLION = 1_000_000
RUN_ALONE = """
import asyncio, json, sys
from pathlib import Path
from skills import run
async def main():
    found = await run("log-analysis", Path(sys.argv[2]), action="cluster", file=sys.argv[1])
    status = Path("/proc/self/status").read_text()  # getrusage has what the parent had as well
    peak = int(status.partition("VmHWM:")[2].split()[0])
    print(json.dumps({**found.output, "peak_mib": peak >> 10}))
asyncio.run(main())
"""


async def act(folder: Path, file: Path, action: str, **more: Any) -> dict[str, Any]:
    return dict((await run(NAME, folder, action=action, file=str(file), **more)).output)


def traffic(seed: int = 1, minutes: int = 30) -> list[tuple[datetime, str]]:
    """Ordinary lines: requests at random, a job each minute, a batch each five minutes."""
    chance = random.Random(seed)
    found = []
    for second in range(minutes * 60):
        at = START + timedelta(seconds=second)
        found += [
            (at, f"INFO web: GET /items/{chance.randint(1, 9999)} took {chance.randint(1, 99)} ms")
            for _ in range(chance.choice((0, 1, 1, 2, 3)))
        ]
        if chance.random() < 0.02:
            found.append((at, f"WARNING web: slow answer, {chance.randint(900, 3000)} ms"))
        if second % 60 == 0:
            found.append((at, f"INFO jobs: cleaned {chance.randint(1, 9)} sessions"))
        if second % 300 == 0:
            found += [(at, f"INFO jobs: exported row {n}") for n in range(60)]
    return found


def written(path: Path, lines: list[tuple[datetime, str]]) -> Path:
    ordered = sorted(lines, key=lambda pair: pair[0])
    path.write_text("".join(f"{at:%Y-%m-%d %H:%M:%S}+00:00 {text}\n" for at, text in ordered))
    return path


@pytest.mark.parametrize("seed", range(3))
async def test_ordinary_traffic_has_no_anomaly(tmp_path: Path, seed: int):
    log = written(tmp_path / "a.log", traffic(seed))
    assert (await act(tmp_path, log, "anomalies"))["anomalies"] == []


async def test_a_planted_burst_is_found_with_its_time_and_line(tmp_path: Path):
    begun = START + timedelta(seconds=1000)
    burst = [(begun + timedelta(seconds=n // 20), f"INFO auth: denied user{n}") for n in range(200)]
    log = written(tmp_path / "a.log", traffic() + burst)
    (found,) = (await act(tmp_path, log, "anomalies"))["anomalies"]
    assert found["kind"] == "burst"
    assert found["template"].startswith("denied")
    assert found["count"] == 200
    step = timedelta(seconds=found["step_s"])
    assert abs(datetime.fromisoformat(found["from"]) - begun) <= step
    assert abs(datetime.fromisoformat(found["to"]) - begun - timedelta(seconds=10)) <= step
    assert "denied user0" in log.read_text().splitlines()[found["line"] - 1]


async def test_a_planted_rise_of_a_common_message_is_found(tmp_path: Path):
    begun = START + timedelta(seconds=700)
    rise = [(begun + timedelta(seconds=n % 10), "INFO web: GET /items/1 took 2 ms")
            for n in range(400)]  # fmt: skip
    log = written(tmp_path / "a.log", traffic() + rise)
    (found,) = (await act(tmp_path, log, "anomalies"))["anomalies"]
    assert (found["kind"], found["template"]) == ("burst", "GET /items/<*> took <*> ms")
    assert found["usual_per_step"] < found["most_per_step"] / 5


async def test_a_planted_silence_is_found(tmp_path: Path):
    kept = [p for p in traffic() if not 900 <= (p[0] - START).total_seconds() < 960]
    log = written(tmp_path / "a.log", kept)
    (found,) = (await act(tmp_path, log, "anomalies"))["anomalies"]
    assert found["kind"] == "silence"
    assert "10:15:0" in found["from"]


async def test_new_and_rare_errors_are_found(tmp_path: Path):
    new = [(START + timedelta(seconds=1500 + n * 20), f"ERROR db: row {n} lost") for n in range(5)]
    rare = [(START + timedelta(seconds=60), "ERROR disk: sector 12 unreadable")]
    log = written(tmp_path / "a.log", traffic() + new + rare)
    found = (await act(tmp_path, log, "anomalies"))["anomalies"]
    assert [(a["kind"], a["template"]) for a in found] == [
        ("new", "row <*> lost"),
        ("rare_error", "sector <*> unreadable"),
    ]


def test_a_million_lines_are_clustered_in_bounded_memory(tmp_path: Path):
    """In a process of its own, so that its peak of memory is its own."""
    log, out = tmp_path / "million.log", tmp_path / "work"
    out.mkdir()
    with log.open("w") as file:
        for n in range(MILLION):
            at = f"2026-11-29T{n // 41_667:02}:{n // 695 % 60:02}:{n % 60:02}Z"
            kind = n % 4
            if n == 777_777:
                file.write(f"{at} ERROR disk: sector {n} unreadable on /dev/sda\n")
            elif kind == 0:
                file.write(f"{at} INFO web: GET /items/{n} took {n % 97} ms\n")
            elif kind == 1:
                file.write(f"{at} DEBUG cache: miss for key {n:016x}\n")
            elif kind == 2:
                file.write(f"{at} INFO auth: user u{n % 5000} signed in from 10.0.{n % 256}.7\n")
            else:
                file.write(f"{at} WARNING db: waited {n % 50} ms for a lock\n")
    command = [sys.executable, "-c", RUN_ALONE, str(log), str(out)]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    found = json.loads(done.stdout)
    assert found["records"] == MILLION
    assert found["peak_mib"] < 200
    counts = {c["template"]: c["count"] for c in found["clusters"]}
    assert counts["GET /items/<*> took <*> ms"] == 250_000
    assert counts["miss for key <*>"] == 250_000 - 1
    assert counts["sector <*> unreadable on /dev/sda"] == 1
    assert sum(counts.values()) == MILLION


async def test_messages_that_are_all_different_stay_bounded(tmp_path: Path):
    letters = random.Random(5)
    log = tmp_path / "noise.log"
    log.write_text("".join(
        " ".join("".join(letters.choices("abcdefgh", k=6)) for _ in range(n % 9 + 1)) + "\n"
        for n in range(30_000)
    ))  # fmt: skip
    found = await act(tmp_path, log, "cluster", top=1000)
    assert found["cluster_count"] <= 10_000
    assert found["records"] == 30_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await act(tmp_path, log, "anomalies")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10


FORMS = [
    ("2026-11-29 10:00:00,123 ERROR app.db: lost", "iso", "error", "app.db", "lost"),
    ("2026-11-29T10:00:00.123Z [warning] app: odd", "iso", "warning", "app", "odd"),
    ("2026-11-29 10:00:00.123 UTC [42] LOG:  database system is ready", "iso", "info", "",
     "database system is ready"),
    ("[2026-11-29 10:00:00] no level here", "iso", None, None, "no level here"),
    ("Nov 29 10:00:00 host sshd[42]: error: no route", "syslog", "error", "sshd",
     "error: no route"),
    ('10.0.0.7 - - [29/Nov/2026:11:00:00 +0100] "GET /x HTTP/1.1" 502 17', "access", "error",
     "10.0.0.7", "GET /x HTTP/1.1 502 17"),
    ("1795946400 fatal: gone", "epoch", "critical", None, "gone"),
    ("no time at all", "text", None, None, "no time at all"),
    ('{"ts": 1795946400.5, "level": "WARN", "msg": "m", "logger": "l"}', "json", "warning", "l",
     "m"),
    ('{"@timestamp": "2026-11-29T10:00:00Z", "severity": "ERROR", "message": "m"}', "json",
     "error", None, "m"),
    ('{"time": 1795946400500, "level": 50, "msg": "pino"}', "json", "critical", None, "pino"),
    ('{"__REALTIME_TIMESTAMP": "1795946400000000", "PRIORITY": "4", "_SYSTEMD_UNIT": "a.service",'
     ' "MESSAGE": "m"}', "journald", "warning", "a.service", "m"),
    ('{"__REALTIME_TIMESTAMP": "1795946400000000", "MESSAGE": null}', "journald", None, None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("line", "form", "level", "source", "message"), FORMS)
async def test_each_form(
    tmp_path: Path, line: str, form: str, level: str, source: str | None, message: str
):
    log = tmp_path / "one.log"
    log.write_text(line + "\n  a continuation\n")
    found = await act(tmp_path, log, "parse")
    (record,) = found["sample"]
    assert found["forms"] == {form: 1}
    assert found["continuations"] == 1
    assert (record["level"], record["message"]) == (level, message)
    assert source is None or record["source"] == (source or None)
    if form != "text":
        assert record["time"].startswith("2026-11-29T10:00:00")


@pytest.mark.skipif(shutil.which("journalctl") is None, reason="this machine has no journald")
async def test_the_machines_own_journal_is_read(tmp_path: Path):
    command = ["journalctl", "-o", "json", "-n", "500", "--no-pager"]
    done = subprocess.run(command, capture_output=True, check=False)
    log = tmp_path / "journal.json"
    log.write_bytes(done.stdout or b'{"__REALTIME_TIMESTAMP":"1795946400000000","MESSAGE":"m"}\n')
    assert set((await act(tmp_path, log, "parse"))["forms"]) <= {"journald", "text"}


async def test_only_narrows(tmp_path: Path):
    log = written(tmp_path / "a.log", traffic())
    only = {"level": "warning", "since": "2026-11-29T10:10:00Z", "until": "2026-11-29T10:20:00Z"}
    found = await act(tmp_path, log, "parse", only=only, save=True, limit=0)
    assert set(found["levels"]) == {"warning"}
    assert found["first"] >= "2026-11-29T10:10"
    assert found["last"] < "2026-11-29T10:20"
    saved = (tmp_path / "out/records.jsonl").read_text().splitlines()
    assert len(saved) == found["records"] > 0
    assert (await act(tmp_path, log, "parse", only={"source": "jobs"}))["sources"].keys() == {
        "jobs"
    }
    assert (await act(tmp_path, log, "parse", only={"contains": "SLOW"}))["records"] > 0
    with pytest.raises(SkillFailed, match=r"only\.since"):
        await act(tmp_path, log, "parse", only={"since": "yesterday"})


async def test_a_timeline_counts_every_record(tmp_path: Path):
    lines = traffic()
    log = written(tmp_path / "a.log", lines)
    found = await act(tmp_path, log, "timeline", steps=40)
    assert 20 <= len(found["points"]) <= 40
    assert sum(point["total"] for point in found["points"]) == len(lines)
    with (tmp_path / "out/timeline.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert sum(int(row["info"]) + int(row["warning"]) for row in rows) == len(lines)
    with pytest.raises(SkillFailed, match="time"):
        bare = tmp_path / "bare.log"
        bare.write_text("a line\n")
        await act(tmp_path, bare, "timeline")


async def test_gzip_is_read_and_damage_is_told(tmp_path: Path):
    packed = gzip.compress(written(tmp_path / "a.log", traffic()).read_bytes())
    whole, cut = tmp_path / "a.gz", tmp_path / "cut.gz"
    whole.write_bytes(packed)
    cut.write_bytes(packed[: len(packed) // 2])
    assert (await act(tmp_path, whole, "parse"))["records"] == len(traffic())
    found = await run(NAME, tmp_path, action="parse", file=str(cut))
    assert 0 < found.output["records"] < len(traffic())
    assert "damaged" in found.notes[0]


async def test_an_endless_line_is_shortened(tmp_path: Path):
    log = tmp_path / "long.log"
    log.write_bytes(b"x" * 5_000_000 + b"\n2026-11-29T10:00:00Z INFO fine\n")
    found = await run(NAME, tmp_path, action="parse", file=str(log))
    assert found.output["records"] == 2
    assert len(found.output["sample"][0]["message"]) == 8000
    assert "longer" in found.notes[0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"PK\x03\x04", "zip"),
        (b"\x7fELF" + bytes(5000), "binary"),
        (b"\xfd7zXZ\0", "xz"),
    ],
)
async def test_what_is_no_log_is_refused(tmp_path: Path, content: bytes, told: str):
    log = tmp_path / "x"
    log.write_bytes(content)
    with pytest.raises(SkillFailed, match=told):
        await act(tmp_path, log, "parse")


async def test_hostile_json_is_text_and_never_a_failure(tmp_path: Path):
    log = tmp_path / "x.log"
    lines = ["{" * 9000, '{"a":' * 5000, '{"ts": 1e999, "msg": [1, {}]}', '{"level": {}, "ts": []}',
             '{"__REALTIME_TIMESTAMP": "x", "PRIORITY": "99", "MESSAGE": [999]}',
             '{"time": "0001-01-01T00:00:00", "level": "9999999999999999"}']  # fmt: skip
    log.write_text("\n".join(lines))
    assert (await act(tmp_path, log, "parse"))["records"] == len(lines)
    assert (await act(tmp_path, log, "anomalies"))["records"] == len(lines)
