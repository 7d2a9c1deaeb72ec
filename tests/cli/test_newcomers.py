"""What a newcomer types first, and what the command line says of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_line import ok, p2l, refused

from p2l_sdk import P2L
from p2l_sdk.errors import P2LError


@pytest.mark.long
def test_the_name_of_a_file_is_no_prompt_in_silence(tmp_path):
    file = tmp_path / "my prompts.txt"
    file.write_text("Write a poem\n")
    done = p2l("leaderboard", file, "--top", "1", "--json")
    assert json.loads(done.stdout)["n_prompts"] == 1
    said = done.stderr.decode()
    assert "the prompt is the name of a file, and is read as it stands" in said
    assert f"p2l aggregate '{file}'" in said
    assert (
        b"there is no file 'none.csv'; it is read" in p2l("route", "none.csv", "--model", "routing9", "--json").stderr
    )
    assert p2l("leaderboard", "Write a poem", "--top", "1", "--json").stderr == b""
    for odd in ("a" * 5000, "/" * 300, "."):
        assert b"name of a file" not in p2l("route", odd, "--model", "routing9", "--json").stderr


def test_a_decimal_comma_in_an_option_is_told():
    assert "'0,001' is no finite number; decimals follow a point: 0.001" in refused("route", "hi", "--cost", "0,001")


def test_a_file_without_prompts_is_named(tmp_path):
    (tmp_path / "none.txt").write_text("\n")
    (tmp_path / "none.csv").write_text("prompt\n")
    for name in ("none.txt", "none.csv"):
        for command in ("aggregate", "frontier"):
            assert f"{name}' holds no prompts; give at least one" in refused(command, tmp_path / name)


def test_counts_of_tokens_are_not_offered_as_prompts(tmp_path):
    log = tmp_path / "openrouter.csv"
    log.write_text("created_at,tokens_prompt,model_permaslug\n" + "2025-11-01 10:00:00,500,openai/gpt-4o-mini\n" * 3)
    assert "--column prompt=NAME (column='NAME')" in refused("aggregate", log)


def test_sample_logs_of_the_harness_are_recognised(tmp_path):
    log = tmp_path / "samples_gsm8k_2025-06-01.jsonl"
    row = {"doc_id": 0, "doc": {"question": "1+1?"}, "target": "2", "resps": [["2"]], "exact_match": 1.0}
    log.write_text(f"{json.dumps(row)}\n")
    lines = p2l("train", "--votes", log, "--output", tmp_path / "new").stderr.decode()
    assert "line 1 is a sample log of lm-evaluation-harness, which holds no votes" in lines
    assert "p2l mpg report --results FOLDER" in lines
    summary = {
        "results": {"gsm8k": {"exact_match,strict-match": 0.8}},
        "configs": {},
        "versions": {},
        "model_name": "m",
    }
    (tmp_path / "results.json").write_text(json.dumps(summary))
    lines = p2l("train", "--votes", tmp_path / "results.json", "--output", tmp_path / "new").stderr.decode()
    assert "is a summary of lm-evaluation-harness, which holds no votes" in lines


def test_overall_is_the_leaderboard_of_all_prompts_whatever_its_name():
    arena = P2L.from_pretrained()
    named, usual = (arena.add_model("new", ratings={name: 1450, "coding": 1500}) for name in ("full", "overall"))
    prompt = "Write a Python function"
    assert (named.leaderboard(prompt).coefs == usual.leaderboard(prompt).coefs).all()
    with pytest.raises(P2LError, match="is of the kind 'overall'"):
        arena.add_model("new", ratings={"full": 1450, "overall": 1500})


@pytest.mark.thorough
def test_a_quiet_run_still_warns_of_a_model_that_is_no_better(tmp_path):
    votes = tmp_path / "votes.csv"
    rows = [f"p{i},a,b,{'model_a' if i % 3 else 'model_b'}" for i in range(24)]
    votes.write_text("\n".join(["prompt,model_a,model_b,winner", *rows]))
    done = p2l("train", "--votes", votes, "--output", tmp_path / "new", "--quiet", "--epochs", "1")
    assert done.returncode == 0
    assert done.stdout == b""
    assert b"p2l: warning: no better than the averaged leaderboard on these votes" in done.stderr


@pytest.mark.long
def test_two_votes_make_the_averaged_leaderboard_and_that_is_said(tmp_path):
    votes = tmp_path / "votes.csv"
    votes.write_text("prompt,model_a,model_b,winner\nadd 2 and 2,a,b,model_a\nwrite a poem,a,b,model_a\n")
    options = ("train", "--votes", votes, "--feedback", "bt", "--output")
    said = b"returns the averaged leaderboard for every prompt"
    assert said in b" ".join(p2l(*options, tmp_path / "new").stdout.split())
    quiet = p2l(*options, tmp_path / "quiet", "--quiet")
    assert quiet.stdout == b""
    assert said in b" ".join(quiet.stderr.split())
    coefs = P2L.from_pretrained(tmp_path / "quiet").coefficients(["add 2 and 2", "what is it?"]).coefs
    assert np.ptp(coefs[:, 0] - coefs[:, 1]) < 1e-6


def test_two_names_of_one_llm_come_with_the_option_that_joins_them(tmp_path):
    votes = tmp_path / "votes.csv"
    votes.write_text(
        "prompt,model_a,model_b,winner\nhi,gpt-4o-mini,llama-3.1-8b,model_a\nyo,openai/gpt-4o-mini,llama-3.1-8b,tie\n"
    )
    said = p2l("evaluate", "--votes", votes).stderr.decode()
    assert "one LLM has two names, 'gpt-4o-mini' and 'openai/gpt-4o-mini'" in said
    assert "join them: --rename openai/gpt-4o-mini=gpt-4o-mini (rename={...})" in said
    assert ok("leaderboard", "hi", "--top", "1")


@pytest.mark.long
def test_conversations_as_sharegpt_has_them_are_read(tmp_path):
    turns = [{"from": "system", "value": "Be brief"}, {"from": "human", "value": "Write a poem"}]
    turns += [{"from": "gpt", "value": "def f(): pass"}, {"from": "human", "value": "now about the sea"}]
    (tmp_path / "share.json").write_text(json.dumps([{"id": "a", "conversations": turns}]))
    (tmp_path / "share.jsonl").write_text(json.dumps({"id": "a", "conversations": turns}) + "\n")
    said = [{"role": "user", "content": "Write a poem"}, {"role": "user", "content": "now about the sea"}]
    own = P2L.from_pretrained().aggregate([said])
    for name in ("share.json", "share.jsonl"):
        read = json.loads(ok("aggregate", tmp_path / name, "--json"))
        assert read["leaderboard"][0]["model"] == own.best
        assert read["kinds"] == pytest.approx(dict(own.kinds), abs=1e-6)
    assert "1 conversation" in p2l("personal", tmp_path / "share.json").stderr.decode()
    odd = [{"from": "narrator", "value": "x"}, *turns]
    (tmp_path / "share.jsonl").write_text(json.dumps({"conversations": odd}) + "\n")
    assert "line 1: message 0 has the role 'narrator'; legal roles" in refused("aggregate", tmp_path / "share.jsonl")


def test_transcripts_as_prompts_are_warned_of(tmp_path):
    file = tmp_path / "prompts.csv"
    file.write_text('prompt\n"User: Write a poem\nAssistant: Roses are red"\n"Human: hi\n\nAI: hello"\n')
    done = p2l("aggregate", file, "--top", "1")
    assert done.returncode == 0
    assert b"p2l: warning: most prompts are transcripts" in done.stderr
    file.write_text('prompt\n"User: how do I write to an assistant?"\n"Write about a user: Anna"\n')
    assert b"transcripts" not in p2l("aggregate", file, "--top", "1").stderr
