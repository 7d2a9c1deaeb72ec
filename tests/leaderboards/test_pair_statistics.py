"""The result of the pass over the prompts: exact sums by the fast path, a sample for the bootstrap, and files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from test_aggregation import ALL, names, objective, sample, solve
from thorough import thorough

from p2l_sdk.errors import P2LError
from p2l_sdk.leaderboards.aggregate import PairStatistics
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.leaderboards.likelihood import PairLikelihood
from p2l_sdk.leaderboards.pairs import natural_parameters
from p2l_sdk.leaderboards.sums import pair_sums
from p2l_sdk.modeling.feedback_p2l import Feedback, PlainLaw, log_probabilities, log_threshold, plain_enough

logit = st.floats(-80, 80)


@pytest.mark.parametrize("feedback", ALL)
@settings(max_examples=300, deadline=None)
@given(a=logit, b=logit, eta=st.floats(-40, 80), gamma=logit)
def test_plain_quotients_are_the_law(feedback, a, b, eta, gamma):
    """To 1e-10 of each probability, however small: ties of 1e-200 too."""
    arrays = [np.array([x]) for x in (a, b, eta, gamma)]
    expected = log_probabilities(feedback, *arrays)[0]
    theta = np.array([[a, b]]) - (gamma if feedback.has_gamma else 0.0)
    log_s = log_threshold(feedback, arrays[2])
    assert plain_enough(theta, log_s).all()
    got = np.stack(PlainLaw(feedback, theta.T, log_s).row(0, 1))[:, 0, 0]
    np.testing.assert_allclose(got, np.exp(expected), rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize("feedback", ALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_up_to_its_limit_nothing_overflows(feedback, dtype):
    for theta, log_s in [(theta, log_s) for theta in np.arange(0, 240, 2.5) for log_s in (-14.0, 0.0, 40.0, 90.0)]:
        pair, u = np.array([[theta, -theta]], dtype=dtype), np.array([log_s], dtype=dtype)
        if plain_enough(pair, u):
            for i in range(2):
                with np.errstate(over="raise", invalid="raise", divide="raise"):
                    p = PlainLaw(feedback, pair.T, u).row(i, 0)
                np.testing.assert_allclose(sum(p), 1, rtol=1e-5 if dtype is np.float32 else 1e-12)
                assert p[0].dtype == dtype
    assert not plain_enough(np.array([[240.0]]), np.zeros(1)).any()


@pytest.mark.parametrize("feedback", ALL)
def test_sums_are_those_of_the_log_probabilities(feedback, rng):
    """Plain and extreme prompts in one batch; chunks do not matter."""
    batch = sample(feedback, rng, n=50, m=6)
    batch.coefs[::5] *= 100
    weights = rng.random(50)
    a, b = np.triu_indices(6, 1)
    expected = 0
    for i in range(50):
        eta, gamma = (None if x is None else np.full(len(a), x[i, 0]) for x in (batch.eta, batch.gamma))
        expected += weights[i] * np.exp(log_probabilities(feedback, batch.coefs[i, a], batch.coefs[i, b], eta, gamma))
    theta, log_s = natural_parameters(feedback, batch, 6)
    assert 0 < plain_enough(theta, log_s).sum() < 50
    np.testing.assert_allclose(pair_sums(feedback, theta, log_s, weights), expected.T, rtol=1e-10)
    many = np.tile(np.arange(50), 1000)
    sums = pair_sums(feedback, theta[many], log_s[many], weights[many])
    np.testing.assert_allclose(sums, 1000 * expected.T, rtol=1e-10)


# --- intervals ----------------------------------------------------------------------------------------------------


def widths(board) -> np.ndarray:
    """The standard errors that the intervals imply."""
    return (board.intervals[:, 1] - board.intervals[:, 0]) / 3.92


@pytest.mark.long
@pytest.mark.parametrize(
    ("feedback", "weighted"), [*thorough(*((feedback, False) for feedback in ALL)), (Feedback.GRK, True)]
)
def test_intervals_are_those_of_the_plain_bootstrap(feedback, weighted, rng):
    """One linear step on a sample's gradients against resampling all the prompts and solving from scratch."""
    batch = sample(feedback, rng, n=80)
    weights = rng.exponential(1.0, 80) if weighted else np.ones(80)
    board = solve(feedback, batch, weights, replicates=3000)
    draws = [rng.integers(0, 80, 80) for _ in range(200)]
    coefs = np.array([solve(feedback, batch[rows], weights[rows]).coefs for rows in draws])
    if not feedback.grounded:
        coefs -= coefs.mean(1, keepdims=True)
    np.testing.assert_allclose(widths(board), coefs.std(0), rtol=0.2)
    assert (board.intervals[:, 0] < board.coefs).all()
    assert (board.coefs < board.intervals[:, 1]).all()


@pytest.mark.long
@pytest.mark.parametrize(("feedback", "weighted"), [(Feedback.BT, False), (Feedback.GRK, True)])
def test_a_sample_gives_the_intervals_of_all_prompts(feedback, weighted, rng):
    batch = sample(feedback, rng, n=20_000)
    batch = batch[np.argsort(batch.coefs[:, 0])]  # a sorted stream, so that a sample of its beginning would be wrong
    weights = rng.exponential(1.0, len(batch)) if weighted else None
    boards = {}
    for size in (2000, 20_000):
        statistics = PairStatistics(feedback, 5, sample=size)
        statistics.add(batch, weights)
        boards[size] = statistics.solve(names(5), replicates=2000)
    np.testing.assert_array_equal(boards[2000].coefs, boards[20_000].coefs)
    np.testing.assert_allclose(widths(boards[2000]), widths(boards[20_000]), rtol=0.12)


@pytest.mark.long
def test_intervals_hold_the_truth_as_often_as_they_say(rng):
    """Prompts from a known population: 95 % intervals of 150 data sets cover its aggregate in 95 % of the cases."""
    population = sample(Feedback.GRK, rng, n=20_000)
    truth = solve(Feedback.GRK, population).coefs
    hits = []
    for _ in range(150):
        board = solve(Feedback.GRK, population[rng.integers(0, 20_000, 150)], replicates=300)
        hits.append((board.intervals[:, 0] < truth) & (truth < board.intervals[:, 1]))
    assert 0.91 < np.mean(hits) < 0.98


def test_the_sample_is_uniform_and_does_not_depend_on_batches_or_the_order_of_merging(rng):
    batch = sample(Feedback.GRK, rng, n=3000)
    batch.coefs[:, 0] = np.arange(3000) / 1000  # identifies the prompts that are kept

    def worker(seed: int, rows: slice, size: int) -> PairStatistics:
        statistics = PairStatistics(Feedback.GRK, 5, sample=300, seed=seed)
        part = batch[rows]
        for start in range(0, len(part), size):
            statistics.add(part[start : start + size])
        return statistics

    one, same = worker(1, slice(0, 2000), 2000), worker(1, slice(0, 2000), 7)
    np.testing.assert_array_equal(one._kept, same._kept)
    two = worker(2, slice(2000, 3000), 500)
    one.merge(two)
    two.merge(same)
    np.testing.assert_array_equal(one._kept, two._kept)
    kept = one._kept[:, 3]
    assert len(set(kept)) == 300
    assert 70 < (kept >= 2).sum() < 130  # 100 expected, standard deviation 8
    np.testing.assert_allclose(one.solve(names(5)).intervals, two.solve(names(5)).intervals, rtol=1e-9)


def test_without_a_sample_or_replicates_or_weight_there_are_no_intervals(rng):
    batch = sample(Feedback.BT, rng)
    none = PairStatistics(Feedback.BT, 5, sample=0)
    none.add(batch)
    assert none.solve(names(5)).intervals is None
    assert solve(Feedback.BT, batch).intervals is None
    statistics = PairStatistics(Feedback.BT, 5, sample=3)
    statistics.add(batch, np.eye(40)[7])
    board = statistics.solve(names(5))
    assert board.intervals is None or np.isfinite(board.intervals).all()
    assert solve(Feedback.BT, batch, np.eye(40)[7], replicates=50).intervals == pytest.approx(0, abs=20)


@pytest.mark.parametrize("feedback", ALL)
def test_convergence_is_told_by_the_answer(feedback, rng):
    batch = sample(feedback, rng)
    statistics = PairStatistics(feedback, 5)
    statistics.add(batch)
    board = statistics.solve(names(5))
    told = statistics.convergence(board)
    assert told.largest_gradient < 1e-8
    assert told.objective == pytest.approx(objective(feedback, batch, board.coefs, board.eta, board.gamma), rel=1e-9)
    shift = np.eye(5)[2] * 1e-2
    up, down = (statistics.convergence(replace(board, coefs=board.coefs + sign * shift)) for sign in (1, -1))
    assert min(up.objective, down.objective) > told.objective
    assert up.largest_gradient > 10 * told.largest_gradient
    log_s = log_threshold(feedback, np.float64(board.eta)) if feedback.has_eta else 0.0
    x, mean = np.append(board.coefs, log_s), statistics._mean()
    problem = PairLikelihood(feedback, 5)
    for i in range(6 if feedback.has_eta else 5):  # derivatives against finite differences
        step = np.eye(6)[i] * 1e-4
        low, here, high = (problem.slope(mean.T, x + 0.1 + sign * step) for sign in (-1, 0, 1))
        assert (high[0] - low[0]) / 2e-4 == pytest.approx(here[1][i], abs=1e-8)
        np.testing.assert_allclose((high[1] - low[1]) / 2e-4, problem.hessian(mean.T, x + 0.1)[i], atol=1e-8)


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feedback", ALL)
def test_saved_and_loaded_is_never_interrupted(feedback, rng, tmp_path):
    batch = sample(feedback, rng, n=90)
    whole, first = (PairStatistics(feedback, 5, sample=50, seed=3) for _ in range(2))
    whole.add(batch)
    first.add(batch[:40])
    first.save(tmp_path / "part")
    loaded = PairStatistics.load(str(tmp_path / "part"))
    assert loaded.n_prompts == 40
    loaded.add(batch[40:])
    np.testing.assert_array_equal(loaded._kept, whole._kept)
    for name, array in whole._arrays.items():
        np.testing.assert_allclose(loaded._arrays[name], array, rtol=1e-12, atol=1e-12)
    ours, theirs = loaded.solve(names(5)), whole.solve(names(5))
    np.testing.assert_allclose(ours.coefs, theirs.coefs, atol=1e-5)
    np.testing.assert_allclose(ours.intervals, theirs.intervals, atol=1e-5)
    with pytest.raises(P2LError, match="seed 3: these were merged before"):
        loaded.merge(PairStatistics.load(tmp_path / "part"))
    other = PairStatistics(feedback, 5, sample=50, seed=4)
    other.merge(loaded)
    other.save(tmp_path / "part")  # replaces the old one
    assert PairStatistics.load(tmp_path / "part").n_prompts == 90
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_an_empty_one_can_be_saved(tmp_path):
    PairStatistics(Feedback.BT, 3).save(tmp_path / "empty")
    assert PairStatistics.load(tmp_path / "empty").n_prompts == 0


def test_damaged_and_foreign_files_are_refused(rng, tmp_path):
    path = tmp_path / "part"
    statistics = PairStatistics(Feedback.GRK, 5)
    statistics.add(sample(Feedback.GRK, rng))
    statistics.save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"no safetensors", whole[:-1], whole[:100], whole.replace(b'\\"grk\\"', b'\\"elo\\"')):
        path.write_bytes(damaged)
        with pytest.raises(P2LError, match=r"part' (is damaged|cannot be read as saved PairStatistics)"):
            PairStatistics.load(path)
    for field in (b"n_prompts", b"n_models", b"seeds"):
        path.write_bytes(whole.replace(field, field[::-1]))
        with pytest.raises(P2LError, match=r"part' is damaged: .*; aggregate these prompts again"):
            PairStatistics.load(path)
    path.write_bytes(whole.replace(b'n_models\\": 5', b'n_models\\": 6'))
    with pytest.raises(P2LError, match="its arrays do not fit together"):
        PairStatistics.load(path)
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(P2LError, match="part' holds no saved PairStatistics"):
        PairStatistics.load(path)
    with pytest.raises(P2LError, match="there is no file"):
        PairStatistics.load(tmp_path / "nothing")
    with pytest.raises(P2LError, match="cannot be read"):
        PairStatistics.load(tmp_path)
    with pytest.raises(P2LError, match="cannot be written"):
        statistics.save(tmp_path / "no" / "folder" / "part")


def test_a_write_that_fails_leaves_the_old_file(rng, tmp_path, monkeypatch):
    path = tmp_path / "part"
    statistics = PairStatistics(Feedback.GRK, 5)
    statistics.save(path)
    statistics.add(sample(Feedback.GRK, rng))

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(P2LError, match="cannot be written: no space left"):
        statistics.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["part"]
    assert PairStatistics.load(path).n_prompts == 0


def test_one_large_prompt_set_needs_no_memory_of_its_own(rng):
    """The state is the same after ten prompts and after ten thousand."""
    statistics = PairStatistics(Feedback.BT, 4, sample=10)
    sizes = set()
    for n in (10, 10_000):
        statistics.add(Coefficients(rng.normal(0, 1, (n, 4)), None, None))
        sizes.add(sum(array.nbytes for array in (*statistics._arrays.values(), statistics._kept)))
    assert len(sizes) == 1
