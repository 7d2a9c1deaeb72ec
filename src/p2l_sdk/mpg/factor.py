"""The one-factor model of a table of results: the expected accuracy of each cell, and how far cells deviate from it.

For LLM m with k of n questions right on benchmark b:

    k_mb ~ binomial(n_mb, p_mb)
    p_mb ~ beta(c_b u_mb, c_b (1 - u_mb))          concentration c_b: the higher, the smaller the deviations from u
    logit u_mb = d_b + l_b a_m                     easiness d and loading l of the benchmark, ability a of the LLM
    a_m ~ N(0, s), l_b ~ N(1, 0.5), d_b ~ N(0, 2), log c_b ~ N(log 20, 1.5)       N(mean, standard deviation)
    1 / s^2 ~ gamma(shape 1, rate 0.5)

p is integrated out, so k is beta-binomial given the rest. Each a_m, d_b, l_b and c_b takes its own Metropolis steps,
vectorised over LLMs (or benchmarks) and chains; then p_mb is drawn from beta(k + c u, n - k + c (1 - u)). A missing
cell has n = 0: its p follows from the LLM's other results and the other LLMs' results on the benchmark. The prior of a
cell is thus what the rest of the table predicts, as strongly as the table supports it. A fixed prior, such as
Jeffreys', would pull every cell of a good LLM towards 1/2, and bias a mean over many small benchmarks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from p2l_sdk.errors import P2LWarning

_MOST_CHAINS, _LEAST_CHAINS, _NUMBERS = 16, 4, 4096  # _NUMBERS: cells of all chains, within these limits
_BURN, _LEAST_KEPT = 400, 160  # sweeps
_ACCEPT, _STRETCH = 0.4, 1.5
_LOADING, _LOADING_SD, _EASINESS_SD = 1.0, 0.5, 2.0
_CONCENTRATION, _CONCENTRATION_SD = np.log(20.0), 1.5
_PRECISION_SHAPE, _PRECISION_RATE = 1.0, 0.5
_MOST = 12.0  # logits beyond which an accuracy is 0 or 1
_LEAST = 1e-12
_MIXED = 1.3  # potential scale reduction above which the chains have not converged


@dataclass(frozen=True, eq=False)
class FactorDraws:
    """Draws from the posterior.

    Attributes:
        ability: `(n_draws, n_models)` logits.
        easiness, loading, concentration: `(n_draws, n_benchmarks)`.
        scale_reduction: largest potential scale reduction (Gelman and Rubin) over the LLMs' centred abilities; 1 is
            perfect.
    """

    ability: np.ndarray
    easiness: np.ndarray
    loading: np.ndarray
    concentration: np.ndarray
    scale_reduction: float

    @property
    def expected(self) -> np.ndarray:
        """`(n_draws, n_models, n_benchmarks)` accuracy u predicted from the ability alone."""
        return _accuracy(self.easiness, self.loading, self.ability)

    def accuracies(self, right: np.ndarray, total: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`(n_draws, n_models, n_benchmarks)` draws of the true accuracies p, given `(n_models, n_benchmarks)` counts
        of right answers and questions (0 where a cell is missing)."""
        a, b = _shapes(self.expected, self.concentration)
        return rng.beta(np.maximum(a + right, _LEAST), np.maximum(b + (total - right), _LEAST))


def fit_factor(right: np.ndarray, total: np.ndarray, *, draws: int = 4000, seed: int = 0) -> FactorDraws:
    """Draws from the posterior of the one-factor model.

    Args:
        right, total: `(n_models, n_benchmarks)` right answers and questions, >= 0, not necessarily integers; 0 where
            missing.
        draws: number of draws, evenly spaced over 4 to 16 chains.
        seed: seed of the draws.

    Warns:
        P2LWarning: the chains have not converged.
    """
    rng = np.random.default_rng(seed)
    n_models, n_benchmarks = right.shape
    chains = int(np.clip(_NUMBERS // max(right.size, 1), _LEAST_CHAINS, _MOST_CHAINS))
    keep = max(-(-draws // chains), _LEAST_KEPT)
    state = _start(right, total, chains, rng)
    steps = {"a": np.full(n_models, 0.3), **{name: np.full(n_benchmarks, 0.3) for name in "dlc"}}
    kept: dict[str, list[np.ndarray]] = {name: [] for name in "adlc"}
    for sweep in range(_BURN + keep):
        rate = _sweep(state, steps, right, total, rng)
        if sweep < _BURN:
            for name, accepted in rate.items():
                steps[name] *= np.exp((accepted - _ACCEPT) * 4.0 / (4.0 + sweep) ** 0.5)
        else:
            for name in kept:
                kept[name].append(state[name].copy())
    stacked = {name: np.stack(values) for name, values in kept.items()}  # (keep, chains, n)
    reduction = _scale_reduction(stacked["a"] - stacked["a"].mean(2, keepdims=True))
    if reduction > _MIXED:
        warnings.warn(
            f"the one-factor model has not settled (scale reduction {reduction:.2f}, it should be below {_MIXED}); "
            "give more draws",
            P2LWarning,
            stacklevel=2,
        )
    spaced = np.linspace(0, keep * chains - 1, draws).astype(int)
    a, d, loading, c = (stacked[name].reshape(keep * chains, -1)[spaced] for name in "adlc")
    return FactorDraws(a, d, loading, np.exp(c), reduction)


def _start(right: np.ndarray, total: np.ndarray, chains: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Initial states of the chains, scattered around rough estimates."""
    logits = np.where(total > 0, np.log((right + 0.5) / (total - right + 0.5)), np.nan)
    seen = total > 0
    easiness = np.nansum(logits, 0) / np.maximum(seen.sum(0), 1)
    ability = np.nansum(np.where(seen, logits - easiness, 0.0), 1) / np.maximum(seen.sum(1), 1)

    def around(centre: np.ndarray, spread: float) -> np.ndarray:
        return centre + spread * rng.standard_normal((chains, len(centre)))

    return {
        "a": around(ability, 0.3),
        "d": around(easiness, 0.3),
        "l": around(np.full(len(easiness), _LOADING), 0.2),
        "c": around(np.full(len(easiness), _CONCENTRATION), 0.5),
        "precision": np.ones((chains, 1)),
    }


def _sweep(
    state: dict[str, np.ndarray],
    steps: dict[str, np.ndarray],
    right: np.ndarray,
    total: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """One step of every unknown, in place. Returns the shares of chains that accepted the Metropolis steps."""
    log_priors: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "a": lambda x: -0.5 * state["precision"] * x * x,
        "d": lambda x: -0.5 * np.square(x / _EASINESS_SD),
        "l": lambda x: -0.5 * np.square((x - _LOADING) / _LOADING_SD),
        "c": lambda x: -0.5 * np.square((x - _CONCENTRATION) / _CONCENTRATION_SD),
    }
    rates = {}
    now = _log_likelihood(state, right, total)
    for name, log_prior in log_priors.items():
        old = state[name]
        new = old + steps[name] * rng.standard_normal(old.shape)
        then = _log_likelihood({**state, name: new}, right, total)
        gain = (then - now).sum(2 if name == "a" else 1) + log_prior(new) - log_prior(old)
        if name == "c":
            level, old_level = (log_rising_factorial(np.exp(c)[:, None], total) for c in (new, old))
            gain -= (level - old_level).sum(1)
        accepted = np.log(rng.random(old.shape)) < gain
        state[name] = np.where(accepted, new, old)
        now = np.where(accepted[:, :, None] if name == "a" else accepted[:, None, :], then, now)
        rates[name] = accepted.mean(0)
    # shifting all abilities leaves the likelihood unchanged if easiness compensates: the shift can be drawn exactly
    a, d, loading = state["a"], state["d"], state["l"]
    tau = 1.0 / _EASINESS_SD**2
    precision = a.shape[1] * state["precision"] + tau * np.square(loading).sum(1, keepdims=True)
    mean = (tau * (loading * d).sum(1, keepdims=True) - state["precision"] * a.sum(1, keepdims=True)) / precision
    shift = mean + rng.standard_normal(mean.shape) / np.sqrt(precision)
    state["a"], state["d"] = a + shift, d - loading * shift
    # so does scaling all abilities, if the loadings compensate: a Metropolis step
    a, loading = state["a"], state["l"]
    stretch = np.exp(_STRETCH / np.sqrt(a.shape[1] + d.shape[1]) * rng.standard_normal(shift.shape))
    gain = (log_priors["a"](a * stretch) - log_priors["a"](a)).sum(1, keepdims=True)
    gain += (log_priors["l"](loading / stretch) - log_priors["l"](loading)).sum(1, keepdims=True)
    gain += (a.shape[1] - loading.shape[1]) * np.log(stretch)
    stretch = np.where(np.log(rng.random(gain.shape)) < gain, stretch, 1.0)
    state["a"], state["l"] = a * stretch, loading / stretch
    shape = _PRECISION_SHAPE + a.shape[1] / 2
    rate = _PRECISION_RATE + np.square(state["a"]).sum(1, keepdims=True) / 2
    state["precision"] = rng.gamma(shape, 1.0 / rate)
    return rates


def _accuracy(easiness: np.ndarray, loading: np.ndarray, ability: np.ndarray) -> np.ndarray:
    logits = easiness[:, None, :] + loading[:, None, :] * ability[:, :, None]
    return 0.5 + 0.5 * np.tanh(0.5 * np.clip(logits, -_MOST, _MOST))


def _shapes(expected: np.ndarray, concentration: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    c = concentration[:, None, :]
    return c * expected, c * (1.0 - expected)


def _log_likelihood(state: dict[str, np.ndarray], right: np.ndarray, total: np.ndarray) -> np.ndarray:
    """`(n_chains, n_models, n_benchmarks)` beta-binomial, without the terms that depend on the concentration alone."""
    a, b = _shapes(_accuracy(state["d"], state["l"], state["a"]), np.exp(state["c"]))
    return log_rising_factorial(a, right) + log_rising_factorial(b, total - right)


def log_rising_factorial(x: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Difference log gamma(x + n) - log gamma(x), x > 0, n >= 0, to 1e-6: Stirling's series, arguments shifted by 3."""
    z = x + n
    y = z + 3.0
    value = (y - 0.5) * np.log(y) - n + _series(y)
    w = x + 3.0
    value -= (w - 0.5) * np.log(w) + _series(w)
    value -= np.log((z * (z + 1.0) * (z + 2.0)) / (x * (x + 1.0) * (x + 2.0)))
    return value


def _series(y: np.ndarray) -> np.ndarray:
    square = 1.0 / (y * y)
    return (1.0 / 12.0 - square * (1.0 / 360.0 - square / 1260.0)) / y


def _scale_reduction(draws: np.ndarray) -> float:
    """The largest potential scale reduction over the n unknowns, from draws `(n_kept, n_chains, n)`."""
    n = len(draws)
    if n < 2:
        return float("nan")
    within = draws.var(0, ddof=1).mean(0)
    between = draws.mean(0).var(0, ddof=1)
    return float(np.sqrt(((n - 1) / n * within + between) / np.maximum(within, _LEAST)).max())
