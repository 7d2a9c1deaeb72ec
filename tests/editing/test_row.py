"""The fit of a new row of the last layer, against its definitions."""

from __future__ import annotations

import numpy as np
import pytest

from p2l_sdk.editing.row import RowPrior, RowVotes, _fit, fit_row
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, vote_targets

pytestmark = pytest.mark.filterwarnings("ignore::p2l_sdk.errors.P2LWarning")  # tiny tests have few votes


def problem(feedback: Feedback, n_prompts: int = 12, width: int = 4, seed: int = 0, weight: float = 1.0):
    """Rows of three LLMs, features, and random votes on a fourth."""
    rng = np.random.default_rng(seed)
    rows, features = 0.5 * rng.normal(size=(3, width + 1)), rng.normal(size=(n_prompts, width))
    prompt = np.concatenate([np.arange(n_prompts), rng.integers(0, n_prompts, 2 * n_prompts)])
    winner = rng.integers(0, 4, len(prompt))
    winner[0] = Winner.A  # at least one vote counts in every feedback model
    votes = RowVotes(
        feedback=feedback,
        prompt=prompt,
        shift=rng.normal(size=n_prompts) if feedback.has_gamma else np.zeros(n_prompts),
        opponent=rng.normal(size=len(prompt)),
        log_s=rng.normal(size=n_prompts)[prompt],
        targets=weight * vote_targets(feedback)[winner],
    )
    return rows, features, votes


@pytest.mark.parametrize("feedback", list(Feedback))
def test_derivatives_are_those_of_the_loss(feedback):
    _, features, votes = problem(feedback)
    theta, h = features @ np.ones(4), 1e-5
    _, slope, curvature = votes.loss(theta)
    for i, unit in enumerate(np.eye(len(theta)) * h):
        (up, slope_up, _), (down, slope_down, _) = votes.loss(theta + unit), votes.loss(theta - unit)
        assert slope[i] == pytest.approx((up - down) / (2 * h), abs=1e-7)
        # with a ground, the curvature of ties can be negative; the fit then uses 0
        assert curvature[i] == pytest.approx(max((slope_up[i] - slope_down[i]) / (2 * h), 0.0), abs=1e-6)


@pytest.mark.parametrize("feedback", list(Feedback))
@pytest.mark.parametrize("n_prompts", [3, 40])  # fewer and more prompts than unknowns
def test_the_row_is_the_optimum_of_likelihood_and_prior(feedback, n_prompts):
    rows, features, votes = problem(feedback, n_prompts)
    fit = fit_row(rows, features, votes)
    mean = rows.mean(0)
    # the row's prior as one normal distribution
    centred, centre = np.hstack([features, np.ones((n_prompts, 1))]), features.mean(0)
    unit = fit.deviation / np.sqrt(np.square(features - centre).sum(1).mean())
    deviation = unit * np.hstack([np.eye(4), -centre[:, None]])
    level = np.zeros(5)
    level[-1] = max(1.0, (rows @ np.append(centre, 1)).std())
    covariance = (rows - mean).T @ (rows - mean) / 2 + np.outer(level, level) + deviation.T @ deviation
    precision = np.linalg.inv(covariance)

    def objective(row):
        return votes.loss(centred @ row)[0] + 0.5 * (row - mean) @ precision @ (row - mean)

    best = objective(fit.row)
    for direction in np.random.default_rng(0).normal(size=(50, 5)):
        for step in (1e-3, 0.1):
            assert objective(fit.row + step * direction) > best
    # with independent votes the covariance is the inverse of the objective's curvature (Laplace)
    curvature = centred.T @ (centred * votes.loss(centred @ fit.row)[2][:, None]) + precision
    laplace = np.linalg.inv(curvature)
    values = np.linalg.eigvalsh(fit.covariance - laplace)
    assert values.min() > -1e-9  # overdispersion can only increase it
    assert np.linalg.eigvalsh(covariance - fit.covariance).min() > -1e-9  # but never beyond the prior
    errors = np.sqrt(np.einsum("pi,ij,pj->p", centred, fit.covariance, centred))
    np.testing.assert_allclose(fit.standard_errors(features), errors, atol=1e-9)


def test_the_held_out_loss_is_that_of_fits_without_the_prompt():
    rows, features, votes = problem(Feedback.GRK, 30)
    prior = RowPrior.of(rows, features, 0.5, similar=True)
    fit, total = _fit(prior, 0.5, features, votes), 0.0
    for i in range(30):
        targets = votes.targets * (votes.prompt != i)[:, None]
        rest = RowVotes(votes.feedback, votes.prompt, votes.shift, votes.opponent, votes.log_s, targets)
        theta = prior.offset(features) + prior.design(features) @ _fit(prior, 0.5, features, rest).y
        only = RowVotes(votes.feedback, votes.prompt, votes.shift, votes.opponent, votes.log_s, votes.targets - targets)
        total += only.loss(theta)[0]
    assert fit.held_out_loss == pytest.approx(total / votes.targets.sum(), rel=0.01)
    assert fit.held_out_loss > votes.loss(features @ fit.row[:-1] + fit.row[-1])[0] / votes.targets.sum()


@pytest.mark.parametrize("similar", [True, False])
def test_votes_of_no_weight_leave_the_prior(similar):
    rows, features, votes = problem(Feedback.GRK, weight=1e-9)
    fit = fit_row(rows, features, votes, similar=similar)
    np.testing.assert_allclose(fit.row, rows.mean(0), atol=1e-6)
    assert fit.deviation == 0.5
    level = max(1.0, (rows[:, :-1] @ features.mean(0) + rows[:, -1]).std())
    theta = features @ rows[:, :-1].T + rows[:, -1]
    variance = level**2 + 0.25 * np.square(features - features.mean(0)).sum(1) / (
        np.square(features - features.mean(0)).sum(1).mean()
    )
    if similar:
        variance += theta.var(1, ddof=1)
    np.testing.assert_allclose(fit.standard_errors(features), np.sqrt(variance), rtol=1e-6)


def test_votes_that_repeat_themselves_do_not_count_as_independent():
    rows, features, votes = problem(Feedback.BT, 60)
    keep = np.arange(60)  # one vote on each prompt
    single = RowVotes(
        votes.feedback, votes.prompt[keep], votes.shift, votes.opponent[keep], votes.log_s[keep],
        vote_targets(Feedback.BT)[np.random.default_rng(0).integers(0, 2, 60)],
    )  # fmt: skip
    eight = RowVotes(
        votes.feedback, np.tile(single.prompt, 8), votes.shift, np.tile(single.opponent, 8),
        np.tile(single.log_s, 8), np.tile(single.targets, (8, 1)),
    )  # fmt: skip
    prior = RowPrior.of(rows, features, 0.25, similar=True)
    once, again = (_fit(prior, 0.25, features, v).standard_errors(features).mean() for v in (single, eight))
    assert again > 0.8 * once  # with independent votes it would be about half


def test_one_prompt_moves_level_and_span_only():
    rows, _, votes = problem(Feedback.BT, 1)
    features = np.ones((1, 4))
    fit = fit_row(rows, features, votes)
    assert fit.prior.scale == 0.0
    assert np.isfinite(fit.row).all()
