"""The HTML of the page of examples/space, against the SDK's own results."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from test_space import PASTED, TYPED

from p2l_sdk import P2L, Leaderboard
from p2l_sdk.leaderboards.shown import rows_to_show
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.routing.mixture import upper_hull


@pytest.fixture
def answers(space, routing9):
    return space("answers").Answers(routing9)


def xml(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<all>{html}</all>")


def shown(html: str) -> list[tuple[str, list[str]]]:
    """The name and the cells of each row."""
    rows = xml(html).iterfind(".//tbody/tr")
    return [(row.get("data-model"), ["".join(cell.itertext()) for cell in row]) for row in rows]


def test_the_bars_are_the_leaderboard(answers, routing9):
    board, rows = routing9.leaderboard(TYPED), shown(answers.one_prompt(TYPED)[0])
    assert [name for name, _ in rows] == board.ranking
    for (name, cells), row in zip(rows, board.rows(), strict=True):
        cost = f"${routing9.costs[name]:.4f}"
        assert cells == [str(row["rank"]), name, "", f"{row['rating']:.0f}", f"{row['usable']:.0%}", cost]


def test_the_intervals_are_those_of_the_aggregate(answers, routing9):
    board, html = routing9.aggregate(PASTED), answers.many_prompts("\n\n".join(PASTED) + "\n")
    for (_, cells), row in zip(shown(html), board.rows(), strict=True):
        assert cells[3:5] == [f"{row['rating']:.0f}", f"{row['low']:.0f} to {row['high']:.0f}"]
    number = r"([\d.]+)%"
    drawn = re.findall(rf'p2l-bar" style="width:{number}"></span><span [^>]*left:{number};width:{number}', html)
    for place, low, width in np.array(drawn, dtype=float):
        assert low - 0.1 <= place <= low + width + 0.2 <= 100.4


def test_one_prompt_has_no_interval(answers):
    html = answers.many_prompts("hello")
    assert "Intervals need two prompts or more." in html
    assert " to " not in "".join(cell for _, cells in shown(html) for cell in cells)


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_an_empty_prompt_is_answered_in_words(answers, prompt):
    says = "The prompt is empty; write what the LLM would be asked."
    assert answers.one_prompt(prompt, 0.0005) == (
        f'<p class="p2l-message p2l-problem" role="status">{says}</p>',
        "",
        "",
    )
    assert "There are no prompts; paste some, one per line." in answers.many_prompts(prompt)


def test_there_is_a_limit_to_what_one_visitor_may_ask(answers, space):
    n = space("answers").MAX_PROMPTS
    assert f"These are {n + 1:,} prompts, and this page takes {n:,}" in answers.many_prompts("a\n" * (n + 1))


def test_the_choice_is_the_route(answers, routing9):
    for budget in (0.0001, 0.00033, 0.0009):
        route = routing9.route(TYPED, budget, seed=0)
        section = xml(answers.one_prompt(TYPED, budget)[1]).find("section")
        assert section.get("data-chosen") == route.model
        assert section.get("data-mixture") == " + ".join(f"{p:.4f} {name}" for name, p in route.mixture.items())
        assert f"{route.expected_score:.0%} chance" in "".join(section.itertext())


def test_a_budget_that_buys_nothing_is_answered_with_the_one_that_does(answers):
    board, choice, frontier = answers.one_prompt(TYPED, 0.00005)
    assert len(shown(board)) == 9
    assert "the cheapest feasible budget is $0.0001." in choice
    assert "your budget $0.00005" in frontier
    assert "p2l-chosen" not in frontier


def test_the_picture_is_the_concave_hull(answers, routing9):
    board, budget = routing9.leaderboard(TYPED), 0.0005
    router = routing9.router()
    scores, route = router.scores(board.coefs), router.route(board, budget)
    picture = xml(answers.one_prompt(TYPED, budget)[2])
    dots = {
        dot.find("title").text.split(":")[0]: (float(dot.get("cx")), float(dot.get("cy")))
        for dot in picture.iterfind(".//circle")
    }
    assert set(dots) == {*routing9.models, "what the budget buys"}
    line = np.array([p.split(",") for p in picture.find(".//polyline").get("points").split()], dtype=float)
    hull = upper_hull(scores, router.prices)
    np.testing.assert_allclose(line[:-1], [dots[router.names[i]] for i in hull])
    assert line[-1, 1] == line[-2, 1]  # more money than the best LLM costs buys no more
    ring = dots["what the budget buys"]
    assert abs(np.interp(ring[0], *line.T) - ring[1]) < 0.2  # on the hull, at the position of its mixture
    (a, share), (b, _) = route.mixture.items()
    np.testing.assert_allclose(ring, share * np.array(dots[a]) + (1 - share) * np.array(dots[b]), atol=0.2)
    places = sorted(
        float(text.get("y")) for text in picture.iterfind(".//text") if "p2l-label" in text.get("class", "")
    )
    assert len(places) == 9


@pytest.mark.parametrize(
    ("costs", "note"),
    [
        ({}, "this model knows no costs of its LLMs, so there is no routing here"),
        ({"gemma-2-9b-it": 0.0}, "all LLMs of this model are free"),
    ],
)
def test_without_costs_there_is_no_routing_and_the_page_says_so(space, costs, note):
    answers = space("answers").Answers(P2L.from_pretrained("routing9", costs=costs))
    assert answers.slider is None
    assert note in answers.note
    assert answers.one_prompt(TYPED)[1:] == ("", "")


def test_llms_without_a_cost_are_left_out_of_routing(space):
    costs = {"gemma-2-9b-it": 0.02, "qwen2.5-7b-instruct": 0.0500004}
    answers = space("answers").Answers(P2L.from_pretrained("routing9", costs=costs))
    numbers = {"minimum": 0.0, "maximum": 0.0505, "value": 0.035, "step": 0.0005, "precision": 4}
    assert answers.slider == {**numbers, "label": "Budget, USD per response"}
    assert "cost is not known: codegemma-7b, llama-3.1-8b-instruct" in answers.note
    board, _, frontier = answers.one_prompt(TYPED, 0.03)
    assert {cells[-1] for _, cells in shown(board)} == {"$0.02", "$0.05", "not known"}
    assert "codegemma" not in frontier


# --- a model that recognises kinds of prompt, and knows many LLMs at prices that differ widely ---


@pytest.fixture
def many(space, default):
    return space("answers").Answers(default)


def test_of_many_llms_those_that_matter_come_first_and_all_below(many, default):
    board, html = default.leaderboard(TYPED), many.one_prompt(TYPED)[0]
    first, everything = xml(html).iterfind(".//table")
    names = [row.get("data-model") for row in first.iterfind(".//tbody/tr")]
    assert names == [row["model"] for row in rows_to_show(board, costs=default.costs)]  # as on the command line
    assert [row.get("data-model") for row in everything.iterfind(".//tbody/tr")] == board.ranking
    assert xml(html).find(".//details/summary").text == "All 282 LLMs"
    for name, cells in shown(html)[: len(names)]:
        row = next(row for row in board.rows() if row["model"] == name)
        assert cells[3:5] == [
            f"{row['rating']:.0f}",
            f"{row['low']:.0f} to {row['high']:.0f}",
        ]  # one prompt has limits too
    assert "how certain the rating is" in html
    assert "need two prompts" not in many.many_prompts("hello")
    assert many.note == "routing leaves out the LLMs whose cost is not known, 128 of 282"


def test_recognised_kinds_are_shown(many, default, space):
    prompt = "Merge two sorted lists in Python"
    kinds = default.leaderboard(prompt).kinds
    chips = list(xml(many.one_prompt(prompt)[0]).iterfind(".//p[@class='p2l-kinds']/span"))
    expected = sorted((name for name in kinds if kinds[name] >= 0.05), key=lambda name: -kinds[name])
    assert [chip.get("title") for chip in chips] == expected
    assert chips[0].text == f"coding {kinds['coding']:.0%}"
    everyday = "How do I remove a coffee stain from a shirt?"
    assert "No kind of prompt is recognised: this is the overall" in many.one_prompt(everyday)[0]
    assert "p2l-kinds" in many.many_prompts("hi\nMerge two lists")
    html = space("board_html").kinds_html({"<b>_&": 0.5, "faint": 0.01})
    assert "&lt;b&gt; &amp; 50%" in html
    assert "faint" not in html


def test_widely_different_prices_stand_in_equal_ratios(many, default):
    prices = sorted(default.costs.values())
    assert (many.slider["minimum"], many.slider["maximum"]) == (0, 100)
    for value, budget in ((0, prices[0]), (50, (prices[0] * prices[-1]) ** 0.5), (100, prices[-1])):
        route = default.route(TYPED, budget, seed=0)
        _, choice, picture = many.one_prompt(TYPED, value)
        assert xml(choice).find("section").get("data-chosen") == route.model
        assert "p2l-chosen" in picture
    figure = xml(picture)
    dots = {
        dot.find("title").text.split(":")[0]: (float(dot.get("cx")), float(dot.get("cy")))
        for dot in figure.iterfind(".//circle")
    }
    cheapest, middle, dearest = (
        min(default.costs, key=lambda n, c=c: abs(default.costs[n] - c)) for c in (0, 0.001, 1)
    )
    across = (dots[middle][0] - dots[cheapest][0]) / (dots[dearest][0] - dots[cheapest][0])
    ratio = np.log(default.costs[middle] / prices[0]) / np.log(prices[-1] / prices[0])
    assert across == pytest.approx(ratio, abs=0.005)
    # the line passes through the LLMs on the hull, and between two of them it is what their mixtures buy
    router, board = default.router(models=list(default.costs)), default.leaderboard(TYPED)
    scores = router.scores(board.coefs)
    line = np.array([p.split(",") for p in figure.find(".//polyline").get("points").split()], dtype=float)
    for i in upper_hull(scores, router.prices):
        assert np.abs(line - dots[router.names[i]]).sum(1).min() < 0.2
    ring = xml(many.one_prompt(TYPED, 60)[2]).find(".//circle[@class='p2l-chosen']")
    assert abs(np.interp(float(ring.get("cx")), *line.T) - float(ring.get("cy"))) < 1.0


@pytest.mark.parametrize(
    ("least", "greatest", "places"),
    [(1e-4, 9e-4, (0.0, 0.5, 1.0)), (4e-5, 0.1, (0.0, 0.3, 1.0)), (0.0, 5.0, (0.0, 1.0))],
)
def test_a_scale_of_costs_goes_there_and_back(space, least, greatest, places):
    scale = space("scale").Scale(least, greatest)
    assert scale.ratios == (greatest > 100 * least > 0)
    for place in places:
        assert scale.place(scale.cost(place)) == pytest.approx(place)
    assert all(0.0 <= scale.place(tick) <= 1.0 + 1e-9 for tick in scale.ticks())
    assert len(scale.ticks()) >= 3


def test_a_name_is_no_markup(space):
    names = ('<b>"one"</b>', "a & b")
    board = Leaderboard(models=names, coefs=np.array([0.0, 1.0]), feedback=Feedback("bt"))
    assert [name for name, _ in shown(space("board_html").leaderboard_html(board, "x", {}))] == list(names[::-1])
    svg = space("frontier_svg").frontier_svg(names, np.array([1e-4, 2e-4]), np.array([0.4, 0.6]), 1e-4, (1e-4, 0.4))
    assert names[0] in [text.text for text in xml(svg).iterfind(".//text")]


def test_names_stand_apart_however_near_the_points_are(space):
    names, n = [f"llm-{i}" for i in range(12)], 12
    svg = space("frontier_svg").frontier_svg(names, np.full(n, 1e-3), np.linspace(0.5, 0.501, n), 1e-3, None)
    places = sorted(float(t.get("y")) for t in xml(svg).iterfind(".//text") if "p2l-label" in t.get("class", ""))
    assert len(places) == n
    assert np.diff(places).min() > 13.0
    assert places[0] > 0.0
