"""Logs of lm-evaluation-harness in whatever order things stand in them: the same numbers."""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2l_sdk.mpg.harness import read_harness

STAMP = "2025-01-01T00-00-00.000001"
GROUPS = {"mmlu": ["mmlu_stem", "mmlu_other"], "mmlu_stem": ["mmlu_a", "mmlu_b"], "mmlu_other": ["mmlu_c", "mmlu_d"]}
ALONE = ("gsm8k", "arc")
LEAVES = ("mmlu_a", "mmlu_b", "mmlu_c", "mmlu_d", *ALONE)
FILTERS = ("strict-match", "flexible-extract", "none")


def means(path: Path) -> dict[tuple[str, str], float]:
    """(LLM, benchmark) -> mean."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = read_harness(path)
    return {(m, b): round(float(found.means[i, j]), 6) for i, m in enumerate(found.models)
            for j, b in enumerate(found.benchmarks)}  # fmt: skip


def of_group(name: str, leaves: dict[str, float]) -> float:
    parts = [of_group(part, leaves) for part in GROUPS.get(name, ())]
    return sum(parts) / len(parts) if parts else leaves[name]


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.lists(st.integers(5, 95), min_size=6, max_size=6), min_size=2, max_size=4),
    said=st.sampled_from(("group_subtasks", "groups", "sizes")),
    seed=st.integers(0, 10**6),
)
def test_groups_change_nothing_wherever_they_stand(tmp_path_factory, scores, said, seed):
    draw, folder = random.Random(seed), tmp_path_factory.mktemp("logs")
    expected = {}
    for number, row in enumerate(scores):
        model = f"llm-{number}"
        leaves = dict(zip(LEAVES, (x / 100 for x in row), strict=True))
        expected |= {(model, leaf): round(score, 6) for leaf, score in leaves.items()}
        tasks = [*leaves, *GROUPS]
        draw.shuffle(tasks)
        log = {"model_name": model, "results": {t: {"acc,none": of_group(t, leaves)} for t in tasks}}
        if said == "group_subtasks":
            names = [*GROUPS, *ALONE]
            draw.shuffle(names)
            log["group_subtasks"] = {
                name: draw.sample(GROUPS.get(name, []), len(GROUPS.get(name, []))) for name in names
            }
        elif said == "groups":
            log["groups"] = {group: {"acc,none": of_group(group, leaves)} for group in GROUPS}
        else:
            log["n-samples"] = {leaf: {"effective": 100} for leaf in LEAVES}
        (folder / model).mkdir()
        items = list(log.items())
        draw.shuffle(items)
        (folder / model / f"results_{STAMP}.json").write_text(json.dumps(dict(items)))
    assert means(folder) == expected


@settings(max_examples=60, deadline=None)
@given(
    right=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=3, max_size=3),
    n_llms=st.integers(2, 4),
    seed=st.integers(0, 10**6),
)
def test_identical_llms_are_equal_whatever_the_order_and_form_of_their_filters(tmp_path_factory, right, n_llms, seed):
    """Three filters, four questions; each LLM has means or samples, its rows and keys in an order of their own."""
    draw, folder = random.Random(seed), tmp_path_factory.mktemp("logs")
    for number in range(n_llms):
        home = folder / f"llm-{number}"
        home.mkdir()
        order = draw.sample(range(3), 3)
        if draw.random() < 0.5:
            values = {f"exact_match,{FILTERS[f]}": sum(right[f]) / 4 for f in order}
            log = {"model_name": home.name, "results": {"gsm8k": values}}
            (home / f"results_{STAMP}.json").write_text(json.dumps(log))
            continue
        rows = [
            {"doc_id": i, "filter": FILTERS[f], "metrics": ["exact_match"], "exact_match": float(right[f][i])}
            for f in order
            for i in range(4)
        ]
        draw.shuffle(rows)
        (home / f"samples_gsm8k_{STAMP}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = means(folder)
    assert len(found) == n_llms
    assert len(set(found.values())) == 1
    assert next(iter(found.values())) == pytest.approx(sum(right[2]) / 4)  # no filter at all is preferred
