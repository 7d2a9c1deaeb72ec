"""Logs of lm-evaluation-harness: every task counts once, all LLMs by the same measure, and what is left out is said."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from mpg_results import refusal

from p2l_sdk.errors import P2LWarning, ResultsError
from p2l_sdk.mpg import goodness
from p2l_sdk.mpg.harness import read_harness

EARLY, LATE = "2025-01-01T00-00-00.000001", "2025-02-01T00-00-00.000001"


def results(folder: Path, tasks: dict, stamp: str = EARLY, **more) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"results_{stamp}.json"
    named = {task: values if isinstance(values, dict) else {"acc,none": values} for task, values in tasks.items()}
    file.write_text(json.dumps({"results": named, "model_name": folder.name, **more}))
    return file


def samples(folder: Path, task: str, rows: list[dict], stamp: str = EARLY) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"samples_{task}_{stamp}.jsonl"
    file.write_text("".join(json.dumps({"doc_id": i, **row}) + "\n" for i, row in enumerate(rows)))
    return file


def seen(found) -> dict[str, dict[str, float]]:
    """LLM -> task -> mean, without the cells that are empty."""
    cells = ((m, b, found.means[i, j]) for i, m in enumerate(found.models) for j, b in enumerate(found.benchmarks))
    table: dict[str, dict[str, float]] = {}
    for model, benchmark, mean in cells:
        if not math.isnan(mean):
            table.setdefault(model, {})[benchmark] = round(float(mean), 6)
    return table


# --- groups ----------------------------------------------------------------------------------------------------------

LEAVES = {
    "A": {"mmlu_physics": 0.72, "mmlu_biology": 0.74, "mmlu_law": 0.52, "gsm8k": 0.61},
    "B": {"mmlu_physics": 0.55, "mmlu_biology": 0.57, "mmlu_law": 0.50, "gsm8k": 0.88},
}
SUBTASKS = {"mmlu": ["mmlu_stem", "mmlu_law"], "mmlu_stem": ["mmlu_physics", "mmlu_biology"]}
ALIASES = {"mmlu": "mmlu", "mmlu_stem": " - stem", "mmlu_law": " - law"}
ALIASES |= {"mmlu_physics": "  - physics", "mmlu_biology": "  - biology", "gsm8k": "gsm8k"}
ORDER = ("mmlu", "mmlu_stem", "mmlu_physics", "mmlu_biology", "mmlu_law", "gsm8k")


def with_groups(leaves: dict[str, float]) -> dict[str, float]:
    stem = (leaves["mmlu_physics"] + leaves["mmlu_biology"]) / 2
    whole = (2 * stem + leaves["mmlu_law"]) / 3
    return {name: {**leaves, "mmlu_stem": stem, "mmlu": whole}[name] for name in ORDER}


def aliased(tasks: dict[str, float]) -> dict[str, dict]:
    return {task: {"acc,none": score, "alias": ALIASES[task]} for task, score in tasks.items()}


SAID = {  # what the versions of the harness say of groups
    "group_subtasks": lambda tasks: (tasks, {"group_subtasks": {**SUBTASKS, "gsm8k": []}}),
    "aliases": lambda tasks: (aliased(tasks), {}),
    "groups": lambda tasks: (tasks, {"groups": {g: {"acc,none": tasks[g]} for g in SUBTASKS}}),
    "sizes": lambda tasks: (tasks, {"n-samples": {t: {"effective": 100} for t in tasks if t not in SUBTASKS}}),
}


@pytest.mark.long
@pytest.mark.parametrize("said", SAID)
def test_groups_do_not_count_beside_their_own_tasks(said, tmp_path):
    for model, leaves in LEAVES.items():
        results(tmp_path / model, leaves)
    alone = read_harness(tmp_path)
    for model, leaves in LEAVES.items():
        tasks, more = SAID[said](with_groups(leaves))
        results(tmp_path / model, tasks, **more)
    with pytest.warns(P2LWarning, match="a group does not count beside its own tasks; left out: mmlu, mmlu_stem$"):
        found = read_harness(tmp_path)
    assert seen(found) == seen(alone) == LEAVES
    assert goodness(found).values("Goodness") == goodness(alone).values("Goodness")


def test_a_group_stands_for_its_tasks_where_an_llm_has_its_mean_alone(tmp_path):
    results(tmp_path / "A", with_groups(LEAVES["A"]), group_subtasks=SUBTASKS)
    results(tmp_path / "B", {"mmlu": 0.5, "gsm8k": 0.88}, group_subtasks={"mmlu": []})
    with pytest.warns(P2LWarning, match="left out: mmlu_biology, mmlu_law, mmlu_physics, mmlu_stem"):
        found = read_harness(tmp_path)
    assert seen(found) == {"A": {"mmlu": 0.66, "gsm8k": 0.61}, "B": {"mmlu": 0.5, "gsm8k": 0.88}}


def test_it_is_said_why_tasks_are_left_out_and_by_what_is_compared(tmp_path):
    results(tmp_path / "A", with_groups(LEAVES["A"]), group_subtasks=SUBTASKS)
    results(tmp_path / "B", {"mmlu": 0.5, "gsm8k": 0.88}, group_subtasks={"mmlu": []})
    with pytest.warns(
        P2LWarning, match="not all LLMs have the tasks of 'mmlu', so all are compared on its mean"
    ) as said:
        found = read_harness(tmp_path)
    assert "a group does not count" not in str(said[0].message)
    assert found.notes[0].startswith("metric")
    assert found.notes[0] in goodness(found, draws=100).notes


def test_tasks_that_only_share_a_beginning_are_no_group(tmp_path):
    sizes = {"n-samples": {task: {"effective": 100} for task in ("mmlu", "mmlu_pro", "mmlu_redux")}}
    tasks = {"mmlu": 0.7, "mmlu_pro": 0.5, "mmlu_redux": 0.8}
    results(tmp_path / "A", tasks, **sizes)
    assert seen(read_harness(tmp_path))["A"] == tasks
    results(tmp_path / "A", tasks)  # nothing is said of sizes, and 0.7 is not the mean of the others
    assert seen(read_harness(tmp_path))["A"] == tasks


# --- one metric and one filter ---------------------------------------------------------------------------------------

STRICT, FLEXIBLE = "strict-match", "flexible-extract"


def gsm8k(*filters: str) -> list[tuple[str, float]]:
    return [(kind, {STRICT: 0.25, FLEXIBLE: 0.75}[kind]) for kind in filters]


def write(folder: Path, kind: str, scores: list[tuple[str, float]]) -> None:
    if kind == "means":
        results(folder, {"gsm8k": {f"exact_match,{name}": mean for name, mean in scores}})
        return
    rows = [
        {"doc_id": i, "filter": name, "metrics": ["exact_match"], "exact_match": float(i < 4 * mean)}
        for name, mean in scores
        for i in range(4)
    ]
    samples(folder, "gsm8k", rows)


@pytest.mark.parametrize("first", ["means", "samples"])
@pytest.mark.parametrize("second", ["means", "samples"])
def test_two_identical_llms_are_equal_in_whatever_order_their_filters_are(first, second, tmp_path):
    write(tmp_path / "A", first, gsm8k(STRICT, FLEXIBLE))
    write(tmp_path / "B", second, gsm8k(FLEXIBLE, STRICT))
    assert seen(read_harness(tmp_path)) == {"A": {"gsm8k": 0.25}, "B": {"gsm8k": 0.25}}
    assert seen(read_harness(tmp_path, filter=FLEXIBLE)) == {"A": {"gsm8k": 0.75}, "B": {"gsm8k": 0.75}}
    assert "no task has the filter 'strict'; they have: " in refusal(lambda: read_harness(tmp_path, filter="strict"))


@pytest.mark.parametrize("kind", ["means", "samples"])
def test_the_filter_that_all_llms_have(kind, tmp_path):
    write(tmp_path / "A", kind, gsm8k(STRICT, FLEXIBLE))
    write(tmp_path / "B", kind, gsm8k(FLEXIBLE))
    assert seen(read_harness(tmp_path)) == {"A": {"gsm8k": 0.75}, "B": {"gsm8k": 0.75}}
    write(tmp_path / "C", kind, gsm8k(STRICT))
    message = refusal(read_harness, tmp_path)
    assert "the LLMs have no metric and filter in common on 'gsm8k': A has exact_match,strict-match and " in message
    assert "B has exact_match,flexible-extract; C has exact_match,strict-match" in message
    assert "(metric=..., filter=...; --metric, --filter)" in message
    assert "with the filter 'strict-match'" in refusal(lambda: read_harness(tmp_path, filter=STRICT))


def test_the_metric_that_all_llms_have(tmp_path):
    results(tmp_path / "A", {"arc": {"acc_norm,none": 0.6, "acc,none": 0.4}, "boolq": 0.5})
    results(tmp_path / "B", {"arc": {"acc,none": 0.5}, "boolq": 0.5})
    assert seen(read_harness(tmp_path)) == {"A": {"arc": 0.4, "boolq": 0.5}, "B": {"arc": 0.5, "boolq": 0.5}}
    with pytest.warns(P2LWarning, match="task 'arc' of B has no 'acc_norm'; it has: acc"):
        found = read_harness(tmp_path, metric="acc_norm")
    assert seen(found) == {"A": {"arc": 0.6}}
    write(tmp_path / "A", "means", gsm8k(STRICT, FLEXIBLE))  # a filter is asked for on the tasks that have it
    assert seen(read_harness(tmp_path, filter=FLEXIBLE))["A"] == {"gsm8k": 0.75}


# --- reruns, damaged tasks, percent ----------------------------------------------------------------------------------


def test_the_newest_run_counts_task_by_task(tmp_path):
    results(tmp_path / "A", {"arc": 0.3, "boolq": 0.4})
    samples(tmp_path / "A", "arc", [{"acc": 0.0}] * 4)
    results(tmp_path / "A", {"arc": 0.6}, LATE)
    with pytest.warns(P2LWarning, match=r"the newest of several runs counts for arc \(A\)$"):
        found = read_harness(tmp_path)
    assert seen(found) == {"A": {"arc": 0.6, "boolq": 0.4}}
    samples(tmp_path / "A", "arc", [{"acc": 1.0}] * 3 + [{"acc": 0.0}], LATE)
    with pytest.warns(P2LWarning, match="the newest"):
        assert seen(read_harness(tmp_path))["A"]["arc"] == 0.75
    results(tmp_path / "other", {"arc": 0.9}, model_name="A")
    message = refusal(read_harness, tmp_path)
    assert "are both of 'A' on 'arc'; give the one that counts" in message
    assert str(tmp_path / "other") in message


def test_runs_of_two_llms_in_one_folder(tmp_path):
    for stamp, model, score in ((EARLY, "a", 0.0), (LATE, "b", 1.0)):
        results(tmp_path, {"arc": score}, stamp, model_name=model)
        samples(tmp_path, "arc", [{"acc": score}] * 2, stamp)
    assert seen(read_harness(tmp_path)) == {"a": {"arc": 0.0}, "b": {"arc": 1.0}}
    samples(tmp_path, "boolq", [{"acc": 1.0}], "2025-03-01T00-00-00.0")
    assert "its folder has results of a, b, and none of the same time" in refusal(read_harness, tmp_path)


def test_a_document_that_stands_twice(tmp_path):
    rows = [{"doc_id": i, "acc": float(i < 3)} for i in range(4)]
    file = samples(tmp_path / "A", "arc", rows + rows)
    assert read_harness(file).counts.tolist() == [[4.0]]  # the same answer once
    file = samples(tmp_path / "A", "arc", [*rows, {"doc_id": 0, "acc": 0.0}])
    message = refusal(read_harness, file)
    assert f"{str(file)!r}, task 'arc' of A, line 5: acc is 0 and 1 for the same document, 0" in message
    results(tmp_path / "A", {"arc": 0.75})
    assert seen(read_harness(tmp_path)) == {"A": {"arc": 0.75}}  # the mean is not in doubt


@pytest.mark.parametrize("bad", [math.nan, math.inf, 61.2, -0.5, ["a"], []])
@pytest.mark.parametrize("kind", ["means", "samples"])
def test_one_task_that_cannot_be_used_does_not_block_the_others(bad, kind, tmp_path):
    results(tmp_path / "A", {"boolq": 0.5})
    results(tmp_path / "B", {"boolq": 0.6, "arc": 0.7})
    if kind == "means":
        file = results(tmp_path / "A", {"boolq": 0.5, "arc": {"acc,none": bad}})
    else:
        file = samples(tmp_path / "A", "arc", [{"acc": 1.0}, {"acc": bad}])
    with pytest.warns(P2LWarning, match="left out: .*task 'arc' of A.*: acc.* is ") as caught:
        found = read_harness(tmp_path)
    assert str(file) in str(caught[0].message)
    assert seen(found) == {"A": {"boolq": 0.5}, "B": {"boolq": 0.6, "arc": 0.7}}
    with pytest.raises(ResultsError, match="task 'arc' of A"):
        read_harness(file, metric="acc") if kind == "samples" else read_harness(
            results(tmp_path / "A", {"arc": {"acc,none": bad}})
        )


def test_percent_reaches_the_harness(tmp_path):
    from p2l_sdk.cli import cli

    for model, f1, acc in (("A", 61.2, 0.5), ("B", 70.4, 0.75)):
        results(tmp_path / model, {"squad": {"f1,none": f1, "f1_stderr,none": 2.0}, "arc": acc})
    with pytest.warns(P2LWarning, match=r"f1 is 61\.2; .*\(of a table in percent say so: percent=True, --percent\)"):
        assert seen(read_harness(tmp_path)) == {"A": {"arc": 0.5}, "B": {"arc": 0.75}}
    with pytest.warns(P2LWarning, match="taken as shares, though in percent: arc$"):
        found = read_harness(tmp_path, percent=True)
    assert seen(found) == {"A": {"squad": 0.612, "arc": 0.5}, "B": {"squad": 0.704, "arc": 0.75}}
    np.testing.assert_allclose(found.counts[0, found.benchmarks.index("squad")], 0.612 * 0.388 / 0.02**2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cli(["mpg", "report", "--results", str(tmp_path), "--percent", "--json"], standalone_mode=False)


def test_a_task_without_a_known_metric_is_named(tmp_path):
    file = results(tmp_path / "A", {"wmt": {"bleu,none": 30.1, "bleu_stderr,none": 1.0, "alias": "wmt"}, "arc": 0.5})
    with pytest.warns(P2LWarning, match="task 'wmt' of A has no known metric; it has: bleu$"):
        assert seen(read_harness(file)) == {"A": {"arc": 0.5}}


def test_tasks_that_were_not_asked_alike_are_named(tmp_path):
    for model, shots in (("A", 5), ("B", 0), ("C", 5)):
        results(tmp_path / model, {"gsm8k": 0.5, "arc": 0.5}, **{"n-shot": {"gsm8k": shots, "arc": 0}})
    with pytest.warns(P2LWarning, match=r"^not asked alike, so hardly comparable: gsm8k \(A: shots 5; B: shots 0\)$"):
        read_harness(tmp_path)
