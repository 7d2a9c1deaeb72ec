"""Adding, removing and renaming LLMs in a trained model: only rows of its last layer change."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.editing.own_votes import OwnVotes
from p2l_sdk.editing.rated import KindsRecord
from p2l_sdk.editing.row import RowFit, RowVotes, fit_row
from p2l_sdk.errors import P2LError, P2LWarning, VotesError, require_known
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.leaderboards.pairs import natural_parameters
from p2l_sdk.modeling.feedback_p2l import vote_targets
from p2l_sdk.modeling.leaderboard_p2l import ARENA_SCALE
from p2l_sdk.modeling.limits_p2l import checked_names
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import validate_costs
from p2l_sdk.names import meant, places
from p2l_sdk.scorers.batches import BATCH
from p2l_sdk.scorers.scorer import EditableScorer, editable
from p2l_sdk.tabular import Tabular
from p2l_sdk.votes.votes import Scores, Votes

if TYPE_CHECKING:
    import matplotlib.axes

# warn if the standard error exceeds both this fraction of the known LLMs' spread and this many logits
_TOO_WIDE, _SMALL = 0.5, 0.25  # 0.25 logits are 6 points of a win rate

_FAR = 1.7  # logits (300 points) beyond the best or the worst LLM: no rating of the same scale
_LEAST_DOUBT = 0.1  # logits, smallest standard deviation of a level predicted from a leaderboard


class Prior(StrEnum):
    """What is assumed about a new LLM before its votes; see `editing.row`."""

    SIMILAR = "similar"  # centred on the mean of the known LLMs, and likely to differ from it as they do
    MEAN = "mean"  # centred on the mean of the known LLMs
    LEADERBOARD = "leaderboard"  # at the level predicted from a given leaderboard, otherwise like SIMILAR

    @classmethod
    def parse(cls, name: str) -> Prior:
        """The prior of this name; raises `P2LError` listing the legal names."""
        named = [prior for prior in cls if prior is not cls.LEADERBOARD]  # which is given as one, not by name
        if str(name).lower() in named:
            return cls(str(name).lower())
        raise P2LError(f"unknown prior {name!r}; known: {', '.join(named)}, or a Leaderboard")


@dataclass(frozen=True, eq=False)
class AddedModel(Tabular):
    """What is known about an LLM added by `add_model`.

    Attributes:
        name: name of the LLM.
        n_votes: number of votes used: those on the new LLM that count in the feedback model.
        n_prompts: number of prompts of these votes.
        n_ignored: number of votes not used.
        prior: what was assumed about it before the votes.
        deviation: standard deviation allowed for its free departure from that (s in `editing.row`), chosen by the
            votes, in logits.
        held_out_loss: mean negative log-likelihood of a vote, predicted from the votes on other prompts, in nats.
        standard_error: standard error of its coefficient, root mean square over the votes' prompts, in logits.
        spread: standard deviation of the known LLMs' coefficients, root mean square over these prompts, in logits.
    """

    name: str
    n_votes: int
    n_prompts: int
    n_ignored: int
    prior: Prior
    deviation: float
    held_out_loss: float
    standard_error: float
    spread: float
    _fit: RowFit = field(repr=False)
    _scorer: EditableScorer = field(repr=False)

    def standard_errors(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """`(n_prompts,)` standard errors of its coefficient on these prompts, in logits.

        They come from the curvature of the likelihood and the prior at the optimum (Laplace approximation), widened if
        votes on one prompt agree more than independent votes would. The features and the known LLMs' rows are treated
        as exact.
        """
        return self._fit.standard_errors(_features(self._scorer, prompts))

    @property
    def source(self) -> str:
        """What it was learned from, as text."""
        numbers = ((self.n_votes, "vote"), (self.n_prompts, "prompt"))
        return " on ".join(f"{n:,} {thing}{'' if n == 1 else 's'}" for n, thing in numbers)

    @property
    def covariance(self) -> np.ndarray:
        """`(width + 1, width + 1)` covariance of its row of the last layer, the bias last."""
        return self._fit.covariance

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"{self.name}, added from {self.source}"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each figure: figure and value."""
        return [{"figure": name, "value": value} for name, value in self.to_dict().items() if name != "name"]

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw how surely it is placed: the standard error of its coefficient beside the spread of the known LLMs.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        told = {"its standard error": self.standard_error, "spread of the known LLMs": self.spread}
        rows = [{"figure": name, "value": value} for name, value in told.items()]
        return pictures.draw_bars(rows, "figure", "value", meaning="logits", title=self.caption, ax=ax)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        names = [f.name for f in dataclasses.fields(self) if not f.name.startswith("_")]
        return {name: str(v) if isinstance(v := getattr(self, name), Prior) else v for name in names}


def add_row(
    scorer: Any,
    name: str,
    votes: Votes | str | Path | None = None,
    scores: Scores | str | Path | None = None,
    prior: Prior | str | Leaderboard = Prior.SIMILAR,
) -> tuple[EditableScorer, AddedModel]:
    """The model with one more LLM: the last layer gets one new row.

    Args:
        scorer: the model.
        name: name of the new LLM.
        votes: `Votes` or a file of votes. Only those between the new LLM and a known one are used.
        scores: `Scores` or a file with a column for the new LLM and for at least one known LLM. Each pair counts as a
            vote: the higher score wins; equal scores are a tie, or "both bad" below 0.5.
        prior: "similar" (the new LLM differs from the mean LLM as the known ones do) or "mean"; see `editing.row`. Or a
            leaderboard, e.g. from benchmarks, with the new LLM and at least three known ones, which gives the level
            expected of the new LLM.

    Raises:
        P2LError: the name is taken, the prior is invalid, or the model's weights are on a server.
        VotesError: no vote on the new LLM counts.
        UnknownModelError: an opponent of the new LLM is unknown to this model.

    Warns:
        P2LWarning: there are too few votes; the message says how uncertain the new coefficient is.
    """
    old = editable(scorer)
    spec, kind = old.spec, Prior.LEADERBOARD if isinstance(prior, Leaderboard) else Prior.parse(prior)
    if name in spec.models:
        raise P2LError(f"{name!r} is among the LLMs already; remove or rename it first")
    new_spec = spec.replace(models=(*spec.models, name))  # refuses an invalid name before the fit
    _warn_of_namesake(name, spec.models)
    if votes is None and scores is None:
        raise VotesError(f"there is nothing to learn {name!r} from; give votes, scores or both")
    pieces = [OwnVotes.of_votes(name, votes, spec)] if votes is not None else []
    pieces += [OwnVotes.of_scores(name, scores, spec)] if scores is not None else []
    own = OwnVotes.joined(pieces).that_count(name, spec)
    features = _features(old, own.prompts)
    scored = old.score_features(features)
    theta, log_s = natural_parameters(spec.feedback, scored, len(spec.models))
    shift = np.zeros(len(theta)) if scored.gamma is None else scored.gamma[:, 0].astype(np.float64)
    targets = vote_targets(spec.feedback)[own.winner] * own.weight[:, None]
    row_votes = RowVotes(spec.feedback, own.prompt, shift, theta[own.prompt, own.opponent], log_s[own.prompt], targets)
    expected = None
    if isinstance(prior, Leaderboard):  # levels in terms of the rows, before gamma is subtracted
        expected = predicted_level(name, prior, spec.models, scored.coefs.astype(np.float64).mean(0))
    fit = fit_row(old.rows, features, row_votes, similar=kind is not Prior.MEAN, expected=expected)
    added = AddedModel(
        name=name,
        n_votes=len(own.winner),
        n_prompts=len(own.prompts),
        n_ignored=own.n_ignored,
        prior=kind,
        deviation=fit.deviation,
        held_out_loss=fit.held_out_loss,
        standard_error=float(np.sqrt(np.square(fit.standard_errors(features.astype(np.float64))).mean())),
        spread=float(np.sqrt(theta.var(1).mean())),
        _fit=fit,
        _scorer=old,
    )
    _warn_of_few(added)
    variance = None if old.variance is None else np.vstack([old.variance, np.diag(fit.covariance)])
    return old.with_rows(new_spec, np.vstack([old.rows, fit.row]), variance), added


def add_rated_row(
    scorer: Any, folder: Path | None, name: str, ratings: Mapping[str, Any], votes: Any = None, scores: Any = None
) -> EditableScorer:
    """The model with one more LLM, from its ratings by kind of prompt, in closed form; see `editing.rated`.

    Args:
        scorer: the model.
        folder: its folder, which holds how its rows were made from ratings.
        name: name of the new LLM.
        ratings: {kind, or the overall leaderboard's name: rating, or (rating, lower, upper) with 95 % limits}.
        votes, scores: None; a model is refined with votes afterwards (`P2L.refine`).

    Raises:
        P2LError: the name is taken, the model was not built from ratings, a rating is invalid or of an unknown kind, or
            votes are given too.
    """
    old = editable(scorer)
    if name in old.spec.models:
        raise P2LError(f"{name!r} is among the LLMs already; remove or rename it first")
    if votes is not None or scores is not None:
        raise P2LError("give ratings, or votes and scores; to put votes on top: .add_model(ratings=...).refine(votes)")
    spec = old.spec.replace(models=(*old.spec.models, name))
    _warn_of_namesake(name, old.spec.models)
    row, variance = KindsRecord.read(folder, spec.kinds).row(name, ratings)
    _warn_of_far(name, float(row[-1]), old.rows[:, -1])
    variances = np.vstack([np.zeros_like(old.rows) if old.variance is None else old.variance, variance])
    return old.with_rows(spec, np.vstack([old.rows, row]), variances)


def predicted_level(name: str, board: Leaderboard, models: Sequence[str], levels: np.ndarray) -> tuple[float, float]:
    """Predict the level of a new LLM, with its standard deviation, from its coefficient on another leaderboard.

    A least-squares line through the known LLMs on that leaderboard maps its coefficients to their levels here; the
    standard deviation is that of a prediction by this line, at least 0.1 logits.

    Args:
        name: name of the new LLM.
        board: leaderboard with the new LLM and at least three known ones.
        models, levels: names and mean coefficients `(n_models,)` of the known LLMs, in logits.

    Raises:
        UnknownModelError: the new LLM is not on the leaderboard.
        P2LError: fewer than three known LLMs are, or all of them have the same coefficient there.
    """
    require_known([name], board.models, "the prior")
    known = [model for model in models if model in board.models]
    x = board.coefs[[places(board.models)[model] for model in known]].astype(np.float64)
    if len(known) < 3 or np.ptp(x) == 0:
        raise P2LError(
            f"the leaderboard that is the prior has {len(known)} of this model's LLMs; at least 3 are needed, and not "
            "all alike"
        )
    y = levels[[list(models).index(model) for model in known]]
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    away = float(board.coefs[board.models.index(name)] - x.mean())
    residual = float(np.square(y - y.mean() - slope * centred).sum() / (len(known) - 2))
    variance = residual * (1.0 + 1.0 / len(known) + away**2 / float(centred @ centred))
    return float(y.mean() + slope * away), max(float(np.sqrt(variance)), _LEAST_DOUBT)


def remove_row(scorer: Any, name: str) -> EditableScorer:
    """The model without one LLM; errors as in `P2L.remove_model`."""
    old = editable(scorer)
    spec = old.spec
    require_known([name], spec.models, "remove_model")
    if len(spec.models) <= 2:
        raise P2LError(f"{name!r} cannot be removed: a leaderboard needs two LLMs, and there are {len(spec.models)}")
    keep = [i for i, model in enumerate(spec.models) if model != name]
    models = tuple(spec.models[i] for i in keep)
    variance = None if old.variance is None else old.variance[keep]
    return old.with_rows(spec.replace(models=models, costs=without(spec.costs, name)), old.rows[keep], variance)


def only_rows(scorer: Any, names: Sequence[str]) -> EditableScorer:
    """The model with these LLMs alone, in this order; raises `UnknownModelError`."""
    old = editable(scorer)
    spec = old.spec
    require_known(names, spec.models, "the LLMs to keep")
    keep = [places(spec.models)[name] for name in names]
    costs = {name: cost for name, cost in spec.costs.items() if name in names}
    variance = None if old.variance is None else old.variance[keep]
    return old.with_rows(spec.replace(models=tuple(names), costs=costs), old.rows[keep], variance)


def rename_row(scorer: Any, name: str, new_name: str) -> EditableScorer:
    """The model with one LLM renamed; errors as in `P2L.rename_model`."""
    old = editable(scorer)
    spec = old.spec
    require_known([name], spec.models, "rename_model")
    checked_names("the new name", "LLM", [new_name])
    if new_name != name and new_name in spec.models:
        raise P2LError(f"{name!r} cannot be renamed {new_name!r}: that is another LLM of this model")
    models = tuple(new_name if model == name else model for model in spec.models)
    costs = renamed(spec.costs, name, new_name)
    return old.with_rows(spec.replace(models=models, costs=costs), old.rows, old.variance)


def renamed(table: Any, name: str, new_name: str) -> dict[str, Any]:
    """A mapping by LLM name, with one LLM renamed."""
    return {new_name if model == name else model: value for model, value in table.items()}


def without(table: Any, name: str) -> dict[str, Any]:
    """A mapping by LLM name, without one LLM."""
    return {model: value for model, value in table.items() if model != name}


def checked_cost(name: str, cost: float) -> dict[str, float]:
    """{name: cost} in USD per response; `CostError` unless the cost is a finite number >= 0."""
    return validate_costs({name: cost}, (name,))


def _features(scorer: EditableScorer, prompts: Sequence[Prompt]) -> np.ndarray:
    parts = [scorer.features(prompts[start : start + BATCH]) for start in range(0, len(prompts), BATCH)]
    return np.concatenate(parts).astype(np.float64)


def _warn_of_namesake(name: str, models: tuple[str, ...]) -> None:
    """Warn if the name was, until now, another way to write one of the model's LLMs."""
    if others := meant(name, models):
        warnings.warn(
            f"{name!r} was read as {' or '.join(others)} so far, and means the new LLM from now on; to replace one, "
            "remove it first",
            P2LWarning,
            stacklevel=4,
        )


def _warn_of_far(name: str, level: float, levels: np.ndarray) -> None:
    """Warn if the overall coefficient of a rated LLM is far from those of all others."""
    if level > levels.max() + _FAR or level < levels.min() - _FAR:
        warnings.warn(
            f"the overall rating of {name!r} is {ARENA_SCALE * abs(level - np.median(levels)):.0f} points from the "
            "middle of the known LLMs, and far from all of them; ratings must be on the scale that the model was "
            "built from",
            P2LWarning,
            stacklevel=4,
        )


def _warn_of_few(added: AddedModel) -> None:
    if added.standard_error > max(_TOO_WIDE * added.spread, _SMALL):
        warnings.warn(
            f"too few votes for {added.name!r} ({added.source}): its coefficient is known to "
            f"± {added.standard_error:.2f} logits (standard error) only, while the known LLMs differ by "
            f"{added.spread:.2f}; what the votes leave open is taken from their mean. Give more votes, on more prompts",
            P2LWarning,
            stacklevel=4,
        )
