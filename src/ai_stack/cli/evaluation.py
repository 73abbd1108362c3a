"""`eval`: how well searches answer a golden set, by mode and weight."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, get_args

import typer

from ai_stack.cli.client import Gateway, Refused, connect, quoted
from ai_stack.cli.options import AsJson, print_json, say
from ai_stack.cli.progress import Bars, bars
from ai_stack.errors import InvalidRequest
from ai_stack.models.search import SearchMode
from ai_stack.services.evaluating import SHOWN, Ranking, Result, Variant, prefixed, run
from ai_stack.services.evaluation import Question, load_golden

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Split(StrEnum):
    """A half of a golden set: settle parameters on one, report on the other."""

    tune = "tune"
    test = "test"


@app.command("eval")
def eval_(
    golden: Annotated[Path, typer.Argument(metavar="SET", help="Golden set, JSON Lines.")],
    mode: Annotated[
        str, typer.Option(metavar="MODE,...", help="Modes to compare; the first is the baseline.")
    ] = "semantic,keyword,hybrid",
    hybrid_weight: Annotated[
        str,
        typer.Option(
            metavar="WEIGHT,...", help="Weights of keywords to try in hybrid; default: the setting."
        ),
    ] = "",
    split: Annotated[Split | None, typer.Option(help="Only this half of the questions.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only questions of this kind.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Only so many questions.")
    ] = None,
    key_prefix: Annotated[
        str, typer.Option(help="The --prefix under which the documents were imported.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Ask the gateway a golden set's questions in each mode, and compare the answers."""
    variants = read_variants(mode, hybrid_weight)
    questions = [
        q
        for q in prefixed(load_golden(golden), key_prefix)
        if split in (None, q.split) and kind in (None, q.kind)
    ][:limit]
    if not questions:
        raise InvalidRequest(f"No question of {golden.name} is of this split and kind.")
    with connect() as gateway, bars(as_json) as shown:
        missing = _missing(gateway, questions, shown)
        found = run(
            questions, variants, _Asking(gateway), lambda d, t, m: shown.show("questions", d, t, m)
        )
    if as_json:
        results = [result.json() for result in found]
        print_json({"questions": len(questions), "missing": missing, "results": results})
    else:
        _show(golden.name, questions, missing, found)


class _Asking:
    """Asks the gateway; a search that was degraded would say nothing of search."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def __call__(self, query: str, variant: Variant, limit: int) -> Ranking:
        body = {"query": query, "mode": variant.mode, "limit": limit}
        if variant.hybrid_weight is not None:
            body["hybrid_weight"] = variant.hybrid_weight
        answer = self.gateway.insist("POST", "/search/semantic", json=body)
        if "degraded" in answer:
            raise InvalidRequest(f"This cannot be judged now. {answer['degraded']}")
        return Ranking([r["document"]["id"] for r in answer["results"]], answer["cached"])


def read_variants(modes: str, weights: str) -> list[Variant]:
    """`semantic,hybrid` and `0.1,0.2` as semantic, hybrid 0.1, hybrid 0.2."""
    variants: list[Variant] = []
    for name in modes.split(","):
        mode = next((known for known in get_args(SearchMode) if known == name.strip()), None)
        if mode is None:
            raise typer.BadParameter(f"There is no mode {name!r}.", param_hint="--mode")
        tried = weights.split(",") if weights and mode == "hybrid" else [None]
        variants += [Variant(mode, None if w is None else _weight(w)) for w in tried]
    return variants


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1
    if not 0 <= weight <= 1:
        raise typer.BadParameter(f"{text!r} is not within 0 and 1.", param_hint="--hybrid-weight")
    return weight


def _missing(gateway: Gateway, questions: Sequence[Question], shown: Bars) -> list[str]:
    """The relevant documents that the gateway has not got; all of them: a wrong prefix."""
    wanted = sorted({path for question in questions for path in question.relevant})
    missing = []
    for n, id in enumerate(wanted):
        shown.show("documents", n, len(wanted), id)
        try:
            gateway.ask("GET", f"/documents/{quoted(id)}")
        except Refused as error:
            if error.answered != 404:
                raise
            missing.append(id)
    if len(missing) == len(wanted):
        raise InvalidRequest(
            f"The gateway has none of the set's documents, {missing[0]} for one:"
            " import them first, and name their --key-prefix."
        )
    return missing


def _show(
    name: str, questions: Sequence[Question], missing: Sequence[str], found: Sequence[Result]
) -> None:
    kinds = Counter(question.kind for question in questions)
    say(f"{len(questions)} questions of {name}\n")
    if missing:
        say(f"{len(missing)} of their documents are not there, {missing[0]} for one.\n")
    width = max(12, *(len(result.variant.name) + 2 for result in found))
    means = [result.evaluation.means() for result in found]
    rows = [("", [result.variant.name for result in found])]
    rows += [(measure, [f"{mean[measure]:.3f}" for mean in means]) for measure in SHOWN]
    for kind, count in sorted(kinds.items()):
        label = f"ndcg {kind} ({count})"
        rows.append((label, [f"{result.kinds[kind]:.3f}" for result in found]))
    rows.append(("p50 ms", [_milliseconds(r, "p50_ms") for r in found]))
    rows.append(("p95 ms", [_milliseconds(r, "p95_ms") for r in found]))
    rows.append(("against first", [_difference(result) for result in found]))
    for label, cells in rows:
        say(f"{label:24}" + "".join(f"{cell:>{width}}" for cell in cells).rstrip())
    for result in found[1:]:
        say(_sentence(result, found[0]))


def _milliseconds(result: Result, name: str) -> str:
    return "cached" if result.latency is None else f"{getattr(result.latency, name):.1f}"


def _difference(result: Result) -> str:
    found = result.against_first
    return "" if found is None else f"{found.difference:+.3f}{'' if found.is_noise else '*'}"


def _sentence(result: Result, first: Result) -> str:
    found = result.against_first
    assert found is not None
    verdict = "may be chance" if found.is_noise else "is no chance"
    return (
        f"\n{result.variant.name} against {first.variant.name}: ndcg@10 {found.difference:+.3f}"
        f" (95 %: {found.low:+.3f} to {found.high:+.3f}), p = {found.p_value:.4f}: it {verdict}."
    )
