"""What the SDK returns: `Coefficients` (of many prompts), `Leaderboard` and `Route`, with names on every number."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import MissingExtraError, require_known
from p2l_sdk.modeling import leaderboard_p2l as shown
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, log_probabilities

if TYPE_CHECKING:
    import matplotlib.axes
    import pandas


def usd(amount: float) -> str:
    """USD as people write it: 0.0004 is "$0.0004"."""
    digits = f"{abs(amount):.10f}".rstrip("0").rstrip(".") if abs(amount) >= 1e-9 or amount == 0 else f"{abs(amount):g}"
    return f"{'-' if amount < 0 else ''}${digits}"


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Raw output of a scorer: coefs `(n_prompts, n_models)` in logits; eta, gamma `(n_prompts, 1)` or None."""

    coefs: np.ndarray
    eta: np.ndarray | None
    gamma: np.ndarray | None

    def __len__(self) -> int:
        return len(self.coefs)

    def __getitem__(self, rows: slice | np.ndarray) -> Coefficients:
        """Those of some prompts."""
        return Coefficients(
            self.coefs[rows],
            None if self.eta is None else self.eta[rows],
            None if self.gamma is None else self.gamma[rows],
        )

    def leaderboards(self, models: tuple[str, ...], feedback: Feedback) -> list[Leaderboard]:
        """The leaderboard of each prompt. models: their names, in the order of the columns."""
        eta = [None] * len(self) if self.eta is None else self.eta[:, 0].tolist()
        gamma = [None] * len(self) if self.gamma is None else self.gamma[:, 0].tolist()
        return [
            Leaderboard(models=models, coefs=row, feedback=feedback, eta=eta[i], gamma=gamma[i])
            for i, row in enumerate(self.coefs)
        ]

    @classmethod
    def concatenate(cls, parts: Sequence[Coefficients]) -> Coefficients:
        """Those of several batches, of one model, as one."""
        eta = [part.eta for part in parts if part.eta is not None]
        gamma = [part.gamma for part in parts if part.gamma is not None]
        return cls(
            np.concatenate([part.coefs for part in parts]),
            np.concatenate(eta) if eta else None,
            np.concatenate(gamma) if gamma else None,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Leaderboard:
    """The LLMs' strengths on one prompt, or on a set of prompts.

    Attributes:
        models: names of the LLMs, in the model's order (not sorted: see `ranking`).
        coefs: `(n_models,)` Bradley-Terry coefficients in logits.
        feedback: the feedback model that gives them meaning.
        eta, gamma: its raw threshold and ground, None where it has none.
        n_prompts: how many prompts stand behind it; 0 where it is of votes.
        intervals: `(n_models, 2)` lower and upper 95 % limits of the coefs over the prompts (or the votes), None for
            one prompt.
        n_votes: how many votes stand behind it, None where it is of prompts.
    """

    models: tuple[str, ...]
    coefs: np.ndarray
    feedback: Feedback
    eta: float | None = None
    gamma: float | None = None
    n_prompts: int = 1
    intervals: np.ndarray | None = None
    n_votes: int | None = None

    @cached_property
    def order(self) -> np.ndarray:
        """`(n_models,)` indices from the best LLM to the worst; equal ones in the model's order."""
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
        """`(n_models,)` rank of each LLM, 1 is best; equal coefficients share a rank."""
        return shown.ranks(self.coefs)

    @property
    def ratings(self) -> np.ndarray:
        """`(n_models,)` on the Arena scale, 1000 + 400 / ln 10 * coefficient; centred on 1000 where the feedback
        model is known up to a shift only (all but grk)."""
        return shown.ratings(self.feedback, self.coefs)

    @property
    def rating_intervals(self) -> np.ndarray | None:
        """`(n_models, 2)` intervals on the Arena scale."""
        return None if self.intervals is None else shown.ratings(self.feedback, self.coefs, self.intervals)

    @property
    def usable(self) -> np.ndarray | None:
        """`(n_models,)` chance that the LLM's answer is usable, sigmoid(coef); None unless the model is grounded."""
        return shown.usable(self.feedback, self.coefs)

    def win_probability(self, a: str, b: str) -> float:
        """Chance that a is preferred to b if one of them must be: sigmoid(coef_a - coef_b), Bradley-Terry."""
        return 1.0 / (1.0 + math.exp(-(self._coef(a) - self._coef(b))))

    def outcomes(self, a: str, b: str) -> dict[str, float]:
        """Probabilities of all outcomes of a vote between a and b, ties included, as the feedback model has them.

        Returns:
            Keys `a` and `b` (that one wins) and, where the feedback model knows them, `tie` and `both_bad`.
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
        require_known([name], self.models, "the question")
        return float(self.coefs[self.models.index(name)])

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per LLM, best first: rank, model, coef, rating and, where known, usable, low, high
        (95 % limits of the rating)."""
        return shown.rows(self.models, self.feedback, self.coefs, self.intervals)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: feedback, n_prompts (or n_votes), eta, gamma and the rows."""
        size = {"n_prompts": self.n_prompts} if self.n_votes is None else {"n_votes": self.n_votes}
        return {
            "feedback": str(self.feedback),
            **size,
            "eta": self.eta,
            "gamma": self.gamma,
            "leaderboard": self.rows(),
        }

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a data frame (needs pandas)."""
        try:
            import pandas
        except ImportError:
            raise MissingExtraError("to_pandas", "pandas", "data") from None
        return pandas.DataFrame(self.rows())

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draws the ratings as horizontal bars, best on top, with intervals where there are any (needs matplotlib)."""
        from p2l_sdk.plots import plot_leaderboard

        return plot_leaderboard(self, ax)

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
        return "\n".join([self.caption, *lines])

    def _repr_html_(self) -> str:
        header, cells = self._cells()
        head = "".join(f"<th>{name}</th>" for name in header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in cells)
        return f"<table><caption>{self.caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    @property
    def caption(self) -> str:
        """One line that says what this is."""
        n, kind = (self.n_prompts, "prompt") if self.n_votes is None else (self.n_votes, "vote")
        return f"Leaderboard of {len(self.models)} LLMs on {n:,} {kind}{'' if n == 1 else 's'} ({self.feedback})"

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        rows = self.rows()
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


@dataclass(frozen=True, eq=False, repr=False)
class Route:
    """The LLM to call for a prompt, and why.

    Attributes:
        model: drawn from the mixture.
        mixture: name -> probability; at most two LLMs under a budget, one without.
        expected_cost: mean cost of the mixture, USD per response; None where one of them is not known.
        expected_score: of the mixture's answer, in (0, 1), what `objective` names: the chance that it is preferred to
            that of an opponent ("win_rate"), or that it is usable ("usable").
        rating: the router's own coefficient (theta' of the paper's Algorithm 1), in logits beside the LLMs' own.
        ranking: the fallback order: `model` first, then by score the others that cost no more than the budget.
        budget: the budget asked for, USD per response, or None.
        leaderboard: the prompt's leaderboard.
        objective: what the LLMs were chosen by; see `Router`.
    """

    model: str
    mixture: Mapping[str, float]
    expected_cost: float | None
    expected_score: float
    rating: float
    ranking: list[str]
    budget: float | None
    leaderboard: Leaderboard
    objective: str = "win_rate"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, the leaderboard included."""
        return {
            "model": self.model,
            "mixture": dict(self.mixture),
            "expected_cost": self.expected_cost,
            "expected_score": self.expected_score,
            "objective": str(self.objective),
            "rating": self.rating,
            "ranking": self.ranking,
            "budget": self.budget,
            **self.leaderboard.to_dict(),
        }

    def to_pandas(self) -> pandas.DataFrame:
        """The leaderboard's rows with the probability of each LLM in a column `probability` (needs pandas)."""
        frame = self.leaderboard.to_pandas()
        frame["probability"] = [self.mixture.get(name, 0.0) for name in frame["model"]]
        return frame

    def __repr__(self) -> str:
        return "\n".join(f"{name:<8} {value}" for name, value in self.facts())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in self.facts())
        return f"<table>{rows}</table>"

    def facts(self) -> list[tuple[str, str]]:
        """The route in words: label and text."""
        mixture = " + ".join(f"{p:.0%} {name}" for name, p in self.mixture.items())
        cost = "not known" if self.expected_cost is None else f"{usd(self.expected_cost)} per response"
        if self.budget is not None:
            cost += f" (budget {usd(self.budget)})"
        facts = [("call", self.model)]
        if len(self.mixture) > 1:
            facts.append(("mixture", mixture))
        chance = "of a usable answer" if self.objective == "usable" else "to be preferred to the answer of an opponent"
        facts += [("cost", cost), ("score", f"{self.expected_score:.0%} chance {chance}")]
        if len(self.ranking) > 1:
            facts.append(("then", ", ".join(self.ranking[1:4]) + (", ..." if len(self.ranking) > 4 else "")))
        return facts
