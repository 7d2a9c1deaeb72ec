"""Fits one new row of a model's last layer to votes; the features and all other rows stay as they are.

With f the features of a prompt, the new LLM's coefficient is row . (f, 1). The row has a normal prior:

    row = mean + c @ span + l * level + u @ deviation,      c, l, u independent and standard normal

    mean        the mean of the known LLMs' rows
    span        the known rows minus their mean, over sqrt(n - 1): the new LLM may differ from the mean as they do
    level       the same shift on all prompts, with a standard deviation of one logit or, if larger, that of the known
                LLMs' levels. If the level is known from elsewhere (a leaderboard), mean is moved to it, and span
                contains no differences in level
    deviation   anything else the features can express, with a standard deviation of s logits over the votes' prompts

The fit maximises the likelihood of the votes under the model's own feedback model times this prior, by Newton's method
with exact derivatives. The log-likelihood is concave except for ties in rk_reparam, grk and ba, where the curvature of
the loss is cut off at 0. s is the value that predicts each prompt's votes best from those on all other prompts
(leave-one-prompt-out, since votes on one prompt are not independent; to second order from a single fit), with a
log-normal prior of median half a logit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from p2l_sdk.errors import ConvergenceError
from p2l_sdk.modeling.feedback_p2l import Feedback, log_probability_derivatives

DEVIATIONS = (0.125, 0.25, 0.5, 1.0, 2.0)  # s, logits
_LIKELY, _DOUBT = 0.5, 0.5  # median of s, and standard deviation of log s, before the votes
_LEAST_LEVEL = 1.0  # logits
_MAX_STEPS, _TOLERANCE, _MOST_LEVERAGE = 100, 1e-10, 0.95


@dataclass(frozen=True, eq=False)
class RowPrior:
    """The prior of a row, linear in the standard normal unknowns y = (c, l, u).

    Attributes:
        mean: `(width + 1,)` row, the bias last.
        span: `(n, width + 1)` rows; n = 0 leaves the span out.
        level: standard deviation of the level, in logits.
        centre: `(width,)` mean features of the votes' prompts.
        scale: factor from u to the weights of the row.
    """

    mean: np.ndarray
    span: np.ndarray
    level: float
    centre: np.ndarray
    scale: float

    @classmethod
    def of(
        cls,
        rows: np.ndarray,
        features: np.ndarray,
        deviation: float,
        similar: bool,
        expected: tuple[float, float] | None = None,
    ) -> RowPrior:
        """Build the prior; if all prompts have the same features, the deviation cannot be scaled and is left out.

        Args:
            rows: `(n_models, width + 1)` rows of the known LLMs, the bias last.
            features: `(n_prompts, width)` features of the votes' prompts.
            deviation: s, in logits.
            similar: whether to include the span.
            expected: the level and its standard deviation, in logits, if known from elsewhere.
        """
        rows, mean, centre = rows.astype(np.float64), rows.mean(0, dtype=np.float64), features.mean(0)
        span = (rows - mean) / np.sqrt(max(len(rows) - 1, 1))
        levels = rows[:, :-1] @ centre + rows[:, -1]
        root_mean_square = np.sqrt(np.square(features - centre).sum(1).mean())
        scale = deviation / root_mean_square if root_mean_square > 0 else 0.0
        level = max(_LEAST_LEVEL, float(levels.std()))
        if expected is not None:
            mean = mean + np.append(np.zeros(len(centre)), expected[0] - levels.mean())
            span = span - np.append(np.zeros(len(centre)), 1.0) * (span[:, :-1] @ centre + span[:, -1])[:, None]
            level = expected[1]
        return cls(mean, span if similar else span[:0], level, centre, scale)

    def offset(self, features: np.ndarray) -> np.ndarray:
        """`(n_prompts,)` coefficients given by the mean row."""
        return features @ self.mean[:-1] + self.mean[-1]

    def design(self, features: np.ndarray) -> np.ndarray:
        """`(n_prompts, n_unknowns)`: the coefficient is `offset + design @ y`."""
        span = features @ self.span[:, :-1].T + self.span[:, -1]
        level = np.full((len(features), 1), self.level)
        return np.hstack([span, level, self.scale * (features - self.centre)])

    def row(self, y: np.ndarray) -> np.ndarray:
        """`(width + 1,)` row for these unknowns, the bias last."""
        n = len(self.span)
        weight = self.scale * y[n + 1 :]
        return self.mean + y[:n] @ self.span + np.append(weight, self.level * y[n] - weight @ self.centre)


@dataclass(frozen=True, eq=False)
class RowVotes:
    """Votes on the new LLM, which is on side a in all of them.

    Attributes:
        feedback: the feedback model.
        prompt: `(n_votes,)` index of the prompt; every prompt has at least one vote.
        shift: `(n_prompts,)` subtracted from the coefficients (gamma of `ba`).
        opponent: `(n_votes,)` coefficient of b, minus that shift.
        log_s: `(n_votes,)` log(t - 1) for the prompt.
        targets: `(n_votes, n_outcomes)` weights of the outcomes' log-probabilities.
    """

    feedback: Feedback
    prompt: np.ndarray
    shift: np.ndarray
    opponent: np.ndarray
    log_s: np.ndarray
    targets: np.ndarray

    def loss(self, theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Negative log-likelihood of coefficients `(n_prompts,)`, with its first and second derivatives in each;
        negative second derivatives are set to 0."""
        n = len(self.shift)
        level = (theta - self.shift)[self.prompt]
        values, gradients, hessians = log_probability_derivatives(self.feedback, level, self.opponent, self.log_s)
        slope = -np.bincount(self.prompt, (self.targets * gradients[:, :, 0]).sum(1), n)
        curvature = -np.bincount(self.prompt, (self.targets * hessians[:, :, 0, 0]).sum(1), n)
        return -float((self.targets * values).sum()), slope, np.maximum(curvature, 0.0)


@dataclass(frozen=True, eq=False)
class RowFit:
    """A fitted row and its uncertainty.

    Attributes:
        prior: the prior, with this deviation.
        deviation: s, in logits.
        y: `(n_unknowns,)` the optimum.
        axes: `(n_axes, n_unknowns)` orthonormal directions about which the votes are informative.
        variances: `(n_axes,)` variances of y along these axes; in all other directions it is 1, as in the prior.
        held_out_loss: mean negative log-likelihood of a vote, predicted from the votes on other prompts, in nats.
    """

    prior: RowPrior
    deviation: float
    y: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    held_out_loss: float

    @property
    def row(self) -> np.ndarray:
        """`(width + 1,)` new row, the bias last."""
        return self.prior.row(self.y)

    @property
    def covariance(self) -> np.ndarray:
        """`(width + 1, width + 1)` covariance of the row."""
        unknowns = np.eye(len(self.y)) - (self.axes.T * (1.0 - self.variances)) @ self.axes
        root = np.array([self.prior.row(unit) - self.prior.mean for unit in np.eye(len(self.y))])
        return root.T @ unknowns @ root

    def standard_errors(self, features: np.ndarray) -> np.ndarray:
        """`(n_prompts,)` standard errors, in logits, of the new LLM's coefficient on prompts with these features."""
        design = self.prior.design(features)
        known = np.square(design @ self.axes.T) @ (1.0 - self.variances)
        return np.sqrt(np.maximum(np.square(design).sum(1) - known, 0.0))


def fit_row(
    rows: np.ndarray,
    features: np.ndarray,
    votes: RowVotes,
    *,
    similar: bool = True,
    expected: tuple[float, float] | None = None,
) -> RowFit:
    """The row that fits the votes best given the prior, with the deviation chosen by the votes.

    Args:
        rows: `(n_models, width + 1)` rows of the known LLMs, the bias last.
        features: `(n_prompts, width)` features of the votes' prompts.
        votes: votes on the new LLM.
        similar: whether the prior lets the new LLM differ from the mean as the known LLMs do.
        expected: the mean coefficient over the votes' prompts that is expected of the new LLM, and its standard
            deviation, both in logits; None if nothing is known.

    Raises:
        ConvergenceError: Newton's method did not reach the optimum.
    """
    features = features.astype(np.float64)
    fits = list(_fits(rows, features, votes, similar, expected))
    total = votes.targets.sum()
    doubt = [0.5 * (np.log(fit.deviation / _LIKELY) / _DOUBT) ** 2 for fit in fits]
    return fits[int(np.argmin([fit.held_out_loss * total + d for fit, d in zip(fits, doubt, strict=True)]))]


def _fits(
    rows: np.ndarray, features: np.ndarray, votes: RowVotes, similar: bool, expected: tuple[float, float] | None
) -> Iterator[RowFit]:
    for deviation in DEVIATIONS:
        prior = RowPrior.of(rows, features, deviation, similar, expected)
        yield _fit(prior, deviation, features, votes)


def _fit(prior: RowPrior, deviation: float, features: np.ndarray, votes: RowVotes) -> RowFit:
    design, offset = prior.design(features), prior.offset(features)
    basis = None
    if len(design) < design.shape[1]:  # fewer prompts than unknowns: solve in the span of the prompts
        basis, triangle = np.linalg.qr(design.T)
        design = triangle.T
    z = _optimum(design, offset, votes)
    theta = offset + design @ z
    _, slope, curvature = votes.loss(theta)
    # along the eigenvectors of the votes' curvature k, the penalised curvature is 1 + k
    k, vectors = np.linalg.eigh(design.T @ (design * curvature[:, None]))
    k = np.maximum(k, 0.0)
    spread = np.square(design @ vectors) @ (1.0 / (1.0 + k))  # variance of theta on each prompt
    leverage = np.minimum(spread * curvature, _MOST_LEVERAGE)
    left_out = theta + spread * slope / (1.0 - leverage)  # one Newton step without the prompt's own votes
    # how much more votes on one prompt agree than independent votes would, estimated from the prompts' slopes
    dispersion = max(1.0, float((np.square(slope) / (1.0 - leverage)).sum() / max(curvature.sum(), 1e-12)))
    return RowFit(
        prior=prior,
        deviation=deviation,
        y=z if basis is None else basis @ z,
        axes=vectors.T if basis is None else (basis @ vectors).T,
        variances=np.minimum((1.0 + dispersion * k) / np.square(1.0 + k), 1.0),
        held_out_loss=votes.loss(left_out)[0] / float(votes.targets.sum()),
    )


def _optimum(design: np.ndarray, offset: np.ndarray, votes: RowVotes) -> np.ndarray:
    """Newton's method from the prior's mean; a step that does not lower the penalised loss is halved."""
    z = np.zeros(design.shape[1])
    value, slope, curvature = votes.loss(offset)
    for _ in range(_MAX_STEPS):
        gradient = design.T @ slope + z
        step = np.linalg.solve(design.T @ (design * curvature[:, None]) + np.eye(len(z)), gradient)
        decrement = float(gradient @ step)
        if decrement < _TOLERANCE:
            return z
        length, before = 1.0, value + 0.5 * float(z @ z)
        while True:
            trial = z - length * step
            value, slope, curvature = votes.loss(offset + design @ trial)
            # near the optimum, values differ only by rounding
            if value + 0.5 * float(trial @ trial) <= before - 1e-4 * length * decrement + 1e-12 * (1.0 + abs(before)):
                break
            length /= 2.0
            if length < 1e-8:
                raise ConvergenceError(_FAILED)
        z = trial
    raise ConvergenceError(_FAILED)


_FAILED = "the fit of the new LLM did not converge; are the model's coefficients extreme? report this"
