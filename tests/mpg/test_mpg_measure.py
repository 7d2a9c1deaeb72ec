"""`p2l mpg measure`: times against a server with known delays, both loops, a killed run, faults, grading, a real LLM.

The default run tolerates errors of 15 %, for busy machines; `-m slow` has longer delays and tolerates 3 %.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mpg_results import refusal
from scripted_server import Script, ScriptedServer

from p2l_sdk.cli import cli
from p2l_sdk.errors import P2LError
from p2l_sdk.mpg import Fastness, Results
from p2l_sdk.mpg.measure.answers import AnswersFile, read_answers
from p2l_sdk.mpg.measure.endpoint import Endpoint
from p2l_sdk.mpg.measure.grading import choice, chosen, exact, grader_of
from p2l_sdk.mpg.measure.measurement import Measurement
from p2l_sdk.mpg.measure.questions import Question, fingerprint, read_questions
from p2l_sdk.mpg.measure.run import WARM_UP, measure

FAST = {"replicates": 100, "warm_up": 1}


def asked(n: int, name: str = "q") -> list[Question]:
    return [Question(str(i), f"{name} number {i}", ("yes it is",), "bench") for i in range(n)]


def endpoint(server: ScriptedServer, **options) -> Endpoint:
    return Endpoint(base_url=server.base_url, model="llm", **options)


# --- times ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("unit", "tolerance"), [(0.2, 0.15), pytest.param(1.0, 0.03, marks=pytest.mark.slow)], ids=["quick", "exact"]
)
def test_a_closed_loop_measures_what_the_server_does(unit, tolerance, tmp_path):
    with ScriptedServer({"*": Script(first=unit, total=3 * unit)}) as server:
        found = measure(endpoint(server), asked(12), tmp_path / "a.jsonl", concurrency=4, prices=(1.0, 2.0), **FAST)
    fast = {name: table["llm"].value for name, table in found.fastness.measures.items()}
    assert fast["queries_per_second"] == pytest.approx(4 / (3 * unit), rel=tolerance)
    assert fast["seconds"] == pytest.approx(3 * unit, rel=tolerance)
    assert fast["tokens_per_second"] == pytest.approx(20 / (3 * unit), rel=tolerance)
    assert fast["usd_per_query"] == pytest.approx((10 * 1 + 20 * 2) / 1e6)
    assert found.latency["seconds_to_first_token"]["p50"] == pytest.approx(unit, rel=tolerance)
    assert found.latency["seconds"]["p50"] == pytest.approx(3 * unit, rel=tolerance)
    assert found.latency["seconds"]["p95"] == pytest.approx(3 * unit, rel=2 * tolerance)
    assert found.n_answered == 12
    assert server.asked[WARM_UP] == 1
    assert found.accuracy["all"].value == 1.0
    assert "closed loop, 4 at once" in found.load


@pytest.mark.long
@pytest.mark.parametrize(
    ("unit", "tolerance"), [(0.02, 0.15), pytest.param(0.1, 0.03, marks=pytest.mark.slow)], ids=["quick", "exact"]
)
def test_an_open_loop_charges_a_stall_to_all_who_wait(unit, tolerance, tmp_path):
    """One at a time, a query due every 2 units; one takes 50 units, so that those behind it queue."""
    service = {"*": Script(total=0.5 * unit), "stall": Script(total=50 * unit)}
    questions = asked(60)
    questions[10] = Question("10", "stall once", ("yes it is",), "bench")
    finish, truth = 0.0, []
    for i, question in enumerate(questions):
        due = 2 * unit * i
        finish = max(due, finish) + service[question.prompt.split()[0] if i == 10 else "*"].total
        truth.append(finish - due)
    with ScriptedServer(service, one_at_a_time=True) as server:
        found = measure(endpoint(server), questions, tmp_path / "a.jsonl", rate=1 / (2 * unit), **FAST)
    for label, q in (("p95", 0.95), ("p99", 0.99)):
        assert found.latency["seconds"][label] == pytest.approx(float(np.quantile(truth, q)), rel=tolerance)
    assert found.latency["seconds"]["p95"] > 40 * unit  # a closed loop would see the stall once
    rate = found.fastness.measures["queries_per_second"]["llm"]
    assert rate.value == pytest.approx(60 / (2 * unit * 59 + truth[-1]), rel=tolerance)
    assert rate.low is None


def test_times_are_from_when_a_query_was_due(tmp_path):
    """Where the measuring process itself is held up, the queries that were due meanwhile are late, and say so."""
    held = iter([0.6])

    def grader(answer: str, question: Question) -> float:
        time.sleep(next(held, 0.0))
        return 1.0

    with ScriptedServer() as server:
        found = measure(endpoint(server), asked(30), tmp_path / "a.jsonl", rate=30, grader=grader, **FAST)
    late = sum(row["seconds"] > 0.1 for row in read_answers(tmp_path / "a.jsonl"))
    assert late >= 10
    assert found.latency["seconds"]["p99"] > 0.4


# --- an interrupted run --------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_killed_run_loses_and_repeats_nothing(tmp_path):
    n, output = 40, tmp_path / "answers.jsonl"
    rows = [{"question_id": i, "prompt": f"q number {i}", "answer": "yes it is"} for i in range(n)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with ScriptedServer({"*": Script(total=0.1)}) as server:
        arguments = ["mpg", "measure", "--base-url", server.base_url, "--model", "llm", "--concurrency", "3"]
        arguments += ["--questions", str(tmp_path / "q.jsonl"), "--output", str(output), "--warm-up", "1"]
        process = subprocess.Popen([sys.executable, "-m", "p2l_sdk", *arguments], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (output.exists() and output.read_bytes().count(b"\n") >= 8):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        kept = output.read_bytes()
        first = read_answers(output)
        assert 8 <= len(first) < n
        half = json.dumps({**first[-1], "question_id": "39"})[:70]
        output.write_bytes(kept + half.encode())  # killed in the middle of a line
        before = dict(server.asked)
        result = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
        found = json.loads(result.stdout)
    assert output.read_bytes().startswith(kept)
    last = read_answers(output)
    assert [row["question_id"] for row in last[: len(first)]] == [row["question_id"] for row in first]
    assert sorted(int(row["question_id"]) for row in last) == list(range(n))
    for row in first:
        assert server.asked[f"q number {row['question_id']}"] == 1
    twice = [prompt for prompt, count in server.asked.items() if count > 1 and prompt != WARM_UP]
    assert len(twice) <= 3  # the requests in flight when it was killed
    assert set(twice) <= set(before)
    assert found["n_answered"] == n
    assert found["sessions"] == 2
    spans = [
        max(r["due"] + r["seconds"] for r in part) - min(r["due"] for r in part)
        for part in (last[: len(first)], last[len(first) :])
    ]
    assert found["elapsed"] == pytest.approx(sum(spans))
    assert found["fastness"]["queries_per_second"]["value"] == pytest.approx(n / sum(spans))
    assert 0.5 * 30 < n / sum(spans) < 1.05 * 30  # 3 at once, 0.1 s each, without the time between parts
    assert found["notes"] == ["measured in 2 parts; queries per second are of their times together"]


def test_a_whole_run_is_not_asked_again_and_another_is_refused(tmp_path):
    output = tmp_path / "a.jsonl"
    with ScriptedServer() as server:
        first = measure(endpoint(server), asked(3), output, **FAST)
        again = measure(endpoint(server), asked(3), output, **FAST)
        assert sum(server.asked.values()) == 3 + 1
        assert again.to_dict() == first.to_dict() == Measurement.read(output, replicates=100).to_dict()
        other = Endpoint(base_url=server.base_url, model="other")
        assert "holds a run with model 'llm', not 'other'" in refusal(measure, other, asked(3), output, **FAST)
        text = refusal(measure, endpoint(server), asked(4), output, **FAST)
        assert f"questions {fingerprint(asked(3))!r}, not {fingerprint(asked(4))!r}; run it again as it was" in text
        assert "concurrency 4, not 2" in refusal(measure, endpoint(server), asked(3), output, concurrency=2, **FAST)
        (tmp_path / "mine.txt").write_text("my notes")
        assert "holds no answers" in refusal(measure, endpoint(server), asked(3), tmp_path / "mine.txt", **FAST)
        (tmp_path / "rows.jsonl").write_text('{"model": "a", "score": 1}\n')
        assert "line 1 is no answer" in refusal(measure, endpoint(server), asked(3), tmp_path / "rows.jsonl", **FAST)
        assert "folder" in refusal(measure, endpoint(server), asked(3), tmp_path, **FAST)
    assert (tmp_path / "mine.txt").read_text() == "my notes"


# --- faults --------------------------------------------------------------------------------------------------------

FAULTS = {
    "busy": (Script(status=429), "status 429"),
    "cut": (Script(cut=True), "cut off"),
    "garbage": (Script(raw=b"data: {not json}\n\n"), "garbage"),
    "list": (Script(raw=b'data: {"choices": [3]}\n\ndata: [DONE]\n\n'), "garbage"),
    "nothing": (Script(raw=b"<html>hello</html>"), "garbage"),
    "error": (Script(raw=b'data: {"error": {"message": "out of memory"}}\n\n'), "error"),
    "slow": (Script(total=5.0), "timeout"),
    "empty": (Script(text=""), None),
    "whole": (Script(whole=True), None),
    "line": (Script(text="yes\u2028it is"), None),
    "uncounted": (Script(usage=None), None),
}


def test_two_runs_do_not_write_to_one_file(tmp_path):
    file, row = tmp_path / "answers.jsonl", {"benchmark": "b", "question_id": "1", "session": 0.0, "due": 0.0}
    with AnswersFile(file, "llm", {}) as answers:
        with pytest.raises(P2LError, match=r"another process writes to .*answers\.jsonl"):
            AnswersFile(file, "llm", {})
        answers.append(row)
    with AnswersFile(file, "llm", {}) as answers:
        assert len(answers.rows) == 1


def test_failures_are_kept_as_failures(tmp_path):
    output = tmp_path / "a.jsonl"
    questions = [Question(name, f"{name} ?", ("yes it is",), "bench") for name in FAULTS]
    scripts = {name: script for name, (script, _) in FAULTS.items()}
    with ScriptedServer(scripts) as server:
        found = measure(endpoint(server, timeout=0.5, api_key="secret"), questions, output, concurrency=2, **FAST)
        assert all("authorization: Bearer secret" in head for head in server.headers)
        assert server.bodies[-1]["stream_options"] == {"include_usage": True}
        rows = {row["question_id"]: row for row in read_answers(output)}
        for name, (_, kind) in FAULTS.items():
            assert rows[name].get("error") == kind, name
            assert (rows[name]["seconds"] is None) == (kind is not None)
            assert (rows[name]["score"] is None) == (kind is not None)
        assert "overloaded" in rows["busy"]["detail"]
        assert rows["slow"]["failed_after"] == pytest.approx(0.5, abs=0.2)
        assert {name: rows[name]["score"] for name in ("empty", "whole", "line", "uncounted")} == {
            "empty": 0.0, "whole": 1.0, "line": 1.0, "uncounted": 1.0,
        }  # fmt: skip
        assert rows["whole"]["first_token_seconds"] is None
        assert rows["uncounted"]["output_tokens"] is None
        assert found.failures == {"garbage": 3, "status 429": 1, "cut off": 1, "error": 1, "timeout": 1}
        assert found.n_answered == 4
        assert found.accuracy["all"].value == 0.75
        assert "secret" not in output.read_text()
        assert (
            sum(measure(endpoint(server, timeout=0.5), questions, output, concurrency=2, **FAST).failures.values()) == 7
        )
        server.scripts = {}
        assert measure(endpoint(server), questions, output, concurrency=2, retry_failed=True, **FAST).n_failed == 0
        assert server.asked["busy ?"] == 2
        assert server.asked["whole ?"] == 1
    results = Results.read(output)
    assert results.counts.tolist() == [[11.0]]
    assert Fastness.of_results(results).measures["seconds"]["llm"].n == 11
    assert refusal(Results.read, [row for row in rows.values() if row.get("error")]).startswith("every row")


def test_a_server_that_counts_no_tokens(tmp_path):
    with ScriptedServer({"*": Script(usage=None, total=0.01)}) as server:
        found = measure(endpoint(server), asked(3), tmp_path / "a.jsonl", prices=(1.0, 1.0), **FAST)
    assert found.notes == ["the server counts no tokens: neither tokens per second nor USD per query"]
    assert set(found.fastness.measures) == {"queries_per_second", "seconds", "seconds_to_first_token"}


def test_an_endpoint_that_is_none_is_named(tmp_path):
    output = tmp_path / "a.jsonl"
    with ScriptedServer({"*": Script(status=404)}) as server:
        assert "does the base URL lack a /v1" in refusal(measure, endpoint(server), asked(3), output, **FAST)
        server.scripts = {"*": Script(status=401)}
        assert "--api-key-env" in refusal(measure, endpoint(server), asked(3), output, **FAST)
    text = refusal(measure, endpoint(server), asked(3), output, **FAST)
    assert "did not answer as an OpenAI-compatible endpoint (connection: " in text
    assert "is it running?" in text
    assert not output.exists()
    text = refusal(measure, endpoint(server), asked(30), output, replicates=100, warm_up=0)
    assert text.startswith("10 queries in a row failed (connection: ")
    assert "--retry-failed goes on" in text
    assert 10 <= len(read_answers(output)) < 10 + 4  # others were in flight
    assert "must begin with http" in refusal(Endpoint, base_url="localhost:8000", model="llm")
    assert "give one of them" in refusal(measure, endpoint(server), asked(3), output, concurrency=1, rate=1.0)
    with ScriptedServer() as server:
        text = refusal(measure, endpoint(server), asked(1), tmp_path / "b.jsonl", grader=lambda a, q: 2.0, **FAST)
    assert text == "the grader gives 2.0 for question '0'; it must be in [0, 1]"


# --- questions and grading -----------------------------------------------------------------------------------------


def test_questions_of_every_kind_of_file_are_the_same(tmp_path):
    from pyarrow import Table, parquet

    rows = [
        {"question_id": "1", "prompt": "Which?", "answer": "Rome", "benchmark": "x", "choices": ["Paris", "Rome"]},
        {"question_id": "2", "prompt": "Who?", "answer": "b", "benchmark": "x", "choices": ["me", "you"]},
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parquet.write_table(Table.from_pylist(rows), tmp_path / "q.parquet")
    with (tmp_path / "q.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows({**row, "choices": json.dumps(row["choices"])} for row in rows)
    found = {fingerprint(read_questions(tmp_path / f"q.{kind}")) for kind in ("jsonl", "csv", "parquet")}
    assert len(found) == 1
    question = read_questions(tmp_path / "q.csv")[0]
    assert question.text == "Which?\nA. Paris\nB. Rome\nAnswer with the letter of the right choice."
    assert choice("b", question) == 1.0
    assert "'2' has no choices, and its answer 'Rome' is no letter" in refusal(
        choice, "B", Question("2", "?", ("Rome",))
    )
    assert "unknown grader 'f1'; known: exact, choice" in refusal(grader_of, "f1")
    for change, text in (
        ({"answer": None}, "line 2 has no answer"),
        ({"question_id": "1"}, "question '1' of 'x' stands twice"),
        ({"answer": "C"}, "the answer 'C' is none of the choices"),
        ({"choices": "a, b"}, "choices must be a list"),
    ):
        (tmp_path / "bad.jsonl").write_text("\n".join(map(json.dumps, [rows[0], {**rows[1], **change}])))
        assert text in refusal(read_questions, tmp_path / "bad.jsonl")


CHOICES = ("Paris", "London", "Rome", "an apple")


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("The answer is (B).", "B"), ("b", "B"), ("B) London", "B"), ("**B**", "B"), ("(b)", "B"), ("London", "B"),
        ("The correct answer is London", "B"), ("I think A is wrong, so the answer is B", "B"), ("B, I think", "B"),
        ("B\n\nExplanation: A is wrong because", "B"), ("Answer: A. Wait, the answer is C.", "C"), ("c) rome", "C"),
        (r"$\boxed{\text{C}}$", "C"), ("<think>Answer: A</think>B", "B"), ("Answer: the correct option is C.", "C"),
        ("A or B", None), ("The answer is B or C", None), ("Both A and B", None), ("The answer is not B.", None),
        ("A good question. It is hard.", None), ("The answer is a tricky one", None), ("", None), ("E", None),
        ("A-level students know it", None), ("B - it is London", "B"),
        ("The capital is Paris, not London.", None), ("the capital is Paris", "A"),
    ],
)  # fmt: skip
def test_the_letter_that_an_answer_chooses(answer, letter):
    assert chosen(answer, CHOICES, "ABCD") == letter


@pytest.mark.parametrize(
    ("answer", "right", "score"),
    [
        ("1,234", "1234", 1), ("The answer is 1,234.", "1234", 1), ("$1,234.00", "1234", 1), ("12,34", "1234", 0),
        ("so 5 + 7 = 12 apples", "12", 1), ("The answer is 12 of 13", "12", 1), ("#### 42", "42", 1), ("42.0", "42", 1),
        ("-3", "3", 0), ("\u22123", "-3", 1), ("10-3 = 7", "7", 1), ("1/2", "0.5", 1), ("", "3", 0), ("3 1", "3", 0),
        ("Paris.", "paris", 1), ("The answer is **Paris**.", "Paris", 1), ("The capital is Paris", "Paris", 0),
    ],
)  # fmt: skip
def test_exact_match(answer, right, score):
    assert exact(answer, Question("q", "p", (right,))) == score


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_the_report_reads_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", "k")
    monkeypatch.chdir(tmp_path)
    rows = [
        {"question_id": i, "prompt": f"{'right' if i % 4 else 'wrong'} {i}", "answer": "12", "benchmark": "ab"[i % 2]}
        for i in range(8)
    ]
    Path("q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("prices.csv").write_text("model,input_price,output_price\nllm,1,2\n")
    with ScriptedServer({"right": Script(text="it is 12", total=0.02), "wrong": Script(text="11")}) as server:
        command = ["mpg", "measure", "--base-url", server.base_url, "--model", "llm", "--questions", "q.jsonl"]
        command += ["--output", "a.jsonl", "--prices", "prices.csv", "--api-key-env"]
        assert "'NO_KEY' of --api-key-env is not set" in refusal(
            CliRunner().invoke, cli, [*command, "NO_KEY"], catch_exceptions=False, standalone_mode=False
        )
        output = CliRunner().invoke(cli, [*command, "KEY"], catch_exceptions=False).stdout
    assert output.startswith("llm: 8 of 8 questions answered\naccuracy")
    lines = output.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines == [line.rstrip() for line in lines]
    assert len([line for line in lines if line.startswith("  p50, p95, p99  ")]) == 2
    assert "75.0% (" in output
    for text in ("queries per second", "p50", "p95", "USD per query", "$0.00005", "closed loop, 4 at once", "a.jsonl"):
        assert text in output
    report = CliRunner().invoke(cli, ["mpg", "report", "--results", "a.jsonl"], catch_exceptions=False).stdout
    assert "Goodness of 1 LLM" in report
    assert "$0.00005" in report
    Path("other.csv").write_text("model,input_price,output_price\nllm-2,1,2\n")
    assert "--model names 'llm', of which 'other.csv' has no price; did you mean 'llm-2'?" in refusal(
        CliRunner().invoke, cli, [*command[:-3], "--prices", "other.csv"], catch_exceptions=False, standalone_mode=False
    )


def test_the_report_shows_what_was_measured(tmp_path, monkeypatch):
    """Without prices the first measure that there is; of one LLM no picture; with prices the counted tokens."""
    monkeypatch.chdir(tmp_path)
    with ScriptedServer({"*": Script(total=0.01)}) as server:
        measure(endpoint(server), asked(3), "a.jsonl", **FAST)
    run = CliRunner(env={"COLUMNS": "110"}).invoke
    command = ["mpg", "report", "--results", "a.jsonl", "--prior", "jeffreys", "--draws", "100"]
    output = run(cli, [*command, "--output", "report"], catch_exceptions=False).stdout
    assert "queries per second" in output
    note = "no picture of Goodness over queries_per_second: it takes two LLMs with a number above 0"
    assert note in output
    assert note in Path("report/report.html").read_text()
    assert sorted(path.name for path in Path("report").iterdir()) == ["report.html", "report.json", "subdomains.png"]
    Path("p.csv").write_text("model,input_price,output_price\nllm,1,2\n")
    assert "$0.00005 (" in run(cli, [*command, "--prices", "p.csv"], catch_exceptions=False).stdout
    data = json.loads(run(cli, [*command, "--prices", "p.csv", "--json"], catch_exceptions=False).stdout)
    assert {"usd_per_query", "seconds", "tokens_per_second"} <= set(data["fastness"])
    Path("p.csv").write_text("model,input_price,output_price\nother,1,2\n")
    text = refusal(run, cli, [*command, "--prices", "p.csv"], catch_exceptions=False, standalone_mode=False)
    assert text == "'p.csv' has no price of any LLM of the results; it has: other; the results have: llm"


def test_without_httpx_it_says_what_to_install():
    code = "import sys; sys.modules['httpx'] = None\nimport p2l_sdk.mpg.measure.run"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'measuring an endpoint needs httpx, which is not installed: pip install "p2l-sdk[mpg]"' in result.stderr


@pytest.mark.slow
def test_a_real_llm(tmp_path):
    """SmolLM2-135M-Instruct: what it says is right or wrong, its tokens are counted, the next part asks nothing."""
    import uvicorn
    from conftest import ROOT
    from llm_server import NAME, create_llm_app, smollm2

    config = uvicorn.Config(create_llm_app(smollm2()), host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    questions = read_questions(ROOT / "examples" / "questions.jsonl")[8:16]
    there = Endpoint(base_url=f"http://127.0.0.1:{port}/v1", model=NAME, max_tokens=24)
    found = measure(there, questions, tmp_path / "a.jsonl", concurrency=2)
    again = measure(there, questions, tmp_path / "a.jsonl", concurrency=2)
    server.should_exit = True
    thread.join()
    assert found.n_answered == 8
    assert found.to_dict() == again.to_dict()
    rows = read_answers(tmp_path / "a.jsonl")
    assert all(0 < row["first_token_seconds"] < row["seconds"] for row in rows)
    assert all(1 <= row["output_tokens"] <= 24 and row["answer"].strip() for row in rows)
    assert found.fastness.measures["queries_per_second"][NAME].value == pytest.approx(
        2 / found.fastness.measures["seconds"][NAME].value, rel=0.3
    )
