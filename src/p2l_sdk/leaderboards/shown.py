"""Which rows of a long leaderboard a table shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from p2l_sdk.leaderboards.leaderboard import BEST, WHOLE, Leaderboard

_CHEAPEST = 5


def rows_to_show(
    board: Leaderboard,
    *,
    top: int | None = None,
    models: Collection[str] | None = None,
    costs: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """The rows that a table shows, best LLM first.

    Args:
        board: the leaderboard.
        top: only the best so many; None for what a reader needs: all of a short leaderboard; of a long one the ten best
            and the five cheapest that no LLM beats in rating and cost.
        models: only these LLMs, by their own names; of them, all that `top` allows.
        costs: USD per response by LLM name.
    """
    rows = board.rows()
    if models is not None:
        return [row for row in rows if row["model"] in models][:top]
    if top is not None:
        return rows[:top]
    if len(rows) <= WHOLE:
        return rows
    chosen = {row["model"] for row in rows[:BEST]} | set(_frontier(rows, costs or {})[-_CHEAPEST:])
    return [row for row in rows if row["model"] in chosen]


def _frontier(rows: list[dict[str, Any]], costs: Mapping[str, float]) -> list[str]:
    """The LLMs that cost less than every better one, best first."""
    found: list[str] = []
    least = float("inf")
    for row in rows:
        cost = costs.get(row["model"], least)
        if cost < least:
            found, least = [*found, row["model"]], cost
    return found
