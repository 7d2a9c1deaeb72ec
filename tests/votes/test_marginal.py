"""The averaged leaderboard: known parameters, an independent solver, the reference, intervals, warnings, errors."""

from __future__ import annotations

import csv
import warnings

import numpy as np
import pytest
from conftest import MODELS, shared
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.optimize import minimize

from p2l_sdk import fit_leaderboard
from p2l_sdk.errors import ConvergenceError, P2LError, P2LWarning, VotesError
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import (
    Feedback,
    Winner,
    eta_of_threshold,
    log_probabilities,
    log_threshold,
    vote_log_likelihood,
)
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.votes import Votes

ALL = list(Feedback)
WORDS = np.array(["model_a", "model_b", "tie", "tie (bothbad)"])
THETA = np.array([0.3, 1.0, -0.6, 0.5, 1.4])
NAMES = np.array([f"m{i}" for i in range(5)])
A, B, C, D = MODELS


def truth(feedback: Feedback) -> float | None:
    """The raw eta of the threshold t = 1.8."""
    return float(eta_of_threshold(feedback, np.log(0.8))) if feedback.has_eta else None


def simulated(feedback: Feedback, n: int, rng: np.random.Generator, theta=THETA) -> dict[str, np.ndarray]:
    """Votes drawn from known coefficients, as string columns."""
    a = rng.integers(0, len(theta), n)
    b = (a + rng.integers(1, len(theta), n)) % len(theta)
    eta, gamma = truth(feedback), 0.0
    extra = [None if x is None else np.full(n, x) for x in (eta, gamma)]
    law = np.exp(log_probabilities(feedback, theta[a], theta[b], *extra))
    drawn = (rng.random((n, 1)) > law.cumsum(1)[:, :-1]).sum(1)
    winner = WORDS[np.array(feedback.outcomes)[drawn]]
    return {"model_a": NAMES[a], "model_b": NAMES[b], "winner": winner}


def table(*votes: tuple[str, str, str], times: int = 1) -> dict[str, list[str]]:
    return dict(zip(("model_a", "model_b", "winner"), map(list, zip(*votes * times, strict=True)), strict=True))


def centred(feedback: Feedback, coefs: np.ndarray) -> np.ndarray:
    return coefs if feedback.grounded or feedback is Feedback.BA else coefs - coefs.mean()


def widths(board: Leaderboard) -> np.ndarray:
    return board.intervals[:, 1] - board.intervals[:, 0]


# --- the optimum -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feedback", ALL)
def test_known_parameters_are_recovered(feedback, rng):
    board = fit_leaderboard(simulated(feedback, 200_000, rng), feedback)
    np.testing.assert_allclose(centred(feedback, board.coefs), centred(feedback, THETA), atol=0.04)
    if feedback.has_eta:
        shifts = {log_threshold(feedback, np.float64(x)) for x in (board.eta, truth(feedback))}
        assert max(shifts) - min(shifts) < 0.05
    assert board.models == tuple(NAMES)
    assert board.n_votes == 200_000
    assert board.caption == f"Leaderboard of 5 LLMs on 200,000 votes ({feedback})"


@pytest.mark.parametrize("feedback", ALL)
def test_an_independent_solver_agrees(feedback, rng):
    """SciPy's BFGS on rows, with nothing shared but the law, in the raw eta."""
    votes = simulated(Feedback.GRK, 2_000, rng)
    votes["weight"] = rng.uniform(0.2, 3, 2_000)
    codes = {name: np.searchsorted(NAMES, votes[name]) for name in ("model_a", "model_b")}
    winner = np.array([list(WORDS).index(word) for word in votes["winner"]])
    board = fit_leaderboard(votes, feedback)

    def loss(x: np.ndarray) -> float:
        eta = np.full(2_000, x[-1]) if feedback.has_eta else None
        theta = x[:-1][codes["model_a"]], x[:-1][codes["model_b"]]
        likelihood, counts = vote_log_likelihood(
            feedback, log_probabilities(feedback, *theta, eta, np.zeros(2_000)), winner
        )
        return -(votes["weight"] @ likelihood) / (votes["weight"] @ counts)

    start = np.append(np.zeros(5), truth(feedback) or 0.0)
    found = minimize(loss, start, method="BFGS", jac="3-point", options={"gtol": 1e-9, "maxiter": 500})
    np.testing.assert_allclose(centred(feedback, board.coefs), centred(feedback, found.x[:-1]), atol=2e-6)
    assert loss(np.append(board.coefs, board.eta or 0.0)) <= found.fun + 1e-12


def test_the_optimum_of_the_reference():
    tensors = load_file(shared("oracle/aggregation.safetensors"))
    keys = sorted(
        key.removesuffix(".exact.coefs") for key in tensors if key.startswith("marginal.") and "exact.c" in key
    )
    assert len(keys) == 10
    for key in keys:
        _, loss, n_models = key.split(".")
        feedback = Feedback.parse(loss)
        winner, loser, tie = tensors[f"marginal.{n_models}.labels_tie012"].T
        names = np.array([f"{i:03d}" for i in range(int(n_models))])
        votes = {"model_a": names[winner], "model_b": names[loser], "winner": WORDS[[0, 2, 3]][tie]}
        board = fit_leaderboard(votes, feedback)
        for kind, atol in (("exact", 5e-7), ("ref", 1e-3)):
            theirs = tensors[f"{key}.{kind}.coefs"].ravel().astype(float)
            np.testing.assert_allclose(
                centred(feedback, board.coefs), centred(feedback, theirs), atol=atol, err_msg=key
            )
            if feedback.has_eta:
                assert board.eta == pytest.approx(tensors[f"{key}.{kind}.eta"].item(), abs=max(atol, 1e-6))


def test_the_real_votes_have_the_marginal_that_their_readme_states():
    train = Votes.read(shared("data/routing9/votes_train.parquet"))
    val = Votes.read(shared("data/routing9/votes_val.parquet"), train.models)
    for feedback, expected in (("bt", 0.4633), ("grk", 1.2016)):
        board = fit_leaderboard(train, feedback)
        eta = None if board.eta is None else np.full(len(val), board.eta)
        log_probs = log_probabilities(board.feedback, board.coefs[val.a], board.coefs[val.b], eta)
        likelihood, counts = vote_log_likelihood(board.feedback, log_probs, val.winner)
        assert -likelihood.sum() / counts.sum() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("feedback", ALL)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(1e-3, 1e3))
def test_what_changes_nothing(feedback, seed, factor):
    """Order of rows and columns' names, the sides of a vote, a factor of all weights, a vote of weight 0; a vote of
    weight 2 is as two for the coefficients."""
    rng = np.random.default_rng(seed)
    votes = simulated(Feedback.GRK, 1_000, rng)
    weight = rng.integers(1, 4, 1_000)
    board = fit_leaderboard({**votes, "weight": weight}, feedback)
    assert np.isfinite(board.intervals).all()

    def same(other: Leaderboard, intervals: bool = True) -> None:
        np.testing.assert_allclose(other.coefs - other.coefs.mean(), board.coefs - board.coefs.mean(), atol=1e-6)
        if intervals:
            np.testing.assert_allclose(other.rating_intervals, board.rating_intervals, atol=1e-2)

    order = rng.permutation(1_000)
    same(fit_leaderboard({**{k: v[order] for k, v in votes.items()}, "weight": weight[order]}, feedback))
    turned = WORDS[[1, 0, 2, 3]][[list(WORDS).index(word) for word in votes["winner"]]]
    sides = {"model_a": votes["model_b"], "model_b": votes["model_a"], "winner": turned, "weight": weight}
    same(fit_leaderboard(sides, feedback))
    same(fit_leaderboard({**votes, "weight": weight * factor}, feedback))
    more = {k: np.append(v, x) for (k, v), x in zip(votes.items(), ("m0", "m1", "model_a"), strict=True)}
    same(fit_leaderboard({**more, "weight": np.append(weight, 0)}, feedback))
    same(fit_leaderboard({k: v.repeat(weight) for k, v in votes.items()}, feedback), intervals=False)
    renamed = {k: v if k == "winner" else np.char.replace(v, "m", "x-") for k, v in votes.items()}
    same(fit_leaderboard({**renamed, "weight": weight}, feedback))


def test_limits_of_the_threshold():
    """No tie: Rao-Kupper is Bradley-Terry. Ties alone: all are equal."""
    votes = table((A, B, "model_a"), (A, B, "model_b"), (B, C, "model_a"), (C, A, "model_a"), (A, C, "model_a"))
    plain = fit_leaderboard(votes, "bt")
    for feedback in ("rk", "rk_reparam"):
        board = fit_leaderboard(votes, feedback)
        np.testing.assert_allclose(board.coefs - board.coefs.mean(), plain.coefs, atol=1e-5)
        np.testing.assert_allclose(board.rating_intervals, plain.rating_intervals, rtol=1e-3)
    _, ties = warning_of(table((A, B, "tie"), (B, C, "tie")), "rk")
    np.testing.assert_allclose(ties.coefs, 0, atol=1e-4)


# --- intervals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feedback", [Feedback.BT, Feedback.RK, Feedback.GRK])
@pytest.mark.parametrize("kind", ["sandwich", "hessian"])
def test_intervals_cover_the_truth_95_times_in_100(feedback, kind, rng):
    runs, true = 250, centred(feedback, THETA)
    covered = []
    for _ in range(runs):
        low, high = fit_leaderboard(simulated(feedback, 600, rng), feedback, intervals=kind).intervals.T
        covered.append((low <= true) & (true <= high))
    # the five coefficients of a run are correlated, so each run counts as a single case
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / runs))


@pytest.mark.parametrize("feedback", [f for f in ALL if f is not Feedback.BT_TIE])
def test_the_three_kinds_agree_where_the_model_is_true(feedback, rng):
    votes = simulated(feedback, 20_000, rng)
    boards = {
        kind: fit_leaderboard(votes, feedback, intervals=kind, replicates=1_000)
        for kind in ("sandwich", "hessian", "bootstrap")
    }
    np.testing.assert_allclose(widths(boards["sandwich"]), widths(boards["hessian"]), rtol=0.05)
    np.testing.assert_allclose(widths(boards["bootstrap"]), widths(boards["sandwich"]), rtol=0.15)


def test_the_sandwich_and_the_bootstrap_know_that_ties_are_less_noisy_than_coins(rng):
    """Half a win each is no law of probability: the Hessian's intervals are too wide."""
    votes = simulated(Feedback.RK, 20_000, rng)
    boards = [fit_leaderboard(votes, "bt_tie", intervals=kind) for kind in ("hessian", "sandwich", "bootstrap")]
    assert (widths(boards[1]) < 0.95 * widths(boards[0])).all()
    np.testing.assert_allclose(widths(boards[2]), widths(boards[1]), rtol=0.3)


def test_weighted_intervals_are_those_of_resampled_rows(rng):
    """Unequal weights: the spread over samples of the rows themselves is what the sandwich and the bootstrap say."""
    votes = {**simulated(Feedback.GRK, 3_000, rng), "weight": rng.exponential(size=3_000)}
    spread = []
    for _ in range(300):
        rows = rng.integers(0, 3_000, 3_000)
        spread.append(fit_leaderboard({k: v[rows] for k, v in votes.items()}, "grk", intervals=None).coefs)
    for kind in ("sandwich", "bootstrap"):
        board = fit_leaderboard(votes, "grk", intervals=kind)
        np.testing.assert_allclose(widths(board) / 3.92, np.std(spread, axis=0), rtol=0.25)


def test_the_bootstrap_is_seeded_and_none_is_none(rng):
    votes = simulated(Feedback.BT, 500, rng)
    one, same, other = (fit_leaderboard(votes, intervals="bootstrap", seed=s).intervals for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert fit_leaderboard(votes, intervals=None).intervals is None


# --- what votes leave open ---------------------------------------------------------------------------------------


def warning_of(votes, feedback="bt", **options) -> tuple[str, Leaderboard]:
    with pytest.warns(P2LWarning) as caught:
        board = fit_leaderboard(votes, feedback, **options)
    assert caught[0].filename == __file__
    assert np.isfinite(board.coefs).all()
    assert np.isfinite(board.intervals).all()
    return str(caught[0].message), board


@pytest.mark.parametrize("kind", ["sandwich", "hessian", "bootstrap"])
def test_groups_that_never_meet_are_named(kind):
    both = [(x, y, w) for x, y in ((A, B), (C, D)) for w in ("model_a", "model_a", "model_b")]
    message, board = warning_of(table(*both, times=50), intervals=kind)
    assert f"2 groups that are never compared, not even through others: [{A}, {B}], [{D}, {C}]" in message
    assert "never lost" not in message
    assert abs(board.win_probability(A, B) - 2 / 3) < 1e-3  # within a group the ridge has hardly any effect
    assert (widths(board) > 10).all()  # between groups nothing is known


def test_llms_that_only_win_or_lose_are_named_best_first():
    votes = [(A, B, "model_a"), (B, C, "model_a"), (B, C, "model_b"), (C, D, "model_a")]
    message, board = warning_of(table(*votes, times=20))
    assert "3 groups whose members never lost (or never won) against the others" in message
    assert f"best first: [{A}], [{B}, {C}], [{D}]" in message
    assert board.ranking[0] == A
    assert board.ranking[-1] == D
    assert abs(board.win_probability(B, C) - 0.5) < 3e-3


def test_a_tie_connects_where_ties_count():
    votes = table((A, B, "model_a"), (A, B, "tie"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_leaderboard(votes, "bt_tie")
        fit_leaderboard(votes, "rk")
    assert f"best first: [{A}], [{B}]" in warning_of(votes, "bt")[0]


@pytest.mark.parametrize("kind", ["sandwich", "hessian", "bootstrap"])
@pytest.mark.parametrize("feedback", ["rk", "rk_reparam"])
def test_ties_alone_leave_the_threshold_open(feedback, kind):
    """Any difference of two LLMs explains six ties, if the threshold is high enough."""
    message, board = warning_of(table((A, B, "tie"), times=6), feedback, intervals=kind, replicates=50)
    assert (
        "LLMs: no vote is decisive, which leaves the threshold of a tie, and the scale of the coefficients" in message
    )
    assert "groups" not in message
    np.testing.assert_allclose(board.coefs, 0, atol=1e-4)
    assert (widths(board) > 10).all()
    decided = table((A, B, "model_a"), (A, B, "model_b"), *[(A, B, "tie")] * 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (widths(fit_leaderboard(decided, feedback, intervals=kind, replicates=50)) < 10).all()


@pytest.mark.parametrize(
    ("feedback", "coef", "limits"),
    [
        ("rk", -0.20256491861, (-0.52169140991, 0.11656157269)),
        ("rk_reparam", 0.45131457952, (0.09193112145, 0.81069803758)),
        ("ba", 0.34269315781, (0.02400598796, 0.66138032768)),
    ],
)
def test_votes_that_determine_everything_need_no_ridge(feedback, coef, limits):
    """To the digits that were there before ties alone were told."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        board = fit_leaderboard(simulated(Feedback(feedback), 300, np.random.default_rng(7)), feedback)
    assert board.coefs[0] == pytest.approx(coef, abs=1e-9)
    assert board.intervals[0] == pytest.approx(limits, abs=1e-9)


def test_the_ground_is_a_contestant():
    """Without a "both bad" nothing holds the coefficients down; with some, groups that never meet are comparable."""
    message, _ = warning_of(table((A, B, "model_a"), (A, B, "model_b")), "grk")
    assert "no vote is 'tie (bothbad)', which leaves the threshold of a usable answer open" in message
    assert "groups" not in message
    message, _ = warning_of(table((A, B, "model_a"), (C, D, "model_a"), (C, D, "model_b")), "grk")
    assert "no vote is 'tie (bothbad)'" in message
    assert "2 groups that are never compared" in message
    votes = [(x, y, w) for x, y in ((A, B), (C, D)) for w in ("model_a", "model_b", "tie", "both_bad")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        board = fit_leaderboard(table(*votes), "grk")
    np.testing.assert_allclose(board.coefs, board.coefs[0], atol=1e-6)


def test_an_llm_of_the_list_that_has_no_vote_is_named():
    rows = [{"prompt": "x", "model_a": A, "model_b": B, "winner": w} for w in ("model_a", "model_b")]
    message, board = warning_of(Votes.from_rows(rows, [A, B, C]))
    assert f"[{A}, {B}], [{C}]" in message
    assert board.models == (A, B, C)


def test_long_lists_are_cut():
    votes = [(f"m{i:02}", f"m{i + 1:02}", "model_a") for i in range(0, 40, 2)]
    message, _ = warning_of(table(*votes))
    assert "and 12 more" in message
    assert len(message) < 1_000


def test_extreme_votes_still_converge():
    for feedback in ALL:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for votes in (
                table((A, B, "model_a")),
                table((A, B, "model_a"), (B, C, "model_a"), times=10_000),
                {**table((A, B, "model_a"), (A, B, "model_b")), "weight": [1e9, 1.0]},
                table((A, B, "model_a"), (C, D, "both_bad"), (C, B, "tie")),
            ):
                assert np.isfinite(fit_leaderboard(votes, feedback).intervals).all()


# --- tables ------------------------------------------------------------------------------------------------------


def test_all_kinds_of_tables_count_alike(tmp_path, rng):
    import pandas
    import pyarrow

    votes = {**simulated(Feedback.GRK, 300, rng), "weight": rng.uniform(size=300)}
    lists = {name: column.tolist() for name, column in votes.items()}
    frame = pandas.DataFrame(lists)
    arrow = pyarrow.table(lists)
    with (tmp_path / "votes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", *votes])
        writer.writerows(zip(["x"] * 300, *lists.values(), strict=True))
    rows = [{"prompt": "x", **dict(zip(lists, row, strict=True))} for row in zip(*lists.values(), strict=True)]
    encoded = {name: arrow[name].dictionary_encode() if name != "weight" else arrow[name] for name in lists}
    kinds = [
        lists,
        {name: np.array(column, dtype=object if name != "weight" else None) for name, column in lists.items()},
        frame,
        frame.astype(dict.fromkeys(("model_a", "model_b", "winner"), object)),
        frame.astype(dict.fromkeys(("model_a", "model_b", "winner"), "category")),
        arrow,
        arrow.slice(0, 300),
        pyarrow.concat_tables([arrow.slice(0, 100), arrow.slice(100)]),
        pyarrow.table(encoded),
        pyarrow.concat_tables([pyarrow.table(encoded).slice(0, 7), pyarrow.table(encoded).slice(7)]),
        tmp_path / "votes.csv",
        str(tmp_path / "votes.csv"),
        Votes.from_rows(rows),
    ]
    expected = VoteCounts.of(votes)
    assert expected.number.sum() == 300
    assert expected.square.sum() == pytest.approx(np.square(votes["weight"]).sum())
    for kind in kinds:
        counts = VoteCounts.of(kind)
        assert counts.models == expected.models
        for name in ("number", "weight", "square"):
            np.testing.assert_allclose(getattr(counts, name), getattr(expected, name), rtol=1e-12)


def test_counts_by_hand():
    counts = VoteCounts.of({**table((B, A, "model_a"), (A, B, "Model_A "), (A, B, "both_bad")), "weight": [2, 3, 0]})
    assert counts.models == (A, B)
    assert counts.number.tolist() == [[1, 1, 0, 0]]
    assert counts.weight.tolist() == [[3, 2, 0, 0]]
    assert counts.square.tolist() == [[9, 4, 0, 0]]


def test_values_of_a_dictionary_that_do_not_occur_are_no_llms():
    import pandas

    column = pandas.Categorical([A, A], categories=[A, B, C])
    votes = {"model_a": pandas.Series(column), "model_b": [B, B], "winner": ["model_a", "model_b"]}
    assert fit_leaderboard(votes).models == (A, B)


def test_ties_do_not_count_in_bradley_terry():
    votes = table((A, B, "model_a"), (A, B, "model_b"), (A, B, "tie"))
    assert fit_leaderboard(votes, "bt").n_votes == 2
    board = fit_leaderboard(votes, "bt_tie")
    assert board.n_votes == 3
    assert "on 3 votes (bt_tie)" in repr(board)
    assert "on 3 votes (bt_tie)" in board._repr_html_()
    assert board.to_dict()["n_votes"] == 3
    assert "n_prompts" not in board.to_dict()


GOOD = table((A, B, "model_a"), (B, A, "model_a"), (A, C, "tie"))


@pytest.mark.parametrize("kind", ["lists", "arrays", "pandas", "categories", "arrow"])
@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("winner", 2, "model_c", "row 3: winner is 'model_c'; legal values: model_a, model_b, tie"),
        ("winner", 1, None, "row 2: winner is missing"),
        ("model_a", 1, None, "row 2: model_a is missing"),
        ("model_b", 0, "", "row 1: model_b is missing; it must be the name of an LLM"),
        ("model_b", 0, A, f"row 1: '{A}' is compared with itself"),
    ],
)
def test_bad_rows_are_named(kind, column, row, value, message):
    import pandas
    import pyarrow

    votes = {name: list(values) for name, values in GOOD.items()}
    votes[column][row] = value
    make = {
        "lists": lambda: votes,
        "arrays": lambda: {name: np.array(values, dtype=object) for name, values in votes.items()},
        "pandas": lambda: pandas.DataFrame(votes),
        "categories": lambda: pandas.DataFrame(votes, dtype="category"),
        "arrow": lambda: pyarrow.table(votes),
    }
    with pytest.raises(VotesError, match=message):
        fit_leaderboard(make[kind]())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": [1, -1, 1]}, "row 2: weight is -1.0; it must be a finite number >= 0"),
        ({"weight": [1, 1, float("nan")]}, "row 3: weight is missing; it must be a finite number >= 0"),
        ({"weight": [float("inf"), 1, 1]}, "row 1: weight is inf"),
        ({"weight": ["x", 1, 1]}, "row 1: weight is 'x'; it must be a finite number >= 0"),
        ({"weight": [0, 0, 0]}, "no vote counts: all weights are 0"),
        ({"weight": [1, 1]}, "columns differ in length: model_a 3, model_b 3, winner 3, weight 2"),
        ({"model_a": [A]}, "columns differ in length: model_a 1, model_b 3, winner 3"),
        ({"model_a": [A, 7, A]}, "row 2: model_a is 7; it must be the name of an LLM"),
        ({"model_a": [A, [B], A]}, rf"row 2: model_a is \['{B}'\]; it must be the name of an LLM"),
        ({"model_a": [], "model_b": [], "winner": []}, "the table holds no votes"),
        ({"winner": ["tie"] * 3}, "all are ties, which say nothing in bt"),
    ],
)
def test_bad_tables_are_refused(change, message):
    with pytest.raises(VotesError, match=message):
        fit_leaderboard({**GOOD, **change})


def test_other_refusals():
    with pytest.raises(VotesError, match=r"row 1 has no column 'winner' \(it has: model_a, model_b\)"):
        fit_leaderboard({name: GOOD[name] for name in ("model_a", "model_b")})
    with pytest.raises(VotesError, match=r"votes and scores are read from .*; not from int"):
        fit_leaderboard(3)
    with pytest.raises(VotesError, match="cannot be read"):
        fit_leaderboard("nothing.csv")
    with pytest.raises(P2LError, match="unknown intervals 'wald'; known: sandwich, hessian, bootstrap, or None"):
        fit_leaderboard(GOOD, intervals="wald")
    with pytest.raises(P2LError, match="at least 2 replicates, got 1"):
        fit_leaderboard(GOOD, intervals="bootstrap", replicates=1)
    with pytest.raises(P2LError, match="unknown feedback model 'elo'"):
        fit_leaderboard(GOOD, "elo")
    by_hand = Votes(["x"], (A, B), *(np.array([x]) for x in (0, 0, 5, Winner.A)), np.ones(1))
    with pytest.raises(VotesError, match="row 1: model_b is no number from 0 to 1"):
        fit_leaderboard(by_hand)
    assert issubclass(ConvergenceError, P2LError)
