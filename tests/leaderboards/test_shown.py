"""Which rows of a leaderboard are shown, in tables and pictures."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import pytest

from p2l_sdk.cli.leaderboard_tables import print_leaderboard
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.leaderboards.shown import rows_to_show
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.tabular import text_bar


def board(n: int, intervals: bool = False) -> Leaderboard:
    """LLMs named by their rank."""
    coefs = -0.1 * np.arange(n)
    limits = np.stack([coefs - 0.2, coefs + 0.3], 1) if intervals else None
    return Leaderboard(
        models=tuple(f"llm-{i + 1}" for i in range(n)), coefs=coefs, feedback=Feedback.BT, intervals=limits
    )


def ranks(rows) -> list[int]:
    return [row["rank"] for row in rows]


def test_a_short_leaderboard_is_shown_as_a_whole():
    for n in (2, 15):
        short = board(n)
        assert rows_to_show(short) == short.rows()
        assert len(repr(short).splitlines()) == n + 2
        assert short._repr_html_().count("<tr>") == n + 1
    assert ranks(rows_to_show(board(9), top=4)) == [1, 2, 3, 4]


def test_a_long_one_shows_the_best_and_the_cheapest_that_none_beats():
    long = board(300)
    assert ranks(rows_to_show(long)) == list(range(1, 11))
    costs = {f"llm-{rank}": 1.0 / rank for rank in (1, 5, 20, 30, 40, 50, 60, 70)} | {"llm-200": 9.0, "llm-65": 1 / 60}
    assert ranks(rows_to_show(long, costs=costs)) == [*range(1, 11), 30, 40, 50, 60, 70]
    assert ranks(rows_to_show(long, costs=costs, top=12)) == list(range(1, 13))
    assert ranks(rows_to_show(long, top=300)) == list(range(1, 301))
    assert ranks(rows_to_show(long, costs=costs, models={"llm-7", "llm-290", "llm-100"})) == [7, 100, 290]
    assert ranks(rows_to_show(long, models={"llm-7", "llm-290", "llm-100"}, top=2)) == [7, 100]


def test_it_is_said_how_many_are_not_shown():
    long = board(300)
    *_, tenth, last = repr(long).splitlines()
    assert tenth.split()[:2] == ["10", "llm-10"]
    assert last == "... and 290 more: rows() and to_pandas() have all 300"
    assert '<tr><td colspan="4">... and 290 more' in long._repr_html_()
    assert len(long.rows()) == len(long.to_dict()["leaderboard"]) == 300


@pytest.mark.parametrize("intervals", [False, True])
def test_a_picture_of_the_best(intervals):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    for options, n in (({}, 20), ({"top": 5}, 5), ({"top": None}, 40)):
        ax = board(40, intervals).plot(**options)
        points = next(line for line in ax.lines if line.get_marker() == "o").get_xdata()
        assert len(points) == len(ax.texts) == n
        assert ax.get_yticklabels()[-1].get_text() == "llm-1"
        assert ax.get_title(loc="left").endswith(f": the best {n}") == (n < 40)
        low, high = ax.get_xlim()
        assert low < min(*points, 1000.0) <= max(*points, 1000.0) < high  # the scale's zero is in the picture
        assert "(1000: the mean LLM; 400 points are odds of 10 to 1)" in ax.get_xlabel()


def bar_in(cell: str) -> str:
    """The bar in the fourth column of a row in HTML."""
    return cell.split("</td><td>")[3].removeprefix("<td>")


def test_bars_in_text_start_at_a_stated_zero():
    assert text_bar(1100.0, 1000.0, 1200.0, 1000.0) == "█" * 6
    assert text_bar(1100.0, 900.0, 1200.0, 1000.0) == " " * 4 + "█" * 4
    assert text_bar(950.0, 900.0, 1200.0, 1000.0) == "  ██"
    assert text_bar(937.5, 900.0, 1200.0, 1000.0) == " ▐██"
    assert text_bar(900.0, 900.0, 1200.0, 1000.0) == "████"
    assert text_bar(1000.0, 900.0, 1200.0, 1000.0).strip() == ""
    assert text_bar(800.0, 700.0, 900.0, 1000.0) == " " * 4 + "█" * 8  # all below: the zero is at the right edge
    assert text_bar(5.0, 5.0, 5.0, 5.0) == ""
    assert text_bar(0.325, 0.0, 1.0) == "███▉"


def test_the_command_line_says_where_bars_start(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with redirect_stdout(io.StringIO()) as told:
        print_leaderboard(board(3), {})
    assert "bars start at 1000, the mean LLM" in told.getvalue()
    assert told.getvalue().count("█") == 12
    with redirect_stdout(io.StringIO()) as told:
        print_leaderboard(board(3, True), {})
    assert "bars" not in told.getvalue()


def test_a_notebook_shows_bars_and_prices_as_the_command_line_does():
    few = replace(board(3), costs={"llm-1": 0.002})
    shown = few._repr_html_()
    assert "<th>rating</th><th>from 1000</th><th>$ per 1k</th>" in shown
    assert [bar_in(cell) for cell in shown.split("<tr>")[2:]] == ["\u2007" * 6 + "█" * 6, "\u2007" * 6, "█" * 6]
    assert "<td>2.00</td>" in shown
    assert "<td>?</td>" in shown
    assert "95 % interval" in board(3, True)._repr_html_()
    assert "█" not in board(3, True)._repr_html_()
