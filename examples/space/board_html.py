"""A leaderboard as a table with bars. Nothing is shown by colour alone; every name is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from p2l_sdk import Leaderboard
from p2l_sdk.leaderboards.shown import rows_to_show
from p2l_sdk.routing.route import usd

_LIMITS = ' class="p2l-limits"'
_FAINT = 0.05  # share of a kind that is not worth a word


def message(text: str, kind: str = "note") -> str:
    """A box with a note, or with an error (kind "problem")."""
    text = text[:1].upper() + text[1:]
    return f'<p class="p2l-message p2l-{kind}" role="status">{escape(text)}{"" if text.endswith(".") else "."}</p>'


def price(amount: float) -> str:
    """USD to three significant digits."""
    return usd(float(f"{amount:.3g}"))


def kinds_html(kinds: Mapping[str, float] | None) -> str:
    """What kinds of prompt were recognised, the most certain first; "" for a model that recognises none."""
    if kinds is None:
        return ""
    found = sorted(((share, name) for name, share in kinds.items() if share >= _FAINT), reverse=True)
    if not found:
        return '<p class="p2l-kinds">No kind of prompt is recognised: this is the overall leaderboard.</p>'
    chips = "".join(
        f'<span title="{escape(name)}" style="--share:{share:.0%}">{escape(_in_words(name))} {share:.0%}</span>'
        for share, name in found
    )
    return f'<p class="p2l-kinds">Recognised {chips}</p>'


def _in_words(kind: str) -> str:
    return kind.removeprefix("industry_").replace("_", " ")


def leaderboard_html(board: Leaderboard, title: str, costs: Mapping[str, float]) -> str:
    """The leaderboard, best LLM first: bars of the ratings with, where known, 95 % intervals, P(usable) and costs. Of a
    long one first the LLMs that matter, see `rows_to_show`, and all of them below.

    Args:
        board: leaderboard of one or many prompts.
        title: caption of the table.
        costs: LLM name -> USD per response.
    """
    rows, everything = rows_to_show(board, costs=costs), board.rows()
    legend = _legend(board, bool(costs))
    table = f'<div class="p2l-board" tabindex="0">{_table(rows, title, costs)}</div>'
    if len(rows) < len(everything):
        said = f"{len(rows)} of {len(everything)} LLMs: the best, and the cheapest that none beats in rating and cost"
        table += (
            f'<p class="p2l-legend">{said}.</p><details class="p2l-all"><summary>All {len(everything)} LLMs</summary>'
            f'<div class="p2l-board" tabindex="0">{_table(everything, "All LLMs", costs)}</div></details>'
        )
    return f'{kinds_html(board.kinds)}{table}<p class="p2l-legend">{legend}</p>'


def _table(rows: Sequence[Mapping[str, Any]], title: str, costs: Mapping[str, float]) -> str:
    low = min(row.get("low", row["rating"]) for row in rows)
    high = max(row.get("high", row["rating"]) for row in rows)
    start = low - 0.06 * max(high - low, 1.0)  # so that the last LLM also has a bar
    columns = ["#", "LLM", "", "rating"]
    columns += ["95 % interval"] if "low" in rows[0] else []
    columns += ["usable"] if "usable" in rows[0] else []
    columns += ["cost"] if costs else []
    head = "".join(
        f'<th scope="col"{_LIMITS if "interval" in column else ""}>{column}</th>' if column else "<td></td>"
        for column in columns
    )
    body = "".join(_row(row, start, high, costs) for row in rows)
    return f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(row: Mapping[str, object], start: float, end: float, costs: Mapping[str, float]) -> str:
    def place(rating: object) -> float:
        return 100.0 * (float(rating) - start) / max(end - start, 1.0)  # type: ignore[arg-type]

    name = escape(str(row["model"]))
    bar = f'<span class="p2l-bar" style="width:{place(row["rating"]):.1f}%"></span>'
    if "low" in row:
        low, high = place(row["low"]), place(row["high"])
        bar += f'<span class="p2l-interval" style="left:{low:.1f}%;width:{max(high - low, 0.0):.1f}%"></span>'
    cells = [f'<td class="p2l-track"><div aria-hidden="true">{bar}</div></td>', f"<td><b>{row['rating']:.0f}</b></td>"]
    cells += [f"<td{_LIMITS}>{row['low']:.0f} to {row['high']:.0f}</td>"] if "low" in row else []
    cells += [f"<td>{row['usable']:.0%}</td>"] if "usable" in row else []
    if costs:
        cost = costs.get(str(row["model"]))
        cells.append(f"<td>{'not known' if cost is None else price(cost)}</td>")
    best = ' class="p2l-best"' if row["rank"] == 1 else ""
    return f'<tr data-model="{name}"{best}><td>{row["rank"]}</td><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _legend(board: Leaderboard, costs: bool) -> str:
    parts = ["Rating: 400 points more, and the answer is preferred 10 times as often. Bars start below the last LLM"]
    if board.intervals is not None:
        others = "where the rating lies if other prompts like these were drawn"
        parts.append(f"lines: {others if board.kinds is None else 'how certain the rating is'} (95 %)")
    parts += ["usable: the chance that the answer is good enough"] if board.usable is not None else []
    parts += ["cost: USD per response"] if costs else []
    return "; ".join(parts) + "."
