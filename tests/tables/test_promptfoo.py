"""Results of promptfoo are scores, where the answer could be graded."""

import json

import numpy as np
import pytest

from p2l_sdk import Scores, Votes
from p2l_sdk.errors import P2LError

LLMS = {"openai:gpt-4o-mini": "", "anthropic:messages:claude-3-5-haiku-20241022": "haiku"}


def result(i: int, provider: str, label: str, score: float, reason: int = 0) -> dict:
    return {
        "prompt": {"raw": f"What is {i} + {i}?", "label": "{{q}}"},
        "provider": {"id": provider, "label": label},
        "score": score,
        "success": bool(score),
        "failureReason": reason,
        "testIdx": i,
        "vars": {"q": f"What is {i} + {i}?"},
        "response": {"output": "..."},
    }


def written(path, results):
    whole = {"evalId": "e", "results": {"version": 3, "prompts": [{"raw": "{{q}}"}], "results": results}, "config": {}}
    path.write_text(json.dumps(whole))
    return path


def test_a_row_for_each_prompt_and_llm(tmp_path):
    results = [
        result(i, name, label, float((i + k) % 2)) for i in range(4) for k, (name, label) in enumerate(LLMS.items())
    ]
    results[-1] |= {"failureReason": 2, "error": "timeout", "score": 0}
    scores = Scores.read(written(tmp_path / "results.json", results), allow_missing=True)
    assert scores.models == ("haiku", "openai:gpt-4o-mini")
    assert scores.prompts[2] == "What is 2 + 2?"
    np.testing.assert_array_equal(scores.scores, [[1, 0], [0, 1], [1, 0], [np.nan, 1]])
    assert len(Votes.read(tmp_path / "results.json")) == 3


def test_providers_as_texts_and_what_is_none_of_it(tmp_path):
    results = [{"prompt": f"Question {i}", "provider": name, "score": 1} for i in range(2) for name in LLMS]
    assert Scores.read(written(tmp_path / "old.json", results)).models == tuple(sorted(LLMS))
    with pytest.raises(P2LError, match="no column"):
        Votes.read(written(tmp_path / "none.json", [{"prompt": "a", "answer": "b"}]))
