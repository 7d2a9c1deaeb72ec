"""Scores of many LLMs as votes: linear in the votes that there are, and refused before memory is taken."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from p2l_sdk.editing.plan import _require_room
from p2l_sdk.errors import P2LError, ScoresError
from p2l_sdk.votes import compared as module
from p2l_sdk.votes.compared import compared


def plain(scores, usable):
    """Pair by pair."""
    votes = []
    for prompt, row in enumerate(scores):
        for a in range(len(row)):
            for b in range(a + 1, len(row)):
                if np.isfinite(row[a]) and np.isfinite(row[b]):
                    equal = 2 if usable is None or (row[a] + row[b]) / 2 >= usable else 3
                    votes.append((prompt, a, b, equal if row[a] == row[b] else int(row[a] < row[b])))
    return votes


@pytest.mark.parametrize("cells", [1, 40, 1 << 22])
@pytest.mark.parametrize("usable", [None, 0.5])
def test_votes_are_those_of_every_two_scores_whatever_the_blocks(cells, usable, monkeypatch, rng):
    monkeypatch.setattr(module, "_CELLS", cells)
    scores = rng.integers(0, 5, (12, 7)) / 4.0
    scores[rng.random(scores.shape) < 0.4] = np.nan
    found = compared(scores, None, usable)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == plain(scores, usable)


def test_few_scores_among_very_many_llms_take_memory_for_their_votes_alone(rng):
    scores = np.full((50, 20_000), np.nan)
    for row in scores:
        row[rng.choice(20_000, 8, replace=False)] = rng.random(8)
    tracemalloc.start()
    prompt, a, b, _ = compared(scores, None, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(prompt) == 50 * 28
    assert (a < b).all()
    assert peak < 20e6  # all pairs would be 1.6 GB a prompt


def test_too_many_votes_are_refused_by_their_number_before_anything_is_allocated():
    scores = np.broadcast_to(np.float64(0.5), (1000, 1000))
    tracemalloc.start()
    with pytest.raises(ScoresError, match=r"up to 1,000 LLMs on 1,000 prompts are 499,500,000 votes.*--llms A,B"):
        compared(scores, None, 0.5)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_plan_for_too_many_llms_is_refused_by_its_size():
    with pytest.raises(P2LError, match=r"a plan for 1,000 LLMs and 500 prompts would take 36.0 GB"):
        _require_room(1000, 25, 500)
    _require_room(20, 25, 1000)
