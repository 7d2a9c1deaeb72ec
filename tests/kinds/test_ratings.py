"""Tables of ratings and of scores: every form gives the same leaderboards, and what is wrong is named."""

from __future__ import annotations

import csv
import dataclasses
import json
import warnings

import numpy as np
import pandas
import pytest
from kinds_world import LLMS, Truth, kinds_of
from mpg_results import refusal

from p2l_sdk.editing.rated import Scale
from p2l_sdk.errors import P2LWarning, TableError
from p2l_sdk.kinds import KindRatings
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.leaderboard_p2l import ARENA_SCALE
from p2l_sdk.mpg import Results, Tree, goodness

ROWS = Truth(kinds_of("disjoint")).rows(half=8.0)
A = {"model": "a", "category": "overall", "rating": 1000.0}
PLAIN = [
    A,
    {**A, "model": "b", "rating": 1100.0},
    {**A, "category": "code", "rating": 990.0},
    {**A, "model": "b", "category": "code", "rating": 1120.0},
]


def same(one: KindRatings, other: KindRatings, *, atol: float = 1e-12) -> None:
    for field in dataclasses.fields(KindRatings):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_allclose(a, b, atol=atol, err_msg=field.name)
        elif field.name != "scale":
            assert a == b, field.name


# --- what is read --------------------------------------------------------------------------------------------------


def test_what_a_table_says():
    known = KindRatings.read(ROWS, "elo")
    truth = Truth(kinds_of("disjoint"))
    assert (known.models, known.kinds, known.overall_name) == (LLMS, kinds_of("disjoint"), "overall")
    assert (known.scale, known.feedback, known.eta) == (Scale.ELO, Feedback.BT, None)
    np.testing.assert_allclose(known.overall[:, 0] * ARENA_SCALE, truth.overall - truth.overall.mean(), atol=1e-9)
    departures = (known.coefs - known.overall[:, :1]) * ARENA_SCALE
    np.testing.assert_allclose(departures, np.stack(list(truth.departures.values()), 1), atol=1e-9)
    np.testing.assert_allclose(known.errors * ARENA_SCALE * 1.96, 8.0 * 0.5**0.5, rtol=1e-4)  # of departures
    np.testing.assert_allclose(known.overall[:, 1] * ARENA_SCALE * 1.96, 8.0, rtol=1e-4)


@pytest.mark.parametrize(
    "names", [("lower", "upper"), ("rating_lower", "rating_upper"), ("rating_q025", "rating_q975")]
)
@pytest.mark.parametrize("model", ["model", "model_name"])
def test_the_names_of_columns(names, model):
    renamed = {"lower": names[0], "upper": names[1], "model": model}
    rows = [{renamed.get(key, key): value for key, value in row.items()} for row in ROWS]
    same(KindRatings.read(rows, "elo"), KindRatings.read(ROWS, "elo"))


def test_every_kind_of_table_is_the_same(tmp_path):
    expected, frame = KindRatings.read(ROWS, "elo"), pandas.DataFrame(ROWS)
    with (tmp_path / "r.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    frame.to_parquet(tmp_path / "r.parquet")
    sources = (tmp_path / "r.csv", str(tmp_path / "r.jsonl"), tmp_path / "r.parquet", frame, frame.to_dict("list"))
    for source in sources:
        same(KindRatings.read(source, "elo"), expected)


def test_elo_and_logits_are_the_same():
    numbers = ("rating", "lower", "upper")
    logits = [{k: v / ARENA_SCALE if k in numbers else v for k, v in row.items()} for row in ROWS]
    one, other = KindRatings.read(ROWS, "elo"), KindRatings.read(logits, Scale.LOGIT)
    same(one, other)
    assert (one.scale, other.scale) == ("elo", "logit")


def test_limits_may_be_missing_in_some_rows():
    rows = [{**row, **({"lower": None, "upper": None} if row["model"] == "llm-1" else {})} for row in ROWS]
    errors = KindRatings.read(rows, "elo").errors
    assert (errors[1] == 0).all()
    assert (np.delete(errors, 1, 0) > 0).all()


def test_a_choice_of_kinds_and_another_overall():
    known = KindRatings.read(ROWS, "elo", kinds=["law", "code"])
    assert known.kinds == ("law", "code")
    full = [{**row, "category": "Full" if row["category"] == "overall" else row["category"]} for row in ROWS]
    assert KindRatings.read(full, "elo").overall_name == "Full"
    code = KindRatings.read(ROWS, "elo", overall="code")
    assert (code.overall_name, code.kinds) == ("code", ("overall", "food", "law"))


def test_an_llm_that_is_in_no_chosen_kind_and_not_overall_is_left_out():
    rows = [*ROWS, {"model": "other", "category": "law", "rating": 1.0, "lower": 0.0, "upper": 2.0}]
    assert "other" in KindRatings.read(rows, "elo").models
    assert "other" not in KindRatings.read(rows, "elo", kinds=["code"]).models


@pytest.mark.parametrize("overall", [True, False])
def test_missing_ratings_make_no_departures(overall, rng):
    """Ratings that are the LLM's level plus the kind's: nobody departs, whichever of them are missing."""
    level, shift = rng.normal(0, 100, 12), rng.normal(0, 60, 5)
    rows = [{"model": f"m{i}", "category": "overall", "rating": x} for i, x in enumerate(level) if overall and i != 3]
    rows += [
        {"model": f"m{i}", "category": f"k{k}", "rating": x + s}
        for i, x in enumerate(level)
        for k, s in enumerate(shift)
        if k == 0 or ((k + i) % 3 and not (k == 1 and x < 0))  # in k1, strong LLMs alone
    ]
    known = KindRatings.read(rows, "elo")
    assert np.isnan(known.coefs).any()
    departures = (known.coefs - known.overall[:, :1]) * ARENA_SCALE
    np.testing.assert_allclose(departures[~np.isnan(departures)], 0.0, atol=1e-3)
    order = [int(name[1:]) for name in known.models]
    got = known.overall[:, 0] * ARENA_SCALE
    np.testing.assert_allclose(got - got.mean(), level[order] - level[order].mean(), atol=1e-3)


# --- what is refused -----------------------------------------------------------------------------------------------


def changed(row: int, **values) -> list[dict]:
    return [{**one, **values} if i == row else one for i, one in enumerate(PLAIN)]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (PLAIN, {"scale": None}, 'the ratings have no scale: say "elo" (400 points are odds of 10 to 1) or "logit"'),
        (PLAIN, {"scale": "glicko"}, "unknown scale 'glicko'; known: elo, logit"),
        (PLAIN, {"scale": "share"}, "shares of right answers are scores, not ratings: give them as scores (--scores)"),
        ([*PLAIN, PLAIN[2]], {}, "row 5 is the second rating of 'a' in 'code'; keep one"),
        (changed(1, lower=1101, upper=1200), {}, "row 1 has no"),
        ([{**r, "lower": 1105.0, "upper": 1200.0} for r in PLAIN], {}, "row 1: the rating 1000 is not within 1105 to"),
        ([{**r, "lower": 900.0} for r in PLAIN], {}, "the ratings have lower alone; limits need lower and upper"),
        ([{**r, "rating_q975": 9e3} for r in PLAIN], {}, "the ratings have rating_q975 alone; limits need lower and"),
        (PLAIN, {"kinds": ["cod"]}, "the kind 'cod' is in no rating; did you mean 'code'"),
        (PLAIN, {"kinds": ["overall"]}, "the kind 'overall' is the overall leaderboard"),
        (PLAIN, {"kinds": "code"}, "kinds must be a list of names, not a string: ['code']"),
        (PLAIN, {"overall": "ful"}, "no rating is of the category 'ful'"),
        (PLAIN[:2], {}, "the ratings are of one category only; a leaderboard by kind needs another"),
        ([], {}, "the table of ratings is empty"),
        ([PLAIN[0], PLAIN[2]], {}, "the ratings are of one LLM, 'a'; a leaderboard needs two"),
        (changed(3, rating=None), {}, "row 4: rating is None; it must be a finite number"),
        (changed(3, rating="good"), {}, "row 4: rating is 'good'; it must be a finite number"),
        (changed(3, rating=float("inf")), {}, "row 4: rating is inf; it must be a finite number"),
        (changed(3, model=""), {}, "row 4"),
        (changed(3, category=7), {}, "row 4"),
        ([{k: v for k, v in r.items() if k != "rating"} for r in PLAIN], {}, "no column 'rating'"),
        ([{k: v for k, v in r.items() if k != "category"} for r in PLAIN], {}, "no column 'category'"),
        ([{k: v for k, v in r.items() if k != "model"} for r in PLAIN], {}, "no column 'model'"),
        (
            [*PLAIN, {"model": "c", "category": "law", "rating": 5.0}],
            {},
            "no LLM with a rating in 'law' has one in 'overall'; give it, or leave the kind out",
        ),
        (
            [{**r, "category": "math" if r["model"] == "a" else r["category"]} for r in PLAIN[2:]],
            {"kinds": ["math"]},
            "the kinds that are used have ratings of one LLM",
        ),
    ],
)
def test_refusals(rows, options, message):
    assert message in refusal(KindRatings.read, rows, **{"scale": "elo", **options})


def test_a_file_that_is_wrong_is_named(tmp_path):
    (tmp_path / "r.jsonl").write_text(json.dumps({**A, "rating": "x"}) + "\n")
    assert refusal(KindRatings.read, tmp_path / "r.jsonl", "elo").startswith(f"'{tmp_path / 'r.jsonl'}'")
    assert "no such file" in refusal(KindRatings.read, tmp_path / "none.csv", "elo")


# --- scores --------------------------------------------------------------------------------------------------------


def counts(share: float = 1.0) -> list[dict]:
    right = {"a": (0.9, 0.4), "b": (0.7, 0.6), "c": (0.5, 0.2)}
    return [
        {"model": model, "benchmark": name, "score": share * value}
        for model, values in right.items()
        for name, value in zip(("math", "law"), values, strict=True)
    ]


def test_scores_make_a_grounded_leaderboard_for_each_benchmark():
    known = KindRatings.of_results(Results.read(counts()))
    assert (known.models, known.kinds, known.overall_name) == (("a", "b", "c"), ("math", "law"), "overall")
    assert (known.scale, known.feedback) == (Scale.SHARE, Feedback.GRK)
    assert known.coefs[:, 0].argsort().tolist() == [2, 1, 0]
    assert known.coefs[:, 1].argsort().tolist() == [2, 0, 1]
    assert known.eta.shape == (3,)
    assert (known.errors > 0).all()
    # grounded: the higher all shares, the higher all coefficients
    assert known.coefs[:, 0].mean() > known.coefs[:, 1].mean()


def test_scores_in_per_cent_are_the_same():
    one = KindRatings.of_results(Results.read(counts()))
    same(KindRatings.of_results(Results.read(counts(100.0), percent=True)), one, atol=1e-9)
    assert "in [0, 1]" in refusal(Results.read, counts(100.0))


def test_the_more_questions_the_smaller_the_error():
    few, many = (KindRatings.of_results(Results.read([{**row, "n": n} for row in counts()])) for n in (100, 400))
    np.testing.assert_allclose(many.errors, few.errors / 2, rtol=0.02)
    np.testing.assert_allclose(KindRatings.of_results(Results.read(counts())).errors, few.errors)


def test_an_assumed_number_of_questions_is_said_once():
    rows = [{**row, "n": 50} if row["model"] != "a" else row for row in counts()]
    with pytest.warns(P2LWarning, match="2 scores without a number of questions: taken as of 100") as caught:
        KindRatings.of_results(Results.read(rows))
    assert len(caught) == 1
    assert "column n" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KindRatings.of_results(Results.read([{**row, "n": 50} for row in counts()]))


def test_a_benchmark_may_stand_for_all_prompts_and_a_result_be_missing():
    rows = [*counts(), *({"model": m, "benchmark": "all", "score": s} for m, s in (("a", 0.7), ("b", 0.6), ("c", 0.3)))]
    known = KindRatings.of_results(Results.read(rows), overall="all")
    assert (known.overall_name, known.kinds) == ("all", ("math", "law"))
    gap = KindRatings.of_results(
        Results.read([row for row in rows if (row["model"], row["benchmark"]) != ("c", "law")])
    )
    at = gap.kinds.index("law")
    assert np.isnan(gap.coefs[2, at])
    assert np.isnan(gap.coefs).sum() == 1
    assert np.isfinite(gap.overall).all()


def test_scores_that_are_refused():
    results = Results.read([*counts(), {"model": "a", "benchmark": "lonely", "score": 0.5}])
    assert "'lonely' has results of fewer than two LLMs; leave it out" in refusal(KindRatings.of_results, results)
    assert KindRatings.of_results(results, kinds=["math", "law"]).kinds == ("math", "law")
    assert "the kind 'maths' is in no rating; did you mean 'math'" in refusal(
        KindRatings.of_results, results, kinds=["maths"]
    )


def test_answers_of_mpg_measure_are_scores(tmp_path):
    from scripted_server import Script, ScriptedServer

    from p2l_sdk.mpg.measure.endpoint import Endpoint
    from p2l_sdk.mpg.measure.questions import Question
    from p2l_sdk.mpg.measure.run import measure

    asked = [Question(str(i), f"question {i}?", ("yes it is",), f"bench{i % 2}") for i in range(8)]
    lines = ""
    with ScriptedServer({"*": Script()}) as server:
        for name in ("one", "two"):
            endpoint = Endpoint(base_url=server.base_url, model=name)
            measure(endpoint, asked, tmp_path / f"{name}.jsonl", warm_up=0, replicates=10)
            lines += (tmp_path / f"{name}.jsonl").read_text()
    (tmp_path / "both.jsonl").write_text(lines)
    known = KindRatings.of_results(Results.read(tmp_path / "both.jsonl"))
    assert known.models == ("one", "two")
    assert sorted(known.kinds) == ["bench0", "bench1"]  # in the order of the answers
    np.testing.assert_allclose(known.coefs[0], known.coefs[1], atol=1e-6)  # they answered alike


@pytest.mark.parametrize(
    ("scale", "factor", "message"),
    [("logit", 1.0, "differ by .* logits: are they Elo points"), ("elo", 0.005, "Elo points at most: are they logits")],
)
def test_a_scale_that_cannot_be_is_doubted(scale, factor, message):
    rows = [{**row, "rating": factor * row["rating"]} for row in Truth(kinds_of("disjoint")).rows()]
    with pytest.warns(P2LWarning, match=message):
        KindRatings.read(rows, scale)


def test_scores_in_percent_are_no_elo_points():
    rows = [{"model": name, "code": score, "law": score - 7} for name, score in (("a", 82), ("b", 41), ("c", 60))]
    with pytest.warns(P2LWarning, match="between 0 and 100: are they scores in percent"):
        KindRatings.read(rows, "elo")


@pytest.mark.parametrize("wide", [True, False])
def test_a_row_of_means_is_no_llm(wide):
    cells = [("a", 1000, 1100), ("b", 1100, 1000), ("Mean", 1050, 1050)]
    rows = [{"model": name, "code": one, "law": two} for name, one, two in cells]
    if not wide:
        rows = [{"model": r["model"], "category": c, "rating": r[c]} for r in rows for c in ("code", "law")]
    with pytest.raises(TableError, match=f"{'3' if wide else '5'}.* is of 'Mean', which looks like a figure"):
        KindRatings.read(rows, "elo")


def test_shares_that_are_no_per_cent_are_doubted():
    cells = [("a", "x", 0.8), ("b", "x", 0.4), ("a", "y", 0.5), ("b", "y", 0.6)]
    rows = [{"model": model, "benchmark": name, "score": score} for model, name, score in cells]
    with pytest.warns(P2LWarning, match="no LLM has more than 1 % right"):
        KindRatings.of_results(Results.read(rows, percent=True))


def test_goodness_gives_the_leaderboards_of_its_subdomains():
    rows = [
        {"model": model, "benchmark": name, "correct": correct, "total": 200}
        for name, column in {"algebra": (180, 90), "geometry": (170, 80), "law": (60, 150)}.items()
        for model, correct in zip(("a", "b"), column, strict=True)
    ]
    tree = Tree.read({"nodes": {"all": ["math", "letters"], "math": ["algebra", "geometry"], "letters": ["law"]}})
    estimates = goodness(Results.read(rows), tree, prior="jeffreys", missing="renormalise", draws=400)
    known = KindRatings.of_goodness(estimates, kinds=["math", "letters"])
    assert (known.models, known.kinds, known.overall_name) == (("a", "b"), ("math", "letters"), "all")
    assert known.coefs[0, 0] > known.coefs[1, 0]
    assert known.coefs[0, 1] < known.coefs[1, 1]
    assert (known.errors > 0).all()
    whole = KindRatings.of_goodness(estimates)
    assert set(whole.kinds) == {*estimates.nodes} - {"all"}


def test_a_column_for_each_category_is_the_same_table(tmp_path):
    long = tmp_path / "long.csv"
    long.write_text(
        "Modell;Kategorie;Elo\na;overall;1000\nb;overall;1100\na;code;990\nb;code;1120\nb;law;1150\na;law;900\n"
    )
    wide = tmp_path / "wide.csv"
    wide.write_text("Model,Overall,code,law,Licence\na,1000,990,900,MIT\nb,1100,1120,1150,none\n")
    read = KindRatings.read(wide, "elo")
    assert read.kinds == ("code", "law")
    assert read.overall_name == "Overall"
    same(dataclasses.replace(read, overall_name="overall"), KindRatings.read(long, "elo"))
    wide.write_text("Model,Overall,code,law\na,1000,990,n/a\nb,1100,1120,1150\nc,900,-,1010\n")
    assert np.isnan(KindRatings.read(wide, "elo").coefs).tolist() == [[False, True], [False, False], [True, False]]
    wide.write_text("Model,Overall,code\na,1000,990\nb,1100,bad\nc,1,2\nd,1,3\n")
    with pytest.raises(TableError, match=r"line 3: code is 'bad'; it must be a finite number"):
        KindRatings.read(wide, "elo")
    wide.write_text("Model,Overall,code\na,1000,990\na,1100,7\n")
    with pytest.raises(TableError, match=r"line 3 is a second row of 'a'; keep one"):
        KindRatings.read(wide, "elo")
    wide.write_text("Model,licence\na,MIT\n")
    with pytest.raises(TableError, match=r"need the columns model, category and rating, or model and a column of rat"):
        KindRatings.read(wide, "elo")
