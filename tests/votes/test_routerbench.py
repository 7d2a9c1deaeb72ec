"""A column for each LLM beside its answers and costs, as RouterBench has them."""

from __future__ import annotations

import json

import pandas
import pytest

from p2l_sdk import Scores, Votes

LLMS = ("claude-v2", "gpt-4-1106-preview")
ROWS = [
    {
        "sample_id": f"mmlu.{i}",
        "prompt": str([f"What's {i} + {i}?"]),
        "eval_name": ("mmlu", "gsm8k")[i % 2],
        **{name: (1.0, 0.0, 0.5)[(i + k) % 3] for k, name in enumerate(LLMS)},
        **{f"{name}|model_response": "['A']" for name in LLMS},
        **{f"{name}|total_cost": 0.001 * (k + i + 1) for k, name in enumerate(LLMS)},
        "oracle_model_to_route_to": LLMS[i % 2],
    }
    for i in range(12)
]


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_the_llms_are_those_without_a_bar(tmp_path, kind):
    frame, file = pandas.DataFrame(ROWS), tmp_path / f"routerbench.{kind}"
    if kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        frame.to_csv(file, index=False) if kind == "csv" else frame.to_parquet(file)
    scores = Scores.read(file)
    assert scores.models == LLMS
    assert scores.scores.tolist() == frame[list(LLMS)].to_numpy().tolist()
    assert scores.prompts[3] == [{"role": "user", "content": "What's 3 + 3?"}]
    assert "gpt-4-1106-preview|total_cost" in scores.findings.roles.partition("not read: ")[2]
    assert Votes.read(file).models == LLMS


def test_a_column_that_is_named_is_read():
    assert Scores.read(ROWS, ["claude-v2|total_cost"]).scores[0, 0] == 0.001
