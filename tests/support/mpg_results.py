"""Results of three LLMs on two benchmarks, and the text of a refusal."""

from __future__ import annotations

import pytest

from p2l_sdk.errors import P2LError

ROWS = [
    {"model": "a", "benchmark": "math", "correct": 80, "total": 100},
    {"model": "a", "benchmark": "code", "correct": 30, "total": 50},
    {"model": "b", "benchmark": "math", "correct": 60, "total": 100},
    {"model": "b", "benchmark": "code", "correct": 20, "total": 50},
    {"model": "c", "benchmark": "math", "correct": 40, "total": 100},
    {"model": "c", "benchmark": "code", "correct": 10, "total": 50},
]
NODES = {"all": ["math", "code"]}


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(P2LError) as caught:
        call(*arguments, **options)
    return str(caught.value)
