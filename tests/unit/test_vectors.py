"""What every index checks of its vectors, and the filter language in Qdrant's terms."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectors as made
from ai_stack.errors import InvalidRequest, SettingsError
from ai_stack.models.filters import matches, parse_filter
from ai_stack.vectors import VectorQuery, open_vectors, unit_rows
from ai_stack.vectors.edge_collection import CALM_POINTS, IDLE_S, Collection
from ai_stack.vectors.qdrant_filters import compile_filter, payload

LONG = "2024-01-15T10:00:00.0000"
VALUES: list[Any] = [None, True, False, 0, 1, 1.0, 0.5, -1, 2**53, 2**53 + 1, -(2**53) - 1, 10**400]
VALUES += ["", "a", "b", "é", "1", LONG, LONG + "a", LONG + "b", [], ["a", 1], [None], [[1]], {}]
BOUNDS: list[Any] = [0, 1, 0.5, 2**53, 2**53 + 1, 1e308, "", "a", "é", LONG, LONG + "a"]


def _holds(condition: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    """What Qdrant makes of a condition, for the few kinds that are used."""
    if "key" not in condition:
        should = condition.get("should")
        return (
            all(_holds(c, stored) for c in condition.get("must", ()))
            and not any(_holds(c, stored) for c in condition.get("must_not", ()))
            and (should is None or any(_holds(c, stored) for c in should))
        )
    found: Any = stored
    for name in condition["key"].split("."):
        found = found.get(name)
        if found is None:
            return False
    if "match" in condition:
        return bool(set(condition["match"]["any"]) & set(found))
    tests = {"gt": found.__gt__, "gte": found.__ge__, "lt": found.__lt__, "lte": found.__le__}
    return all(float(found) == found and tests[o](b) for o, b in condition["range"].items())


def _answers(raw: dict[str, Any], metadata: dict[str, Any]) -> tuple[bool, bool]:
    tree, stored = parse_filter(raw), payload(metadata)
    assert tree is not None
    conditions = compile_filter(tree)
    through = all(_holds(c, stored) for c in conditions.must)
    return through and conditions.admits(stored.get("m")), matches(tree, metadata)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("operator", ["gt", "gte", "lt", "lte"])
def test_a_range_is_exact_also_within_not(operator: str, bound: object) -> None:
    for value in VALUES:
        for raw in ({"a.b": {operator: bound}}, {"not": {"a.b": {operator: bound}}}):
            ours, meant = _answers(raw, {"a": {"b": value}, "x": LONG * 2})
            assert ours == meant, (raw, value)


ASKED = [v for v in VALUES if not isinstance(v, list | dict) and v != 10**400]


@pytest.mark.parametrize("asked", ASKED)
def test_equality_in_and_contains_are_exact(asked: object) -> None:
    for value in VALUES:
        for condition in (asked, {"in": [asked]}, {"in": [asked, "z"]}, {"contains": asked}):
            for raw in ({"a": condition}, {"not": {"a": condition}}):
                ours, meant = _answers(raw, {"a": value})
                assert ours == meant, (raw, value)


def test_paths_with_odd_names_are_told_apart() -> None:
    for metadata in ({"a.b": 1}, {"a": {"b": 1}}, {"": {"": 1}}, {"a": [{"b": 1}]}, {}):
        for raw in ({"a.b": 1}, {"a.b": None}, {"a": None}, {"a.b": {"gte": 0}}):
            ours, meant = _answers(raw, metadata)
            assert ours == meant, (raw, metadata)


def test_only_what_had_to_be_rounded_carries_its_metadata() -> None:
    assert "m" not in payload({"a": 1, "b": "short", "c": [LONG]})
    assert "m" in payload({"a": LONG}) and "m" in payload({"a": {"b": 2**53}})


def test_rows_are_of_unit_length() -> None:
    rows = unit_rows([[3.0, 4.0], np.asarray([0, 1e-30], np.float32)], made.model(2))
    assert rows.dtype == np.float32
    assert np.allclose(rows, [[0.6, 0.8], [0, 1]])
    assert unit_rows([], made.model(2)).shape == (0, 2)


@pytest.mark.parametrize("vector", [[1.0], [1.0, float("inf")], [0.0, 0.0], [[1.0, 2.0]], ["a", 1]])
def test_rows_that_mean_nothing_are_refused(vector: Any) -> None:
    with pytest.raises(InvalidRequest):
        unit_rows([vector], made.model(2))


async def test_a_url_names_its_backend() -> None:
    with pytest.raises(SettingsError):
        open_vectors("pinecone://host")
    with pytest.raises(SettingsError):
        await open_vectors("qdrant-edge:").__aenter__()
    async with open_vectors("memory:") as vectors:
        query = VectorQuery(uuid.uuid4(), [1.0, 0.0], 3)
        assert await vectors.search(made.model(2), query) == []


async def test_a_graph_is_not_built_in_the_midst_of_a_stream(tmp_path: Path) -> None:
    collection = Collection.create(tmp_path / "points", 4)
    ids = [str(uuid.UUID(int=n)) for n in range(CALM_POINTS)]
    payload = {"p": ids[1], "d": ids[2], "t": [], "e": []}
    rows = np.ones((len(ids), 4), np.float32)
    await collection.upsert(ids, [payload] * len(ids), rows)
    assert collection._due(idle=False)
    collection._count_arrivals()
    assert not collection._due(idle=False)
    assert collection._due(idle=True)
    collection._streamed_s -= IDLE_S
    collection._count_arrivals()
    assert collection._due(idle=False)
    collection.close()
