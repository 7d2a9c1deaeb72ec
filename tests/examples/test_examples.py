"""The programs in examples/, each run as a reader would, in a separate process without a network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from hub_client import OWNER, environment

EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(file.name for file in EXAMPLES.glob("*.py"))


def run(program: str, *arguments: object, cwd, env: dict[str, str] | None = None) -> str:
    env = {**os.environ, "HF_HOME": str(cwd), "MPLBACKEND": "agg"} if env is None else env
    command = [sys.executable, str(EXAMPLES / program), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_research_with_transformers_alone(default, tmp_path):
    default.save_pretrained(tmp_path / "model")
    output = run("research_transformers.py", tmp_path / "model", cwd=tmp_path)
    assert output.startswith("4 prompts x 282 LLMs, feedback bt\n")
    board = default.leaderboard("Write a haiku about the sea")
    first, second = board.ranking[:2]
    wins = [board.win_probability(first, other) for other in board.models if other != first]
    assert f"  {first} {sum(wins) / len(wins):.0%}, {second} " in output
    a, b = output.partition("depends most on the prompt: ")[2].partition("\n")[0].split(" against ")
    chances = [default.leaderboard(prompt).win_probability(a, b) for prompt in ("What is 17 * 23?", "Write a haiku")]
    assert f"{chances[0]:4.0%}  What is 17 * 23?" in output
    assert "Write a haiku about the sea" in output


def test_route_within_a_budget(default, tmp_path):
    output = run("route_within_budget.py", "--budget", 0.0003, cwd=tmp_path)
    assert output.startswith(repr(default.leaderboard("What is 17 * 23?")) + "\n")
    assert output.count("\n  call ") == 4
    spent = float(output.partition("All at once: $")[2].split()[0])
    assert spent == pytest.approx(0.0003, abs=1e-6)


def test_aggregate_a_data_set(default, tmp_path):
    import pyarrow.parquet
    from pyarrow import Table

    rows = [json.loads(line) for line in (EXAMPLES / "prompts.jsonl").read_text().splitlines()]
    shipped = run("aggregate_dataset.py", cwd=tmp_path)
    assert shipped.startswith(repr(default.aggregate([row["prompt"] for row in rows])) + "\n")
    code = default.aggregate([row["prompt"] for row in rows if row["category"] == "code"])
    assert f"\ncode (6 prompts): {code.best}, " in shipped
    assert (tmp_path / "ratings.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
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
    assert len(re.findall(r"\n  +\d+\.\d\d  \d+%", output)) == 3  # the three budgets


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
    assert "loaded: 282 LLMs, largest difference of a coefficient 0\n" in output
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
