"""Answers to requests that may be repeated, kept under the caller's key."""

from dataclasses import dataclass

from ai_stack.database import Transaction
from ai_stack.errors import IdempotencyMismatch


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What the first request of its key was answered."""

    status: int
    response: bytes


async def claim(tx: Transaction, key: str, request_hash: bytes) -> KeptAnswer | None:
    """The answer that this key has already, or None: then this transaction owns the key.

    A twin at the same time waits here until the other's transaction ends. Raises
    IdempotencyMismatch when the key was used for another request.
    """
    claimed = await tx.row(
        "INSERT INTO idempotency (key, request_hash) VALUES (%(key)s, %(hash)s)"
        " ON CONFLICT (project_id, key) DO NOTHING RETURNING key",
        {"key": key, "hash": request_hash},
    )
    if claimed is not None:
        return None
    row = await tx.row(
        "SELECT request_hash, status, response FROM idempotency WHERE key = %(key)s", {"key": key}
    )
    if row is None or row[0] != request_hash:
        raise IdempotencyMismatch
    return KeptAnswer(row[1], row[2])


async def keep(tx: Transaction, key: str, answer: KeptAnswer) -> None:
    await tx.execute(
        "UPDATE idempotency SET status = %(status)s, response = %(response)s WHERE key = %(key)s",
        {"key": key, "status": answer.status, "response": answer.response},
    )
