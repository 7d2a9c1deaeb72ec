"""Leaderboards by category: every number is right, and intervals of differences hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.worlds import MODELS, TOPICS, TopicScorer, topic_prompts
from scipy.stats import t
from thorough import thorough

from p2l_sdk import P2L
from p2l_sdk.analysis import by_category
from p2l_sdk.analysis.categories import label_of
from p2l_sdk.analysis.differences import Side, t_95, welch
from p2l_sdk.analysis.report import POINTS
from p2l_sdk.errors import BudgetError, P2LError, PromptError
from p2l_sdk.leaderboards.aggregate import PairStatistics
from p2l_sdk.leaderboards.leaderboard import Z_95, Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.scorers.aggregate import PromptAggregate

PLANTED = np.zeros((len(TOPICS), len(MODELS)))
PLANTED[1, 4], PLANTED[3, 0] = 1.5, -1.5  # e writes poems, a is no lawyer
COSTS = {name: 0.001 * (len(MODELS) - i) for i, name in enumerate(MODELS)}  # the best is the dearest
PROMPTS = topic_prompts(300)
LABELS = [prompt.split()[0] for prompt in PROMPTS]


def world() -> P2L:
    return P2L(TopicScorer(PLANTED), costs=COSTS)


@pytest.fixture(scope="module")
def found():
    return by_category(world(), PROMPTS, LABELS)


def test_a_category_has_the_leaderboard_of_its_prompts(found):
    assert found.names == TOPICS  # as many prompts each: in the order of the file
    for topic in TOPICS:
        board = world().aggregate([prompt for prompt in PROMPTS if prompt.startswith(topic)])
        assert found[topic.upper()].coefs == pytest.approx(board.coefs, abs=1e-9)
        assert found[topic].intervals == pytest.approx(board.intervals, abs=0.06)
        assert found[topic].n_prompts == 60
    assert found.overall.coefs == pytest.approx(world().aggregate(PROMPTS).coefs, abs=1e-9)
    assert found.overall.n_prompts == found.n_prompts == 300


def test_categories_of_any_size_are_those_of_their_prompts():
    """Prompts of a category wait for others until a batch is full, and at the end."""
    prompts = topic_prompts(700)
    labels = ["few" if i % 50 == 0 else "most" for i in range(700)]
    split = by_category(world(), prompts, labels)
    for name, n in (("most", 686), ("few", 14)):
        board = world().aggregate([prompt for prompt, label in zip(prompts, labels, strict=True) if label == name])
        assert split[name].n_prompts == n
        assert split[name].coefs == pytest.approx(board.coefs, abs=1e-9)


def test_errors_measured_with_less_work_are_nearly_the_same(monkeypatch):
    monkeypatch.setattr("p2l_sdk.leaderboards.aggregate._MOST_GRADIENTS", 800 * 8**2)
    random = np.random.default_rng(0)
    prompts = Coefficients(random.normal(size=(800, 8)), None, None)
    errors = []
    for work in (1.0, 0.1):  # all prompts, and 250
        statistics = PairStatistics(Feedback.BT, 8)
        statistics.add(prompts)
        errors.append(statistics.relative_errors(statistics.solve(MODELS, replicates=0), work))
    assert errors[0][1] == pytest.approx(800)
    assert errors[1][1] == pytest.approx(800)
    ratio = errors[1][0] / errors[0][0]
    assert ratio == pytest.approx(np.ones(8), abs=0.15)  # 4.5 % is one standard error
    assert not np.array_equal(ratio, np.ones(8))


def test_a_difference_is_that_of_two_aggregates(found):
    own, others = (
        world().aggregate([p for p in PROMPTS if p.startswith("poetry") == side]).coefs for side in (True, False)
    )
    differences = found.differences
    row = TOPICS.index("poetry")
    assert differences.values[row] == pytest.approx(POINTS * (own - others), abs=1e-6)
    assert differences.values[row, 4] == pytest.approx(POINTS * 1.5 * 7 / 8, abs=40)
    clear = {(TOPICS[k], MODELS[i]) for k, i in zip(*np.nonzero(differences.clear), strict=True)}
    assert {("poetry", "e"), ("law", "a")} <= clear
    assert "e +" in repr(differences)
    one, other = found.between("poetry", "law"), found.between("law", "poetry")
    assert one.values == pytest.approx(-other.values)
    assert one.margins == pytest.approx(other.margins)
    assert one.values[0] == pytest.approx(POINTS * (found["poetry"].coefs - found["law"].coefs), abs=1e-6)


def test_prompts_without_a_category_are_left_out_and_counted(found):
    labels = [None if i % 2 else label for i, label in enumerate(LABELS)]
    half = by_category(world(), iter(PROMPTS), iter(labels))
    assert (half.left_out, half.n_prompts) == (150, 150)
    kept = [prompt for prompt, label in zip(PROMPTS, labels, strict=True) if label]
    assert half.overall.coefs == pytest.approx(world().aggregate(kept).coefs, abs=1e-9)
    assert half.choices(world().router()).n_prompts == 150


def test_a_category_of_one_prompt_has_no_limits():
    few = by_category(world(), ["law 1", *topic_prompts(30)], ["one", *["many"] * 30])
    row = few.differences.rows()[len(MODELS)]
    assert (row["category"], row["n_prompts"], row["low"], row["clear"]) == ("one", 1, None, False)
    few.plot()
    few.differences.plot()
    assert few.to_dict()["categories"]["one"]["n_prompts"] == 1


@pytest.mark.parametrize(
    ("label", "name"),
    [(" law ", "law"), (3, "3"), (3.0, "3"), (0.5, "0.5"), (True, "True"), (np.int64(4), "4"), (np.str_("x"), "x")],
)
def test_labels(label, name):
    assert label_of(label) == name


@pytest.mark.parametrize("label", ["", "  ", None, float("nan"), np.float32("nan")])
def test_empty_labels(label):
    assert label_of(label) is None


@pytest.mark.parametrize(
    ("prompts", "labels", "message"),
    [
        (PROMPTS, ["law"] * 300, "all prompts are of one category, 'law'; to compare, there must be two or more"),
        (PROMPTS, [None] * 300, "none of the 300 prompts has a category"),
        (PROMPTS, range(300), "more than 100 categories ('0', '1', '2', ..., '100')"),
        (PROMPTS, LABELS[:299], "fewer categories (299) than prompts"),
        (PROMPTS, [*LABELS, "x"], "more categories than prompts (300)"),
        (PROMPTS, "category", "one label for each prompt, not one string ('category')"),
        (PROMPTS, [["a"]] * 300, "not a list"),
        (PROMPTS, ["x" * 201] * 300, "has 201 characters"),
    ],
)
def test_what_is_no_categories_is_refused(prompts, labels, message):
    with pytest.raises(P2LError) as error:
        by_category(world(), prompts, labels)
    assert message in str(error.value)


def test_no_prompts_and_unknown_categories_are_refused(found):
    with pytest.raises(PromptError, match="there are no prompts"):
        by_category(world(), [], [])
    with pytest.raises(P2LError, match="there is no category 'poety'; did you mean 'poetry'"):
        found["poety"]
    with pytest.raises(P2LError, match="both categories are 'law'"):
        found.between("law", "Law")


# --- a router's choice ------------------------------------------------------------------------------------------------


def test_choices_are_those_of_route_many(found):
    router, budget = world().router(), 0.004
    choices = found.choices(router, [budget, 0.006])
    routes = world().route_many(PROMPTS, budget)
    for k, topic in enumerate(TOPICS):
        mine = [route for prompt, route in zip(PROMPTS, routes, strict=True) if prompt.startswith(topic)]
        expected = [sum(route.mixture.get(name, 0.0) for route in mine) / len(mine) for name in MODELS]
        assert choices.shares[0, k] == pytest.approx(expected)
        assert choices.costs[0, k] == pytest.approx(np.mean([route.expected_cost for route in mine]))
    assert choices.shares.sum(2) == pytest.approx(1.0)
    assert choices.costs.mean(1) == pytest.approx([0.004, 0.006])  # categories of equal size: the mean budget


def test_a_strict_router_calls_no_dearer_llm_and_a_free_one_the_best(found):
    strict = found.choices(world().router(policy="strict"), [0.004])
    dear = [i for i, name in enumerate(MODELS) if COSTS[name] > 0.004]
    assert strict.shares[0][:, dear].sum() == 0.0
    free = found.choices(world().router())
    assert free.shares[0, TOPICS.index("poetry"), 4] > 0.4  # e, which writes poems
    assert free.shares[0, TOPICS.index("law"), 0] < 0.3
    assert "at any cost" in repr(free)
    with pytest.raises(BudgetError):
        found.choices(world().router(), [0.0001])


def test_what_is_called_rarely_is_pooled(found):
    choices = found.choices(world().router())
    names, shares = choices.pooled(0, most=2)
    assert names == [*[MODELS[i] for i in choices.named(2)], "others"]
    assert shares.sum(1) == pytest.approx(1.0)
    assert {row["category"] for row in choices.rows()} == set(TOPICS)
    choices.plot()
    assert "<table>" in choices._repr_html_()


# --- the intervals ----------------------------------------------------------------------------------------------------


def test_limits_of_t():
    freedom = np.array([1.0, 1.5, 2.0, 3.7, 12.0, 99.0, 1e4])
    assert t_95(freedom) == pytest.approx(t.ppf(0.975, freedom), rel=1e-4)
    assert welch(np.array([1.0]), np.array([1.0]), 10.0, 10.0) == pytest.approx(18.0)


def test_errors_are_those_of_the_bootstrap(rng):
    statistics = PairStatistics(Feedback.BT, 5)
    statistics.add(Coefficients(rng.normal(size=(200, 5)), None, None))
    board = statistics.solve(tuple("abcde"), replicates=4000)
    errors, n = statistics.relative_errors(board)
    assert n == pytest.approx(200)
    width = (board.intervals[:, 1] - board.intervals[:, 0]) / 2
    assert t.ppf(0.975, 199) * errors == pytest.approx(width, rel=0.07)


class Population:
    """Three categories of prompts, of which two are "all others"; their LLMs differ, and so do their prompts.

    Args:
        feedback: of the model.
    """

    def __init__(self, feedback: Feedback) -> None:
        self.spec = ModelSpec(models=tuple("abcdef"), feedback=feedback)
        self.random = np.random.default_rng(5)
        self.means = self.random.normal(scale=0.6, size=(3, 6))
        self.sizes = (15, 60, 40)
        self.truth = self._aggregates((20_000, 20_000, 20_000), weights=self.sizes)

    def _aggregates(self, sizes, weights=(1.0, 1.0, 1.0)):
        parts = []
        for k, n in enumerate(sizes):
            part = PromptAggregate(self.spec, None, seed=k)
            coefs = self.means[k] + self.random.standard_t(5, size=(n, 6)) * 0.7
            coefs = coefs + self.random.normal(size=(n, 1))
            eta = self.random.normal(size=(n, 1)) if self.spec.feedback.has_eta else None
            part.add(Coefficients(coefs, eta, None), np.full(n, float(weights[k])))
            parts.append(part)
        parts[1].merge(parts[2])
        return [Side.of(part, part.board(intervals=False), 1.0) for part in parts[:2]]

    def covered(self, replicates: int) -> float:
        """The share of intervals that hold the true difference."""
        true, _ = self.truth[0].less(self.truth[1], None)
        hits = []
        for _ in range(replicates):
            own, others = self._aggregates(self.sizes)
            value, margin = own.less(others, None)
            hits.append(np.abs(value - true) <= margin)
        return float(np.mean(hits))


@pytest.mark.long
@pytest.mark.parametrize("feedback", [Feedback.BT, *thorough(Feedback.GRK)])
def test_intervals_of_differences_hold_the_truth(feedback):
    assert 0.93 <= Population(feedback).covered(200) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("feedback", list(Feedback))
def test_intervals_of_differences_hold_the_truth_in_every_feedback_model(feedback):
    if feedback.has_gamma:
        pytest.skip("the world has no ground")
    assert 0.935 <= Population(feedback).covered(3000) <= 0.965


def test_errors_of_the_model_widen_what_they_concern():
    side = Side(np.zeros(3), np.full(3, 0.1), 50.0, np.array([0.8, 0.1]), 0.02)
    other = Side(np.zeros(3), np.full(3, 0.1), 50.0, np.array([0.3, 0.1]), 0.01)
    margin = side.less(other, np.array([[0.4, 9.0, 9.0]] * 3))[1]
    sampling = t.ppf(0.975, 98) * np.sqrt(0.02)
    assert margin == pytest.approx(np.hypot(sampling, Z_95 * np.sqrt(0.03 + 0.25 * 0.4)), rel=1e-4)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_show_a_chosen_few_of_many_llms(rng):
    class Many:
        spec = ModelSpec(models=tuple(f"a-very-long-name-of-an-llm-{i:03d}" for i in range(60)), feedback=Feedback.BT)

        def score(self, prompts):
            return Coefficients(rng.normal(size=(len(prompts), 60)).astype(np.float32), None, None)

    labels = [f"a category with a very long name, number {i % 3}" for i in range(12)]
    found = by_category(P2L(Many(), costs={}), [f"prompt {i}" for i in range(12)], labels)
    ax = found.plot()
    assert len(ax.figure.legends[0].get_texts()) == 6
    assert "6 of them drawn" in ax.get_title(loc="left")
    assert all(len(label.get_text()) < 42 for label in ax.get_yticklabels())
    ax = found.differences.plot()
    assert len(ax.get_xticklabels()) == 15
    assert "the best 15 drawn" in ax.get_title(loc="left")
    figure = found.choices(P2L(Many(), costs={}).router()).plot(llms=3)
    assert figure.legends[0].get_texts()[-1].get_text() == "others, each rarer"
    assert [row["model"] for row in found.rows()[:1]] == [found[found.names[0]].best]
    assert len(found.to_pandas()) == 180
    assert "<table>" in found._repr_html_()
    assert "<table>" in found.differences._repr_html_()
