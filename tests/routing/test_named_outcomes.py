"""Scores that come with names go by their names, in whatever order the columns are."""

from __future__ import annotations

import json

import numpy as np
import pandas
import pytest
from conftest import COSTS, MODELS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2l_sdk import P2L, P2LError
from p2l_sdk.errors import P2LWarning
from p2l_sdk.evaluation import compare, evaluate
from p2l_sdk.routing.mixture import optimal_mixture, strict_choice
from p2l_sdk.routing.pacing import BudgetPacer
from p2l_sdk.votes.votes import Scores, Votes

PROMPTS = ["write a poem", "sum list in python", "prove that two is irrational", "about code", "the square root of two"]
TRUTH = np.random.default_rng(0).uniform(size=(5, 4)).round(3)


@pytest.fixture
def p2l(saved) -> P2L:
    return P2L.from_pretrained(saved("quantized", head_hidden_size=8), costs=COSTS)


def table(order=MODELS, **more) -> dict[str, list]:
    return {**more, **{name: TRUTH[:, MODELS.index(name)].tolist() for name in order}}


@pytest.mark.long
@given(
    st.permutations([*MODELS, "prompt", "id"]), st.sampled_from(["frame", "columns", "rows", "arrow", "scores", "csv"])
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_outcomes_go_by_name_in_any_order_and_form(p2l, tmp_path, order, form):
    frame = pandas.DataFrame(table(prompt=PROMPTS, id=[9, 3, 4, 1, 2]))[list(order)]
    forms = {
        "frame": lambda: frame,
        "columns": lambda: frame.to_dict("list"),
        "rows": lambda: frame.to_dict("records"),
        "arrow": lambda: __import__("pyarrow").Table.from_pandas(frame),
        "scores": lambda: Scores.read(frame, [name for name in order if name in MODELS]),
        "csv": lambda: frame.to_csv(tmp_path / "s.csv", index=False) or str(tmp_path / "s.csv"),
    }
    for options in ({}, {"models": [MODELS[2], MODELS[0]]}):
        found = p2l.frontier(PROMPTS, outcomes=forms[form](), **options)
        expected = p2l.frontier(PROMPTS, outcomes=TRUTH, **options)
        assert found.to_dict() == expected.to_dict()
        assert found.measured


def test_only_the_llms_that_may_be_chosen_need_an_outcome(p2l):
    few = table(MODELS[:2])
    found = p2l.frontier(PROMPTS, outcomes=pandas.DataFrame(few), models=MODELS[:2])
    np.testing.assert_allclose(found.model_scores, TRUTH.mean(0)[:2])


def refusal(call, *args, **options) -> str:
    with pytest.raises(P2LError) as caught:
        call(*args, **options)
    return str(caught.value)


def test_outcomes_that_do_not_fit_are_refused_by_name(p2l, tmp_path):
    frame = pandas.DataFrame(table(prompt=PROMPTS))
    wrong = {
        f"the outcomes have no column '{MODELS[1]}', which may be chosen": frame.drop(columns=MODELS[1]),
        "the outcomes have no column": pandas.DataFrame(TRUTH),  # its columns are numbered
        "row 1 of the outcomes is of another prompt than prompt 1; put both in the same order": frame[::-1],
        "the outcomes have 4 rows; there are 5 prompts": frame[:4],
        f"row 3 of the outcomes: '{MODELS[0]}' has nan": frame.assign(**{MODELS[0]: [0.1, 0.2, np.nan, 0.1, 0.2]}),
        "finite numbers of the shape (5, 4)": TRUTH[:, :3],
        "outcomes must be an array of numbers": [["a"] * 4] * 5,
        "read them with Scores.read": {"prompt": ["x"], "model": ["a"], "score": [1.0]},
        "no such file: 'nowhere.csv'": "nowhere.csv",
    }
    for message, outcomes in wrong.items():
        assert message in refusal(p2l.frontier, PROMPTS, outcomes=outcomes)
    assert "have 4 rows; there are 5" in refusal(p2l.frontier, PROMPTS, outcomes=frame[:4].drop(columns="prompt"))


def test_a_frame_of_coefficients_goes_by_name(p2l):
    coefs, router = p2l.coefficients(PROMPTS).coefs, p2l.router()
    frame = pandas.DataFrame(coefs, columns=list(p2l.models))[list(p2l.models)[::-1]]
    np.testing.assert_allclose(router.scores(frame), router.scores(coefs))
    assert router.frontier(frame).to_dict() == router.frontier(coefs).to_dict()
    assert router.frontier(p2l.coefficients(PROMPTS)).to_dict() == router.frontier(coefs).to_dict()
    assert "one for each of the 4 LLMs; their shape is (5, 3)" in refusal(router.scores, coefs[:, :3])
    cost = float(np.mean(router.prices))
    assert router.pacer(cost, sample=frame).multiplier == router.pacer(cost, sample=coefs).multiplier


def test_plain_functions_of_arrays_take_no_named_ones():
    scores, costs = pandas.Series({"a": 0.9, "b": 0.5}), pandas.Series({"b": 1.0, "a": 5.0})
    for call in (optimal_mixture, strict_choice):
        assert "must be arrays with the LLMs in the same order, not Series" in refusal(call, scores, costs, 2.0)
    pacer = BudgetPacer(np.array([1.0, 5.0]), 2.0)
    assert "not Series" in refusal(pacer.choose, scores)


@pytest.mark.parametrize("weights", [pandas.DataFrame({0: [1.0] * 5}), dict.fromkeys(range(5), 1.0), "12345"])
def test_weights_are_a_number_per_prompt(p2l, weights):
    assert "weights must be numbers, one for each prompt, not" in refusal(p2l.aggregate, PROMPTS, weights=weights)
    series = pandas.Series([1.0, 2.0, 0.0, 1.0, 3.0], index=list("edcba"))  # one column has no other order
    assert p2l.aggregate(PROMPTS, weights=series).to_dict() == p2l.aggregate(PROMPTS, weights=list(series)).to_dict()


def test_evaluate_reads_frames_by_name(p2l, tmp_path):
    frame = pandas.DataFrame(table(MODELS[::-1], prompt=PROMPTS, id=[9, 3, 4, 1, 2]))
    scores = Scores.read(frame, p2l.models)
    assert evaluate(p2l, scores=frame).to_dict() == evaluate(p2l, scores=scores).to_dict()
    votes = pandas.DataFrame(
        [
            {"prompt": prompt, "model_a": MODELS[i % 4], "model_b": MODELS[(i + 1) % 4], "winner": "model_a"}
            for i, prompt in enumerate(PROMPTS)
        ]
    )
    expected = evaluate(p2l, Votes.read(votes, p2l.models)).to_dict()
    with pytest.warns(P2LWarning, match="do not determine"):
        measured = evaluate(p2l, votes, baseline_votes=votes)
    assert "baseline" in json.dumps(measured.to_dict(), default=str)
    assert json.dumps(evaluate(p2l, votes).to_dict(), default=str) == json.dumps(expected, default=str)
    assert compare(p2l, p2l, scores=frame).to_dict() == compare(p2l, p2l, scores=scores).to_dict()
