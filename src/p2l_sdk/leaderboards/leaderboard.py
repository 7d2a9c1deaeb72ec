"""`Coefficients` of many prompts, and the `Leaderboard` of one prompt, of many, or of votes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import P2LError
from p2l_sdk.modeling import leaderboard_p2l as display
from p2l_sdk.modeling.familiarity_p2l import damping
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, log_probabilities
from p2l_sdk.names import meant, place_of
from p2l_sdk.tabular import Tabular, html_table, require_pandas, text_bar

if TYPE_CHECKING:
    import matplotlib.axes
    import pandas

Z_95 = display.Z_95

WHOLE, BEST = 15, 10  # a table of more LLMs than the first number shows as many of the best as the second
_BARS = 20  # LLMs in a picture
ZERO = 1000.0  # the rating at which bars start
UNFAMILIAR = 0.02  # the familiarity below which a leaderboard says so
_CLOSE, _SMALLEST = 0.5, 1e-4  # share of the departure from the averaged leaderboard; familiarity that is written out


@dataclass(frozen=True, eq=False, repr=False)
class Coefficients:
    """Raw output of a scorer.

    Attributes:
        coefs: `(n_prompts, n_models)` in logits.
        eta, gamma: `(n_prompts, 1)`, or None if the feedback model has none.
        kinds: the `Kinds` of a model that recognises kinds of prompt.
        familiarity: `(n_prompts,)` how much a prompt is like those that the model learned from, in [0, 1]; None if the
            model does not know.
    """

    coefs: np.ndarray
    eta: np.ndarray | None
    gamma: np.ndarray | None
    kinds: Kinds | None = None
    familiarity: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.coefs)

    def __getitem__(self, rows: slice | np.ndarray) -> Coefficients:
        """The coefficients of some of the prompts."""
        return Coefficients(
            self.coefs[rows],
            None if self.eta is None else self.eta[rows],
            None if self.gamma is None else self.gamma[rows],
            None if self.kinds is None else self.kinds[rows],
            None if self.familiarity is None else self.familiarity[rows],
        )

    def to_pandas(self, models: Sequence[str] | None = None) -> pandas.DataFrame:
        """The coefs as a data frame (needs pandas): a row for each prompt, a column for each LLM, named `models`."""
        return require_pandas().DataFrame(self.coefs, columns=models if models is None else list(models))

    def __repr__(self) -> str:
        n_prompts, n_models = self.coefs.shape
        more = [name for name in ("eta", "gamma", "familiarity") if getattr(self, name) is not None]
        more += [f"{len(self.kinds.names)} kinds"] if self.kinds is not None else []
        parts = f"; also {', '.join(more)}" if more else ""
        return f"Coefficients(coefs of {n_prompts:,} prompts x {n_models:,} LLMs, in logits{parts})"

    def leaderboards(
        self, models: tuple[str, ...], feedback: Feedback, costs: Mapping[str, float] | None = None
    ) -> list[Leaderboard]:
        """The leaderboard of each prompt; `models` are the LLMs' names in the order of the columns, `costs` USD per
        response."""
        eta = [None] * len(self) if self.eta is None else self.eta[:, 0].tolist()
        gamma = [None] * len(self) if self.gamma is None else self.gamma[:, 0].tolist()
        familiarity = [None] * len(self) if self.familiarity is None else self.familiarity.tolist()
        if self.kinds is None:
            return [
                Leaderboard(
                    models=models,
                    coefs=row,
                    feedback=feedback,
                    eta=eta[i],
                    gamma=gamma[i],
                    familiarity=familiarity[i],
                    costs=costs,
                )
                for i, row in enumerate(self.coefs)
            ]
        shares, margins = self.kinds.shares.tolist(), Z_95 * self.kinds.errors
        stated = bool((margins > 0).all())  # ratings without limits say nothing of their errors
        return [
            Leaderboard(
                models=models,
                coefs=row,
                feedback=feedback,
                eta=eta[i],
                gamma=gamma[i],
                intervals=np.stack([row - margins[i], row + margins[i]], 1) if stated else None,
                kinds=dict(zip(self.kinds.names, shares[i], strict=True)),
                familiarity=familiarity[i],
                costs=costs,
            )
            for i, row in enumerate(self.coefs)
        ]

    @classmethod
    def concatenate(cls, parts: Sequence[Coefficients]) -> Coefficients:
        """Concatenate several batches of one model."""
        if len(parts) == 1:
            return parts[0]
        eta = [part.eta for part in parts if part.eta is not None]
        gamma = [part.gamma for part in parts if part.gamma is not None]
        familiarity = [part.familiarity for part in parts if part.familiarity is not None]
        return cls(
            np.concatenate([part.coefs for part in parts]),
            np.concatenate(eta) if eta else None,
            np.concatenate(gamma) if gamma else None,
            Kinds.concatenate([part.kinds for part in parts if part.kinds is not None]),
            np.concatenate(familiarity) if familiarity else None,
        )


@dataclass(frozen=True, eq=False)
class Kinds:
    """The kinds of prompt that a model recognised, and what follows for the certainty of its coefficients.

    Attributes:
        names: names of the kinds.
        shares: `(n_prompts, n_kinds)` how much of each kind a prompt shows, in [0, 1]; a prompt may show several.
        variance: `(n_models, n_kinds + 1)` of the model's last layer.
    """

    names: tuple[str, ...]
    shares: np.ndarray
    variance: np.ndarray

    @cached_property
    def errors(self) -> np.ndarray:
        """`(n_prompts, n_models)` standard errors of the coefs, in logits, from those of the ratings that the model was
        built from. They are worked out when they are asked for: routing needs none."""
        return display.kind_errors(self.shares, self.variance)

    def __getitem__(self, rows: slice | np.ndarray) -> Kinds:
        """The kinds of some of the prompts."""
        return Kinds(self.names, self.shares[rows], self.variance)

    @classmethod
    def concatenate(cls, parts: Sequence[Kinds]) -> Kinds | None:
        """Concatenate several batches of one model; None if there are none."""
        if not parts:
            return None
        return cls(parts[0].names, np.concatenate([part.shares for part in parts]), parts[0].variance)


@dataclass(frozen=True, eq=False, repr=False)
class Leaderboard(Tabular):
    """The LLMs' strengths on one prompt, on a set of prompts, or according to votes.

    Attributes:
        models: names of the LLMs, in the model's order (for a sorted list, see `ranking`).
        coefs: `(n_models,)` Bradley-Terry coefficients in logits.
        feedback: the feedback model that defines their meaning.
        eta, gamma: its raw tie threshold and ground; None if it has none.
        n_prompts: number of prompts it is based on; 0 for a leaderboard of votes.
        intervals: `(n_models, 2)` lower and upper 95 % limits of the coefs: over the prompts or votes, and by the
            errors of the ratings that a model was built from; None if there are none.
        n_votes: number of votes it is based on; None for a leaderboard of prompts.
        kinds: kind of prompt -> how much of it was recognised, in [0, 1] (the mean over the prompts); None if the model
            recognises none.
        familiarity: how much the prompt is like those that the model learned from, in [0, 1]: the share of these that
            are at least as unlike the rest (the mean over several prompts); None if the model does not know.
        costs: USD per response by LLM name, as far as they are known, to show beside the ratings.
    """

    models: tuple[str, ...]
    coefs: np.ndarray
    feedback: Feedback
    eta: float | None = None
    gamma: float | None = None
    n_prompts: int = 1
    intervals: np.ndarray | None = None
    n_votes: int | None = None
    kinds: Mapping[str, float] | None = None
    familiarity: float | None = None
    costs: Mapping[str, float] | None = None

    def __getitem__(self, name: str) -> dict[str, Any]:
        """The row of one LLM, named as people write it; UnknownModelError if there is none, or several may be meant."""
        if not isinstance(name, str):
            raise P2LError(f"a leaderboard has rows by the names of LLMs, not by {name!r}; ranking has them by rank")
        own = self.models[place_of(name, self.models, "the question")]
        return next(row for row in self.rows() if row["model"] == own)

    def __contains__(self, name: object) -> bool:
        """Whether a name, as people write it, is that of one of the LLMs."""
        return isinstance(name, str) and len(meant(name, self.models)) == 1

    def __iter__(self) -> Iterator[str]:
        return iter(self.ranking)

    def __len__(self) -> int:
        return len(self.models)

    @cached_property
    def order(self) -> np.ndarray:
        """`(n_models,)` indices from the best LLM to the worst; ties in the model's order."""
        return np.argsort(-self.coefs, kind="stable")

    @property
    def ranking(self) -> list[str]:
        """Names from the best LLM to the worst."""
        return [self.models[i] for i in self.order]

    @property
    def best(self) -> str:
        """The name of the best LLM."""
        return self.models[int(np.argmax(self.coefs))]

    @property
    def ranks(self) -> np.ndarray:
        """`(n_models,)` rank of each LLM, 1 for the best; equal coefficients share a rank."""
        return display.ranks(self.coefs)

    @property
    def ratings(self) -> np.ndarray:
        """`(n_models,)` ratings on the Arena scale, 1000 + 400 / ln 10 * coefficient; centred on 1000 if the
        coefficients are only known up to a shift (all feedback models but grk)."""
        return display.ratings(self.feedback, self.coefs)

    @property
    def rating_intervals(self) -> np.ndarray | None:
        """`(n_models, 2)` 95 % limits on the Arena scale; None if there are no intervals."""
        return None if self.intervals is None else display.ratings(self.feedback, self.coefs, self.intervals)

    @property
    def scale_text(self) -> str:
        """What a rating means, in a few words: its zero and its unit."""
        return f"1000: {self.zero_text}; 400 points are odds of 10 to 1"

    @property
    def zero_text(self) -> str:
        """What has a rating of 1000."""
        return "half of the answers usable" if self.feedback.grounded else "the mean LLM"

    @property
    def usable(self) -> np.ndarray | None:
        """`(n_models,)` probability that the LLM's answer is usable, sigmoid(coef); None unless the feedback model is
        grounded (grk)."""
        return display.usable(self.feedback, self.coefs)

    def win_probability(self, a: str, b: str) -> float:
        """Probability that a is preferred to b if one must be chosen: sigmoid(coef_a - coef_b), Bradley-Terry."""
        return 1.0 / (1.0 + math.exp(-(self._coef(a) - self._coef(b))))

    def outcomes(self, a: str, b: str) -> dict[str, float]:
        """Probabilities of all outcomes of a vote between a and b in the feedback model, ties included.

        Returns:
            Keys `a` and `b` (that LLM wins) and, if the feedback model has these outcomes, `tie` and `both_bad`.
        """
        log_probs = log_probabilities(
            self.feedback,
            np.float64(self._coef(a)),
            np.float64(self._coef(b)),
            None if self.eta is None else np.float64(self.eta),
            None if self.gamma is None else np.float64(self.gamma),
        )
        return {
            Winner(o).name.lower(): float(p) for o, p in zip(self.feedback.outcomes, np.exp(log_probs), strict=True)
        }

    def _coef(self, name: str) -> float:
        return float(self.coefs[place_of(name, self.models, "the question")])

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per LLM, best first: rank, model, coef, rating and, if available, usable, low and high
        (95 % limits of the rating)."""
        return display.rows(self.models, self.feedback, self.coefs, self.intervals)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values: feedback, n_prompts (or n_votes), eta, gamma, familiarity and kinds if known, and
        leaderboard (the rows)."""
        size = {"n_prompts": self.n_prompts} if self.n_votes is None else {"n_votes": self.n_votes}
        return {
            "feedback": str(self.feedback),
            **size,
            "eta": self.eta,
            "gamma": self.gamma,
            **({} if self.familiarity is None else {"familiarity": self.familiarity}),
            **({} if self.kinds is None else {"kinds": dict(self.kinds)}),
            "leaderboard": self.rows(),
        }

    def plot(self, ax: matplotlib.axes.Axes | None = None, *, top: int | None = _BARS) -> matplotlib.axes.Axes:
        """Plot the ratings as points, best on top, with 95 % intervals if there are any, and lines from the scale's
        zero, which is at 1000.

        Args:
            ax: where to draw; a new figure if not given.
            top: how many of the best LLMs are drawn; None for all.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        order = self.order[:top][::-1]
        ratings, intervals, rows = self.ratings[order], self.rating_intervals, range(len(order))
        limits = np.stack([ratings, ratings], 1) if intervals is None else intervals[order]
        ax = pictures.axes_of_size(ax, 7.5, 1.2 + 0.3 * len(order))
        ax.axvline(1000.0, color=pictures.GREY, lw=1.0, zorder=1)
        ax.hlines(rows, np.minimum(ratings, 1000.0), np.maximum(ratings, 1000.0), color=pictures.PALE_BLUE, lw=1.2)
        if intervals is not None:
            ax.hlines(rows, limits[:, 0], limits[:, 1], color=pictures.INK, lw=2.0, zorder=2)
        ax.plot(ratings, rows, "o", color=pictures.BLUE, ms=6.5, mec="white", zorder=3)
        ax.set_yticks(rows, pictures.llm_names([self.models[i] for i in order]))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color="#dddddd", lw=0.7)
        ax.set_axisbelow(True)
        for y, (rating, ends) in enumerate(zip(ratings, limits, strict=True)):  # the number on the side without a line
            side = {"ha": "left", "xytext": (7, 0)} if rating >= 1000.0 else {"ha": "right", "xytext": (-7, 0)}
            beside: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": pictures.SMALL, **side}
            ax.annotate(f"{rating:.0f}", (max(ends) if rating >= 1000.0 else min(ends), y), **beside)
        low, high = min(float(limits.min()), 1000.0), max(float(limits.max()), 1000.0)
        width = max(high - low, 1.0)
        ax.set_xlim(low - (0.1 if low < 1000.0 else 0.03) * width, high + 0.1 * width)
        ax.set_ylim(-0.7, len(order) - 0.3)
        told = "rating" if intervals is None else "rating with its 95 % interval"
        ax.set_xlabel(f"{told}\n({self.scale_text})")
        best = "" if len(order) == len(self.models) else f": the best {len(order)}"
        ax.set_title(self.caption + best, loc="left", fontsize=pictures.NORMAL)
        return ax

    def __repr__(self) -> str:
        header, cells = self._cells()
        widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
        lines = [
            "  ".join(
                text.ljust(width) if name == "LLM" else text.rjust(width)
                for name, text, width in zip(header, row, widths, strict=True)
            ).rstrip()
            for row in [header, *cells]
        ]
        return "\n".join([self.caption, *lines, *self._not_shown(), *self.warnings()])

    def _repr_html_(self) -> str:
        header, cells = self._cells()
        shown = self.rows()[: len(cells)]
        if "low" not in shown[0]:  # as on the command line: bars where there are no intervals
            low, high = float(self.ratings.min()), float(self.ratings.max())
            header.insert(3, "from 1000")
            for row, cell in zip(shown, cells, strict=True):
                cell.insert(3, text_bar(row["rating"], low, high, ZERO).replace(" ", "\u2007"))  # HTML joins blanks
        if self.costs:
            header.append("$ per 1k")
            for row, cell in zip(shown, cells, strict=True):
                cost = self.costs.get(row["model"])
                cell.append("?" if cost is None else f"{1000 * cost:.2f}")
        return html_table(self.caption, header, cells, [*self._not_shown(), *self.warnings()])

    @property
    def caption(self) -> str:
        """A one-line description."""
        n, kind = (self.n_prompts, "prompt") if self.n_votes is None else (self.n_votes, "vote")
        return f"Leaderboard of {len(self.models)} LLMs on {n:,} {kind}{'' if n == 1 else 's'} ({self.feedback})"

    def warnings(self) -> list[str]:
        """What its reader should know before relying on it: one line if the prompts are unlike those in training."""
        if self.familiarity is None or self.familiarity >= UNFAMILIAR:
            return []
        known = f"familiarity {self.familiarity:.2g}" if self.familiarity >= _SMALLEST else "familiarity below 0.0001"
        averaged = self.kinds is None and damping(np.float64(self.familiarity)) < _CLOSE
        meaning = "close to the averaged leaderboard" if averaged else "less certain than usual"
        return [f"unlike the prompts that this model learned from ({known}): {meaning}"]

    def _not_shown(self) -> list[str]:
        """What a table of the best LLMs says at its end; nothing if it shows all."""
        n = len(self.models)
        return [] if n <= WHOLE else [f"... and {n - BEST} more: rows() and to_pandas() have all {n}"]

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        rows = self.rows() if len(self.models) <= WHOLE else self.rows()[:BEST]
        header = ["rank", "LLM", "rating"]
        header += ["95 % interval"] if "low" in rows[0] else []
        header += ["usable"] if "usable" in rows[0] else []
        cells = []
        for row in rows:
            cell = [str(row["rank"]), row["model"], f"{row['rating']:.0f}"]
            cell += [f"{row['low']:.0f} to {row['high']:.0f}"] if "low" in row else []
            cell += [f"{row['usable']:.0%}"] if "usable" in row else []
            cells.append(cell)
        return header, cells
