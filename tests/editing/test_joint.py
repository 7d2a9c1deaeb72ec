"""The fit of many rows to votes, against a plain optimiser, brute-force leaving out and the averaged leaderboard."""

from __future__ import annotations

import numpy as np
import pytest

from p2l_sdk.editing.joint import JointPrior, JointProblem, JointVotes
from p2l_sdk.modeling.feedback_p2l import Feedback, log_pair_probabilities, vote_targets

N_MODELS, WIDTH, N_PROMPTS = 4, 3, 12


def example(feedback, rng, threshold=0.0, n_votes=60):
    features = np.hstack([rng.normal(size=(N_PROMPTS, WIDTH - 1)), np.ones((N_PROMPTS, 1))])
    prompt = np.append(np.arange(N_PROMPTS), rng.integers(0, N_PROMPTS, n_votes - N_PROMPTS))
    a = rng.integers(0, N_MODELS, n_votes)
    b = (a + rng.integers(1, N_MODELS, n_votes)) % N_MODELS
    winner = rng.integers(0, 4, n_votes)
    winner[:2] = 0
    targets = vote_targets(feedback)[winner] * rng.uniform(0.5, 1.5, (n_votes, 1))
    log_s = np.zeros(N_PROMPTS) if threshold else rng.normal(size=N_PROMPTS) * 0.3
    return features, prompt, a, b, targets, log_s, threshold


def prior_of(feedback, rng):
    scale = np.stack([np.diag(rng.uniform(0.2, 0.8, WIDTH)) + 0.05 for _ in range(N_MODELS)])
    common = None if feedback.floating else np.full(WIDTH, 0.7)
    return JointPrior(rng.normal(size=(N_PROMPTS, N_MODELS)) * 0.5, scale, common)


def penalised(feedback, data, prior):
    """The loss times the prior as a plain function of y, vote by vote as they were given."""
    features, prompt, a, b, targets, log_s, threshold = data
    n = N_MODELS + (prior.common is not None)

    def function(y):
        rows = y[: n * WIDTH].reshape(n, WIDTH)
        own = np.einsum("ikl,il->ik", prior.scale, rows[:N_MODELS])
        shift = 0.0 if prior.common is None else prior.common * rows[-1]
        theta = prior.offset + features @ (own + shift).T
        s = log_s + (threshold * y[-1] if threshold else 0.0)
        law = log_pair_probabilities(feedback, theta[prompt, a], theta[prompt, b], s[prompt])
        return -(targets * law).sum() + 0.5 * y @ y

    return function, n * WIDTH + (threshold > 0)


@pytest.mark.parametrize("feedback", list(Feedback))
@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_the_optimum_is_that_of_a_plain_optimiser(feedback, threshold, rng):
    optimize = pytest.importorskip("scipy.optimize")
    threshold = threshold if feedback.has_eta else 0.0
    data, prior = example(feedback, rng, threshold), prior_of(feedback, rng)
    function, size = penalised(feedback, data, prior)
    best = optimize.minimize(function, np.zeros(size), method="BFGS", options={"gtol": 1e-7}).x
    features, prompt, a, b, targets, log_s, _ = data
    votes = JointVotes.of(feedback, N_MODELS, features, prompt, a, b, targets, log_s, threshold)
    assert votes.total == pytest.approx(targets.sum())
    fit = JointProblem(votes).fit(prior)
    rows = best[: N_MODELS * WIDTH].reshape(N_MODELS, WIDTH)
    np.testing.assert_allclose(fit.rows, np.einsum("ikl,il->ik", prior.scale, rows), atol=2e-3)
    if prior.common is not None:
        np.testing.assert_allclose(fit.common, prior.common * best[N_MODELS * WIDTH :][:WIDTH], atol=2e-3)
    assert fit.threshold == pytest.approx(threshold * best[-1], abs=2e-3)
    assert fit.loss.sum() == pytest.approx(-0.5 * best @ best + function(best), abs=2e-3)


@pytest.mark.parametrize("feedback", [Feedback.BT, Feedback.RK, Feedback.GRK])
def test_leaving_out_a_prompt_is_nearly_a_fit_without_it(feedback, rng):
    data, prior = example(feedback, rng, 1.5 if feedback.has_eta else 0.0, n_votes=200), prior_of(feedback, rng)
    features, prompt, a, b, targets, log_s, threshold = data
    votes = JointVotes.of(feedback, N_MODELS, features, prompt, a, b, targets, log_s, threshold)
    problem = JointProblem(votes)
    fit = problem.fit(prior)
    by_prompt = np.bincount(votes.prompt, fit.held_out, N_PROMPTS)
    seen = np.bincount(votes.prompt, fit.loss, N_PROMPTS)
    for left in range(N_PROMPTS):
        keep = prompt != left
        without = targets * keep[:, None]
        part = JointVotes.of(feedback, N_MODELS, features, prompt, a, b, without, log_s, threshold)
        other = JointProblem(part).fit(prior)
        theta = prior.offset + features @ (other.rows + other.common).T
        law = log_pair_probabilities(feedback, theta[prompt, a], theta[prompt, b], (log_s + other.threshold)[prompt])
        true = -(targets * law)[~keep].sum()
        assert abs(by_prompt[left] - true) < 0.25 * abs(true - seen[left]) + 0.05  # far nearer than the fit with it


def test_a_wide_level_alone_is_the_averaged_leaderboard(rng):
    from p2l_sdk import fit_leaderboard

    a = rng.integers(0, N_MODELS, 300)
    b = (a + rng.integers(1, N_MODELS, 300)) % N_MODELS
    winner = (rng.random(300) < 0.5).astype(int)
    names = np.array(["m0", "m1", "m2", "m3"])
    board = fit_leaderboard(
        {"model_a": names[a], "model_b": names[b], "winner": np.array(["model_a", "model_b"])[winner]}
    )
    votes = JointVotes.of(
        Feedback.BT, N_MODELS, np.ones((300, 1)), np.arange(300), a, b, vote_targets(Feedback.BT)[winner], np.zeros(300)
    )
    fit = JointProblem(votes).fit(JointPrior(np.zeros((300, N_MODELS)), np.full((N_MODELS, 1, 1), 30.0), None))
    np.testing.assert_allclose(fit.rows[:, 0] - fit.rows.mean(), board.coefs, atol=1e-3)


def test_the_covariance_is_the_inverse_of_the_curvature(rng):
    data, prior = example(Feedback.BT, rng), prior_of(Feedback.BT, rng)
    features, prompt, a, b, targets, log_s, _ = data
    votes = JointVotes.of(Feedback.BT, N_MODELS, features, prompt, a, b, targets, log_s)
    fit = JointProblem(votes).fit(prior)
    design = np.zeros((len(prompt), N_MODELS, WIDTH))
    design[np.arange(len(prompt)), a] += features[prompt]
    design[np.arange(len(prompt)), b] -= features[prompt]
    theta = prior.offset + features @ fit.rows.T
    p = 1 / (1 + np.exp(theta[prompt, b] - theta[prompt, a]))
    design = design.reshape(len(prompt), -1)
    precision = design.T @ (design * (targets.sum(1) * p * (1 - p))[:, None])
    inverse = np.linalg.inv(np.einsum("ikl,iml->ikm", prior.scale, prior.scale))
    for i in range(N_MODELS):
        precision[i * WIDTH : (i + 1) * WIDTH, i * WIDTH : (i + 1) * WIDTH] += inverse[i]
    flat = fit.covariance.transpose(0, 2, 1, 3).reshape(N_MODELS * WIDTH, -1)
    np.testing.assert_allclose(flat, np.linalg.inv(precision), atol=1e-6)
