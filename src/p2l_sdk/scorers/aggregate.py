"""One leaderboard for a stream of prompts: scored in batches and reduced as they come, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from p2l_sdk.errors import P2LError, PromptError
from p2l_sdk.leaderboards.aggregate import PairStatistics, PromptWeights
from p2l_sdk.leaderboards.leaderboard import Z_95, Coefficients, Kinds, Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.scorers.batches import score_in_batches
from p2l_sdk.scorers.scorer import Scorer, group_error_of, variance_of

_MOST_COEFS = 1 << 21  # coefficients that are copied at once


def aggregate_prompts(
    scorer: Scorer,
    prompts: Iterable[Prompt],
    weights: Iterable[float] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Leaderboard:
    """The aggregate leaderboard of the prompts; arguments and errors as in `P2L.aggregate`."""
    scored = score_in_batches(scorer, prompts)
    errors = variance_of(scorer), group_error_of(scorer)
    return aggregate_scored(scored, scorer.spec, *errors, weights=weights, seed=seed, progress=progress)


def aggregate_scored(
    parts: Iterable[Coefficients],
    spec: ModelSpec,
    variance: np.ndarray | None,
    group_error: np.ndarray | None = None,
    *,
    weights: Iterable[float] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Leaderboard:
    """The aggregate leaderboard of prompts that a model has scored.

    Args:
        parts: their coefficients, batch by batch.
        spec: of the model.
        variance: of the model's last layer, if it recognises kinds of prompt; see `EditableScorer.variance`.
        group_error: see `group_error_of`.
        weights, seed, progress: as in `P2L.aggregate`, with its errors.
    """
    remaining, total = PromptWeights(weights), PromptAggregate(spec, variance, group_error, seed)
    for part in parts:
        total.add(part, remaining.take(len(part)))
        if progress is not None:
            progress(total.statistics.n_prompts)
    remaining.require_end(total.statistics.n_prompts)
    if total.statistics.n_prompts == 0:
        raise PromptError("there are no prompts to aggregate; give at least one")
    return total.board()


class PromptAggregate:
    """What is kept of a set of prompts that a model has scored: batches are added, sets are merged.

    Args:
        spec, variance, group_error, seed: as in `aggregate_scored`; sets that are merged need different seeds.
    """

    def __init__(
        self, spec: ModelSpec, variance: np.ndarray | None, group_error: np.ndarray | None = None, seed: int = 0
    ) -> None:
        self.statistics = PairStatistics(spec.feedback, len(spec.models), seed=seed)
        self._spec, self._variance, self._group_error = spec, variance, group_error
        self._shares = np.zeros(len(spec.kinds))
        self._familiar: float | None = None  # weighted sum of the prompts' familiarity
        self._moments = _Moments(len(spec.models))
        self._relative = _Moments(len(spec.models))  # of the coefs minus their mean

    def add(self, part: Coefficients, weights: np.ndarray | None = None) -> None:
        """Add a batch of prompts, with a weight for each if given."""
        self.statistics.add(part, weights)
        self._moments.add(part.coefs, weights, self._spec.feedback)
        self._relative.add(part.coefs - part.coefs.mean(1, keepdims=True), weights, self._spec.feedback)
        if part.kinds is not None:
            self._shares += part.kinds.shares.sum(0) if weights is None else weights @ part.kinds.shares
        if part.familiarity is not None:
            weighted = part.familiarity if weights is None else weights * part.familiarity
            self._familiar = (self._familiar or 0.0) + float(weighted.sum())

    def merge(self, other: PromptAggregate) -> None:
        """Add the prompts of another set of the same model."""
        self.statistics.merge(other.statistics)
        self._moments.merge(other._moments)
        self._relative.merge(other._relative)
        self._shares = self._shares + other._shares
        if other._familiar is not None:
            self._familiar = (self._familiar or 0.0) + other._familiar

    @classmethod
    def merged(cls, parts: Sequence[PromptAggregate], seed: int) -> PromptAggregate:
        """The prompts of several sets (at least one), which stay as they are; a seed that none of them has."""
        total = cls(parts[0]._spec, parts[0]._variance, parts[0]._group_error, seed)
        for part in parts:
            total.merge(part)
        return total

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything as plain JSON values and arrays, for `restore`."""
        state, arrays = self.statistics.state()
        moments = {
            f"{name}.{key}": np.asarray(value)
            for name, m in (("moments", self._moments), ("relative", self._relative))
            for key, value in (("weight", m.weight), ("sums", m.sums))
        }
        return {"statistics": state, "familiar": self._familiar}, {**arrays, **moments, "shares": self._shares}

    def restore(self, state: Mapping[str, Any], arrays: Mapping[str, np.ndarray], name: str = "the state") -> None:
        """Take over what `state` gave of a set of prompts of the same model.

        Raises:
            P2LError: it is of another model, or its parts do not fit together; the message has the name.
        """
        left = dict(arrays)
        try:
            shares, moments = left.pop("shares"), {key: left.pop(f"moments.{key}") for key in ("weight", "sums")}
            relative = {key: left.pop(f"relative.{key}") for key in ("weight", "sums")}
            known, familiar = state["statistics"], state["familiar"]
        except (KeyError, TypeError) as error:
            raise P2LError(f"{name} is damaged: it lacks {error}") from error
        statistics = PairStatistics.of_state(known, left, name)
        n_models = len(self._spec.models)
        fits = statistics.feedback == self._spec.feedback and statistics.n_models == n_models
        if not fits or shares.shape != self._shares.shape or moments["sums"].shape != (2, n_models):
            raise P2LError(f"{name} holds the statistics of another model")
        self.statistics, self._shares, self._familiar = statistics, shares, familiar
        self._moments.weight, self._moments.sums = float(moments["weight"]), moments["sums"]
        self._relative.weight, self._relative.sums = float(relative["weight"]), relative["sums"]

    def __len__(self) -> int:
        return self.statistics.n_prompts

    @property
    def kinds(self) -> np.ndarray:
        """`(n_kinds,)` mean share of each kind."""
        return np.asarray(self._shares / self.statistics.weight)

    @property
    def group_variance(self) -> float:
        """Variance of the model's error for these prompts as a group, in squared logits; 0 if it knows none."""
        if self._group_error is None:
            return 0.0
        return float(self._group_error[0]) * set_likeness(self._moments.spread, float(self._group_error[1]))

    @property
    def relative_spread(self) -> float:
        """The share, in [0, 1], of the variance of the coefs among these prompts that is in the LLMs' strengths
        relative to each other, and not common to all (which a grounded model has too)."""
        spread = self._moments.spread
        return 1.0 if spread <= 0.0 else min(self._relative.spread / spread, 1.0)

    def board(self, *, intervals: bool = True) -> Leaderboard:
        """The aggregate leaderboard; its intervals, if wanted, include what the model knows of its own errors."""
        board = self.statistics.solve(self._spec.models, **({} if intervals else {"replicates": 0}))
        if not intervals:
            return board
        if self._familiar is not None:
            board = replace(board, familiarity=self._familiar / self.statistics.weight)
        if self._group_error is not None and board.intervals is not None:
            board = _widened(board, self.group_variance)
        return board if self._variance is None else _with_kinds(board, self._spec.kinds, self._variance, self.kinds)


def set_likeness(spread: float, among_all: float) -> float:
    """How alike the prompts of a set are to a model, in [0, 1]: 1 if it gives all of them one leaderboard, 0 if theirs
    differ as much as those of its training prompts. What it gets wrong about a group of like prompts concerns them all;
    in a mixture of many groups, errors cancel.

    Args:
        spread: variance of the coefficients among the prompts of the set.
        among_all: among the training prompts.
    """
    return 1.0 if among_all <= 0.0 else min(max(1.0 - spread / among_all, 0.0), 1.0)


def spread_of(coefs: np.ndarray, feedback: Feedback) -> float:
    """The variance among prompts of their `(n_prompts, n_models)` coefficients, in squared logits, mean over LLMs."""
    return spread_of_parts([coefs], feedback)


def spread_of_parts(parts: Iterable[np.ndarray], feedback: Feedback) -> float:
    """As `spread_of`, of prompts that come some at a time."""
    moments: _Moments | None = None
    for coefs in parts:
        moments = moments or _Moments(coefs.shape[1])
        moments.add(coefs, None, feedback)
    return 0.0 if moments is None else moments.spread


class _Moments:
    """Weighted sums of the coefficients of a stream of prompts, and of their squares."""

    def __init__(self, n_models: int) -> None:
        self.weight, self.sums = 0.0, np.zeros((2, n_models))

    def add(self, coefs: np.ndarray, weights: np.ndarray | None, feedback: Feedback) -> None:
        weights = np.ones(len(coefs)) if weights is None else weights
        self.weight += float(weights.sum())
        size = max(1, _MOST_COEFS // coefs.shape[1])
        for start in range(0, len(coefs), size):  # of thousands of LLMs, copies of all would be gigabytes
            values, share = coefs[start : start + size].astype(np.float64), weights[start : start + size]
            if feedback.floating:  # known up to a shift
                values -= values.mean(1, keepdims=True)
            self.sums += np.stack([share @ values, share @ np.square(values)])

    def merge(self, other: _Moments) -> None:
        self.weight += other.weight
        self.sums = self.sums + other.sums

    @property
    def spread(self) -> float:
        mean, squares = self.sums / max(self.weight, 1e-300)
        return float(np.maximum(squares - np.square(mean), 0.0).mean())


def _widened(board: Leaderboard, variance: float) -> Leaderboard:
    """The leaderboard with intervals that include an error of this variance, of every LLM's coefficient."""
    assert board.intervals is not None
    low, high = np.hypot(np.abs(board.intervals.T - board.coefs), Z_95 * np.sqrt(variance))
    return replace(board, intervals=np.stack([board.coefs - low, board.coefs + high], 1))


def _with_kinds(board: Leaderboard, names: tuple[str, ...], variance: np.ndarray, shares: np.ndarray) -> Leaderboard:
    """The aggregate of prompts that show these `(n_kinds,)` mean shares of kinds, its intervals widened by the errors
    of the ratings that the model was built from (which do not shrink with the number of prompts)."""
    kinds = Kinds(names, shares[None], variance)
    margin, coefs = Z_95 * kinds.errors[0], board.coefs
    away = np.zeros((2, len(coefs))) if board.intervals is None else np.abs(board.intervals.T - coefs)
    low, high = np.hypot(away, margin)
    named = dict(zip(kinds.names, shares.tolist(), strict=True))
    return replace(board, intervals=np.stack([coefs - low, coefs + high], 1), kinds=named)
