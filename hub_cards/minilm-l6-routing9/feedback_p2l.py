r"""Feedback models: how coefficients become the probabilities of a vote's outcomes.

Source: Prompt-to-Leaderboard (arXiv 2502.14855), section 2 and appendix; Rao & Kupper (1967) for ties.

With a = exp(theta_a), b = exp(theta_b) and the tie threshold t = 1 + s, s > 0, the probability of every outcome is,
in every feedback model, a ratio of polynomials in a, b, s *with positive coefficients only* (table `_LAWS`). Its
logarithm is therefore a difference of log-sum-exps: no cancellation, no overflow, no negative tie probability. Both
the probabilities (numpy or torch, depending on the arguments) and the exact derivatives for Newton's method are
computed from this table, with the methods of `polynomial_p2l`.

`log_threshold` maps the raw output eta of the network to log s = log(t - 1); `ba` divides a and b by exp(gamma), the
strength of its ground. For `rk`, t = exp(e) with e = max(softplus_0.1(eta - 22.5), 0.02).

This file needs only numpy, and torch only for torch arguments.
"""

from __future__ import annotations

import functools
import importlib
import operator
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np

from .errors_p2l import ModelFormatError
from .limits_p2l import shown
from .polynomial_p2l import Array, Polynomial, horner


class Winner(IntEnum):
    """The outcome of a vote, as the integer codes used in label arrays."""

    A = 0
    B = 1
    TIE = 2
    BOTH_BAD = 3


class Feedback(StrEnum):
    """The pairwise feedback models."""

    BT = "bt"
    BT_TIE = "bt_tie"
    RK = "rk"
    RK_REPARAM = "rk_reparam"
    GRK = "grk"
    BA = "ba"

    @classmethod
    def parse(cls, name: str) -> Feedback:
        """The feedback model of this name; legacy names of lmarena/p2l are accepted (`bag` is `grk`).

        Raises:
            ModelFormatError: the name is unknown; the message lists the legal ones.
        """
        key = str(name).lower().replace("-", "_")
        try:
            return cls("grk" if key == "bag" else key)
        except ValueError:
            raise ModelFormatError(f"unknown feedback model {shown(name)}; known: {', '.join(cls)}") from None

    @property
    def outcomes(self) -> tuple[Winner, ...]:
        """The outcomes that have a probability, in the order used by every outcome axis."""
        return tuple(_LAWS[self])

    @property
    def has_eta(self) -> bool:
        """Whether the model has a tie threshold."""
        return Winner.TIE in _LAWS[self]

    @property
    def has_gamma(self) -> bool:
        """Whether the strength of the ground is a separate coefficient."""
        return self is Feedback.BA

    @property
    def grounded(self) -> bool:
        """Whether a coefficient of 0 has a meaning: the threshold of a usable answer."""
        return self is Feedback.GRK

    @property
    def floating(self) -> bool:
        """Whether adding a constant to all coefficients leaves every probability unchanged."""
        return self in (Feedback.BT, Feedback.BT_TIE, Feedback.RK)


class Pointwise(StrEnum):
    """Feedback on a single answer (Prompt-to-Regression; paper, section 2.2)."""

    BERNOULLI = "bernoulli"  # right or wrong, thumbs up or down
    GAUSSIAN = "gaussian"  # a score


# --- the laws ---------------------------------------------------------------------------------------------------


_ONE, _TWO = Polynomial({(0, 0, 0): 1.0}), Polynomial({(0, 0, 0): 2.0})
_a, _b, _s = Polynomial({(1, 0, 0): 1.0}), Polynomial({(0, 1, 0): 1.0}), Polynomial({(0, 0, 1): 1.0})
_t = _ONE + _s
_t2_1 = _s * (_TWO + _s)  # t^2 - 1

_EITHER = _a + _b
_PLAIN_A, _PLAIN_B = _a + _t * _b, _t * _a + _b  # Rao-Kupper's denominators
_GROUND_A, _GROUND_B = _PLAIN_A + _ONE, _PLAIN_B + _ONE  # with the ground as a third contestant
_ANYONE = _EITHER + _ONE

_BRADLEY_TERRY = {Winner.A: (_a, [_EITHER]), Winner.B: (_b, [_EITHER])}
_GROUNDED = {
    Winner.A: (_a, [_GROUND_A]),
    Winner.B: (_b, [_GROUND_B]),
    Winner.TIE: (_s * _a * _b * (_TWO + (_t + _ONE) * (_a + _b)), [_GROUND_A, _GROUND_B, _ANYONE]),
    Winner.BOTH_BAD: (_ONE, [_ANYONE]),
}
# feedback model -> outcome -> (numerator, factors of the denominator); each model's probabilities sum to 1
_LAWS: dict[Feedback, dict[Winner, tuple[Polynomial, list[Polynomial]]]] = {
    Feedback.BT: _BRADLEY_TERRY,
    Feedback.BT_TIE: _BRADLEY_TERRY,
    Feedback.RK: {
        Winner.A: (_a, [_PLAIN_A]),
        Winner.B: (_b, [_PLAIN_B]),
        Winner.TIE: (_t2_1 * _a * _b, [_PLAIN_A, _PLAIN_B]),
    },
    Feedback.RK_REPARAM: {
        Winner.A: (_a, [_GROUND_A]),
        Winner.B: (_b, [_GROUND_B]),
        Winner.TIE: (_t2_1 * _a * _b + _t * (_a + _b) + _ONE, [_GROUND_A, _GROUND_B]),
    },
    Feedback.GRK: _GROUNDED,
    Feedback.BA: _GROUNDED,
}

_S_FLOOR = {Feedback.RK_REPARAM: 1e-6, Feedback.GRK: 1e-6, Feedback.BA: 0.02}  # t = exp(eta) + 1 + floor
_RK_SHIFT, _RK_BETA, _RK_FLOOR = 22.5, 0.1, 0.02


def vote_targets(feedback: Feedback) -> np.ndarray:
    """The target distribution of each kind of vote: `(4 winners, n_outcomes)` weights of the log-probabilities.

    In `bt_tie` a tie counts as half a win for each LLM, in `bt` it is ignored (a row of zeros). "Both bad" counts as a
    tie in feedback models without that outcome.
    """
    table = np.zeros((len(Winner), len(feedback.outcomes)))
    for winner in Winner:
        if winner in feedback.outcomes:
            table[winner, feedback.outcomes.index(winner)] = 1.0
        elif Winner.TIE in feedback.outcomes:
            table[winner, feedback.outcomes.index(Winner.TIE)] = 1.0
        elif feedback is Feedback.BT_TIE:
            table[winner] = 0.5
    return table


# --- probabilities ----------------------------------------------------------------------------------------------


def namespace(array: Array) -> Any:
    """The module whose functions accept this array: numpy, or torch for tensors."""
    return importlib.import_module("torch") if type(array).__module__.startswith("torch") else np


def log_threshold(feedback: Feedback, eta: Array) -> Array:
    """log(t - 1) from the raw eta head, any shape; zeros if the feedback model has no ties."""
    xp = namespace(eta)
    if feedback is Feedback.RK:
        soft = xp.logaddexp(xp.zeros_like(eta), _RK_BETA * (eta - _RK_SHIFT)) / _RK_BETA
        e = xp.where(soft > _RK_FLOOR, soft, xp.zeros_like(soft) + _RK_FLOOR)
        return e + xp.log(-xp.expm1(-e))  # log(exp(e) - 1)
    if feedback in _S_FLOOR:
        return xp.logaddexp(eta, xp.zeros_like(eta) + float(np.log(_S_FLOOR[feedback])))
    return xp.zeros_like(eta)


def eta_of_threshold(feedback: Feedback, log_s: Array) -> Array:
    """The raw eta of a threshold: the inverse of `log_threshold`, whose floor maps to a very small eta."""
    log_s = np.asarray(log_s, dtype=np.float64)
    if feedback is Feedback.RK:
        e = np.maximum(np.logaddexp(0.0, log_s), _RK_FLOOR)
        return _RK_SHIFT + e + np.log(-np.expm1(-_RK_BETA * e)) / _RK_BETA
    floor = np.log(_S_FLOOR[feedback])
    above = np.maximum(log_s - floor, 1e-12)
    return log_s + np.log(-np.expm1(-above))


def log_probabilities(
    feedback: Feedback, theta_a: Array, theta_b: Array, eta: Array | None = None, gamma: Array | None = None
) -> Array:
    """Log-probabilities of the outcomes of a comparison of LLM a with LLM b.

    Args:
        theta_a, theta_b: coefficients in logits, of any shapes that broadcast.
        eta, gamma: raw head outputs, broadcast likewise; required if `feedback.has_eta` / `has_gamma`.

    Returns:
        `(..., n_outcomes)` in the order of `feedback.outcomes`, of the type and dtype of theta_a. The probabilities
        sum to 1.

    Raises:
        ModelFormatError: eta or gamma is missing.
    """
    _require(feedback, eta, gamma)
    xp = namespace(theta_a)
    if gamma is not None and feedback.has_gamma:
        theta_a, theta_b = theta_a - gamma, theta_b - gamma
    u = log_threshold(feedback, eta) if feedback.has_eta else xp.zeros_like(theta_a)
    return log_pair_probabilities(feedback, theta_a, theta_b, u)


def log_pair_probabilities(feedback: Feedback, theta_a: Array, theta_b: Array, log_s: Array) -> Array:
    """`log_probabilities`, given log s = log(t - 1) instead of eta and, for `ba`, theta - gamma instead of theta."""
    xp = namespace(theta_a)
    cache: dict[int, Array] = {}  # outcomes share denominators

    def log_of(p: Polynomial) -> Array:
        if id(p) not in cache:
            cache[id(p)] = p.log_value(xp, theta_a, theta_b, log_s)
        return cache[id(p)]

    return xp.stack([log_of(up) - sum(log_of(d) for d in down) for up, down in _LAWS[feedback].values()], -1)


class PlainLaw:
    """The probabilities of all pairs without logarithms: many times faster, and as accurate because nothing is
    subtracted, but usable only if nothing overflows (see `plain_enough`).

    Terms that depend on one LLM of the pair are computed once, those that depend on both by Horner's rule in the odds
    of the other LLM.

    Args:
        feedback: the feedback model.
        theta, log_s: `(n_models, n_prompts)` and `(n_prompts,)`, as in `log_pair_probabilities`.
    """

    def __init__(self, feedback: Feedback, theta: np.ndarray, log_s: np.ndarray) -> None:
        self._laws, self._odds, s = _LAWS[feedback], np.exp(theta), np.exp(log_s)
        polynomials = [p for up, down in self._laws.values() for p in (up, *down)]
        self._coefficients = {id(p): p.in_powers_of_b(self._odds, s) for p in polynomials}

    def row(self, i: int, first: int, last: int | None = None, left_out: int | None = None) -> list[np.ndarray]:
        """Probabilities of LLM i against the LLMs from `first` to before `last`, by default to the end:
        `(last - first, n_prompts)` per outcome, except for the outcome at the place `left_out`."""
        b = self._odds[first:last]
        cache: dict[int, np.ndarray] = {}  # outcomes share denominators

        def value_of(p: Polynomial) -> np.ndarray:
            if id(p) not in cache:
                powers = {j: c[i] if np.ndim(c) == 2 else c for j, c in self._coefficients[id(p)].items()}
                cache[id(p)] = horner(powers, b)
            return cache[id(p)]

        laws = [law for place, law in enumerate(self._laws.values()) if place != left_out]
        return [value_of(up) / functools.reduce(operator.mul, map(value_of, down)) for up, down in laws]


def plain_enough(theta: np.ndarray, log_s: np.ndarray) -> np.ndarray:
    """Whether `PlainLaw` can be used for each prompt: theta `(n, n_models)`, log_s `(n,)` -> `(n,)` booleans.

    Every product in the laws has degree at most 3 in (a, b) and 2 in s, with coefficients that sum to less than e^5.
    At the usual thresholds, float64 can therefore represent it for |theta| up to 180, and float32 up to 25.
    """
    return 3.0 * np.abs(theta).max(-1) + 2.0 * np.abs(log_s) < np.log(np.finfo(theta.dtype).max) - 5.0


def log_probability_table(
    feedback: Feedback, coefs: Array, eta: Array | None = None, gamma: Array | None = None
) -> Array:
    """Log-probabilities of every ordered pair: coefs `(n_prompts, n_models)`, eta and gamma `(n_prompts, 1)` ->
    `(n_prompts, n_models, n_models, n_outcomes)`, entry [p, a, b]."""
    eta = None if eta is None else eta[..., None]
    gamma = None if gamma is None else gamma[..., None]
    return log_probabilities(feedback, coefs[..., :, None], coefs[..., None, :], eta, gamma)


def vote_log_likelihood(feedback: Feedback, log_probs: Array, winners: Array) -> tuple[Array, Array]:
    """Log-likelihood of each vote, and whether the vote counts.

    Args:
        log_probs: `(n_votes, n_outcomes)` from `log_probabilities`.
        winners: `(n_votes,)` integer `Winner` codes.

    Returns:
        `(n_votes,)` log-likelihoods, and `(n_votes,)` 1 or 0: 0 for votes that this feedback model ignores (ties
        under `bt`), whose log-likelihood is 0.
    """
    xp = namespace(log_probs)
    table = vote_targets(feedback)
    targets = (table if xp is np else xp.as_tensor(table, dtype=log_probs.dtype, device=log_probs.device))[winners]
    return (targets * log_probs).sum(-1), targets.sum(-1)


def pointwise_log_likelihood(kind: Pointwise, theta: Array, value: Array, log_scale: Array | None = None) -> Array:
    """Log-likelihood of feedback on single answers; arguments of any shapes that broadcast.

    Args:
        kind: `bernoulli`: the answer is right with probability sigmoid(theta), and `value` is in [0, 1] (between 0
            and 1 for a soft label); `gaussian`: `value` is a score with mean theta and standard deviation
            exp(log_scale).
        theta: coefficients of the LLMs that answered.
        value: the feedback.
        log_scale: for `gaussian`; 0 if not given.
    """
    xp = namespace(theta)
    if kind == Pointwise.BERNOULLI:
        return value * theta - xp.logaddexp(theta, xp.zeros_like(theta))
    log_scale = xp.zeros_like(theta) if log_scale is None else log_scale
    return -0.5 * ((value - theta) * xp.exp(-log_scale)) ** 2 - log_scale - 0.5 * float(np.log(2.0 * np.pi))


def _require(feedback: Feedback, eta: Array | None, gamma: Array | None) -> None:
    if feedback.has_eta and eta is None:
        raise ModelFormatError(f"feedback model {feedback} needs eta (the tie threshold), none was given")
    if feedback.has_gamma and gamma is None:
        raise ModelFormatError(f"feedback model {feedback} needs gamma (the ground), none was given")


# --- derivatives, for Newton's method -----------------------------------------------------------------------------


def factors(feedback: Feedback) -> list[tuple[Polynomial, np.ndarray]]:
    """The polynomials of which the outcomes' probabilities are products and quotients.

    Returns:
        Each with its `(n_outcomes,)` power in the probability of each outcome.
    """
    found: dict[int, tuple[Polynomial, np.ndarray]] = {}
    for place, (up, down) in enumerate(_LAWS[feedback].values()):
        for polynomial, power in ((up, 1.0), *((d, -1.0) for d in down)):
            known = found.setdefault(id(polynomial), (polynomial, np.zeros(len(_LAWS[feedback]))))
            known[1][place] += power
    return list(found.values())


def log_probability_derivatives(
    feedback: Feedback, theta_a: np.ndarray, theta_b: np.ndarray, log_s: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact values, gradients and Hessians of the log-probabilities with respect to (theta_a, theta_b, log s).

    Args:
        feedback: the feedback model.
        theta_a, theta_b, log_s: `(n,)` float64; log s = log(t - 1), see `log_threshold`; for `ba`, theta - gamma.

    Returns:
        `(n, n_outcomes)`, `(n, n_outcomes, 3)`, `(n, n_outcomes, 3, 3)`.
    """
    point = np.stack(np.broadcast_arrays(theta_a, theta_b, log_s), -1).astype(np.float64)

    cache = {id(p): p.log_derivatives(point) for up, down in _LAWS[feedback].values() for p in (up, *down)}
    rows = [
        [cache[id(up)][order] - sum(cache[id(d)][order] for d in down) for order in range(3)]
        for up, down in _LAWS[feedback].values()
    ]
    value, gradient, hessian = (np.stack([row[order] for row in rows], 1) for order in range(3))
    return value, gradient, hessian


def cross_entropy_derivatives(
    feedback: Feedback, theta_a: np.ndarray, theta_b: np.ndarray, log_s: float, target: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """The cross-entropy -sum(target * log-probability) of many pairs, and its derivatives of each pair.

    Args:
        feedback: the feedback model.
        theta_a, theta_b, log_s: `(n,)`, `(n,)` and one number, as in `log_probability_derivatives`.
        target: `(n, n_outcomes)` weights of the outcomes.

    Returns:
        The sum over the pairs, `(3, n)` gradients and `(6, n)` entries `PAIRS` of the Hessians, with respect to
        (theta_a, theta_b, log s).
    """
    point = np.stack([theta_a, theta_b, np.full(len(theta_a), log_s)])
    value, gradient, hessian = 0.0, np.zeros((3, len(theta_a))), np.zeros((6, len(theta_a)))
    for polynomial, powers in factors(feedback):
        weight = -(target @ powers)
        logarithm, slope, curvature = polynomial.log_moments(point)
        value += float(weight @ logarithm)
        gradient += weight * slope
        if len(polynomial.terms) > 1:
            hessian += weight * curvature
    return value, gradient, hessian


def log_probability_slopes(feedback: Feedback, theta_a: np.ndarray, theta_b: np.ndarray, log_s: float) -> np.ndarray:
    """The gradients of `log_probability_derivatives` for many pairs with one tie threshold, fast: `(n_outcomes, 3, n)`
    with respect to (theta_a, theta_b, log s); arguments as in `cross_entropy_derivatives`."""
    point = np.stack([theta_a, theta_b, np.full(len(theta_a), log_s)])
    slopes = {id(p): p.log_moments(point)[1] for up, down in _LAWS[feedback].values() for p in (up, *down)}
    return np.stack([slopes[id(up)] - sum(slopes[id(d)] for d in down) for up, down in _LAWS[feedback].values()])
