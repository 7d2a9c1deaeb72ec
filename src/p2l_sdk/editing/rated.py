"""Rows of a last layer from ratings by kind of prompt: the inverse of aggregation, in closed form.

With f(z) the shares of the kinds in prompt z, a row is (D, b) with theta(z) = b + D f(z). Wanted is a row whose
leaderboards, aggregated over the prompts of kind k, give the LLM's rating in that kind, and over prompts of no known
kind its overall rating. With A_k the mean f over the prompts of kind k, and none that over prompts of no kind:

    b + D none = overall,        D (A_k - none) = departure of the rating in kind k from the overall one

to first order in D. (Aggregation averages probabilities, so large departures come back a little smaller; making them
exact makes single prompts too extreme: see docs/kinds.md.) Two things keep D near 0, the overall leaderboard:

- Ratings are noisy. A departure with standard error e is shrunk to v / (v + e^2) of itself, where v is the variance of
  the true departures of all LLMs in that kind (empirical Bayes). An LLM without a rating there departs by nothing.
- Prompts are few. A_k is a mean over n prompts, and D fits it only as closely as it is known: a ridge in which kind k
  weighs 1 / (0.05^2 + the kinds' variances over its prompts / n).

What is needed to do the same for one more LLM is kept beside the weights, in `kinds.json`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import ModelFormatError, P2LError, did_you_mean
from p2l_sdk.leaderboards.leaderboard import Z_95
from p2l_sdk.modeling.leaderboard_p2l import ARENA_SCALE
from p2l_sdk.modeling.limits_p2l import read_json

RECORD = "kinds.json"
OVERALL = ("overall", "full", "all")  # usual names of the leaderboard of all prompts
_SLACK = 0.05  # relative to the departures: how closely D fits a kind with very many prompts
_LEAST_SPREAD = 1e-6  # logits
_LEAST_SHARE = 0.005  # shares of right answers are kept this far from 0 and 1, whose logits are infinite


class Scale(StrEnum):
    """What a rating is."""

    ELO = "elo"  # 400 points are odds of 10 to 1
    LOGIT = "logit"  # Bradley-Terry coefficients
    SHARE = "share"  # of right answers, in [0, 1]

    def logits(self, ratings: np.ndarray) -> np.ndarray:
        """The ratings in logits."""
        if self is Scale.ELO:
            return ratings / ARENA_SCALE
        if self is Scale.LOGIT:
            return ratings
        share = np.clip(ratings, _LEAST_SHARE, 1.0 - _LEAST_SHARE)
        return np.log(share) - np.log1p(-share)


@dataclass(frozen=True, eq=False)
class Geometry:
    """How the prompts of the kinds look to the model.

    Attributes:
        means: `(n_kinds, n_kinds)`; row k is the mean share of each kind over the prompts of kind k.
        none: `(n_kinds,)` mean shares over the prompts of no kind; 0 if there are none.
        slack: `(n_kinds,)` how uncertain a row of means is, relative to the departures.
    """

    means: np.ndarray
    none: np.ndarray
    slack: np.ndarray

    @classmethod
    def of(cls, shares: np.ndarray, member: np.ndarray, weight: np.ndarray) -> Geometry:
        """The geometry of prompts with these shares and memberships `(n_prompts, n_kinds)`, and `(n_prompts,)` weights;
        each kind has a prompt of positive weight."""
        share_of = (member * weight[:, None]) / (member * weight[:, None]).sum(0)
        means = share_of.T @ shares
        scatter = share_of.T @ np.square(shares) - np.square(means)  # over the prompts of a kind
        slack = np.sqrt(_SLACK**2 + scatter.sum(1) * np.square(share_of).sum(0))
        none = weight * ~member.any(1)
        return cls(means, none @ shares / none.sum() if none.any() else np.zeros(len(means)), slack)

    def operator(self, spread: np.ndarray, rated: np.ndarray) -> np.ndarray:
        """`(n_kinds, n_kinds)` matrix from one LLM's departures in the kinds to its D.

        Args:
            spread: `(n_kinds,)` standard deviations of the LLMs' departures.
            rated: `(n_kinds,)` whether this LLM has a rating there; if not, a departure of 0 is only as certain as it
                is for any LLM.
        """
        noise = np.where(rated, self.slack, 1.0) * spread
        seen = (self.means - self.none) * spread / noise[:, None]  # of unknowns in units of the spread
        return spread[:, None] * np.linalg.solve(seen.T @ seen + np.eye(len(spread)), seen.T) / noise

    def rows(
        self, overall: np.ndarray, departures: np.ndarray, errors: np.ndarray, spread: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and their variances.

        Args:
            overall: `(n, 2)` overall coefficients and their standard errors, in logits.
            departures, errors: `(n, n_kinds)` departures in the kinds, NaN where there is no rating, and their standard
                errors.
            spread: `(n_kinds,)` see `spreads`.

        Returns:
            Two arrays `(n, n_kinds + 1)`, the bias last.
        """
        rows = np.empty((len(overall), len(spread) + 1))
        variance = np.empty_like(rows)
        true = np.square(spread)
        for i, (y, e) in enumerate(zip(departures, errors, strict=True)):
            rated = ~np.isnan(y)
            keep = np.where(rated, true / (true + np.square(np.where(rated, e, 0.0))), 0.0)
            operator = self.operator(spread, rated)
            rows[i, :-1] = operator @ (keep * np.where(rated, y, 0.0))
            rows[i, -1] = overall[i, 0] - rows[i, :-1] @ self.none
            # what remains open of a departure: v (1 - keep), which is v e^2 / (v + e^2), or v where there is no rating
            variance[i, :-1] = np.square(operator) @ (np.where(rated, 1.0, 0.0) * true * (1.0 - keep)) + true * ~rated
            variance[i, -1] = overall[i, 1] ** 2
        return rows, variance


def spreads(departures: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """`(n_kinds,)` standard deviations of the true departures, given observed ones and their standard errors,
    `(n_models, n_kinds)`, NaN where there is no rating."""
    noise = np.where(np.isnan(departures), np.nan, errors)
    variance = np.nanmean(np.square(departures), 0) - np.nanmean(np.square(noise), 0)
    return np.sqrt(np.maximum(variance, _LEAST_SPREAD**2))


def departure_errors(errors: np.ndarray, overall: np.ndarray) -> np.ndarray:
    """Standard errors of departures, from those of the ratings in the kinds and overall.

    The votes of a kind are among all votes, of which the overall rating makes the best use. Its error is therefore
    independent of the departure (Hausman, 1978), and the variance of the departure is the difference of the two. That
    is itself uncertain: at least half of the rating's variance remains.
    """
    square = np.square(errors)
    return np.sqrt(np.maximum(square - np.square(overall), 0.5 * square))


@dataclass(frozen=True, eq=False)
class KindsRecord:
    """How the rows of a model were made from ratings: enough to make another.

    Attributes:
        kinds: names of the kinds.
        overall: name of the overall leaderboard.
        scale: of the ratings.
        curves: `(n_kinds + 1, 2)` intercept and slope from a rating in logits to a coefficient: of each kind, and
            last of the overall leaderboard.
        spread: `(n_kinds,)` standard deviations of the LLMs' departures, in logits.
        geometry: of the prompts.
    """

    kinds: tuple[str, ...]
    overall: str
    scale: Scale
    curves: np.ndarray
    spread: np.ndarray
    geometry: Geometry

    def write(self, folder: Path) -> None:
        """Write `kinds.json` into a model's folder."""
        g = self.geometry
        arrays = {"curves": self.curves, "spread": self.spread, "means": g.means, "none": g.none, "slack": g.slack}
        values: dict[str, Any] = {"kinds": list(self.kinds), "overall": self.overall, "scale": str(self.scale)}
        values |= {name: np.round(array, 6).tolist() for name, array in arrays.items()}
        (folder / RECORD).write_text(json.dumps(values) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path | None, model_kinds: Sequence[str]) -> KindsRecord:
        """Read `kinds.json` of the folder of a model with these kinds; P2LError if it has none, ModelFormatError if it
        is damaged or of another model."""
        path = None if folder is None else folder / RECORD
        if path is None or not path.is_file():
            raise P2LError("this model was not built from ratings, so it cannot learn from them; give votes or scores")
        try:
            values = read_json(path, dict)
            kinds = tuple(values["kinds"])
            n = len(kinds)
            shapes = {"curves": (n + 1, 2), "spread": (n,), "means": (n, n), "none": (n,), "slack": (n,)}
            arrays = {name: np.array(values[name], dtype=np.float64).reshape(shape) for name, shape in shapes.items()}
            if kinds != tuple(model_kinds) or not all(np.isfinite(array).all() for array in arrays.values()):
                raise ValueError("its kinds are not the model's, or a number is not finite")
            geometry = Geometry(arrays["means"], arrays["none"], arrays["slack"])
            scale = Scale(values["scale"])
            return cls(kinds, str(values["overall"]), scale, arrays["curves"], arrays["spread"], geometry)
        except ModelFormatError as error:
            raise ModelFormatError(f"{str(path)!r} is damaged: {error}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFormatError(f"{str(path)!r} is damaged: {type(error).__name__} {error}") from None

    def row(self, name: str, ratings: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """The row `(n_kinds + 1,)` of an LLM with these ratings, and its variance; see `P2L.add_model`.

        Raises:
            P2LError: there is no rating, one is of an unknown kind, or is not a number in its scale.
        """
        if not isinstance(ratings, Mapping) or not ratings:
            raise P2LError(f"ratings of {name!r} must be a mapping {{kind: rating}} with at least one entry")
        known = (*self.kinds, self.overall)
        coefs, errors = np.full(len(known), np.nan), np.zeros(len(known))
        usual = [kind for kind in ratings if kind in OVERALL and kind not in known]
        if len(usual) == 1 and self.overall not in ratings:
            ratings = {self.overall if kind in usual else kind: given for kind, given in ratings.items()}
        for kind, given in ratings.items():
            if kind not in known:
                raise P2LError(f"a rating of {name!r} is of the kind {kind!r}; {did_you_mean(kind, known)}")
            place = known.index(kind)
            coefs[place], errors[place] = self._coef(place, f"the rating of {name!r} in {kind!r}", given)
        seen = ~np.isnan(coefs[:-1])
        if np.isnan(coefs[-1]):  # its mean departure is as likely up as down
            noise = np.square(errors[:-1][seen]) + np.square(self.spread[seen])
            weight = 1.0 / np.maximum(noise, _LEAST_SPREAD**2)
            coefs[-1], errors[-1] = weight @ coefs[:-1][seen] / weight.sum(), 1.0 / math.sqrt(weight.sum())
        departures = np.where(seen, coefs[:-1] - coefs[-1], np.nan)
        if self.scale is not Scale.SHARE and self.overall in ratings:
            errors[:-1] = departure_errors(errors[:-1], errors[-1])
        rows, variance = self.geometry.rows(
            np.array([[coefs[-1], errors[-1]]]), departures[None], errors[None, :-1], self.spread
        )
        return rows[0], variance[0]

    def _coef(self, place: int, what: str, given: Any) -> tuple[float, float]:
        """Coefficient and standard error of a rating, or of a rating with its 95 % limits."""
        try:
            numbers = np.array(given, dtype=np.float64).ravel()
            rating, low, high = numbers if len(numbers) == 3 else (*numbers, *numbers, *numbers)
        except (TypeError, ValueError):
            raise P2LError(f"{what} is {given!r}; give a number, or three: (rating, lower, upper)") from None
        share = self.scale is Scale.SHARE
        if not -math.inf < low <= rating <= high < math.inf or (share and not 0.0 <= low <= high <= 1.0):
            legal = "a share of right answers in [0, 1]" if share else f"a finite number ({self.scale})"
            raise P2LError(f"{what} is {given!r}; it must be {legal}, between its limits")
        middle, bottom, top = self.scale.logits(np.array([rating, low, high]))
        intercept, slope = self.curves[place]
        return float(intercept + slope * middle), float(slope * (top - bottom) / (2.0 * Z_95))
