"""SmolLM2-135M-Instruct answers, and judges: slow. A grader tells right answers from wrong ones."""

from __future__ import annotations

import threading
import time

import pytest
from asked_llms import lines
from conftest import ROOT
from llm_server import NAME, create_llm_app, smollm2

from p2l_sdk import Scores, Votes
from p2l_sdk.judging import Limits, collect, grade, judge
from p2l_sdk.judging.answers import read_answers
from p2l_sdk.mpg.measure.questions import read_questions
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.llm import LLMConfig

QUESTIONS = read_questions(ROOT / "examples" / "questions.jsonl")[8:12]


@pytest.fixture(scope="module")
def address():
    import uvicorn

    config = uvicorn.Config(create_llm_app(smollm2()), host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()


@pytest.mark.slow
def test_a_real_llm_answers_and_judges(address, tmp_path):
    entry = {"base_url": address, "upstream_model": NAME, "temperature": 0, "prices": {"input": 0.01, "output": 0.02}}
    llms = {
        "brief": {**entry, "system": "Answer with one word or number only.", "max_tokens": 12},
        "wordy": {**entry, "max_tokens": 40},
    }
    config = GatewayConfig.from_dict({"models": llms})
    limits = Limits(spend=0.001, concurrency=2)
    prompts = [question.text for question in QUESTIONS]
    found = collect(prompts, config, tmp_path / "a.jsonl", limits=limits)
    assert [llm.n_answered for llm in found.llms] == [4, 4]
    assert all(0 < llm.output_tokens <= 4 * 40 for llm in found.llms)
    assert 0 < found.spent <= 0.001
    assert found.assumed == 0
    assert len(lines(tmp_path / "a.jsonl")) == 8
    assert collect(prompts, config, tmp_path / "a.jsonl", limits=limits).to_dict() == found.to_dict()

    answers = read_answers(tmp_path / "a.jsonl")
    scores = grade(answers, QUESTIONS, tmp_path / "scores.jsonl")
    assert Scores.read(tmp_path / "scores.jsonl").models == ("brief", "wordy")
    assert scores.n_unknown == 0

    there = LLMConfig(name=NAME, base_url=address, max_tokens=32)
    verdicts = judge(answers, there, tmp_path / "votes.jsonl", limits=Limits(concurrency=2))
    rows = lines(tmp_path / "votes.jsonl.verdicts")
    assert verdicts.n_pairs == 4
    assert verdicts.n_votes + verdicts.n_unreadable == 4  # so small a judge seldom keeps to the form: never a guess
    assert all(row["verdict"] in (None, "model_a", "model_b", "tie", "tie (bothbad)") for row in rows)
    assert {row["attempt"] for row in rows if row["verdict"] is None} <= {1, 2}
    if verdicts.n_votes:
        assert len(Votes.read(tmp_path / "votes.jsonl")) == verdicts.n_votes
