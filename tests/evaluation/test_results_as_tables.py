"""Every result of evaluation is rows, a frame and a table in a notebook."""

from __future__ import annotations

import numpy as np
import pytest

from p2l_sdk import P2L, Votes
from p2l_sdk.evaluation import aggregate_agreement, by_category, calibration, compare, evaluate, subset_study
from p2l_sdk.evaluation.robustness import robustness
from p2l_sdk.mpg.fastness import Fastness, Measure
from p2l_sdk.tabular import Tabular, estimates_of, html_table


@pytest.fixture(scope="module")
def results():
    p2l, random = P2L.from_pretrained("routing9"), np.random.default_rng(1)
    rows = []
    for i in range(60):
        a, b = random.choice(len(p2l.models), 2, replace=False)
        winner = ["model_a", "model_b", "tie", "tie (bothbad)"][random.integers(4)]
        rows += [
            {"prompt": f"Question {i % 20}?", "model_a": p2l.models[a], "model_b": p2l.models[b], "winner": winner}
        ]
    for row in rows:
        row["topic"] = "even" if int(row["prompt"][9:-1]) % 2 == 0 else "odd"
    votes = Votes.read(rows, p2l.models)
    return {
        "report": evaluate(p2l, votes, baseline_votes=votes),
        "subsets": subset_study(p2l, votes, [5, 10], trials=3),
        "calibration": calibration(p2l, votes, bins=3),
        "agreement": aggregate_agreement(p2l, votes),
        "category": by_category(p2l, votes, "topic")["odd"],
        "comparison": compare(p2l, p2l, votes),
        "robustness": robustness(p2l, votes.prompts[:4], budget=0.0005),
        "fastness": Fastness({"seconds": {"a<b": Measure(1.5, 1.0, 2.0, 7)}}, "measured here"),
    }


NAMES = ("report", "subsets", "calibration", "agreement", "category", "comparison", "robustness", "fastness")


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_a_frame_and_a_table(results, name):
    found = results[name]
    assert isinstance(found, Tabular)
    assert found.to_dict()
    rows = found.rows()
    assert len(found.to_pandas()) == len(rows) > 0
    shown = found._repr_html_()
    assert shown.count("<tr>") == 1 + len(rows)
    assert f"<caption>{found.caption}</caption>" in shown


def test_the_rows_hold_the_numbers(results):
    report = results["report"]
    loss = next(row for row in report.rows() if row["metric"] == "bt_log_loss")
    assert loss["value"] == report.metrics["bt_log_loss"].value
    assert loss["n"] == report.metrics["bt_log_loss"].n
    assert loss["value"] - loss["baseline"] == pytest.approx(loss["difference"])
    assert {row["difference"] for row in results["comparison"].rows() if "difference" in row} == {0.0}
    assert results["subsets"].rows()[0]["prompts"] == 5
    assert results["robustness"].rows()[-1]["change"] == "all"
    assert results["fastness"].rows() == [
        {"model": "a<b", "measure": "seconds", "value": 1.5, "low": 1.0, "high": 2.0, "n": 7}
    ]
    assert "a&lt;b" in results["fastness"]._repr_html_()
    assert report.caption == "Evaluation on 60 votes, 20 prompts"


def test_a_report_draws_its_calibration(results):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    assert results["report"].plot().get_title(loc="left") == "Calibration on decisive votes"


def test_html_is_plain_text():
    assert html_table("a<b", ["x&y"], [["<i>"]], ["<more>"]) == (
        "<table><caption>a&lt;b</caption><thead><tr><th>x&amp;y</th></tr></thead>"
        '<tbody><tr><td>&lt;i&gt;</td></tr><tr><td colspan="1">&lt;more&gt;</td></tr></tbody></table>'
    )
    assert estimates_of({"best": "a"}) == [{"metric": "best", "value": "a"}]
