"""The log of inferences in the database: written in batches, read as hourly sums."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import orjson

from ai_stack.database import Database
from ai_stack.models.inference import InferenceRecord

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
    entries = orjson.dumps(records).decode()
    await database.read(None, "SELECT tenant.log_inferences(%(e)s::jsonb)", {"e": entries})


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
