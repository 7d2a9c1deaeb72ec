"""The inverse of aggregation: over the prompts of a kind, the built model's aggregate is that kind's leaderboard.

Each test goes the whole way: a table of ratings and prompts of known kind, `build_model`, `P2L.from_pretrained`, and
`P2L.aggregate` over prompts that the model has not seen.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from kinds_world import LLMS, Truth, elo, kinds_of, of_kind, prompts, quick  # noqa: F401

from p2l_sdk import P2L
from p2l_sdk.editing.rated import RECORD, KindsRecord
from p2l_sdk.errors import ModelFormatError, P2LError, P2LWarning
from p2l_sdk.kinds import KindRatings, build_model
from p2l_sdk.leaderboards.leaderboard import Z_95
from p2l_sdk.modeling.leaderboard_p2l import ARENA_SCALE

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """built(rows, world) -> the model of these ratings."""

    def make(rows, world="disjoint", n=60, **options) -> P2L:
        folder = tmp_path_factory.mktemp("built") / "model"
        made = build_model(KindRatings.read(rows, "elo"), prompts(world, n), folder, **options)
        assert made.folder == folder
        return P2L.from_pretrained(folder)

    return make


@pytest.fixture(scope="module")
def exact(built):
    """A model of exact ratings of disjoint kinds, and these."""
    truth = Truth(kinds_of("disjoint"))
    return built(truth.rows()), truth


def aggregated(p2l: P2L, kind: str | None, world="disjoint") -> np.ndarray:
    return elo(p2l.aggregate(of_kind(prompts(world, 80, seed=99), kind)).coefs)


def index(name: str) -> int:
    return LLMS.index(name)


# --- exact ratings come back ---------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("world", ["disjoint", "overlapping", "nested"])
def test_exact_ratings_come_back(world, built, exact):
    if world == "disjoint":
        p2l, truth = exact
    else:  # a kind's prompts differ now, and averages of their probabilities are first-order in departures only
        truth = Truth(kinds_of(world), spread=10.0)
        p2l = built(truth.rows(), world)
    for kind, departures in truth.departures.items():
        expected = elo((truth.overall + departures) / ARENA_SCALE)
        assert np.abs(aggregated(p2l, kind, world) - expected).max() < 1.0, kind
    assert np.abs(aggregated(p2l, None, world) - elo(truth.overall / ARENA_SCALE)).max() < 1.0


def test_what_was_recognised_is_told(exact):
    p2l, _ = exact
    for kind in p2l.spec.kinds:
        board = p2l.leaderboard(of_kind(prompts("disjoint", 1, seed=5), kind)[0])
        assert board.kinds[kind] > 0.9
        assert sum(board.kinds.values()) - board.kinds[kind] < 0.2


def test_a_level_of_a_kind_is_no_departure(built, exact):
    """In a kind whose ratings are all 300 points higher, nobody is better than another."""
    p2l, truth = exact
    rows = [{**row, "rating": row["rating"] + 300.0 * (row["category"] == "food")} for row in truth.rows()]
    moved = built(rows)
    np.testing.assert_allclose(moved._scorer.rows, p2l._scorer.rows, atol=1e-6)


# --- noisy and missing ratings --------------------------------------------------------------------------------------


def test_noisy_ratings_are_shrunk_by_the_known_factor(built):
    """v / (v + e^2), where the observed departures have the mean square v + e^2. Ratings in a kind and overall that are
    equally uncertain leave a departure half of that variance."""
    truth, half = Truth(kinds_of("disjoint"), spread=25.0), 40.0
    p2l = built(truth.rows(half))
    keep = 1.0 - 0.5 * (half / Z_95) ** 2 / 25.0**2
    assert 0.5 < keep < 0.7
    for kind, departures in truth.departures.items():
        expected = elo((truth.overall + keep * departures) / ARENA_SCALE)
        assert np.abs(aggregated(p2l, kind) - expected).max() < 1.0
    assert np.abs(aggregated(p2l, None) - elo(truth.overall / ARENA_SCALE)).max() < 1.0


def test_noise_that_explains_all_departures_leaves_the_overall(built):
    truth = Truth(kinds_of("disjoint"), spread=10.0)
    p2l = built(truth.rows(half=60.0))
    for kind in truth.departures:
        assert np.abs(aggregated(p2l, kind) - elo(truth.overall / ARENA_SCALE)).max() < 0.1


def test_an_llm_without_a_rating_keeps_its_overall_one_there(built):
    truth, name = Truth(kinds_of("disjoint")), "llm-2"
    rows = [row for row in truth.rows(half=6.0) if (row["model"], row["category"]) != (name, "food")]
    p2l = built(rows)
    food, none = (p2l.aggregate(of_kind(prompts("disjoint", 80, seed=99), kind)) for kind in ("food", None))
    assert abs(food.coefs[index(name)] - none.coefs[index(name)]) * ARENA_SCALE < 1.0
    away = np.abs(food.coefs - none.coefs) * ARENA_SCALE
    assert np.median(away) > 10.0
    # and it is less certain there than elsewhere, and than others are there
    width = {kind: np.ptp(p2l.leaderboard(of_kind(prompts("disjoint", 1, 5), kind)[0]).intervals, axis=1)
             for kind in ("food", "law")}  # fmt: skip
    assert width["food"][index(name)] > 2 * width["law"][index(name)]
    assert width["food"].argmax() == index(name)


def test_intervals_are_those_of_the_ratings(built):
    truth, half = Truth(kinds_of("disjoint"), spread=60.0), {name: 4.0 + 3.0 * i for i, name in enumerate(LLMS)}
    rows = [
        {**row, "lower": row["rating"] - half[row["model"]], "upper": row["rating"] + half[row["model"]]}
        for row in truth.rows()
    ]
    p2l = built(rows)
    none, food = (p2l.leaderboard(of_kind(prompts("disjoint", 1, 5), kind)[0]) for kind in (None, "food"))
    got = np.ptp(none.intervals, axis=1) / 2 * ARENA_SCALE
    np.testing.assert_allclose(got, list(half.values()), rtol=0.05)  # where there is no kind, that of the overall
    wider = np.ptp(food.intervals, axis=1)
    assert (np.diff(wider) > 0).all()
    assert (wider > np.ptp(none.intervals, axis=1)).all()


def test_without_an_overall_leaderboard_the_mean_of_the_kinds_stands_in(built, exact):
    p2l, truth = exact
    mean = built([row for row in truth.rows() if row["category"] != "overall"])
    middle = truth.overall + np.mean(list(truth.departures.values()), 0)
    assert np.abs(aggregated(mean, None) - elo(middle / ARENA_SCALE)).max() < 1.0
    for kind in truth.departures:
        assert np.abs(aggregated(mean, kind) - aggregated(p2l, kind)).max() < 1.0


# --- one more LLM ----------------------------------------------------------------------------------------------------


def ratings_of(rows, name) -> dict:
    return {
        row["category"]: (row["rating"], row["lower"], row["upper"]) if "lower" in row else row["rating"]
        for row in rows
        if row["model"] == name
    }


@pytest.mark.long
@pytest.mark.parametrize("half", [None, 12.0])
def test_the_ratings_of_a_known_llm_give_its_row(built, half):
    rows = Truth(kinds_of("nested")).rows(half)
    rows = [row for row in rows if (row["model"], row["category"]) != ("llm-1", "law")]
    p2l = built(rows, "nested")
    for name in ("llm-0", "llm-1"):
        more = p2l.add_model("new", ratings=ratings_of(rows, name), cost=0.5)
        np.testing.assert_allclose(more._scorer.rows[-1], p2l._scorer.rows[index(name)], atol=2e-5)
        np.testing.assert_allclose(more._scorer.variance[-1], p2l._scorer.variance[index(name)], atol=2e-5)
        assert more.models == (*p2l.models, "new")
        assert more.costs["new"] == 0.5
        assert more.edits[-1] == f"new added from ratings in {', '.join(ratings_of(rows, name))}"
    assert p2l.models == LLMS


def test_an_llm_without_an_overall_rating_is_placed_by_its_kinds(exact):
    p2l, truth = exact
    given = {kind: truth.overall[0] + truth.departures[kind][0] for kind in ("code", "food")}
    more = p2l.add_model("new", ratings=given)
    middle = truth.overall[0] + (truth.departures["code"][0] + truth.departures["food"][0]) / 2 - truth.overall.mean()
    assert more._scorer.rows[-1, -1] * ARENA_SCALE == pytest.approx(middle, abs=1.0)


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ({}, "ratings of 'new' must be a mapping {kind: rating} with at least one entry"),
        ([1000], "must be a mapping"),
        ({"cod": 1000}, "a rating of 'new' is of the kind 'cod'; did you mean 'code'"),
        ({"code": "good"}, "the rating of 'new' in 'code' is 'good'; give a number, or three: (rating, lower, upper)"),
        ({"code": (1000, 990)}, "give a number, or three"),
        ({"code": (1000, 1010, 1020)}, "it must be a finite number (elo), between its limits"),
        ({"code": float("nan")}, "it must be a finite number (elo)"),
        ({"code": float("inf")}, "it must be a finite number (elo)"),
    ],
)
def test_ratings_of_one_more_that_are_refused(exact, ratings, message):
    with pytest.raises(P2LError) as caught:
        exact[0].add_model("new", ratings=ratings)
    assert message in str(caught.value)


def test_ratings_and_votes_are_not_given_at_once(exact):
    vote = [{"prompt": "x", "model_a": "new", "model_b": "llm-0", "winner": "tie"}]
    with pytest.raises(P2LError, match=r"give ratings, or votes and scores; .*\.refine\(votes\)"):
        exact[0].add_model("new", vote, ratings={"code": 1000})
    with pytest.raises(P2LError, match="'llm-3' is among the LLMs already; remove or rename it first"):
        exact[0].add_model("llm-3", ratings={"code": 1000})


# --- kinds.json ------------------------------------------------------------------------------------------------------


def test_the_record_is_what_was_written(exact, tmp_path):
    p2l, _ = exact
    record = KindsRecord.read(p2l._folder, p2l.spec.kinds)
    assert (record.kinds, record.overall, record.scale) == (p2l.spec.kinds, "overall", "elo")
    record.write(tmp_path)
    assert (tmp_path / RECORD).read_text() == (p2l._folder / RECORD).read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "{",
        lambda _: "[1, 2]",
        lambda values: json.dumps({name: value for name, value in values.items() if name != "slack"}),
        lambda values: json.dumps(values | {"none": values["none"][:-1]}),
        lambda values: json.dumps(values | {"means": [[1.0]]}),
        lambda values: json.dumps(values | {"spread": ["wide"] * 3}),
        lambda values: json.dumps(values | {"spread": [float("nan")] * 3}),
        lambda values: json.dumps(values | {"scale": "yards"}),
        lambda values: json.dumps(values | {"kinds": 3}),
        lambda values: json.dumps(values | {"kinds": [*values["kinds"][:-1], "golf"]}),
    ],
)
def test_a_damaged_record_is_named(damage, exact, tmp_path):
    exact[0].save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / RECORD
    path.write_text(damage(json.loads(path.read_text())))
    p2l = P2L.from_pretrained(tmp_path / "model")  # all else works without it
    assert p2l.leaderboard("sort an array").kinds is not None
    with pytest.raises(ModelFormatError, match=r"kinds\.json' is damaged: "):
        p2l.add_model("new", ratings={"code": 1000})


def test_a_model_that_was_not_built_from_ratings(routing9, exact, tmp_path):
    message = "was not built from ratings, so it cannot learn from them; give votes or scores"
    with pytest.raises(P2LError, match=message):
        routing9.add_model("new", ratings={"code": 1000})
    exact[0].save_pretrained(tmp_path / "model")
    (tmp_path / "model" / RECORD).unlink()
    with pytest.raises(P2LError, match=message):
        P2L.from_pretrained(tmp_path / "model").add_model("new", ratings={"code": 1000})


def test_a_rating_of_another_scale_and_a_name_that_was_read_as_another_are_said(exact):
    p2l, _ = exact
    with pytest.warns(P2LWarning, match=r"overall rating of 'new' is \d+ points from the middle of the known LLMs"):
        p2l.add_model("new", ratings={"overall": 14.5})
    with pytest.warns(P2LWarning, match="'org/llm-2' was read as llm-2 so far, and means the new LLM from now on"):
        p2l.add_model("org/llm-2", ratings={"overall": 1000.0})
