"""`Route`: the LLM to call for a prompt, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.tabular import Tabular, html_text

if TYPE_CHECKING:
    import matplotlib.axes

_FAR_ABOVE = 5  # times the cost of the dearest LLM


def usd(amount: float) -> str:
    """Format USD without trailing zeros, and of usual amounts without an exponent: 0.0004 is "$0.0004"."""
    plain = 1e-9 <= abs(amount) < 1e15 or amount == 0
    digits = f"{abs(amount):.10f}".rstrip("0").rstrip(".") if plain else f"{abs(amount):g}"
    return f"{'-' if amount < 0 else ''}${digits}"


def idle_budget(budget: float, dearest: float, but: str = "") -> str | None:
    """What to say of a budget so far above the dearest LLM that it limits nothing, `but` what is named, and may be in
    another unit."""
    if not budget > _FAR_ABOVE * dearest:
        return None
    return (
        f"the budget is USD per response, and no LLM costs more than {usd(dearest)}: it limits nothing{but} "
        f"({usd(budget)} for 1,000 responses would be {budget / 1000:g})"
    )


def share_text(share: float) -> str:
    """A share as a whole percentage; one that is neither nothing nor all is not shown as such."""
    return "<1%" if 0.0 < share < 0.005 else ">99%" if 0.995 <= share < 1.0 else f"{share:.0%}"


def mixture_text(mixture: Mapping[str, float], most: int | None = None) -> str:
    """A mixture in words, "94% gpt-4o-mini + 6% llama-3.1-8b"; of many LLMs, `most` are named."""
    named = [f"{share_text(share)} {name}" for name, share in list(mixture.items())[:most]]
    return " + ".join([*named, *([f"{len(mixture) - len(named)} more"] if len(mixture) > len(named) else [])])


@dataclass(frozen=True, eq=False, repr=False)
class Route(Tabular):
    """The LLM to call for a prompt, and why.

    Attributes:
        model: the LLM drawn from the mixture.
        mixture: name -> probability; at most two LLMs with a budget, one without.
        expected_cost: mean cost of the mixture, USD per response; None if one of these costs is unknown.
        expected_score: expected score of the mixture's answer, in (0, 1): the probability that it is preferred to an
            opponent's ("win_rate"), or that it is usable ("usable"), depending on `objective`.
        rating: the router's own coefficient (theta' in the paper's Algorithm 1), in logits, comparable to the LLMs'.
        ranking: the fallback order: `model`, then by score the other LLMs that cost no more than the budget.
        budget: the budget given, USD per response, or None.
        leaderboard: the prompt's leaderboard.
        objective: what was maximised; see `Router`.
        matched: name as given -> the model's own name (that of the leaderboard), for those of the router's LLMs and
            opponents where they differ.
        left_out: LLMs that could not be chosen because their cost is not known.
        dearest: USD per response of the dearest LLM that could be chosen; None if a cost is unknown.
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
    matched: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    dearest: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, including the leaderboard."""
        return {
            "model": self.model,
            "mixture": dict(self.mixture),
            "expected_cost": self.expected_cost,
            "expected_score": self.expected_score,
            "objective": str(self.objective),
            "rating": self.rating,
            "ranking": self.ranking,
            "budget": self.budget,
            "matched": dict(self.matched),
            "left_out": list(self.left_out),
            **self.leaderboard.to_dict(),
        }

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"Call {self.model}"

    def rows(self) -> list[dict[str, Any]]:
        """The leaderboard's rows with each LLM's `probability` of being called."""
        called: dict[str, float] = {}
        for name, probability in self.mixture.items():
            own = self.matched.get(name, name)
            called[own] = called.get(own, 0.0) + probability
        return [{**row, "probability": called.get(row["model"], 0.0)} for row in self.leaderboard.rows()]

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw the prompt's leaderboard, with what is called in its title.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        ax = self.leaderboard.plot(ax)
        ax.set_title(f"call {mixture_text(self.mixture)}", loc="left", fontsize=pictures.NORMAL)
        return ax

    def __repr__(self) -> str:
        return "\n".join(f"{name:<8} {value}" for name, value in self.facts())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{name}</th><td>{html_text(value)}</td></tr>" for name, value in self.facts())
        return f"<table>{rows}</table>"

    def facts(self) -> list[tuple[str, str]]:
        """The route as (label, text) pairs, for display."""
        cost = "not known" if self.expected_cost is None else f"{usd(self.expected_cost)} per response"
        if self.budget is not None:
            cost += f" (budget {usd(self.budget)})"
        facts = [("call", self.model)]
        if len(self.mixture) > 1:
            facts.append(("mixture", mixture_text(self.mixture)))
        chance = "of a usable answer" if self.objective == "usable" else "to be preferred to the answer of an opponent"
        facts += [("cost", cost), ("score", f"{self.expected_score:.0%} chance {chance}")]
        if len(self.ranking) > 1:
            facts.append(("then", ", ".join(self.ranking[1:4]) + (", ..." if len(self.ranking) > 4 else "")))
        if self.left_out:
            llms = "LLM" if len(self.left_out) == 1 else "LLMs"
            facts.append(("left out", f"{len(self.left_out)} {llms} whose cost is not known"))
        if self.budget is not None and self.dearest is not None and (note := idle_budget(self.budget, self.dearest)):
            facts.append(("note", note))
        facts += [("note", warning) for warning in self.leaderboard.warnings()]
        if self.matched:
            facts.append(("read", ", ".join(f"{name} as {own}" for name, own in self.matched.items())))
        return facts
