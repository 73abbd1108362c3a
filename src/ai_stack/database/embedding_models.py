"""The embedding models that the database has vectors of, and which one answers."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from ai_stack.database import Database, Record, Transaction
from ai_stack.models.embedding import EmbeddingModel

ModelState = Literal["building", "active", "previous", "retired"]


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model with its number here; `previous` is the way back, kept in step until it goes."""

    id: int
    state: ModelState
    model: EmbeddingModel


IN_STATE = "SELECT id, state, description FROM models WHERE state = ANY (%(states)s) ORDER BY id"
IN_USE, RETIRED = {"states": ["building", "active", "previous"]}, {"states": ["retired"]}


async def stored(tx: Transaction) -> list[StoredModel]:
    """The models in use, oldest first."""
    return [_from_row(row) for row in await tx.rows(IN_STATE, IN_USE)]


async def retired(tx: Transaction) -> list[StoredModel]:
    """The models that nobody uses any more, whose vectors are still there."""
    return [_from_row(row) for row in await tx.rows(IN_STATE, RETIRED)]


async def known(database: Database) -> list[StoredModel]:
    """The same for a search, which does not wait for a unit of work."""
    return [_from_row(row) for row in await database.read(None, IN_STATE, {**IN_USE})]


def _from_row(row: Record) -> StoredModel:
    return StoredModel(row[0], row[1], EmbeddingModel(**row[2]))


async def add(tx: Transaction, model: EmbeddingModel, state: ModelState) -> int:
    """The number of a model, made with a partition for its vectors when it is new."""
    row = await tx.row(
        "SELECT tenant.add_model(%(key)s, %(name)s, %(weights)s, %(dimensions)s,"
        " %(description)s::jsonb, %(state)s)",
        {
            "key": model.key,
            "name": model.name,
            "weights": model.weights,
            "dimensions": model.dimensions,
            "description": json.dumps(asdict(model)),
            "state": state,
        },
    )
    assert row is not None
    return int(row[0])


async def set_state(tx: Transaction, model_id: int, state: ModelState) -> None:
    await tx.execute(
        "SELECT tenant.set_model_state(%(model)s, %(state)s)", {"model": model_id, "state": state}
    )


async def drop(tx: Transaction, model_id: int) -> None:
    """Forget a model that is not active, with all its vectors."""
    await tx.execute("SELECT tenant.drop_model(%(model)s)", {"model": model_id})


def active(models: Sequence[StoredModel]) -> StoredModel | None:
    return next((m for m in models if m.state == "active"), None)
