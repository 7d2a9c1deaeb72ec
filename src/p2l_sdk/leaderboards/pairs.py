"""The pair outcomes of many prompts, reduced as they are computed: their gradients and bootstrap.

Nothing of size prompts x pairs is ever held in memory. The probabilities are computed for one LLM against all others
and a few hundred prompts at a time, which fits in the processor's cache: as quotients of plain numbers or, for prompts
with extreme coefficients, in log space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from p2l_sdk.errors import P2LError
from p2l_sdk.leaderboards.all_pairs import AllPairs, fits, tiles
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.leaderboards.pair_matrix import positive
from p2l_sdk.modeling.feedback_p2l import (
    Feedback,
    PlainLaw,
    Winner,
    log_pair_probabilities,
    log_probability_slopes,
    log_threshold,
    plain_enough,
)

_CHUNK_PROMPTS = 256  # at least: long rows, few calls
_OPPONENTS = 400  # of each LLM, at least, by which the intervals are measured if there are twice as many or more
_BLOCK_VALUES = 16_384  # probabilities of an outcome that are computed together

Row = Callable[..., list[np.ndarray]]


def natural_parameters(feedback: Feedback, batch: Coefficients, n_models: int) -> tuple[np.ndarray, np.ndarray]:
    """Theta `(n, n_models)`, minus gamma, and log(t - 1) `(n,)` in float64: the arguments of the feedback models.

    Raises:
        P2LError: shapes disagree, eta or gamma is missing, or a number is not finite.
    """
    n = len(batch.coefs)
    theta = np.asarray(batch.coefs, dtype=np.float64)
    if theta.shape != (n, n_models):
        raise P2LError(f"coefs have shape {theta.shape}, expected (n_prompts, {n_models})")
    log_s = np.zeros(n)
    if feedback.has_gamma:
        theta = theta - _column(feedback, "gamma", batch.gamma, n)
    if feedback.has_eta:
        log_s = log_threshold(feedback, _column(feedback, "eta", batch.eta, n)[:, 0])
    if not (np.isfinite(theta).all() and np.isfinite(log_s).all()):
        raise P2LError("coefficients hold NaN or infinite values; the model that made them is damaged")
    return theta, log_s


def _column(feedback: Feedback, name: str, values: np.ndarray | None, n: int) -> np.ndarray:
    if values is None:
        raise P2LError(f"feedback model {feedback} needs {name}, none was given")
    if np.shape(values) != (n, 1):
        raise P2LError(f"{name} has shape {np.shape(values)}, expected (n_prompts, 1) = ({n}, 1)")
    return np.asarray(values, dtype=np.float64)


def _chunks(feedback: Feedback, theta: np.ndarray, log_s: np.ndarray) -> Iterator[tuple[np.ndarray, Row]]:
    """Yield chunks of prompts: their indices `(n,)`, and a function row(i, first, last, left_out), that of `PlainLaw`:
    for each outcome, the probabilities `(last - first, n)` of LLM i against the LLMs `first` to `last` - 1."""
    plain = plain_enough(theta, log_s)
    size = max(_CHUNK_PROMPTS, _BLOCK_VALUES // theta.shape[1])
    for by_logarithm, places in ((False, np.flatnonzero(plain)), (True, np.flatnonzero(~plain))):
        for start in range(0, len(places), size):
            chunk = places[start : start + size]
            x, u = np.ascontiguousarray(theta[chunk].T), log_s[chunk]  # prompts last: the long, contiguous axis
            yield chunk, _logarithmic(feedback, x, u) if by_logarithm else PlainLaw(feedback, x, u).row


def _blocks(first: int, n_models: int, n_prompts: int) -> Iterator[tuple[int, int]]:
    """The LLMs from `first` on in blocks, whose arrays stay in the processor's cache."""
    size = max(1, _BLOCK_VALUES // n_prompts)
    for start in range(first, n_models, size):
        yield start, min(start + size, n_models)


def _logarithmic(feedback: Feedback, theta: np.ndarray, log_s: np.ndarray) -> Row:
    def row(i: int, first: int, last: int, left_out: int | None = None) -> list[np.ndarray]:
        log_probs = log_pair_probabilities(feedback, *np.broadcast_arrays(theta[i], theta[first:last], log_s))
        kept = [place for place in range(log_probs.shape[-1]) if place != left_out]
        return list(np.exp(np.moveaxis(log_probs[..., kept], -1, 0)))

    return row


def pair_scores(feedback: Feedback, x: np.ndarray, rows: slice, n_opponents: int) -> np.ndarray:
    """Derivatives of the log-probabilities of pairs at x = (theta, log(t - 1)), `(n_models + 1,)`.

    Returns:
        `(n_rows, n_outcomes, 2, n_opponents)` float32; entry [i, outcome, :, j] is the derivative of the
        log-probability of an outcome of i, an LLM of the rows, against j, one of the first LLMs, in theta_i and
        log(t - 1); 0 of an LLM against itself.
    """
    if fits(x):
        scores = AllPairs(feedback, x).slopes(rows, n_opponents).transpose(2, 0, 1, 3).astype(np.float32)
    else:
        theta, others = x[rows], x[:n_opponents]
        a, b = (side.ravel() for side in np.broadcast_arrays(theta[:, None], others))
        slopes = log_probability_slopes(feedback, a, b, x[-1])[:, [0, 2]].astype(np.float32)
        scores = slopes.reshape(-1, 2, len(theta), n_opponents).transpose(2, 0, 1, 3)
    own = np.arange(rows.start, min(rows.stop, n_opponents))
    scores[own - rows.start, :, :, own] = 0.0
    return scores


def bootstrap(
    feedback: Feedback,
    optimum: np.ndarray,
    steps: np.ndarray,
    weights: np.ndarray,
    replicates: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Bootstrap replicates of an aggregate over prompts, each one Newton step from the optimum.

    The step is linear in the prompts: a replicate is the optimum minus the inverse Hessian times the resampled mean of
    the prompts' gradients. So only `n_models + 1` numbers per prompt are resampled, not its pairs.

    Replicates of n prompts stay between the extremes of these prompts, but the truth need not: with three prompts, it
    lies outside in one case out of four. As in Student's t for a mean, every step is therefore multiplied by
    sqrt(n / x), with x drawn from chi-squared with n - 1 degrees of freedom; n is the effective number of prompts,
    sum(w)^2 / sum(w^2), and at least 2. With 1000 prompts, this widens the intervals by 0.2 %.

    Args:
        feedback: the feedback model.
        optimum: `(n_models + 1,)` theta and log(t - 1).
        steps: `(n, n_models)` from `newton_steps` of the `n` prompts to resample, times sqrt(n / N) if they are a
            sample of N.
        weights: `(n,)` weights of these prompts.
        replicates: number of replicates.
        random: draws x, and how often each prompt occurs in a replicate, Poisson(1).

    Returns:
        `(replicates, n_models)` coefficients; replicates without any weight are left out.
    """
    n, n_models = steps.shape
    if not feedback.grounded:  # the shift is arbitrary: leave its scatter out
        steps = steps - steps.mean(1, keepdims=True)
    parts = []
    for start in range(0, replicates, 100):  # all draws at once would be the largest array
        drawn = random.poisson(1.0, (min(100, replicates - start), n)) * weights
        totals = drawn.sum(1)
        parts.append((drawn @ steps)[totals > 0] / totals[totals > 0, None])
    resampled = np.concatenate(parts)
    effective = round(effective_number(weights), 6)  # the same for all scales: draws depend on every digit
    wider = np.sqrt(effective / random.chisquare(effective - 1.0, (len(resampled), 1)))  # one for all LLMs
    return optimum[:n_models] + wider * resampled


def effective_number(weights: np.ndarray) -> float:
    """The effective number of prompts of these weights, sum(w)^2 / sum(w^2); at least 2."""
    share = weights / weights.sum()
    return max(2.0, 1.0 / float(share @ share))


def newton_steps(
    feedback: Feedback,
    optimum: np.ndarray,
    hessian: np.ndarray,
    prompts: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """How each prompt pulls at the aggregate: with weights w of the prompts, it moves by their mean step, to first
    order.

    Args:
        feedback, optimum: as in `bootstrap`.
        hessian: `(n_models + 1, n_models + 1)` second derivatives of the mean cross-entropy over pairs at the optimum.
        prompts: theta, log_s and weights of `n` prompts.

    Returns:
        `(n, n_models)` in logits, the weighted mean being 0.
    """
    theta, log_s, weights = prompts
    # float32 is accurate enough for interval widths, and twice as fast
    gradients = _gradients(feedback, theta.astype(np.float32), log_s.astype(np.float32), optimum)
    gradients -= weights @ gradients / weights.sum()
    return -_solved(feedback, hessian, gradients)[:, : theta.shape[1]]


def _gradients(feedback: Feedback, theta: np.ndarray, log_s: np.ndarray, optimum: np.ndarray) -> np.ndarray:
    """`(n, n_models + 1)` gradient of each prompt's mean cross-entropy over pairs."""
    n, n_models = theta.shape
    order, n_opponents = _opponents_first(optimum[:-1])
    theta, optimum = theta[:, order], np.append(optimum[order], optimum[-1])
    among = np.arange(n_models) < n_opponents
    each = (n_models - 1) / (n_opponents - among).astype(np.float32)  # pairs that one of them stands for
    # the probabilities sum to 1, so that of ties, which takes longest, need not be known
    tie = feedback.outcomes.index(Winner.TIE) if feedback.has_eta else len(feedback.outcomes) - 1
    chunks, own = list(_chunks(feedback, theta, log_s)), np.zeros((n_models + 1, n))
    for rows in tiles(n_models, n_opponents):
        scores = pair_scores(feedback, optimum, rows, n_opponents) * each[rows, None, None, None]
        constant = scores[:, tie].sum(-1)
        own[rows] -= constant[:, :1]
        own[-1] -= constant[:, 1].sum() / 2  # every pair is visited twice
        scores = np.delete(scores, tie, 1) - scores[:, [tie]]
        for places, row in chunks:
            for i, score in enumerate(scores, rows.start):
                for first, last in _blocks(0, n_opponents, len(places)):
                    for outcome, p in enumerate(row(i, first, last, tie)):
                        by_theta, by_log_s = score[outcome, :, first:last] @ p
                        own[i, places] -= by_theta
                        own[-1, places] -= by_log_s / 2
    gradients = np.empty((n, n_models + 1))
    gradients[:, order], gradients[:, -1] = own[:-1].T, own[-1]
    return gradients / (n_models * (n_models - 1) / 2)


def _opponents_first(strengths: np.ndarray) -> tuple[np.ndarray, int]:
    """An order of the LLMs that begins with those that stand for all as opponents, and the number of these.

    Of many, every k-th by strength: their mean over hundreds differs from that over all by far less than the sample of
    prompts does from all prompts.
    """
    by_strength = np.argsort(strengths, kind="stable")
    step = max(1, len(strengths) // _OPPONENTS)
    if step == 1:
        return np.arange(len(strengths)), len(strengths)
    first = by_strength[step // 2 :: step]
    return np.concatenate([first, np.setdiff1d(by_strength, first)]), len(first)


def _solved(feedback: Feedback, hessian: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """The `(n, n_models + 1)` gradients times the inverse of the Hessian."""
    matrix, n = hessian.copy(), len(hessian) - 1
    if not feedback.has_eta:  # without a threshold, this row and column are zeros
        matrix[n, n] = 1.0
    if feedback.floating:  # a shift has no curvature: give it some, the step along it is still 0
        matrix[:n, :n] += matrix[:n, :n].trace() / n**2
    if positive(matrix):
        return np.asarray(np.linalg.solve(matrix, gradients.T).T)
    return np.asarray(gradients @ np.linalg.pinv(matrix, hermitian=True))  # extreme coefs may leave no curvature
