"""The programs in examples/, each run as a reader would, in a separate process without a network."""

from __future__ import annotations

import json
import os
import re

import pytest
from conftest import ROOT
from forks import python
from hub_client import OWNER, environment
from PIL import Image

from p2l_sdk import P2L
from p2l_sdk.modeling.leaderboard_p2l import chances

EXAMPLES = ROOT / "examples"
LLMS = ("llama-3.1-8b", "gpt-4o-mini", "gemini-2.5-flash", "claude-sonnet-4-5")  # by the names that people use
NINE = "gemma-2-9b-it,qwen2.5-7b-instruct,llama-3.3-nemotron-super-49b-v1"  # LLMs of routing9
PROGRAMS = sorted(file.name for file in EXAMPLES.glob("*.py"))


def run(program: str, *arguments: object, cwd, env: dict[str, str] | None = None) -> str:
    env = {**os.environ, "HF_HOME": str(cwd)} if env is None else env
    result = python(EXAMPLES / program, *arguments, cwd=cwd, env=env, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["routing9", "arena"])
def test_research_with_transformers_alone(name, tmp_path):
    p2l = P2L.from_pretrained(name)
    p2l.save_pretrained(tmp_path / "model")
    output = run("research_transformers.py", tmp_path / "model", cwd=tmp_path)
    assert output.startswith(f"4 prompts x {len(p2l.models)} LLMs, feedback {p2l.spec.feedback}\n")
    board = p2l.leaderboard("Write a haiku about the sea")
    first, second = board.ranking[:2]
    assert f"  {first} {chances(p2l.spec.feedback, board.coefs)[board.order[0]]:.0%}, {second} " in output
    a, b = output.partition("depends most on the prompt: ")[2].partition("\n")[0].split(" against ")
    assert f"{p2l.leaderboard('What is 17 * 23?').win_probability(a, b):4.0%}  What is 17 * 23?" in output
    assert "Write a haiku about the sea" in output


def test_route_within_a_budget(default, tmp_path):
    output = run("route_within_budget.py", "--budget", 0.0008, cwd=tmp_path)
    assert output.startswith(repr(default.leaderboard("What is 17 * 23?")) + "\n")
    called = re.findall(r"\n  call (\S+), else (\S+)", output)
    assert len(called) == 4
    assert {name for pair in called for name in pair} <= {*LLMS, "none"}
    spent = float(output.partition("All at once: $")[2].split()[0])
    assert spent == pytest.approx(0.0008, abs=1e-6)
    small = run("route_within_budget.py", "--budget", 0.0003, "--model", "routing9", "--llms", NINE, cwd=tmp_path)
    assert float(small.partition("All at once: $")[2].split()[0]) == pytest.approx(0.0003, abs=1e-6)


@pytest.mark.long
def test_aggregate_a_data_set(default, tmp_path):
    import pyarrow.parquet
    from pyarrow import Table

    rows = [json.loads(line) for line in (EXAMPLES / "prompts.jsonl").read_text().splitlines()]
    shipped = run("aggregate_dataset.py", cwd=tmp_path)
    assert shipped.startswith(repr(default.aggregate([row["prompt"] for row in rows])) + "\n")
    code = default.aggregate([row["prompt"] for row in rows if row["category"] == "code"])
    assert f"\ncode (6 prompts): {code.best}, " in shipped
    with Image.open(tmp_path / "ratings.png") as picture:
        assert picture.format == "PNG"
        assert max(picture.size) < 1600  # of the best LLMs, not of all 282
    columns = {"prompt": [row["prompt"] for row in rows], "kind": [row["category"] for row in rows]}
    pyarrow.parquet.write_table(Table.from_pydict(columns), tmp_path / "prompts.parquet")
    assert run("aggregate_dataset.py", "prompts.parquet", "--by", "kind", cwd=tmp_path) == shipped


def test_a_personal_leaderboard(default, tmp_path):
    chats = json.loads((EXAMPLES / "my_chats.json").read_text(encoding="utf-8"))
    asked = [chat["messages"] for chat in chats if chat["messages"]]
    assert len(asked) == len(chats) - 1  # without the empty one
    output = run("my_leaderboard.py", cwd=tmp_path)
    mine = default.aggregate(asked)
    assert output.startswith(repr(mine) + "\n")
    assert f"On your {len(asked)} conversations {mine.best} is first; " in output
    budgets, scores = zip(*re.findall(r"\n  +(\d+\.\d\d)  (\d+)%", output.partition("USD per 1k")[2]), strict=True)
    prices = sorted(default.costs.values())
    middle = (prices[0] * prices[-1]) ** 0.5
    assert list(budgets) == [f"{1000 * budget:.2f}" for budget in (prices[0], middle, prices[-1])]
    assert sorted(map(int, scores)) == [int(score) for score in scores]  # more money never buys less


@pytest.mark.long
def test_publish_a_model(hub, default, tmp_path):
    (tmp_path / "costs.json").write_text(json.dumps({default.models[0]: 0.002}))
    output = run(
        "publish_model.py", "org/example", "--costs", tmp_path / "costs.json", cwd=tmp_path,
        env=environment(hub, tmp_path, HF_TOKEN=OWNER),
    )  # fmt: skip
    repo = hub.repo("org/example")
    assert json.loads(repo.files()["config.json"])["costs"] == {default.models[0]: 0.002}
    assert repo.private
    assert f"pushed: {hub.url}/org/example/commit/{repo.refs['main']}\n" in output
    assert f"loaded: {len(default.models)} LLMs, largest difference of a coefficient 0\n" in output
    assert {"README.md", "model.safetensors", "modeling_p2l.py", "handler.py"} <= repo.files().keys()


def test_each_program_is_short_listed_and_run():
    text, tests = (
        (EXAMPLES / "README.md").read_text(encoding="utf-8"),
        (ROOT / "tests" / "examples" / "test_examples.py").read_text(),
    )
    assert len(PROGRAMS) == 5
    for name in PROGRAMS:
        assert f"]({name})" in text
        assert f'"{name}"' in tests
        assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 60
