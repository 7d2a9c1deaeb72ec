"""The inputs of the model `arena`: prompts of known kind, and costs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from importlib import import_module

import pyarrow.parquet as pq
import pytest
from conftest import ROOT, shared

ARENA = ROOT / "examples" / "arena"
OWN = [json.loads(line) for line in (ARENA / "own_prompts.jsonl").read_text(encoding="utf-8").splitlines()]
CASES = [json.loads(line) for line in (ROOT / "tests/kinds/arena_cases.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def scripts():
    """scripts(name) -> a module from examples/arena."""
    names = ("labels", "languages", "prompts", "costs", "check_languages")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ARENA))
        yield import_module
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def rows(scripts):
    return scripts("prompts").read(shared("data/category_prompts/prompts.parquet").parents[1])


def test_every_category_of_the_arena_is_used_or_left_out(scripts):
    published = pq.read_table(shared("data/arena_leaderboard/leaderboard.parquet"), columns=["category"])["category"]
    labels = scripts("labels")
    assert len(labels.USED) == len(set(labels.USED)) == 23
    assert {*labels.USED, *labels.LEFT_OUT} == set(published.to_pylist())
    assert not {*labels.USED} & {*labels.LEFT_OUT}


def test_labels_name_used_categories_only(scripts):
    labels = scripts("labels")
    for table in (labels.CATEGORY_PROMPTS, labels.MMLU_PRO, labels.MMLU, labels.ROUTING9):
        for label, (categories, unsure) in table.items():
            assert {*categories, *unsure} <= {*labels.USED}, label


def test_every_label_of_the_sources_is_known(scripts):
    labels = scripts("labels")
    for path, columns, table in (
        ("category_prompts/prompts", ["source", "label"], labels.CATEGORY_PROMPTS),
        ("mmlu_pro/scores_train", ["category"], labels.MMLU_PRO),
        ("routellm_mmlu/mmlu", ["subject"], labels.MMLU),
        ("routing9/scores_train", ["task"], labels.ROUTING9 | {"gpqa": ((), ())}),
    ):
        found = pq.read_table(shared(f"data/{path}.parquet"), columns=columns).to_pylist()
        keys = {tuple(row.values()) if len(columns) > 1 else row[columns[0]] for row in found}
        assert keys == set(table), path


def test_own_prompts_are_new_and_of_known_kinds(scripts):
    used = {*scripts("labels").USED}
    assert len(OWN) > 900
    assert len({row["prompt"].strip().lower() for row in OWN}) == len(OWN)
    for row in OWN:
        assert row["prompt"].strip()
        assert {*row["categories"], *row.get("unsure", ())} <= used, row["prompt"]
        assert not {*row["categories"]} & {*row.get("unsure", ())}, row["prompt"]
    counts = Counter(category for row in OWN for category in row["categories"])
    assert all(counts[language] >= 50 for language in scripts("labels").LANGUAGES)
    assert sum(not row["categories"] for row in OWN) >= 80


def test_cases_are_not_among_the_prompts(scripts):
    labels = scripts("labels")
    own = {row["prompt"].strip().lower() for row in OWN}
    assert len(CASES) >= 30
    for case in CASES:
        assert case["prompt"].strip().lower() not in own
        assert {*case["expected"], *case["forbidden"]} <= {*labels.USED, *scripts("build").READABLE.values()}
        assert not {*case["expected"]} & {*case["forbidden"]}


def test_own_prompts_are_in_the_language_they_say(scripts):
    language = scripts("languages").language
    named = [(row["prompt"], kind) for row in OWN for kind in row["categories"] if kind in scripts("labels").LANGUAGES]
    wrong = [prompt[:50] for prompt, kind in named if language(prompt) != kind]
    assert len(wrong) < 0.1 * len(named), wrong
    assert language("def f(x):\n    return x + 1  # the square of x") == "english"
    assert language("Привіт, як справи? Їжак біжить") == "other"


@pytest.mark.thorough
def test_rows_say_what_is_known_and_what_is_not(rows, scripts):
    used = {*scripts("labels").USED}
    assert len({row.prompt.strip() for row in rows}) == len(rows)
    for row in rows:
        assert {*row.categories, *row.unsure} <= used
        assert not {*row.categories} & {*row.unsure}
        assert row.style in ("chat", "exam")
        assert ("hard_english_6" in row.categories) <= (row.language == "english")
        assert (row.language in scripts("labels").LANGUAGES) == (row.language in row.categories)


@pytest.mark.long
def test_the_script_writes_the_rows_and_the_readme_has_their_counts(rows, scripts, tmp_path, monkeypatch, capsys):
    prompts = scripts("prompts")
    data = shared("data/category_prompts/prompts.parquet").parents[1]
    monkeypatch.setattr(
        sys, "argv", ["prompts.py", "--data", str(data), "--output", str(tmp_path / "rows.jsonl"), "--table"]
    )
    prompts.main()
    written = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["prompt"] for row in written] == [row.prompt for row in rows]
    readme = (ARENA / "README.md").read_text(encoding="utf-8")
    table = readme.partition("<!-- counts -->\n")[2].partition("\n<!-- /counts -->")[0]
    assert table.strip() == prompts.table(rows)
    assert prompts.table(rows) in capsys.readouterr().out


def test_no_withheld_and_no_gpqa_question(rows):
    tasks = pq.read_table(shared("data/routing9/prompt_meta.parquet"), columns=["prompt", "task"]).to_pylist()
    forbidden = {row["prompt"].strip() for row in tasks if row["task"] == "gpqa"}
    assert forbidden
    assert not forbidden & {row.prompt.strip() for row in rows}
    val = pq.read_table(shared("data/mmlu_pro/scores_val.parquet"), columns=["prompt"])["prompt"].to_pylist()
    questions = {prompt.partition("\nA. ")[0].strip() for prompt in val if len(prompt.partition("\nA. ")[0]) > 80}
    train = pq.read_table(shared("data/mmlu_pro/scores_train.parquet"), columns=["prompt"])["prompt"].to_pylist()
    questions -= {prompt.partition("\nA. ")[0].strip() for prompt in train}
    assert not questions & {row.prompt.partition("\nA. ")[0].strip() for row in rows if row.source == "mmlu_pro"}


def test_exams_do_not_drown_chats_and_have_no_form(rows):
    styles = Counter(row.style for row in rows)
    assert styles["exam"] < 1.5 * styles["chat"]
    exams = [row for row in rows if row.source in ("mmlu_pro", "routellm_mmlu")]
    assert 0.3 < sum("\nA. " in row.prompt for row in exams) / len(exams) < 0.7


def test_the_token_table_sees_the_languages_and_the_readme_says_how_well(rows, scripts):
    check = scripts("check_languages")
    chats = [row for row in rows if row.style == "chat" and row.language in check.NAMES]
    truth = check.np.array([row.language for row in chats])
    called = check.predict([row.prompt for row in chats], truth)
    stated = (ARENA / "README.md").read_text().partition("<!-- languages -->\n")[2].partition("<!-- /")[0].splitlines()
    figures = {cells[1]: cells[2:4] for cells in ([part.strip() for part in line.split("|")] for line in stated[2:-1])}
    assert set(figures) == set(check.NAMES)
    for name, (n, recognised) in figures.items():
        assert int(n) == (truth == name).sum()
        share = (called[truth == name] == name).mean()
        assert share >= 0.85
        assert float(recognised.rstrip("%")) / 100 == pytest.approx(share, abs=0.02)


def test_costs(scripts, tmp_path):
    pytest.importorskip("genai_prices")
    costs = scripts("costs")
    found = costs.read(shared("data/arena_leaderboard/prices.parquet").parents[1])
    assert len(found.costs) + len(found.missing) == 282
    assert sum(source == "catalog" for source in found.sources.values()) == 109 - len(costs.PACKAGE_WINS)
    assert len(found.costs) > 140
    assert found.costs["gpt-4o-mini-2024-07-18"] == pytest.approx(0.000375)  # (0.15 + 0.60) / 2 per 1,000 tokens
    assert found.costs["o3-2025-04-16"] == pytest.approx(0.005)
    assert all(cost > 0 for cost in found.costs.values())
    assert set(costs.NOT_THE_SAME) <= set(found.missing)
    assert set(costs.PACKAGE_WINS) <= set(found.differing)
    report = costs.report(found)
    assert "o3-2025-04-16" in report.partition("Two prices:")[2].partition("No cost:")[0]
