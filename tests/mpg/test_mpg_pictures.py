"""The two pictures of a report."""

from __future__ import annotations

import numpy as np
import pytest
from mpg_results import NODES, ROWS

from p2l_sdk.mpg import Fastness, Results, Run, Tree, goodness
from p2l_sdk.mpg.pictures import pareto_front, plot_goodness_fastness, plot_subdomains
from p2l_sdk.mpg.report import Report
from p2l_sdk.pictures import require_pyplot


def test_the_pareto_front():
    assert pareto_front(np.array([3, 2, 1, 2.5]), np.array([1, 2, 1.5, 0.5])).tolist() == [0, 1]


def test_what_is_not_all_measured_is_marked():
    plt = require_pyplot()
    rows = [row for row in ROWS if (row["model"], row["benchmark"]) != ("c", "code")]
    found = goodness(Results.read(rows), draws=200)
    goodness_of = {row[1]: row[2] for row in found.cells()[1]}
    assert [name for name, cell in goodness_of.items() if cell.startswith("*")] == ["c"]
    assert found.notes == (
        "1 of 6 cells is missing (* marks what needs them): predicted from the LLM's other results and the others' "
        "there, with that uncertainty",
    )
    axes = plot_subdomains(found)
    assert len([patch for patch in axes.patches if patch.get_hatch()]) == 2 * 2  # two outlines: the whole, and code
    figure = axes.figure
    figure.canvas.draw()
    title = axes._left_title
    assert "hatched: not all of it is measured" in " ".join(title.get_text().split())
    assert title.get_window_extent().x1 <= figure.bbox.x1
    plt.close(figure)
    whole = plot_subdomains(goodness(Results.read(ROWS), draws=200))
    assert not any(patch.get_hatch() for patch in whole.patches)
    assert "hatched" not in whole.get_title("left")
    plt.close(whole.figure)


def test_labels_of_the_front_are_clear_of_its_line():
    from matplotlib.text import Text

    plt = require_pyplot()
    found = goodness(Results.read(ROWS), draws=200)
    for measure, prices in (("usd_per_query", (9.0, 2.0, 2.0)), ("queries_per_second", None)):
        if prices is None:
            fast = Fastness.measured(
                {n: Run(seconds=np.full(5, s)) for n, s in zip("abc", (9.0, 3.0, 2.0), strict=True)}
            )
        else:
            costs = {n: (price, price) for n, price in zip("abc", prices, strict=True)}
            fast = Fastness.of_prices(costs, input_tokens=500, output_tokens=500)
        axes = plot_goodness_fastness(found, fast, measure)
        axes.figure.canvas.draw()
        line = next(line for line in axes.lines if line.get_linestyle() == "--")
        path = line.get_transform().transform_path(line.get_path())
        assert len(axes.texts) == 3
        for text in axes.texts:
            box = Text.get_window_extent(text)
            assert not path.intersects_bbox(box, filled=False)
            assert axes.bbox.x0 - 2 <= box.x0 < box.x1 <= axes.bbox.x1 + 2
        assert ("side by side" in axes.get_xlabel()) == (prices is not None)
        legend = axes.get_legend().get_window_extent()
        assert legend.y0 >= axes.bbox.y1 - 1
        plt.close(axes.figure)


def test_like_llms_look_alike():
    """Within an interval of each other no contrast, and all that show the best number are bold."""
    plt = require_pyplot()
    rows = [
        {"model": name, "benchmark": benchmark, "question_id": i, "score": float(i < right + more)}
        for name, more in (("a", 1), ("b", 0), ("c", 0))
        for benchmark, right in (("few", 2), ("many", 200 if name == "a" else 40))
        for i in range(12 if benchmark == "few" else 400)
    ]
    found = goodness(Results.read(rows), draws=400, prior="jeffreys")
    axes = plot_subdomains(found)
    cells = [patch.get_facecolor()[0] for patch in axes.patches]  # red: darker for less
    few, many = cells[3:6], cells[6:9]
    assert np.ptp(few) < 0.25 < 0.6 < np.ptp(many)
    assert abs(few[1] - few[2]) < 0.05
    weights = {text.get_text(): text.get_fontweight() for text in axes.texts}
    assert weights["50"] == "bold"
    assert weights["10"] == "normal"
    plt.close(axes.figure)
    rows = [
        {"model": name, "benchmark": benchmark, "correct": right, "total": 10_000}
        for name in "ab"
        for benchmark, right in (("math", 8000), ("code", 3000))
    ]
    same = plot_subdomains(goodness(Results.read(rows), draws=400, prior="jeffreys"))
    numbers = [text for text in same.texts if text.get_text().isdigit()]
    assert {text.get_text(): text.get_fontweight() for text in numbers} == {"55": "bold", "80": "bold", "30": "bold"}
    assert len([text for text in numbers if text.get_fontweight() == "bold"]) == 6
    plt.close(same.figure)


@pytest.mark.long
def test_the_pictures_and_the_page_say_whether_chance_is_off():
    plt = require_pyplot()
    fast = Fastness.of_prices(dict.fromkeys("abc", (1.0, 1.0)), input_tokens=500, output_tokens=500)
    for chance, scale, sentence in (
        ({}, "questions right, %", "the tree names no chance level"),
        ({"math": 0.25}, "questions right beyond chance, %", "where the tree names a chance level"),
    ):
        found = goodness(Results.read(ROWS), Tree.read({"nodes": NODES, "chance": chance}), draws=200)
        axes = plot_goodness_fastness(found, fast)
        assert scale in axes.get_ylabel()
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["both the best and the cheapest"]
        table = plot_subdomains(found)
        assert scale in " ".join(table.get_title("left").split())
        plt.close(axes.figure)
        plt.close(table.figure)
        assert sentence in Report(found).to_html()
