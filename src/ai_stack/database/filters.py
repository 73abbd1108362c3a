"""Compiles the metadata filter language to SQL over a jsonb column."""

import json

from ai_stack.models.filters import (
    And,
    Contains,
    Equals,
    Filter,
    In,
    Not,
    Or,
    Path,
    Range,
    Scalar,
)

COMPARISONS = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<"}


def compile_filter(
    tree: Filter | None, column: str = "d.metadata"
) -> tuple[str, dict[str, object]]:
    """A boolean SQL expression, never NULL, and its named parameters (`%(f0)s`, ...).

    Equality is containment (`@>`), which the GIN index answers; the rest looks at rows, by
    strict jsonpath, which takes no list for an object.
    """
    if tree is None:
        return "true", {}
    compiler = _Compiler(column)
    return compiler.expression(tree), compiler.parameters


class _Compiler:
    def __init__(self, column: str) -> None:
        self.column = column
        self.parameters: dict[str, object] = {}

    def expression(self, tree: Filter) -> str:
        match tree:
            case And(terms):
                return "(" + " AND ".join(self.expression(t) for t in terms) + ")"
            case Or(terms):
                return "(" + " OR ".join(self.expression(t) for t in terms) + ")"
            case Not(term):
                return f"(NOT {self.expression(term)})"
            case Equals(path, value):
                return self.equals(path, value)
            case In(path, values):
                return "(" + (" OR ".join(self.equals(path, v) for v in values) or "false") + ")"
            case Contains(path, value):
                return self.within(path, [value])
            case Range(path, operator, bound):
                return self.compares(path, COMPARISONS[operator], bound)

    def equals(self, path: Path, value: Scalar) -> str:
        if value is not None:
            return self.within(path, value)
        found = f"jsonb_path_query_first({self.column}, {self.jsonpath(path)}, '{{}}', true)"
        return f"(coalesce({found}, 'null') = 'null'::jsonb)"

    def compares(self, path: Path, comparison: str, bound: str | float) -> str:
        steps = self.jsonpath(path, f" ? (@ {comparison} $bound)")
        bounds = self.json({"bound": bound})
        return f"coalesce(jsonb_path_exists({self.column}, {steps}, {bounds}, true), false)"

    def within(self, path: Path, value: object) -> str:
        for name in reversed(path):
            value = {name: value}
        return f"({self.column} @> {self.json(value)})"

    def jsonpath(self, path: Path, test: str = "") -> str:
        steps = "".join(f".{json.dumps(name)}" for name in path)
        return f"{self.bind(f'strict ${steps}{test}')}::jsonpath"

    def json(self, value: object) -> str:
        return f"{self.bind(json.dumps(value))}::jsonb"

    def bind(self, value: object) -> str:
        name = f"f{len(self.parameters)}"
        self.parameters[name] = value
        return f"%({name})s"
