"""What refining a model with votes found out, and the features in which it does so."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.scorers.batches import BATCH
from p2l_sdk.scorers.scorer import EditableScorer
from p2l_sdk.tabular import Tabular

if TYPE_CHECKING:
    import matplotlib.axes

_MOST_DIRECTIONS = 32  # of wide features, those along which the votes' prompts differ most


@dataclass(frozen=True)
class Choice:
    """The numbers that the votes choose; see `editing.refine`.

    Attributes:
        level_scale, kinds_scale: s and c.
        level, kinds: tau_level and tau_kinds, in logits.
        shared: how much the common row may differ from prompt to prompt, in logits, if there is one.
    """

    level_scale: float = 1.0
    kinds_scale: float = 1.0
    level: float = 0.25
    kinds: float = 0.25
    shared: float = 0.5

    @property
    def doubt(self) -> float:
        """Minus the logarithm of how likely they are before the votes, in nats, up to a constant."""
        scales = (self.level_scale - 1.0) ** 2 + (self.kinds_scale - 1.0) ** 2
        departures = np.log(self.level / 0.25) ** 2 + np.log((self.kinds + 0.05) / 0.3) ** 2
        departures += np.log((self.shared + 0.1) / 0.6) ** 2
        return float(scales / (2 * 0.5**2) + departures / (2 * 0.7**2))


@dataclass(frozen=True, eq=False)
class Refined(Tabular):
    """What the votes said about the base.

    Attributes:
        models: the LLMs in the votes; `added` those among them that the base did not know.
        feedback: of the refined model.
        n_votes, n_prompts: votes that count, and their prompts.
        n_ignored: votes that do not count.
        choice: the scales and departures that the votes chose.
        held_out_loss: mean negative log-likelihood of a vote in nats, predicted from the votes on other prompts: by the
            "base" (where the votes made it `rk` or `grk`, with its ties fitted to them), by the "averaged" leaderboard,
            and "refined".
        covariance: `(n, n, width, width)` covariance of these LLMs' rows, in the features of `basis`.
        basis: the features of the fit.
        matched: LLMs that the votes name otherwise than the model: as written -> the model's own name.
    """

    models: tuple[str, ...]
    added: tuple[str, ...]
    feedback: Feedback
    n_votes: int
    n_prompts: int
    n_ignored: int
    choice: Choice
    held_out_loss: dict[str, float]
    covariance: np.ndarray = field(repr=False)
    basis: Basis = field(repr=False)
    _scorer: EditableScorer = field(repr=False)
    matched: dict[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """What was learned from, as text."""
        votes, prompts = ("" if n == 1 else "s" for n in (self.n_votes, self.n_prompts))
        return f"{self.n_votes:,} vote{votes} on {self.n_prompts:,} prompt{prompts}"

    @property
    def verdict(self) -> str:
        """Whether the refined model beats the averaged leaderboard and the base, as text."""
        loss = self.held_out_loss
        beaten = [name for name in ("base", "averaged") if loss["refined"] < loss[name]]
        names = {"base": "the base", "averaged": "the averaged leaderboard"}
        left = [names[name] for name in names if name not in beaten]
        return "better than both" if not left else f"not better than {' and '.join(left)}"

    def standard_errors(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """`(n_prompts, len(models))` standard errors of these LLMs' coefficients, in logits, by the curvature at the
        optimum; what the chosen numbers leave open is not in them."""
        f = self.basis.of(features_of(self._scorer, prompts))
        own = self.covariance[np.arange(len(self.models)), np.arange(len(self.models))]
        return np.sqrt(np.maximum(np.einsum("pk,ikl,pl->pi", f, own, f), 0.0))

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"Refined by {self.source}: {self.verdict}"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each predictor ("base", "averaged", "refined"): model and held_out_loss in nats."""
        return [{"model": name, "held_out_loss": loss} for name, loss in self.held_out_loss.items()]

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw the losses on prompts whose votes were left out.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        return pictures.draw_bars(
            self.rows(),
            "model",
            "held_out_loss",
            meaning="held-out loss, nats a vote; lower is better",
            title=self.caption,
            ax=ax,
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.repr}
        choice = dataclasses.asdict(self.choice)
        return {**values, "models": list(self.models), "added": list(self.added), "feedback": str(self.feedback)} | {
            "choice": choice
        }


@dataclass(frozen=True, eq=False)
class Basis:
    """The features of the fit: centred, and of wide ones only the leading directions; the last is 1.

    Attributes:
        centre: `(width,)` mean features of the votes' prompts.
        axes: `(width, n)` orthonormal directions.
        spread: root mean square distance of the votes' prompts from the centre.
    """

    centre: np.ndarray
    axes: np.ndarray
    spread: float

    @classmethod
    def fitted(cls, features: np.ndarray) -> Basis:
        """The basis for the features of the votes' prompts, `(n_prompts, width)`."""
        centre = features.mean(0)
        away, width = features - centre, features.shape[1]
        axes = np.eye(width)
        if width > _MOST_DIRECTIONS:
            axes = np.linalg.eigh(away.T @ away)[1][:, : -_MOST_DIRECTIONS - 1 : -1]
        return cls(centre, axes, float(np.sqrt(np.square(away @ axes).sum(1).mean())))

    def of(self, features: np.ndarray) -> np.ndarray:
        """`(n_prompts, n + 1)` features of the fit."""
        return np.hstack([(features - self.centre) @ self.axes, np.ones((len(features), 1))])

    def row(self, fitted: np.ndarray) -> np.ndarray:
        """`(..., width + 1)` rows of the last layer from rows of the fit `(..., n + 1)`."""
        weights = fitted[..., :-1] @ self.axes.T
        return np.concatenate([weights, fitted[..., -1:] - (weights @ self.centre)[..., None]], -1)

    def fitted_row(self, rows: np.ndarray) -> np.ndarray:
        """The inverse of `row`; parts outside the directions are left out."""
        weights = rows[..., :-1]
        return np.concatenate([weights @ self.axes, (weights @ self.centre + rows[..., -1])[..., None]], -1)

    def variances(self, variances: np.ndarray) -> np.ndarray:
        """`(n_models, n + 1)` variances of the rows of the fit, from those of the rows of the last layer."""
        weights = variances[:, :-1]
        level = variances[:, -1] + weights @ np.square(self.centre)
        return np.hstack([weights @ np.square(self.axes), level[:, None]])


def features_of(scorer: EditableScorer, prompts: Sequence[Prompt]) -> np.ndarray:
    """`(n_prompts, width)` float64 features, scored in batches."""
    parts = [scorer.features(prompts[start : start + BATCH]) for start in range(0, len(prompts), BATCH)]
    return np.concatenate(parts).astype(np.float64)
