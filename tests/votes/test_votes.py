"""Votes: their LLMs, duplicates, subsets, splits, and prompts that two sets of votes share."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vote_tables import COLUMNS, ROWS, SCORES, A, B, C, D, seen

from p2l_sdk.errors import P2LWarning, UnknownModelError, VotesError
from p2l_sdk.votes.votes import Scores, Votes, shared_prompts, warn_if_shared


def test_no_votes_and_unknown_llms():
    for source in ([], pandas.DataFrame(columns=list(COLUMNS)), pyarrow.Table.from_pylist(ROWS).slice(0, 0)):
        with pytest.raises(VotesError, match="holds no votes"):
            Votes.read(source)
    with pytest.raises(UnknownModelError, match="the votes file names 'gamma-70b'"):
        Votes.read(ROWS, [A, B, D])
    assert Votes.read(ROWS, [D, C, B, A]).models == (D, C, B, A)


def test_duplicates_are_seen_from_both_sides():
    same = [("x", A, B, "model_a"), ("x", B, A, "model_b"), ("x", A, B, "model_a")]
    others = [("x", A, B, "model_b"), ("y", A, B, "model_a"), ("x", A, C, "model_a"), ("x", A, B, "tie")]
    rows = [dict(zip(COLUMNS[:4], row, strict=True)) for row in same + others]
    assert Votes.read(rows).n_duplicates == 2
    assert Votes.read(rows[:1] + rows[3:]).n_duplicates == 0


def test_a_subset_keeps_whole_prompts():
    votes = Votes.read(ROWS)
    for chosen in (np.array([False, True, True]), [2, 1], np.array([1, 2, 1])):
        part = votes.subset(chosen)
        assert part.prompts == ["sum list", "python code"]
        assert part.models == votes.models
        assert seen(part) == Counter({key: n for key, n in seen(votes).items() if key[0] != "write a poem"})
        assert part.categories["turns"].tolist() == [2, 1, 3]
        assert part.n_duplicates == 1
    for wrong, message in (
        (np.array([True]), r"has the shape \(1,\); there are 3 prompts"),
        ([3], "integers from 0 to 2"),
        ([-1], "integers from 0 to 2"),
        ([0.5], "integers from 0 to 2"),
        ([], "no vote on these prompts"),
    ):
        with pytest.raises(VotesError, match=message):
            votes.subset(wrong)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 40), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 9))
def test_a_split_is_by_prompt_and_loses_nothing(n, fraction, seed):
    rows = [{**ROWS[i % 3], "prompt": f"prompt {i % n}"} for i in range(3 * n)]
    votes = Votes.read(rows)
    size = round(fraction * n)
    if size in (0, n):
        with pytest.raises(VotesError, match=f"of {n} prompts is {size} prompts, so one side would have none"):
            votes.split(fraction, seed)
        return
    rest, part = votes.split(fraction, seed)
    assert len(part.prompts) == size
    assert not set(rest.prompts) & set(part.prompts)
    assert seen(rest) + seen(part) == seen(votes)
    assert shared_prompts(rest, part) == 0
    assert votes.split(fraction, seed)[1].prompts == part.prompts


def test_the_seed_decides_and_fractions_are_fractions():
    votes = Votes.read([{**ROWS[0], "prompt": f"prompt {i}"} for i in range(100)])
    assert votes.split(0.5, 0)[1].prompts != votes.split(0.5, 1)[1].prompts
    for fraction in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(VotesError, match=rf"fraction of prompts is {fraction}; it must be between 0 and 1"):
            votes.split(fraction, 0)


def test_shared_prompts_are_told_loudly():
    train, scores = Votes.read(ROWS), Scores.read(SCORES)
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "sum list"}]
    held = Votes.read([{**ROWS[0], "prompt": p} for p in (turns, "Sum list", "sum list ", "new")])
    assert shared_prompts(train, scores) == 2
    message = (
        r"^1 of the 4 prompts of held.jsonl are in the training votes; figures on them say nothing about new prompts$"
    )
    with pytest.warns(P2LWarning, match=message):
        assert warn_if_shared(train, held, "held.jsonl") == 1
    assert warn_if_shared(train, held.subset([1, 2, 3]), "held.jsonl") == 0  # under pytest, our warnings are errors
