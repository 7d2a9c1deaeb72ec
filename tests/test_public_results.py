"""Every public result is rows, a frame, plain JSON values, a table in a notebook and a picture.

The classes are found by walking over the package, so a new one cannot be forgotten: what has `to_dict` is a result,
unless it is named here as a part of one, or as settings.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import p2l_sdk
from p2l_sdk import P2L, Leaderboard, Route, Votes, mpg, pictures
from p2l_sdk.evaluation import aggregate_agreement, by_category, compare, evaluate, robustness
from p2l_sdk.judging.asking import Stopped
from p2l_sdk.judging.collect import Collection, LLMAnswers
from p2l_sdk.judging.judge import Judgement
from p2l_sdk.kinds import BuiltKind, BuiltModel
from p2l_sdk.mpg.report import Report as MPGReport
from p2l_sdk.tabular import Tabular
from p2l_sdk.votes.summary import summarise

pytestmark = pytest.mark.long

ROOMS = ("analysis", "editing", "evaluation", "judging", "kinds", "leaderboards", "mpg", "routing", "votes")
PARTS = {  # of results, which show them
    "Interval", "PowerLaw", "Curve", "Estimate", "Question", "Measure", "LLMAnswers", "OutsideScores",
}  # fmt: skip


def results() -> dict[str, type]:
    found = {}
    for module in pkgutil.walk_packages(p2l_sdk.__path__, "p2l_sdk."):
        if module.name.split(".")[1] in ROOMS:
            for name, kind in vars(importlib.import_module(module.name)).items():
                own = inspect.isclass(kind) and kind.__module__ == module.name and not name.startswith("_")
                own = own and not getattr(kind, "_is_protocol", False)  # says what a result can, and is none
                if own and hasattr(kind, "to_dict") and name not in PARTS:
                    found[f"{module.name[8:]}.{name}"] = kind
    return found


RESULTS = results()


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_can_all_that_results_can(name):
    kind = RESULTS[name]
    assert issubclass(kind, Tabular | Leaderboard | Route), f"{name} has to_dict, but is neither Tabular nor in PARTS"
    assert kind.rows is not Tabular.rows
    assert kind.caption is not Tabular.caption
    for what in ("to_pandas", "_repr_html_", "plot"):
        assert callable(getattr(kind, what, None)), f"{name} has no {what}"
    assert inspect.getdoc(kind.plot)


def test_the_walk_finds_them():
    assert len(RESULTS) >= 27
    assert {"analysis.report.Strengths", "leaderboards.leaderboard.Leaderboard", "judging.judge.Judgement"} <= set(
        RESULTS
    )


def check(found) -> str:
    """The labels of the picture of a result, which is also a frame, plain JSON values, and a table."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = found.rows()
    assert len(found.to_pandas()) >= len(rows) > 0  # a tree of estimates has a frame of all its nodes
    json.dumps(found.to_dict(), allow_nan=False, default=str)
    json.dumps(rows, allow_nan=False, default=str)
    shown = found._repr_html_()
    assert shown.startswith("<table>")
    assert not re.search(r"<(?!/?(table|caption|thead|tbody|tr|th|td)\b)", shown)
    ax = found.plot()
    ax.figure.canvas.draw()
    told = [text.get_text() for text in (*ax.get_yticklabels(), *ax.get_xticklabels(), *ax.texts)]
    told += [ax.get_title(loc="left"), ax.get_xlabel()]
    pyplot.close(ax.figure)
    return "\n".join(told)


@pytest.fixture(scope="module")
def made():
    """A small one of each result that has the picture of its rows."""
    p2l, random = P2L.from_pretrained("routing9"), np.random.default_rng(1)
    rows = []
    for i in range(60):
        a, b = random.choice(len(p2l.models), 2, replace=False)
        winner = ["model_a", "model_b", "tie", "tie (bothbad)"][random.integers(4)]
        row = {"prompt": f"Question {i % 20}?", "model_a": p2l.models[a], "model_b": p2l.models[b], "winner": winner}
        rows.append({**row, "topic": "even" if i % 2 == 0 else "odd"})
    votes = Votes.read(rows, p2l.models)
    own = [{**row, "model_a": "<mine>", "model_b": p2l.models[0]} for row in rows]
    scores = [
        {"model": m, "benchmark": b, "score": 0.2 + 0.1 * i, "n": 50}
        for i, m in enumerate(("x", "y", "z"))
        for b in "bc"
    ]
    goodness = mpg.goodness(mpg.Results.read(scores), draws=200)
    reference = dict(zip(goodness.models, (3.0, 2.0, 1.0), strict=True))
    by_llm = dict(zip(goodness.models, goodness.means[:, 0].tolist(), strict=True))
    fastness = mpg.Fastness({"usd_per_query": {"x": mpg.Measure(0.5), "y": mpg.Measure(1.5, 1.0, 2.0, 7)}}, "here")
    answers = {"output_tokens": 9, "input_tokens": 7, "seconds": 0.5, "cost": 0.1}
    llms = tuple(LLMAnswers(name, 3, 1, {"timeout": 1}, **answers) for name in ("x", "y"))
    counts = {"n_pairs": 9, "n_skipped": 1, "n_disagreed": 1, "n_unreadable": 1, "n_failed": 1, "n_open": 1}
    counts |= {"n_first": 3, "n_decided": 5, "n_reread": 0, "input_tokens": 7, "output_tokens": 9}
    ended = {"spent": 0.1, "assumed": 0.0, "judges_itself": False, "stopped": Stopped()}
    kind = BuiltKind("code", 9, 0.9, 0.1, 40.0, 3.0, None)
    return {
        "AddedModel": p2l.add_model("<mine>", own).additions["<mine>"],
        "Refined": p2l.refine(votes).refined,
        "Route": p2l.route("Write a poem", cost=0.0003),
        "VoteSummary": summarise(votes, "grk"),
        "Report": evaluate(p2l, votes, baseline_votes=votes),
        "Baseline": evaluate(p2l, votes, baseline_votes=votes).baseline,
        "Agreement": aggregate_agreement(p2l, votes),
        "Category": by_category(p2l, votes, "topic")["odd"],
        "Comparison": compare(p2l, p2l, votes),
        "Robustness": robustness(p2l, votes.prompts[:4], budget=0.0005),
        "Stability": robustness(p2l, votes.prompts[:4], budget=0.0005).overall,
        "NodeEstimates": goodness,
        "Fastness": fastness,
        "mpg report": MPGReport(goodness, fastness),
        "Correlation": mpg.correlations({"Goodness": by_llm}, reference)[0],
        "Collection": Collection(Path("answers.jsonl"), 4, llms, 0.2, 0.0, Stopped()),
        "Judgement": Judgement(Path("votes.jsonl"), "gpt", {"model_a": 3, "tie": 1}, **counts, **ended),
        "BuiltModel": BuiltModel(Path("built"), p2l.spec, (kind,), None, 9),
    }


SAID = {
    "AddedModel": "spread of the known LLMs",
    "Refined": "averaged",
    "Route": "call ",
    "VoteSummary": "share of its votes",
    "Report": "Calibration",
    "Baseline": "model minus baseline",
    "Agreement": "spearman",
    "Category": "cross_entropy",
    "Comparison": "first minus second",
    "Robustness": "by chance",
    "Stability": "route",
    "NodeEstimates": "Goodness: 1 is every question right",
    "Fastness": "usd per query",
    "mpg report": "USD per 1,000 queries",
    "Correlation": "spearman",
    "Collection": "Answers of 2 LLMs",
    "Judgement": "no vote: failed",
    "BuiltModel": "code",
}


@pytest.mark.parametrize("name", SAID)
def test_a_result_shows_what_it_says(made, name):
    assert SAID[name] in check(made[name])


def test_text_of_others_stays_text(made):
    assert "&lt;mine&gt;" in made["AddedModel"]._repr_html_()


def test_bars_start_at_zero_and_say_so():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    rows = [{"of": f"part {i}", "value": float(i - 3), "low": i - 4.0, "high": i - 2.5} for i in range(50)]
    ax = pictures.draw_bars([*rows, {"of": "none", "value": None}], "of", "value", meaning="gain", title="All")
    assert {bar.get_x() for bar in ax.patches} == {0.0}
    assert [bar.get_width() for bar in ax.patches] == [row["value"] for row in rows[:40]]
    assert ax.get_xlabel() == "gain\n(bars start at zero; lines: 95 % intervals)"
    assert ax.get_title(loc="left") == "All: the first 40 of 50"
    pictures.require_pyplot().close(ax.figure)
