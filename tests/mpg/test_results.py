"""Results of LLMs on benchmarks: their forms, the readers of other projects' files, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from mpg_results import ROWS, refusal

from p2l_sdk.mpg import Results
from p2l_sdk.mpg.harness import read_harness
from p2l_sdk.mpg.livebench import read_livebench


def with_row(**changes) -> list[dict]:
    return [*ROWS[:2], {**ROWS[2], **changes}, *ROWS[3:]]


def test_the_three_forms_say_the_same(tmp_path):
    counts = Results.read(ROWS)
    questions = [
        {"model": r["model"], "benchmark": r["benchmark"], "question_id": i, "score": float(i < r["correct"])}
        for r in ROWS
        for i in range(r["total"])
    ]
    means = [
        {"model": r["model"], "benchmark": r["benchmark"], "score": r["correct"] / r["total"], "n": r["total"]}
        for r in ROWS
    ]
    percent = [{**row, "score": 100 * row["score"]} for row in means]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (tmp_path / "r.csv").write_text(
        "model,benchmark,score,n\n" + "".join(f"{r['model']},{r['benchmark']},{r['score']},{r['n']}\n" for r in means)
    )
    import pandas as pd

    pd.DataFrame(means).to_parquet(tmp_path / "r.parquet")
    tables = [Results.read(s) for s in (questions, means, pd.DataFrame(means), *map(str, tmp_path.iterdir()))]
    for results in [*tables, Results.read(percent, percent=True)]:
        assert results.models == counts.models
        assert results.benchmarks == counts.benchmarks
        np.testing.assert_allclose(results.means, counts.means)
        np.testing.assert_allclose(results.counts, counts.counts)
    assert np.isnan(Results.read([{k: v for k, v in r.items() if k != "n"} for r in means]).counts).all()


def test_a_column_per_benchmark(tmp_path):
    file = tmp_path / "wide.csv"
    file.write_text("model,mmlu,gsm8k\na,50,30\nb,60,\n")
    found = Results.read(file, percent=True)
    assert (found.models, found.benchmarks) == (("a", "b"), ("mmlu", "gsm8k"))
    assert found.means.tolist()[0] == [0.5, 0.3]
    assert found.means[1, 0] == 0.6
    assert np.isnan(found.means[1, 1])
    assert found.counts[1, 1] == 0
    assert np.isnan(found.counts[0]).all()
    assert "line 2: mmlu is '50'; it must be a number in [0, 1]" in refusal(Results.read, file)
    bad = [{"model": "a", "mmlu": 0.5}, {"model": "b", "mmlu": "x"}]
    assert "row 2: mmlu is 'x'; it must be a number in [0, 1]" in refusal(Results.read, bad)
    assert "row 1 and row 2 are both of LLM 'a'; keep one" in refusal(Results.read, [bad[0], bad[0]])


def test_bad_results_are_refused_by_name():
    assert "row 3: correct is 120; it must be at most total, 100" in refusal(Results.read, with_row(correct=120))
    assert "row 3: total is 0; it must be above 0" in refusal(Results.read, with_row(correct=0, total=0))
    assert "row 3: correct is nan" in refusal(Results.read, with_row(correct=float("nan")))
    assert "row 3 has no model" in refusal(Results.read, with_row(model=None))
    assert "row 1 and row 7 are both of LLM 'a', benchmark 'math'" in refusal(Results.read, [*ROWS, ROWS[0]])
    assert "they need one of: model, benchmark, question_id, score" in refusal(Results.read, [{"model": "a"}])
    assert "is empty" in refusal(Results.read, [])
    mean = {"model": "a", "benchmark": "math", "score": 71.0}
    assert "row 1: score is 71.0; it must be a number in [0, 1]" in refusal(Results.read, [mean])
    assert "row 1: score is nan" in refusal(Results.read, [{**mean, "score": float("nan")}])
    assert "row 1: n is 0" in refusal(Results.read, [{**mean, "score": 0.5, "n": 0}])
    asked = {**mean, "score": 1.0, "question_id": "q1"}
    assert "both of LLM 'a', benchmark 'math', question 'q1'" in refusal(Results.read, [asked, asked])
    assert "row 1: seconds is -1" in refusal(Results.read, [{**asked, "seconds": -1}])
    assert "two tables have a result of 'a' on 'math'" in refusal(Results.joined, [Results.read(ROWS)] * 2)
    assert "no result of 'z'" in refusal(Results.read(ROWS).of_models, ["z"])


def test_a_graded_score_counts_as_the_questions_that_leave_its_error():
    rng = np.random.default_rng(0)
    scores = rng.beta(6, 4, (1, 400))
    results = Results.of_questions(["a"], {"essays": scores})
    mean, count = results.means[0, 0], results.counts[0, 0]
    as_binomial = np.sqrt(mean * (1 - mean) / count)
    bootstrap = scores[0][rng.integers(0, 400, (2000, 400))].mean(1).std()
    assert as_binomial == pytest.approx(bootstrap, rel=0.06)


def test_the_harness_of_eleuther_is_read(tmp_path):
    folder = tmp_path / "org__model-a"
    folder.mkdir()
    summary = {
        "results": {
            "gsm8k": {"alias": "gsm8k", "exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.05},
            "arc": {"acc,none": 0.4, "acc_stderr,none": 0.01, "acc_norm,none": 0.6, "acc_norm_stderr,none": 0.02},
            "group": {"alias": "group"},
        },
        "n-samples": {"gsm8k": {"original": 100, "effective": 100}},
        "model_name": "org/model-a",
    }
    (folder / "results_2025-01-01T00-00-00.0.json").write_text(json.dumps(summary))
    rows = [
        {"doc_id": i, "filter": f, "metrics": ["exact_match"], "exact_match": float(i < 3)}
        for f in ("strict", "flexible")
        for i in range(4)
    ]
    (folder / "samples_gsm8k_2025-01-01T00-00-00.0.jsonl").write_text("\n".join(map(json.dumps, rows)))
    results = read_harness(tmp_path)
    assert results.models == ("org/model-a",)
    assert dict(zip(results.benchmarks, results.means[0], strict=True)) == {"gsm8k": 0.75, "arc": 0.6}
    assert dict(zip(results.benchmarks, results.counts[0], strict=True)) == pytest.approx({"gsm8k": 4, "arc": 600})
    assert results.questions["gsm8k"].shape == (1, 4)
    assert "has no 'bleu'; it has: exact_match" in refusal(read_harness, folder, metric="bleu")
    (tmp_path / "empty").mkdir()
    assert "no results_*.json and no samples_*.jsonl" in refusal(read_harness, tmp_path / "empty")


def test_a_table_of_livebench_is_read(tmp_path):
    (tmp_path / "table.csv").write_text("model,AMPS_Hard,typos,cta\nx,50,20,\ny,75,40,10\n")
    (tmp_path / "categories.json").write_text(json.dumps({"Mathematics": ["AMPS_Hard"], "Language": ["typos", "cta"]}))
    results, tree = read_livebench(tmp_path / "table.csv", tmp_path / "categories.json")
    np.testing.assert_allclose(results.means, [[0.5, 0.2, np.nan], [0.75, 0.4, 0.1]])
    assert tree.domains == ("Mathematics", "Language")
    assert tree.nodes["Language"] == ("typos", "cta")
    assert read_livebench(tmp_path / "table.csv")[1].domains == ("Mathematics", "Data Analysis", "Language")
    (tmp_path / "table.csv").write_text("model,typos\nx,120\n")
    assert "line 2: typos is '120'; it must be a number in [0, 100]" in refusal(read_livebench, tmp_path / "table.csv")
