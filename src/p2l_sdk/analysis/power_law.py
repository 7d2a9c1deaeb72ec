"""A power law with a floor through mean losses, loss(n) = floor + scale * n^-exponent, and what it leaves open.

The means of the sizes are fitted by generalised least squares. Losses of one size differ between seeds because the
prompts differ, and because training is random; their variance is taken to be a power of n, so that a size's few seeds
need not tell it alone. Draws from one pool of N prompts share prompts, the more the larger they are: two of sizes n and
m have the correlation sqrt(n m) / N, and differ by less than draws from two pools, which is corrected; above half of
the pool, where little is left of the difference, the variance is that of the smaller sizes' trend.

For a given exponent b the law is linear in the loss at the middle size n0 and in how fast it falls there:

    loss(n) = middle - fall * (1 - (n / n0)^-b) / b        for b -> 0: middle - fall * log(n / n0)

so that exponents of 0 (a straight line over log n) and below (it falls ever faster) are nothing special, and the floor,
middle - fall / b, exists for b > 0 alone. The interval of b holds all b whose chi-square is at most that of the best b
plus a quantile of F; the interval of any other figure holds all its values for which some b has such a chi-square
(profile likelihood). Where the means scatter around the law more than the seeds say, the quantile is as much larger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

EXPONENTS = np.round(np.concatenate([np.arange(-1.0, 2.0, 0.01), np.arange(2.0, 4.001, 0.05)]), 3)
_NOTHING = 1e-7  # nats: losses are not known better
_TELLING = 0.5  # share of the pool up to which the spread over seeds is used
_RISE = 2.0  # standard errors of a difference
_BENT = 0.01  # chance of so much scatter around a true law
_CHECKABLE = 5  # sizes


@dataclass(frozen=True)
class Interval:
    """An estimate and its limits, each None where the points do not give one."""

    value: float | None
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, float | None]:
        """As plain JSON values."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """A fitted law; made by `fit_power_law`.

    Attributes:
        n, loss, error: `(n_sizes,)` numbers of prompts, mean losses and their standard errors.
        level: of the intervals.
        warnings: why not to rely on the law, in plain words; empty if nothing speaks against it.
        middle, fall, chi2: `(n_exponents,)` for each of `EXPONENTS` the best law, and how far it is from the points.
        spread: `(n_exponents, 2, 2)` covariances of middle and fall.
        cutoff: the largest chi-square that the points allow; None if they do not say.
    """

    n: np.ndarray
    loss: np.ndarray
    error: np.ndarray
    level: float
    warnings: tuple[str, ...]
    middle: np.ndarray
    fall: np.ndarray
    chi2: np.ndarray
    spread: np.ndarray
    cutoff: float | None

    @property
    def exponent(self) -> Interval:
        """The exponent b: the loss above the floor falls to 2^-b of itself with twice the prompts."""
        value = float(EXPONENTS[self._best])
        if self.cutoff is None:
            return Interval(value, None, None)
        ends = EXPONENTS[np.flatnonzero(self.chi2 <= self.cutoff)[[0, -1]]]
        return Interval(value, *(None if end in EXPONENTS[[0, -1]] else float(end) for end in ends))

    @property
    def scale(self) -> float | None:
        """The factor of n^-b, in nats; None where there is no floor."""
        b = EXPONENTS[self._best]
        return float(self.fall[self._best] / b * _middle(self.n) ** b) if b > 0 else None

    @property
    def floor(self) -> Interval:
        """The loss that no number of prompts would go below; without a low limit where the points show none."""
        some = EXPONENTS > 0
        found = self._of(np.where(some, 1.0, np.nan), -1.0 / np.where(some, EXPONENTS, np.nan))
        possible = self.exponent.low
        return found if possible is not None and possible > 0 else Interval(found.value, None, found.high)

    def at(self, n: float) -> Interval:
        """The loss with so many prompts."""
        return self._of(np.ones(len(EXPONENTS)), -_bend(n / _middle(self.n), EXPONENTS))

    def gain(self, factor: float = 10.0) -> Interval:
        """By how much the loss would fall with `factor` times the prompts of the largest size, in nats."""
        largest = self.n[-1] / _middle(self.n)
        more = _bend(factor * largest, EXPONENTS) - _bend(largest, EXPONENTS)
        return self._of(np.zeros(len(EXPONENTS)), more, least=-math.inf)

    def curve(self, n: np.ndarray) -> np.ndarray:
        """`(k,)` losses of the law at these numbers of prompts."""
        b = EXPONENTS[self._best]
        return np.asarray(self.middle[self._best] - self.fall[self._best] * _bend(n / _middle(self.n), b))

    @property
    def _best(self) -> int:
        return int(np.argmin(self.chi2))

    def _of(self, of_middle: np.ndarray, of_fall: np.ndarray, least: float = 0.0) -> Interval:
        """A figure, given its `(n_exponents,)` coefficients of middle and fall (NaN where it does not exist), and its
        limits."""
        values = of_middle * self.middle + of_fall * self.fall
        there = np.isfinite(values)
        value = max(least, float(values[self._best])) if there[self._best] else None
        if self.cutoff is None:
            return Interval(value, None, None)
        possible = there & (self.chi2 <= self.cutoff)
        if not possible.any():
            return Interval(value, None, None)
        direction = np.stack([of_middle, of_fall], 1)
        variance = np.einsum("ei,eij,ej->e", direction, self.spread, direction)
        margin = np.sqrt((self.cutoff - self.chi2[possible]) * variance[possible])
        low, high = (values[possible] - margin).min(), (values[possible] + margin).max()
        return Interval(value, max(least, float(low)), max(least, float(high)))

    def to_dict(self, factor: float = 10.0) -> dict[str, object]:
        """As plain JSON values."""
        largest = float(self.n[-1])
        return {
            "exponent": self.exponent.to_dict(),
            "scale": self.scale,
            "floor": self.floor.to_dict(),
            "largest": {"n_prompts": int(largest), **self.at(largest).to_dict()},
            "more": {"n_prompts": int(factor * largest), **self.at(factor * largest).to_dict()},
            "gain": self.gain(factor).to_dict(),
            "warnings": list(self.warnings),
        }


def fit_power_law(losses: Mapping[int, Sequence[float]], *, pool: int | None = None, level: float = 0.95) -> PowerLaw:
    """Fit a law.

    Args:
        losses: by number of prompts (3 of these or more), the losses of the seeds.
        pool: number of prompts from which all were drawn; None if the draws share none.
        level: of the intervals.
    """
    from scipy import stats

    n = np.array(sorted(losses), dtype=np.float64)
    values = [np.asarray(losses[int(size)], dtype=np.float64) for size in n]
    means = np.array([part.mean() for part in values])
    covariance, freedom = _covariance(n, values, pool)
    weight = np.linalg.inv(covariance)
    theta, spread, chi2 = _fits(n, means, weight)
    left = len(n) - 3
    scatter = chi2.min() / left if left else 0.0
    excess = max(1.0, scatter) if freedom else scatter
    cutoff = None
    if freedom or left:
        cutoff = float(chi2.min() + max(excess, 1e-12) * stats.f.ppf(level, 1, freedom or left))
    error = np.sqrt(np.diag(covariance) * (1.0 if freedom else excess))
    bent = bool(freedom and left and stats.f.sf(scatter, left, freedom) < _BENT)
    law = PowerLaw(n, means, error, level, (), theta[:, 0], theta[:, 1], chi2, spread, cutoff)
    return PowerLaw(**{**vars(law), "warnings": tuple(_warnings(law, covariance, bent, freedom))})


def _middle(n: np.ndarray) -> float:
    return float(np.exp(np.log(n).mean()))


def _bend(ratio: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """(1 - ratio^-b) / b, and its limit log(ratio)."""
    log, some = np.log(ratio), np.where(np.equal(b, 0), 1.0, b)
    return np.asarray(np.where(np.equal(b, 0), log, -np.expm1(-some * log) / some))


def _fits(n: np.ndarray, means: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each exponent the best middle and fall, their covariance, and chi-square."""
    falls = _bend((n / _middle(n))[None], EXPONENTS[:, None])
    design = np.stack([np.ones_like(falls), -falls], 2)
    weighted = np.einsum("eki,kl->eil", design, weight)
    spread = np.linalg.inv(weighted @ design)
    theta = np.einsum("eij,ejk,k->ei", spread, weighted, means)
    rest = means - np.einsum("eki,ei->ek", design, theta)
    return theta, spread, np.einsum("ek,kl,el->e", rest, weight, rest)


def _covariance(n: np.ndarray, values: Sequence[np.ndarray], pool: int | None) -> tuple[np.ndarray, int]:
    """The covariance of the means, and the degrees of freedom that it rests on; of single losses that of equal errors
    of unknown size, and 0."""
    seeds = np.array([len(part) for part in values])
    if seeds.min() < 2:
        return np.eye(len(n)), 0
    share = np.zeros(len(n)) if pool is None else np.minimum(n / pool, 1.0)
    telling = share <= _TELLING
    if telling.sum() < 2:
        telling[:2] = True
    spread = np.maximum([part.var(ddof=1) for part in values], _NOTHING**2)[telling]
    variance = spread / np.maximum(1.0 - share[telling], _TELLING)  # draws from one pool differ by less
    slope = float(np.clip(np.polyfit(np.log(n[telling]), np.log(variance), 1)[0], -3.0, 1.0))
    expected = np.average(variance / n[telling] ** slope, weights=seeds[telling] - 1) * n**slope
    shared, own = np.sqrt(expected * share), expected * (1.0 - share) / seeds
    return np.outer(shared, shared) + np.diag(own + _NOTHING**2), int((seeds[telling] - 1).sum())


def _warnings(law: PowerLaw, covariance: np.ndarray, bent: bool, freedom: int) -> list[str]:
    said, n, means = [], law.n, law.loss
    straight = int(np.flatnonzero(EXPONENTS == 0)[0])
    slope, error = law.fall[straight], math.sqrt(law.spread[straight, 1, 1])
    if not freedom:
        error *= math.sqrt(law.chi2[straight] / max(len(n) - 2, 1))
    falls = bool(slope > _RISE * error)
    if not falls:
        said.append("the loss does not fall with the number of prompts by more than chance: there is no law")
    for i in range(len(n) - 1):
        step = math.sqrt(max(covariance[i, i] + covariance[i + 1, i + 1] - 2 * covariance[i, i + 1], 0.0))
        if freedom and means[i + 1] - means[i] > _RISE * step:
            said.append(f"the loss rises from {n[i]:,.0f} to {n[i + 1]:,.0f} prompts")
    if bent:
        said.append("the points bend otherwise than a power law, so that its limits and forecasts are too sure")
    low = law.exponent.low
    if falls and (low is None or low <= 0.0):
        said.append("an exponent of 0 is possible: the points do not show that the loss levels off, nor where")
    if len(n) < _CHECKABLE:
        said.append(f"{len(n)} sizes are too few to check a law of three parameters; study {_CHECKABLE} or more")
    if n[-1] < 10 * n[0]:
        said.append("the sizes differ by less than a factor of ten, the step that is forecast")
    if not freedom:
        said.append("with one seed, the limits rest on how far the points are from the law")
    return said
