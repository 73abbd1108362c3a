"""The log of inferences in the database: written in batches, read as hourly sums."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from uuid import UUID

import orjson

from ai_stack.database import Database
from ai_stack.errors import AlreadyExists
from ai_stack.models.inference import InferenceRecord

COPY = """
COPY aidb.inference_log (id, ts, project_id, principal, model, engine, outcome, prompt_tokens,
                         completion_tokens, first_token_ms, total_ms, cached, cost, detail)
FROM STDIN"""
NULL = r"\N"
NO_TOKENS = f"{NULL}\t{NULL}"
ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
# Few requests have them, so they are no part of the hourly sums.
CALLS = """
SELECT date_bin('1 hour', ts, TIMESTAMPTZ '2000-01-01 00:00+00') AS hour, model,
       sum((detail->'tool_calls'->>'repaired')::int) AS repaired,
       sum((detail->'tool_calls'->>'failed')::int) AS failed
FROM tenant.inference_log
WHERE ts >= %(since)s AND ts < %(until)s + INTERVAL '1 hour' AND detail ? 'tool_calls'
GROUP BY 1, 2"""


@dataclass(frozen=True, slots=True)
class HourOfUse:
    """What one model did for a project in one hour; times in milliseconds, calls of tools."""

    hour: datetime
    model: str
    requests: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    mean_ms: float
    max_ms: float
    repaired_calls: int = 0
    failed_calls: int = 0


async def write(database: Database, records: Sequence[InferenceRecord]) -> None:
    """Add rows, of whatever projects; those that are there already stay as they are."""
    try:
        await database.copy(COPY, "".join(map(_line, records)).encode())
    except AlreadyExists:
        entries = orjson.dumps([replace(r, at=_us(r.at) / 1e6) for r in records]).decode()
        await database.read(None, "SELECT tenant.log_inferences(%(e)s::jsonb)", {"e": entries})


def _line(record: InferenceRecord) -> str:
    """A row in the text form of COPY."""
    used, (second, us) = record.usage, divmod(_us(record.at), 1_000_000)
    named = _named(record.project_id, record.principal, record.model, record.engine)
    tokens = NO_TOKENS if used is None else f"{used.prompt}\t{used.completion}"
    first_ms = NULL if record.first_token_ms is None else record.first_token_ms
    return (
        f"{record.id}\t{_second(second)}.{us:06d}+00\t{named}\t{record.outcome}\t{tokens}"
        f"\t{first_ms}\t{record.total_ms}\t{record.cached}\t{record.cost}\t{_detail(record)}\n"
    )


def _us(at: float) -> int:
    """Microseconds, as the database keeps a time: the same by either way."""
    return int(at * 1e6)


@lru_cache(8)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


@lru_cache(256)
def _named(project_id: UUID, principal: str, model: str, engine: str | None) -> str:
    """What many rows have in common."""
    last = NULL if engine is None else _escaped(engine)
    return f"{project_id}\t{_escaped(principal)}\t{_escaped(model)}\t{last}"


def _detail(record: InferenceRecord) -> str:
    if record.detail is None:
        return f'{{"operation":"{record.operation}"}}'
    return _escaped(orjson.dumps({**record.detail, "operation": record.operation}).decode())


def _escaped(text: str) -> str:
    return text.translate(ESCAPES)


async def hours(
    database: Database, project_id: UUID, since: datetime, until: datetime, model: str | None
) -> list[HourOfUse]:
    """The hours of a time, newest first, by model."""
    sql = (
        "SELECT hour, model, requests, cached, coalesce(prompt_tokens, 0),"
        " coalesce(completion_tokens, 0), coalesce(cost, 0)::float, coalesce(mean_ms, 0),"
        " coalesce(max_ms, 0), coalesce(repaired, 0), coalesce(failed, 0)"
        f" FROM tenant.inference_hourly LEFT JOIN ({CALLS}) calls USING (hour, model)"
        " WHERE hour >= %(since)s AND hour < %(until)s AND (%(model)s::text IS NULL"
        " OR model = %(model)s) ORDER BY hour DESC, model"
    )
    asked: dict[str, object] = {"since": since, "until": until, "model": model}
    return [HourOfUse(*row) for row in await database.read(project_id, sql, asked)]


async def sweep(database: Database, older: timedelta) -> int:
    """Forget rows that are older; how many there were."""
    async with database.transaction(None) as tx:
        row = await tx.row("SELECT tenant.sweep_inferences(%(older)s)", {"older": older})
    return 0 if row is None else int(row[0])
