"""Prometheus' text form of instruments, and single series as other processes hand them on."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from ai_stack.telemetry.instruments import ENDLESS, Instrument, by_name

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})


def text_of(
    own: Iterable[Instrument],
    process: str,
    shared: Iterable[Instrument] = (),
    others: Mapping[str, float] | None = None,
) -> str:
    """The exposition: `own` instruments under the label of their process, `shared` ones without.

    `others` are series of other processes; those that this version does not know are left out.
    """
    found = _by_family(own, others or {})
    lines: list[str] = []
    for one in own:
        lines += _family(one, [*_lines(one, process), *found[one.name]])
    for one in shared:
        lines += _family(one, list(_lines(one, None)))
    return "\n".join([*lines, ""])


def series_of(instruments: Iterable[Instrument], process: str) -> dict[str, float]:
    """Every series of these instruments by its name and labels."""
    return {
        _series(one.name + suffix, one.labels, labels, process, bound): value
        for one in instruments
        for suffix, labels, bound, value in one.samples()
    }


def _by_family(own: Iterable[Instrument], others: Mapping[str, float]) -> dict[str, list[str]]:
    known = by_name(own)
    found = defaultdict[str, list[str]](list)
    for series, value in others.items():
        family = known.get(series.partition("{")[0])
        if family is not None:
            found[family.name].append(f"{series} {_number(value)}")
    return found


def _family(one: Instrument, lines: list[str]) -> list[str]:
    if not lines:
        return []
    return [f"# HELP {one.name} {one.about}", f"# TYPE {one.name} {one.kind}", *lines]


def _lines(one: Instrument, process: str | None) -> Iterator[str]:
    for suffix, labels, bound, value in one.samples():
        series = _series(one.name + suffix, one.labels, labels, process, bound)
        yield f"{series} {_number(value)}"


@lru_cache(50_000)
def _series(
    name: str,
    names: tuple[str, ...],
    values: tuple[str, ...],
    process: str | None,
    bound: float | None,
) -> str:
    pairs = [*zip(names, values, strict=True)]
    if process is not None:
        pairs.append(("process", process))
    if bound is not None:
        pairs.append(("le", "+Inf" if bound == ENDLESS else f"{bound:g}"))
    shown = ",".join(f'{key}="{value.translate(ESCAPES)}"' for key, value in pairs)
    return f"{name}{{{shown}}}" if shown else name


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)
