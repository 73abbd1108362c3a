"""The filter language means the same in SQL as in `matches`."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_stack.database import Database
from ai_stack.database.filters import compile_filter
from ai_stack.models.filters import matches, parse_filter

names = st.sampled_from(["a", "b", "ключ", 'q"uote', "0", "$x", "a b"])
numbers = st.one_of(st.integers(-5, 5), st.sampled_from([0.5, 1.0, 2**53, -1e300, 1e-7]))
scalars = st.one_of(
    st.none(), st.booleans(), numbers, st.sampled_from(["", "a", "B", "é", "z\U0001f600", "1"])
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)
metadata = st.dictionaries(names, values, max_size=4)
paths = st.lists(names, min_size=1, max_size=3).map(".".join)
bounds = scalars.filter(lambda v: v is not None and not isinstance(v, bool))
conditions = st.one_of(
    scalars,
    st.dictionaries(st.sampled_from(["gte", "gt", "lte", "lt"]), bounds, min_size=1, max_size=2),
    st.lists(scalars, max_size=3).map(lambda v: {"in": v}),
    scalars.map(lambda v: {"contains": v}),
)
filters = st.recursive(
    st.dictionaries(paths, conditions, min_size=1, max_size=2),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2).map(lambda f: {"and": f}),
        st.lists(inner, min_size=1, max_size=2).map(lambda f: {"or": f}),
        inner.map(lambda f: {"not": f}),
    ),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(metadata, min_size=1, max_size=8), raw=filters)
async def test_sql_agrees_with_the_reference(database: Database, rows: list, raw: dict) -> None:
    tree = parse_filter(raw)
    condition, parameters = compile_filter(tree, "d.metadata")
    sql = (
        f"SELECT {condition} FROM jsonb_array_elements(%(rows)s::jsonb)"
        " WITH ORDINALITY AS d(metadata, n) ORDER BY n"
    )
    async with database.transaction(None) as tx:
        found = [r[0] for r in await tx.rows(sql, {"rows": json.dumps(rows), **parameters})]
    assert found == [matches(tree, row) for row in rows]


@pytest.mark.parametrize("raw", [{}, None])
def test_no_filter(raw: object) -> None:
    assert parse_filter(raw) is None
    assert compile_filter(None) == ("true", {})
