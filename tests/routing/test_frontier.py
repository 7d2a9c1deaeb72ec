"""The frontier: limits, oracle and strict routing are right, and `p2l frontier` shows what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.command_line import p2l, refused

from p2l_sdk import P2L
from p2l_sdk.errors import P2LError
from p2l_sdk.routing.allocation import JointFrontier
from p2l_sdk.routing.mixture import optimal_mixture, strict_choice
from p2l_sdk.routing.sweep import frontier_of, spread_budgets

PRICES = np.array([1.0, 2.0, 2.0, 5.0, 9.0]) / 1000
NAMES = tuple("abcde")
BUDGETS = np.array([0.001, 0.0017, 0.003, 0.006, 0.009])


def drawn(rng, n):
    """Scores by which a router chooses, and true outcomes that agree with them somewhat."""
    scores = rng.random((n, 5)) * 0.5 + np.linspace(0.1, 0.4, 5)
    return scores, (rng.random((n, 5)) < scores).astype(float)


def test_means_with_equal_weights_are_those_of_the_allocations(rng):
    scores, truth = drawn(rng, 60)
    joint = JointFrontier(scores, PRICES)
    expected = [joint.at(float(budget)).mean(truth) for budget in BUDGETS]
    np.testing.assert_allclose(joint.means(BUDGETS, truth, np.ones((1, 60)))[0], expected)


def test_a_weight_counts_as_so_many_prompts(rng):
    scores, truth = drawn(rng, 30)
    often = rng.integers(0, 4, 30)
    repeated = np.repeat(np.arange(30), often)
    joint = JointFrontier(scores[repeated], PRICES)
    expected = [joint.at(float(budget)).mean(truth[repeated]) for budget in BUDGETS]
    found = JointFrontier(scores, PRICES).means(BUDGETS, truth, often[None].astype(float))
    np.testing.assert_allclose(found[0], expected)


@pytest.mark.long
def test_limits_hold_what_other_prompts_give(rng):
    scores, truth = drawn(rng, 4000)
    whole = frontier_of(scores, PRICES, BUDGETS[1:4], truth, NAMES, "usable")
    values = {"router": whole.router_scores, "strict": whole.strict_scores, "models": whole.model_scores}
    hits: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(80):
        part = rng.choice(4000, 80, replace=False)
        found = frontier_of(scores[part], PRICES, BUDGETS[1:4], truth[part], NAMES, "usable")
        for name, value in values.items():
            hits[name].append(float(np.mean((found.limits[name].T[0] <= value) & (value <= found.limits[name].T[1]))))
    assert all(0.89 <= np.mean(shares) <= 0.99 for shares in hits.values()), hits


@pytest.mark.long
def test_limits_of_few_prompts_are_wide_enough(rng):
    scores, truth = rng.random((750, 1)), rng.random((750, 1))
    hits = []
    for i in range(0, 750, 5):
        found = frontier_of(scores[i : i + 5], PRICES[:1], [0.001], truth[i : i + 5], NAMES[:1], "usable")
        hits.append(found.limits["models"][0, 0] <= 0.5 <= found.limits["models"][0, 1])
    assert 0.9 <= np.mean(hits) <= 1.0


def test_oracle_and_strict(rng):
    scores, truth = drawn(rng, 50)
    found = frontier_of(scores, PRICES, BUDGETS, truth, NAMES, "usable")
    assert (found.oracle_scores >= found.router_scores - 1e-12).all()
    assert found.oracle_scores[-1] == pytest.approx(truth.max(1).mean())
    for i, budget in enumerate(BUDGETS):
        chosen = [strict_choice(row, PRICES, budget) for row in scores]
        assert found.strict_scores[i] == pytest.approx(truth[np.arange(50), chosen].mean())
        assert found.strict_costs[i] == pytest.approx(PRICES[chosen].mean())
    row = found.rows()[2]
    assert row["low"] < row["router"] < row["high"]
    assert row["single"] == truth[:, :3].mean(0).max()
    expected = frontier_of(scores, PRICES, BUDGETS, None, NAMES, "usable")
    assert expected.oracle_scores is None
    assert "oracle" not in expected.to_dict()
    assert frontier_of(scores[:1], PRICES, BUDGETS, None, NAMES, "usable").limits == {}


def test_the_shares_are_those_of_the_mixtures(rng):
    scores, _ = drawn(rng, 30)
    found = frontier_of(scores, PRICES, BUDGETS, None, NAMES, "usable")
    joint = JointFrontier(scores, PRICES)
    for i, budget in enumerate(BUDGETS):
        allocation, expected = joint.at(float(budget)), np.zeros(5)
        for prompt in range(30):
            for place, share in allocation.mixture(prompt).items():
                expected[place] += share / 30
        np.testing.assert_allclose(found.router_shares[i], expected, atol=1e-12)
        assert found.router_shares[i] @ PRICES == pytest.approx(found.router_costs[i])
        assert found.rows()[i]["calls"] == found.to_dict()["calls"][i] == found.calls(i)
        assert sum(found.calls(i).values()) == pytest.approx(1.0)
        assert list(found.calls(i).values()) == sorted(found.calls(i).values(), reverse=True)
    assert found.calls(0) == {"a": 1.0}
    assert "$0.001: router" in repr(found)
    assert "it calls 100% a" in repr(found)


def test_budgets_are_spread_by_magnitude():
    found = spread_budgets(PRICES, 5)
    np.testing.assert_allclose(found[1:] / found[:-1], 9 ** (1 / 4))
    assert (found[0], found[-1]) == (PRICES[0], PRICES[-1])
    np.testing.assert_allclose(spread_budgets(np.array([0.0, 4.0]), 3), [0.0, 2.0, 4.0])
    assert spread_budgets(np.array([3.0, 3.0]), 5).tolist() == [3.0]


def test_two_routers_in_one_picture(rng):
    scores, truth = drawn(rng, 50)
    first = frontier_of(scores, PRICES, None, truth, NAMES, "usable")
    second = frontier_of(rng.random((50, 5)), PRICES, None, truth, NAMES, "usable")
    ax = first.plot(others={"blind": second}, name="mine")
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == [
        "mine: one mean budget", "blind: one mean budget", "oracle (knows the outcomes)", "single LLM",
    ]  # fmt: skip
    assert "5 LLMs on 50 prompts; band and bars: 95 %" in ax.get_title(loc="left")
    assert {text.get_text() for text in ax.texts} == set(NAMES)
    for other, message in (
        (frontier_of(scores, PRICES, None, None, NAMES, "usable"), "two routers compare on true scores"),
        (frontier_of(scores[:9], PRICES, None, truth[:9], NAMES, "usable"), "measured on 9 prompts, not on the 50"),
    ):
        with pytest.raises(P2LError, match=message):
            first.plot(others={"x": other})
    assert "<td>" in first._repr_html_()
    assert len(first.to_pandas()) == 41
    assert "5 LLMs on 50 prompts" in repr(first)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scores_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("frontier") / "scores.csv"
    models = P2L.from_pretrained("routing9").models[:6]
    random = np.random.default_rng(0)
    rows = [[f"Question number {i} about hearts", *random.integers(0, 2, 6)] for i in range(20)]
    rows[3][2] = ""
    file.write_text("\n".join(",".join(map(str, row)) for row in [["prompt", *models], *rows]) + "\n")
    return file


@pytest.mark.long
def test_the_command_measures_on_the_scores_in_the_file(scores_file, tmp_path):
    result = p2l("frontier", scores_file, "--scores", "--model", "routing9", "--output", tmp_path / "f.png")
    assert b"3 LLMs without scores in the file are left out" in result.stderr
    assert b"1 of 20 prompts are left out: a score is missing" in result.stderr
    assert b"6 of 9 LLMs on 19 prompts" in result.stdout
    assert (tmp_path / "f.png").stat().st_size > 5000
    found = json.loads(p2l("frontier", scores_file, "--scores", "--model", "routing9", "--json").stdout)
    assert found["measured"]
    assert found["n_prompts"] == 19
    assert len(found["limits"]["models"]) == 6


@pytest.mark.long
def test_two_models(scores_file, tmp_path):
    both = ("--model", "routing9", "--model", "routing9")
    found = json.loads(p2l("frontier", scores_file, "--scores", *both, "--json").stdout)
    assert found["other"]["router_scores"] == found["router_scores"]
    assert "add --scores" in refused("frontier", scores_file, *both)
    other = p2l(
        "frontier", scores_file, "--scores", "--model", "routing9", "--model", "arena"
    )  # knows fewer of the LLMs
    assert b"What a budget buys: 3 of 9 LLMs on 19 prompts" in other.stdout
    assert "--model is given 3 times" in refused("frontier", scores_file, *both, "--model", "arena")


def test_a_file_without_scores_is_refused(tmp_path):
    (tmp_path / "p.csv").write_text("prompt,n\nWhat is a heart?,1\n")
    file = tmp_path / "p.csv"
    assert "no numeric column" in refused("frontier", file, "--scores", "--model", "routing9")
    assert b"LLMs on 1 prompt\n" in p2l("frontier", file, "--model", "routing9").stdout


@pytest.mark.long
def test_by_category(scores_file, tmp_path):
    file = tmp_path / "tasks.csv"
    header, *rows = scores_file.read_text().splitlines()
    file.write_text("\n".join([f"task,{header}", *(f"{'ab'[i % 2]},{row}" for i, row in enumerate(rows))]) + "\n")
    result = p2l("frontier", file, "--scores", "--by", "Task", "--model", "routing9", "--output", tmp_path / "by.png")
    assert b"What a budget buys by category: 6 LLMs, measured score" in result.stdout
    assert (tmp_path / "by.png").stat().st_size > 5000
    arguments = ("--model", "routing9", "--by", "task", "--json", "--budgets", "0.0003")
    found = json.loads(p2l("frontier", file, "--scores", *arguments).stdout)["categories"]
    assert {name: part["n_prompts"] for name, part in found.items()} == {"a": 10, "b": 9}
    expected = json.loads(p2l("frontier", file, *arguments).stdout)["categories"]
    assert not expected["a"]["measured"]
    assert "did you mean 'task'?" in p2l("frontier", file, "--scores", "--by", "tusk", *arguments[:2]).stderr.decode()
    assert "give --model once" in refused("frontier", file, "--by", "task", *arguments[:2], *arguments[:2])


def test_a_budget_per_prompt_is_the_best_mixture_of_each():
    random = np.random.default_rng(0)
    prices = np.array([0.3, 0.1, 0.1, 0.9, 0.4])
    scores, outcomes = random.normal(size=(2, 30, 5))
    found = frontier_of(scores, prices, None, outcomes, tuple("abcde"), "win_rate")
    for i, budget in enumerate(found.budgets.tolist()):
        mixtures = np.stack([optimal_mixture(row, prices, budget) for row in scores])
        assert found.prompt_scores[i] == pytest.approx((mixtures * outcomes).sum(1).mean())
        assert found.prompt_costs[i] == pytest.approx((mixtures @ prices).mean())


def test_the_command_speaks_of_budgets_as_route_takes_them(tmp_path):
    (tmp_path / "p.txt").write_text("What is a heart?\nWrite a poem\n")
    llms = ("--models", "gpt-4o-mini-2024-07-18,claude-3-5-haiku-20241022", "--budgets")
    shown = p2l("frontier", tmp_path / "p.txt", *llms, "0.0005").stdout.decode()
    assert (
        "budget: mean USD per response, as p2l route --cost takes it; $ per 1k: the same for 1,000 responses"
        in " ".join(shown.split())
    )
    assert "$0.0005       0.5" in shown
    assert "$0.0005  100% gpt-4o-mini-2024-07-18" in shown.partition("the router calls")[2]
    said = p2l("frontier", tmp_path / "p.txt", *llms, "0.5").stderr.decode()
    assert "no LLM costs more than $0.0024: it limits nothing ($0.5 for 1,000 responses would be 0.0005)" in said
