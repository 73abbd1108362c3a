"""Measures against values worked out by hand, golden sets that load or say where they do not."""

import json
from math import log2
from pathlib import Path

import numpy as np
import pytest

from ai_stack.errors import InvalidRequest
from ai_stack.services.evaluation import (
    MEASURES,
    Evaluation,
    Question,
    compare,
    evaluate,
    latency,
    load_golden,
    ndcg,
    recall,
    reciprocal_rank,
    success,
)

GOLDEN = Path(__file__).parents[2] / "benchmarks" / "golden"
LINE = {"id": "q1", "question": "How?", "relevant": ["a.html"], "split": "tune"}


def written(folder: Path, *lines: object) -> Path:
    path = folder / "set.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def test_a_golden_set_loads(tmp_path: Path) -> None:
    questions = load_golden(written(tmp_path, LINE, "", LINE | {"id": "q2", "split": "test"}))
    assert [question.id for question in questions] == ["q1", "q2"]
    assert questions[0].relevant == ("a.html",)
    assert [question.split for question in questions] == ["tune", "test"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{oops", "Line 3 of set.jsonl is not JSON"),
        ('"text"', "Line 3 of set.jsonl is no question: not an object"),
        (LINE | {"id": "q2", "relevant": []}, "Line 3 of set.jsonl is no question: 'relevant'"),
        (LINE | {"id": "q2", "split": "train"}, "Line 3 of set.jsonl is no question: 'split'"),
        (LINE | {"id": "q2", "question": " "}, "Line 3 of set.jsonl is no question: 'question'"),
        (LINE | {"id": "q2", "answer": "x"}, "Line 3 of set.jsonl is no question: 'answer'"),
        (LINE, "Line 3 of set.jsonl repeats the id of line 1"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, bad: object, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        load_golden(written(tmp_path, LINE, "", bad))


def test_an_empty_or_absent_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="holds no question"):
        load_golden(written(tmp_path, ""))
    with pytest.raises(InvalidRequest, match="cannot be read"):
        load_golden(tmp_path / "absent.jsonl")


def test_ndcg_by_hand() -> None:
    assert ndcg(["a", "x"], ["a"]) == 1
    assert ndcg(["x", "a"], ["a"]) == pytest.approx(1 / log2(3))
    assert ndcg(["x", "a", "y", "b"], ["a", "b"]) == pytest.approx(
        (1 / log2(3) + 1 / log2(5)) / (1 + 1 / log2(3))
    )
    assert ndcg([*"0123456789", "a"], ["a"]) == 0
    assert ndcg([*"0123456789"], [*"0123456789a"]) == pytest.approx(1)
    assert ndcg([], ["a"]) == 0


def test_recall_counts_documents_and_success_counts_questions() -> None:
    ranked = ["a", "x", "y", "z", "b", "c"]
    assert [recall(ranked, ["a", "b", "c"], k) for k in (1, 5, 10)] == pytest.approx(
        [1 / 3, 2 / 3, 1]
    )
    assert [success(ranked, ["b", "c"], k) for k in (1, 4, 5)] == [0, 0, 1]


def test_reciprocal_rank_by_hand() -> None:
    assert reciprocal_rank(["x", "y", "a", "b"], ["a", "b"]) == pytest.approx(1 / 3)
    assert reciprocal_rank([*"012345678", "a"], ["a"]) == pytest.approx(1 / 10)
    assert reciprocal_rank([*"0123456789", "a"], ["a"]) == 0


def questions(count: int) -> list[Question]:
    return [Question(id=f"q{n}", question="How?", relevant=("a", "b")) for n in range(count)]


def test_a_run_is_scored_question_by_question() -> None:
    run = evaluate(questions(2), {"q0": ["a", "b"], "q1": ["x", "b"]})
    assert run.questions == ("q0", "q1")
    assert set(run.scores) == set(MEASURES)
    assert run.means()["success@1"] == 0.5
    assert run.means()["recall@5"] == 0.75
    assert run.means()["mrr@10"] == 0.75


def test_faulty_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="no ranking for q1"):
        evaluate(questions(2), {"q0": []})
    with pytest.raises(ValueError, match="twice"):
        evaluate(questions(1), {"q0": ["a", "a"]})
    with pytest.raises(ValueError, match="no questions"):
        evaluate([], {})


def run_of(scores: list[float]) -> Evaluation:
    names = tuple(f"q{n}" for n in range(len(scores)))
    return Evaluation(names, {"ndcg@10": np.array(scores)})


def test_the_randomisation_test_agrees_with_counting_every_sign() -> None:
    """Of the 2^4 signs of four equal differences, two give a mean as extreme: p = 1/8."""
    comparison = compare(run_of([0.5] * 4), run_of([0.25] * 4))
    assert comparison.difference == pytest.approx(0.25)
    assert comparison.p_value == pytest.approx(1 / 8, abs=0.01)
    assert (comparison.low, comparison.high) == (0.25, 0.25)
    assert comparison.is_noise


def test_ten_wins_of_ten_are_not_noise() -> None:
    comparison = compare(run_of([0.9] * 10), run_of([0.5] * 10))
    assert comparison.p_value == pytest.approx(2 / 2**10, abs=0.002)
    assert not comparison.is_noise


def test_equal_runs_are_noise_and_a_seed_repeats() -> None:
    rng = np.random.default_rng(7)
    one, other = (run_of(list(rng.random(60))) for _ in range(2))
    assert compare(one, one).p_value == 1
    assert compare(one, other, seed=3) == compare(one, other, seed=3)
    assert compare(one, other, seed=3).low < compare(one, other).difference
    assert compare(one, other).difference == -compare(other, one).difference


def test_false_alarms_stay_near_five_in_a_hundred() -> None:
    rng = np.random.default_rng(1)
    alarms = sum(
        not compare(run_of(list(rng.random(25))), run_of(list(rng.random(25)))).is_noise
        for _ in range(100)
    )
    assert alarms <= 12


def test_runs_over_other_questions_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different questions"):
        compare(run_of([1.0]), run_of([1.0, 0.0]))


def test_latency_is_the_nearest_rank() -> None:
    measured = latency([n / 1000 for n in range(100, 0, -1)])
    assert measured.p50_ms == pytest.approx(50)
    assert measured.p95_ms == pytest.approx(95)
    assert latency([0.003]).p95_ms == pytest.approx(3)


@pytest.mark.parametrize(("name", "least"), [("python", 200), ("postgresql", 120), ("stdlib", 60)])
def test_the_shipped_sets_are_sound(name: str, least: int) -> None:
    shipped = load_golden(GOLDEN / f"{name}.jsonl")
    splits = [question.split for question in shipped]
    assert len(shipped) >= least
    assert abs(splits.count("tune") - splits.count("test")) <= 1
    assert len({question.question for question in shipped}) == len(shipped)
    for question in shipped:
        assert len(set(question.relevant)) == len(question.relevant) <= 3
        assert len(question.evidence) == len(question.relevant)
