"""The LLM that a budget buys, in words, with a bar for a mixture."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from board_html import price

from p2l_sdk import Route


def choice_html(route: Route, best: Route, costs: Mapping[str, float]) -> str:
    """The LLM or the mixture of two that a budget buys, its mean cost and its score.

    Args:
        route: the route within the budget.
        best: the route without a budget.
        costs: LLM name -> USD per response.
    """
    shares, budget = list(route.mixture.items()), price(route.budget or 0.0)
    if len(shares) == 1:
        parts = [f"<h3>{budget} per response: call {escape(route.model)}</h3>"]
    else:
        bar = "".join(f'<span style="flex-grow:{share:.4f}"></span>' for _, share in shares)
        lines = "".join(
            f"<li><i></i><b>{percent(share)}</b> {escape(name)}, {price(costs[name])}</li>" for name, share in shares
        )
        parts = [
            f"<h3>{budget} per response: mix two LLMs</h3>",
            f'<div class="p2l-mixture" aria-hidden="true">{bar}</div><ul>{lines}</ul>',
            f"<p>Drawn for this prompt: <b>{escape(route.model)}</b>.</p>",
        ]
    parts.append(
        f"<p>Mean cost <b>{price(route.expected_cost or 0.0)}</b> per response; <b>{percent(route.expected_score)}</b> "
        "chance to be preferred to the answer of another LLM.</p>"
    )
    if route.mixture != best.mixture:
        parts.append(
            f"<p>With no budget: {escape(best.model)}, {price(costs[best.model])}, {percent(best.expected_score)}.</p>"
        )
    mixture = escape(" + ".join(f"{share:.4f} {name}" for name, share in shares))
    return (
        f'<section class="p2l-choice" role="status" data-chosen="{escape(route.model)}" data-mixture="{mixture}">'
        f"{''.join(parts)}</section>"
    )


def percent(share: float) -> str:
    """A share in percent, as HTML; shares that only round to 0 or 100 % are shown as <1% and >99%."""
    if 0.0 < share < 0.005:
        return "&lt;1%"
    return "&gt;99%" if 0.995 < share < 1.0 else f"{share:.0%}"
