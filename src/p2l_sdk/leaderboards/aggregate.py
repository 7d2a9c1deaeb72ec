"""One leaderboard for many prompts, in one pass and constant memory (paper, section 2.1.1).

The aggregate minimises the mean cross-entropy from the prompts' outcome probabilities to its own,

    F(theta, eta) = - mean over pairs of  sum over outcomes of  P[pair, outcome] * log q(outcome | pair; theta, eta),

and F is linear in P, so it depends on the prompts only through the mean probability of every pair and outcome
(`PairStatistics`). The solver is a damped Newton method on n_models + 1 unknowns (theta and log(t - 1)), whatever the
number of prompts.

Intervals are a bootstrap over prompts. To first order in the prompts' weights (one Newton step), a replicate depends
on each prompt only through its gradient at the optimum. The optimum is known only after the pass, so the pass keeps a
uniform sample of the prompts' coefficients (1000 by default: one row of coefficients per prompt, nothing per pair). Up
to that many prompts, this is the bootstrap over all prompts; beyond that, the deviations are scaled by
sqrt(sample / n_prompts), and the widths have a sampling error of about 1 / sqrt(2 * sample), i.e. 2 %. Of 500 LLMs or
more, fewer prompts are resampled, and at least 250 (an error of 4.5 %), and of 800 or more, some 400 stand for all as
opponents (less than 1 %): their pairs take the time. The replicates are scaled to a Student t distribution, so that the
intervals of a handful of prompts are wide enough (see `pairs.bootstrap`). Every prompt draws a random key and those
with the lowest keys are kept, which makes samples mergeable: the lowest keys of two samples are a sample of both
streams.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import P2LError
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.leaderboards.likelihood import PairLikelihood, require_room
from p2l_sdk.leaderboards.pairs import bootstrap, effective_number, natural_parameters, newton_steps
from p2l_sdk.leaderboards.sums import pair_sums
from p2l_sdk.leaderboards.weights import exponent_of, weights_of
from p2l_sdk.modeling.feedback_p2l import Feedback, eta_of_threshold, log_threshold
from p2l_sdk.options import whole_number

_MOST_TIMES = 1e100
_MOST_GRADIENTS, _LEAST_SAMPLE = 2.5e8, 250  # (prompt, LLM, opponent) triples of the intervals; least prompts
_FORMAT = "p2l_sdk.PairStatistics/1"
_Prompts = tuple[np.ndarray, np.ndarray, np.ndarray]  # theta, log(t - 1), weights


@dataclass(frozen=True)
class Convergence:
    """How close an aggregate is to the optimum: F, and its largest absolute derivative in theta and log(t - 1), which
    is 0 at the optimum."""

    objective: float
    largest_gradient: float


class PairStatistics:
    """Mean outcome probabilities of every pair over a stream of prompts: add batches, merge, save, load, solve.

    Args:
        feedback: the feedback model of the coefficients.
        n_models: number of LLMs, at least 2.
        sample: number of prompts kept for the intervals; 0 for no intervals.
        seed: seed of the sample. Statistics that will be merged need different seeds.
    """

    def __init__(self, feedback: Feedback, n_models: int, *, sample: int = 1000, seed: int = 0) -> None:
        n_models = whole_number("n_models", n_models, least=2)
        sample, seed = whole_number("sample", sample), whole_number("seed", seed)
        require_room(n_models, 2.0 * len(feedback.outcomes), "name those that matter (--models A,B)")
        self.feedback = feedback
        self.n_models = n_models
        self.n_prompts = 0
        self._seed, self._seeds, self._drawn = seed, {seed}, 0
        self._random = np.random.default_rng(seed)
        self._arrays = {
            "sums": np.zeros((len(feedback.outcomes), n_models * (n_models - 1) // 2)),
            "start": np.zeros(n_models + 1),  # weighted sums of theta and log(t - 1): where Newton starts
            "weight": np.zeros(()),
        }
        self._exponent = 0  # sums and weights are kept in units of this power of two: only ratios of weights count
        # one row per kept prompt, lowest key first: key, weight, log(t - 1), theta
        self._sample, self._kept = sample, np.zeros((0, n_models + 3))
        self._errors: tuple[np.ndarray, float, np.ndarray] | None = None  # see `relative_errors`; the optimum

    def add(self, batch: Coefficients, weights: np.ndarray | None = None) -> None:
        """Add a batch of prompts.

        Args:
            batch: coefficients of `n` prompts.
            weights: `(n,)` finite weights >= 0; 1 if not given.

        Raises:
            P2LError: shapes disagree, a number is not finite, or a weight is negative. Nothing is added then.
        """
        n = len(batch.coefs)
        rule = f"prompt weights must be {n} finite numbers >= 0"
        weights = np.ones(n) if weights is None else weights_of(weights, rule)
        if weights.shape != (n,):
            raise P2LError(f"{rule}, one for each prompt")
        theta, log_s = natural_parameters(self.feedback, batch, self.n_models)
        weights = self._in_units(weights)
        self._arrays["sums"] += pair_sums(self.feedback, theta, log_s, weights)
        self._arrays["start"] += weights @ np.column_stack([theta, log_s])
        self._arrays["weight"] += weights.sum()
        self.n_prompts += n
        self._errors = None
        keys = self._random.random(n)
        self._drawn += n
        full = len(self._kept) == self._sample
        low = keys < (self._kept[-1, 0] if full and self._sample else np.inf)
        self._keep(np.column_stack([keys[low], weights[low], log_s[low], theta[low]]))

    def _in_units(self, weights: np.ndarray) -> np.ndarray:
        """Weights in the unit of the sums: that of the first weights above 0, raised for a far larger one."""
        exponent = exponent_of(weights)
        if weights.any() and (self.weight == 0 or exponent > self._exponent):
            self._use_unit(exponent)
        return np.ldexp(weights, -self._exponent)

    def _use_unit(self, exponent: int) -> None:
        if exponent != self._exponent:
            change = self._exponent - exponent
            self._arrays = {name: np.asarray(np.ldexp(array, change)) for name, array in self._arrays.items()}
            self._kept[:, 1] = np.ldexp(self._kept[:, 1], change)
            self._exponent = exponent

    def _keep(self, candidates: np.ndarray) -> None:
        if len(candidates) and self._sample:
            kept = np.concatenate([self._kept, candidates])
            self._kept = kept[np.argsort(kept[:, 0], kind="stable")[: self._sample]]

    def merge(self, other: PairStatistics) -> None:
        """Add the prompts of another worker.

        Raises:
            P2LError: the feedback model, number of LLMs or sample size differs, or the two share a seed (as they do if
                `other` was merged before).
        """
        if self._kind != other._kind:
            raise P2LError("only statistics of the same feedback model, number of LLMs and sample size can be merged")
        if shared := self._seeds & other._seeds:
            raise P2LError(
                f"both statistics hold prompts of seed {min(shared)}: these were merged before, or two workers need "
                "different seeds, PairStatistics(..., seed=worker)"
            )
        self._seeds |= other._seeds
        if other._arrays["weight"] and (not self._arrays["weight"] or other._exponent > self._exponent):
            self._use_unit(other._exponent)
        change = other._exponent - self._exponent
        for name, array in self._arrays.items():
            array += np.ldexp(other._arrays[name], change)
        kept = other._kept.copy()
        kept[:, 1] = np.ldexp(kept[:, 1], change)
        self._keep(kept)
        self.n_prompts += other.n_prompts
        self._errors = None

    @property
    def _kind(self) -> tuple[Feedback, int, int]:
        return self.feedback, self.n_models, self._sample

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file; after `load`, prompts can be added as if never interrupted.

        The write is atomic: a temporary file beside `path` is renamed once it is complete.

        Raises:
            P2LError: the file cannot be written.
        """
        from safetensors.numpy import save

        from p2l_sdk.outputs.files import new_file

        state, arrays = self.state()
        content = save(arrays, {"format": _FORMAT, "state": json.dumps(state)})
        with new_file(path, keep=False) as partial:
            partial.write_bytes(content)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything as plain JSON values and arrays, for `of_state`."""
        state = {
            "feedback": str(self.feedback),
            "n_models": self.n_models,
            "sample": self._sample,
            "seed": self._seed,
            "seeds": sorted(self._seeds),
            "drawn": self._drawn,
            "n_prompts": self.n_prompts,
            "exponent": self._exponent,
        }
        return state, {**self._arrays, "kept": self._kept}

    @classmethod
    def load(cls, path: str | Path) -> PairStatistics:
        """Load statistics written by `save`.

        Raises:
            P2LError: the file is missing, damaged, or not a `PairStatistics` file.
        """
        state, arrays = _read(path)
        return cls.of_state(state, arrays, repr(str(path)))

    @classmethod
    def of_state(
        cls, state: Mapping[str, Any], arrays: Mapping[str, np.ndarray], name: str = "the state"
    ) -> PairStatistics:
        """The statistics whose `state` this is; P2LError, which has the name, if its parts do not fit together."""
        arrays = dict(arrays)
        try:
            feedback = Feedback(state["feedback"])
            statistics = cls(feedback, state["n_models"], sample=state["sample"], seed=state["seed"])
            statistics._seeds = set(state["seeds"])
            statistics._drawn, statistics.n_prompts = state["drawn"], state["n_prompts"]
            statistics._exponent = whole_number("exponent", state.get("exponent", 0), least=-1100)
            statistics._random.bit_generator.advance(state["drawn"])  # type: ignore[attr-defined]
            kept, empty = arrays.pop("kept"), statistics._arrays
            whole = {key: array.shape for key, array in arrays.items()} == {k: v.shape for k, v in empty.items()}
            whole &= kept.shape == (min(state["sample"], state["n_prompts"]), state["n_models"] + 3)
            if not (whole and all(np.isfinite(array).all() for array in (kept, *arrays.values()))):
                raise ValueError("its arrays do not fit together")
        except (KeyError, TypeError, ValueError, P2LError) as error:
            raise P2LError(f"{name} is damaged: {error}; aggregate these prompts again") from error
        statistics._arrays, statistics._kept = arrays, kept
        return statistics

    def solve(self, models: tuple[str, ...], *, replicates: int = 1000) -> Leaderboard:
        """Solve for the aggregate leaderboard, with 95 % bootstrap intervals if there are at least two prompts.

        Intervals from two or three prompts are very wide, since so few say little about all others. If a common shift
        of the coefs changes no probability (bt, bt_tie, rk), they are centred (mean 0).

        Args:
            models: names of the LLMs, in the order of the coefs.
            replicates: number of bootstrap replicates; 0 for no intervals.

        Raises:
            P2LError: there are no prompts, all weights are 0, or the number of names is wrong.
            ConvergenceError: Newton's method did not reach the optimum.
        """
        if len(models) != self.n_models:
            raise P2LError(f"there are {len(models)} names for {self.n_models} LLMs")
        mean = self._mean()
        problem = PairLikelihood(self.feedback, self.n_models)
        optimum = problem.minimise(mean.T, self._arrays["start"] / self._arrays["weight"])
        return Leaderboard(
            models=models,
            coefs=optimum[: self.n_models],
            feedback=self.feedback,
            eta=float(eta_of_threshold(self.feedback, optimum[-1])) if self.feedback.has_eta else None,
            gamma=0.0 if self.feedback.has_gamma else None,
            n_prompts=self.n_prompts,
            intervals=self._intervals(optimum, replicates, lambda: problem.hessian(mean.T, optimum)),
        )

    def convergence(self, board: Leaderboard) -> Convergence:
        """How close a leaderboard, from this or any other solver, is to the optimum for these prompts."""
        problem = PairLikelihood(self.feedback, self.n_models)
        value, gradient = problem.slope(self._mean().T, self._optimum_of(board))
        return Convergence(value, float(np.abs(gradient[problem.free]).max()))

    def relative_errors(self, board: Leaderboard, work: float = 1.0) -> tuple[np.ndarray, float]:
        """How surely these prompts tell the LLMs' strengths relative to each other.

        Args:
            board: as from `solve`.
            work: the share of it that may be spent: of many LLMs, fewer prompts are looked at, and at least 250.

        Returns:
            `(n_models,)` standard errors of the coefs minus their mean, in logits, by the same linear approximation as
            the intervals; and the effective number of prompts, sum(w)^2 / sum(w^2). Both say nothing (errors inf)
            with fewer than two prompts.
        """
        (theta, log_s, weights), shrink = self._sampled(work)
        if len(theta) < 2 or weights.sum() == 0:
            return np.full(self.n_models, np.inf), float(len(theta))
        optimum = self._optimum_of(board)
        if self._errors is None or not np.allclose(self._errors[2], optimum, rtol=0.0, atol=1e-12):
            hessian = PairLikelihood(self.feedback, self.n_models).hessian(self._mean().T, optimum)
            self._steps(optimum, hessian, (theta, log_s, weights), shrink)
        assert self._errors is not None
        return self._errors[:2]

    def _steps(self, optimum: np.ndarray, hessian: np.ndarray, prompts: _Prompts, shrink: float) -> np.ndarray:
        """The Newton steps of some prompts, which take long, scaled to tell the errors of all; those are kept."""
        steps = shrink * newton_steps(self.feedback, optimum, hessian, prompts)
        share, effective = prompts[2] / prompts[2].sum(), effective_number(prompts[2])
        variance = np.square(share) @ np.square(steps - steps.mean(1, keepdims=True)) * effective / (effective - 1.0)
        self._errors = np.sqrt(variance), effective / shrink**2, optimum
        return steps

    def _optimum_of(self, board: Leaderboard) -> np.ndarray:
        """A leaderboard as the solver's unknowns, `(n_models + 1,)` theta and log(t - 1)."""
        log_s = log_threshold(self.feedback, np.float64(board.eta)) if self.feedback.has_eta else 0.0
        return np.append(board.coefs - (board.gamma or 0.0), log_s)

    def _sampled(self, work: float = 1.0) -> tuple[_Prompts, float]:
        """Theta, log(t - 1) and weights of the kept prompts, and the factor from their errors to those of all."""
        most = max(_LEAST_SAMPLE, int(work * _MOST_GRADIENTS / self.n_models**2))
        # those of the lowest keys are a sample too
        _, weights, log_s, theta = np.split(self._kept[:most], [1, 2, 3], axis=1)
        return (theta, log_s[:, 0], weights[:, 0]), float(np.sqrt(len(theta) / max(self.n_prompts, 1)))

    @property
    def weight(self) -> float:
        """Sum of the weights of all prompts."""
        return float(np.ldexp(self._arrays["weight"], self._exponent))

    def _mean(self) -> np.ndarray:
        weight = float(self._arrays["weight"])
        if weight <= 0:
            raise P2LError("there is nothing to aggregate: no prompt, or all weights are 0")
        return self._arrays["sums"] / weight

    def _intervals(self, optimum: np.ndarray, replicates: int, hessian: Callable[[], np.ndarray]) -> np.ndarray | None:
        prompts, shrink = self._sampled()
        if len(prompts[0]) < 2 or replicates < 2 or prompts[2].sum() == 0:
            return None
        random = np.random.default_rng(sorted(self._seeds))
        steps = self._steps(optimum, hessian(), prompts, shrink)
        coefs = bootstrap(self.feedback, optimum, steps, prompts[2], replicates, random)
        return np.quantile(coefs, [0.025, 0.975], axis=0).T if len(coefs) else None


def aggregate(
    batches: Iterable[Coefficients],
    feedback: Feedback,
    models: tuple[str, ...],
    *,
    weights: Iterable[float] | None = None,
    sample: int = 1000,
    replicates: int = 1000,
    seed: int = 0,
) -> Leaderboard:
    """Aggregate leaderboard of a stream of batches of coefficients, with a weight for each prompt if given; see
    `PairStatistics`."""
    statistics, remaining = PairStatistics(feedback, len(models), sample=sample, seed=seed), PromptWeights(weights)
    for batch in batches:
        statistics.add(batch, remaining.take(len(batch)))
    remaining.require_end(statistics.n_prompts)
    return statistics.solve(models, replicates=replicates)


class PromptWeights:
    """The weights of a stream of prompts, taken batch by batch; None stands for a weight of 1 for each.

    Raises:
        P2LError: the weights are not iterable.
    """

    def __init__(self, weights: Iterable[float] | None) -> None:
        named = isinstance(weights, str | Mapping) or hasattr(weights, "columns")  # iterating gives no numbers
        if named or (weights is not None and not isinstance(weights, Iterable)):
            raise P2LError(f"weights must be numbers, one for each prompt, not {type(weights).__name__}")
        self._remaining = None if weights is None else iter(weights)
        self._exponent: int | None = None

    def take(self, n: int) -> np.ndarray | None:
        """`(n,)` weights of the next prompts, relative to the first ones if these are very large or small; P2LError if
        there are fewer, or one is no finite number >= 0."""
        if self._remaining is None:
            return None
        weights = weights_of(
            itertools.islice(self._remaining, n), "weights must be numbers, one for each prompt, finite and >= 0"
        )
        if len(weights) < n:
            raise P2LError("there are fewer weights than prompts; give one for each")
        if self._exponent is None and weights.any():
            self._exponent = exponent_of(weights)
        weights = np.ldexp(weights, -(self._exponent or 0))
        if weights.max(initial=0.0) > _MOST_TIMES:
            raise P2LError(
                f"a prompt weight is more than {_MOST_TIMES:g} times the first ones; they cannot be added up"
            )
        return weights

    def require_end(self, n_prompts: int) -> None:
        """Raise P2LError if there are more weights than prompts."""
        if self._remaining is not None and next(self._remaining, None) is not None:
            raise P2LError(f"there are more weights than prompts ({n_prompts})")


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except FileNotFoundError:
        raise P2LError(f"there is no file {str(path)!r}") from None
    except (OSError, SafetensorError) as error:
        raise P2LError(f"{str(path)!r} cannot be read as saved PairStatistics: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise P2LError(f"{str(path)!r} holds no saved PairStatistics ({_FORMAT}), but {metadata.get('format')!r}")
    return json.loads(metadata["state"]), arrays
