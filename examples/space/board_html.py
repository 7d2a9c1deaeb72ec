"""A leaderboard as a table with bars. Nothing is shown by colour alone; every name is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from p2l_sdk import Leaderboard
from p2l_sdk.routing.route import usd


def message(text: str, kind: str = "note") -> str:
    """A box with a note, or with an error (kind "problem")."""
    text = text[:1].upper() + text[1:]
    return f'<p class="p2l-message p2l-{kind}" role="status">{escape(text)}{"" if text.endswith(".") else "."}</p>'


def price(amount: float) -> str:
    """USD to three significant digits."""
    return usd(float(f"{amount:.3g}"))


def leaderboard_html(board: Leaderboard, title: str, costs: Mapping[str, float]) -> str:
    """The leaderboard, best LLM first: bars of the ratings with, where known, 95 % intervals, P(usable) and costs.

    Args:
        board: leaderboard of one or many prompts.
        title: caption of the table.
        costs: LLM name -> USD per response.
    """
    rows = board.rows()
    low = min(row.get("low", row["rating"]) for row in rows)
    high = max(row.get("high", row["rating"]) for row in rows)
    start = low - 0.06 * max(high - low, 1.0)  # so that the last LLM also has a bar
    columns = ["#", "LLM", "", "rating"]
    columns += ["95 % interval"] if "low" in rows[0] else []
    columns += ["usable"] if "usable" in rows[0] else []
    columns += ["cost"] if costs else []
    head = "".join(f'<th scope="col">{column}</th>' if column else "<td></td>" for column in columns)
    body = "".join(_row(row, start, high, costs) for row in rows)
    return (
        f'<div class="p2l-board" tabindex="0"><table><caption>{escape(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f'<p class="p2l-legend">{_legend(rows[0], start, bool(costs))}</p>'
    )


def _row(row: Mapping[str, object], start: float, end: float, costs: Mapping[str, float]) -> str:
    def place(rating: object) -> float:
        return 100.0 * (float(rating) - start) / max(end - start, 1.0)  # type: ignore[arg-type]

    name = escape(str(row["model"]))
    bar = f'<span class="p2l-bar" style="width:{place(row["rating"]):.1f}%"></span>'
    if "low" in row:
        low, high = place(row["low"]), place(row["high"])
        bar += f'<span class="p2l-interval" style="left:{low:.1f}%;width:{max(high - low, 0.0):.1f}%"></span>'
    cells = [f'<td class="p2l-track"><div aria-hidden="true">{bar}</div></td>', f"<td><b>{row['rating']:.0f}</b></td>"]
    cells += [f"<td>{row['low']:.0f} to {row['high']:.0f}</td>"] if "low" in row else []
    cells += [f"<td>{row['usable']:.0%}</td>"] if "usable" in row else []
    if costs:
        cost = costs.get(str(row["model"]))
        cells.append(f"<td>{'not known' if cost is None else price(cost)}</td>")
    best = ' class="p2l-best"' if row["rank"] == 1 else ""
    return f'<tr data-model="{name}"{best}><td>{row["rank"]}</td><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _legend(row: Mapping[str, object], start: float, costs: bool) -> str:
    parts = [f"Rating: 400 points more, and the answer is preferred 10 times as often. Bars start at {start:.0f}"]
    parts += ["lines: where the rating lies if other prompts like these were drawn (95 %)"] if "low" in row else []
    parts += ["usable: the chance that the answer is good enough"] if "usable" in row else []
    parts += ["cost: USD per response"] if costs else []
    return "; ".join(parts) + "."
