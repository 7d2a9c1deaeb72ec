"""Complete cards as they appear on the Hub, against tests/golden; their metadata as the Hub's client reads it.

To rewrite the golden cards after an intended change: P2L_WRITE_GOLDEN=1 pytest tests/hub/test_cards.py
The Hub's own validation (`ModelCard.validate`) calls an endpoint of the Hub, so it cannot run offline. These tests
check what the client validates locally, and that metadata survives a round trip through it.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, build_model
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load
from huggingface_hub.repocard_data import eval_results_to_model_index

from p2l_sdk.evaluation import Estimate, Report
from p2l_sdk.evaluation.votes import Baseline
from p2l_sdk.hub.cards import EXAMPLE_PROMPTS, complete_model_card, merged_card, split_card, with_picture
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.training.card import Card, data_hash, fingerprint
from p2l_sdk.training.config import TrainingConfig
from p2l_sdk.votes.summary import summarise
from p2l_sdk.votes.votes import Votes

GOLDEN = ROOT / "tests" / "golden"
NAMES = ("alpha-7b", "beta-13b", "gamma-70b")
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


def card_of(**settings) -> Card:
    """A card from the data that a run would pass, with given metrics."""
    config = TrainingConfig(
        votes="org/votes", output="runs/mine", push_to_hub="org/mine", eval_votes="held_out.jsonl", seed=3,
        license="apache-2.0", title="Support questions", **settings,
    )  # fmt: skip
    winners = ("model_a", "model_b", "tie", "tie (bothbad)")
    rows = [{"prompt": f"{winner} {a}", "model_a": NAMES[a], "model_b": NAMES[a - 1], "winner": winner}
            for a in range(3) for winner in winners]  # fmt: skip
    votes = Votes.from_rows(rows)
    report = Report(
        feedback="grk",
        metrics={"cross_entropy": Estimate(0.98765, 0.0123, 1200), "best_single_model": "gamma-70b"},
        baseline=Baseline(
            {"cross_entropy": Estimate(1.2, 0.01, 1200)}, {"cross_entropy": Estimate(-0.21235, 0.005, 9)}
        ),
    )
    return Card(
        config=config,
        spec=ModelSpec(models=NAMES, feedback="grk", costs={"alpha-7b": 0.0001}, head_hidden_size=8),
        data=votes,
        summary=summarise(votes, "grk"),
        method=f"{config.trained} on {config.base}",
        settings={"epochs": 2, "learning_rate": 0.0003, "seed": 3},
        reports={"held_out.jsonl (0 of its 100 prompts are in the training data)": report},
        seconds=150.0,
        baseline=1.3,
        history=[{"eval_loss": 1.1}, {"loss": 1.0}, {"eval_loss": 1.05}],
    )


def published(name: str) -> str:
    """A card as written by `push_to_hub`."""
    if name == "model_card.md":
        card = card_of().static(
            build_model("static", head_hidden_size=8), "Its token table is that of the embedded default.", 7.9
        )
    elif name == "merged_card.md":
        card = merged_card(published("adapter_card.md"), "whole")
    else:
        card = card_of(base=BASE).finetuned()
    base = BASE if name == "adapter_card.md" else None
    card = complete_model_card(card, card_of().spec, "org/mine", base)
    return with_picture(card, "leaderboard.png", f"Leaderboard of 3 LLMs: {EXAMPLE_PROMPTS[0]}")


def normal(card: str) -> str:
    """The text without what differs between machines."""
    card = re.sub(r"^Versions: .*$", "Versions: ...", card, flags=re.MULTILINE)
    card = re.sub(r"(minutes on) .*$", r"\1 ...", card, flags=re.MULTILINE)
    return "".join(f"{line.rstrip()}\n" for line in card.rstrip().splitlines())


CARDS = ["model_card.md", "adapter_card.md", "merged_card.md"]


@pytest.mark.parametrize("name", CARDS)
def test_the_card_is_the_golden_one(name):
    found, file = normal(published(name)), GOLDEN / name
    if os.environ.get("P2L_WRITE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(found, encoding="utf-8")
    expected = file.read_text(encoding="utf-8")
    difference = difflib.unified_diff(expected.splitlines(), found.splitlines(), f"golden/{name}", "now", lineterm="")
    if lines := list(difference):
        how = "if the change is wanted: P2L_WRITE_GOLDEN=1 pytest tests/hub/test_cards.py"
        pytest.fail("\n".join([f"{name} has changed; {how}", *lines]), pytrace=False)


@pytest.mark.parametrize("name", CARDS)
def test_the_hubs_client_reads_the_metadata_and_loses_nothing(name, tmp_path):
    text = published(name)
    written, _ = split_card(text)
    card = ModelCard(text)  # raises if the licence, results or similar are malformed
    (result,) = card.data.eval_results
    assert (result.task_type, result.dataset_name, result.metric_type) == (
        "text-classification",
        "held_out.jsonl",
        "cross_entropy",
    )
    assert result.metric_value == pytest.approx(0.98765)
    assert eval_results_to_model_index("mine", [result]) == written["model-index"]
    card.save(tmp_path / "README.md")
    assert metadata_load(tmp_path / "README.md") == written
    assert written["license"] == "apache-2.0"
    assert written["datasets"] == ["org/votes"]
    assert (written["library_name"], written["pipeline_tag"]) == ("transformers", "text-classification")
    assert written["model_list"] == list(NAMES)
    assert all(set(example) == {"text"} for example in written["widget"])
    relation = {"model_card.md": None, "adapter_card.md": "adapter", "merged_card.md": "finetune"}[name]
    assert (written.get("base_model"), written.get("base_model_relation")) == (BASE if relation else None, relation)
    assert ("peft" in written["tags"]) == (name == "adapter_card.md")


def test_pushed_twice_or_elsewhere_the_card_says_where_it_is():
    spec, once = card_of().spec, published("adapter_card.md")
    again = complete_model_card(once, spec, "org/mine", BASE)
    assert again == once
    moved = complete_model_card(once, spec, "other/place", BASE)
    assert moved == once.replace('"org/mine"', '"other/place"')
    assert moved.count('"other/place"') == 2


def test_an_adapter_with_a_card_of_its_own_gets_the_section_too():
    card = complete_model_card("# Mine\n\nOf us.\n", card_of().spec, "org/mine", f"{BASE}/weights.gguf")
    assert split_card(card)[0]["base_model"] == BASE
    assert "\nOf us.\n\n## As an adapter\n" in card
    assert 'folder = snapshot_download("org/mine")' in card
    merged = merged_card(card, "whole")
    assert "# Mine (merged)\n" in merged
    assert "snapshot_download" not in merged


def test_a_merged_card_that_says_nothing_of_adapters_gets_a_note():
    merged = merged_card("---\nlibrary_name: peft\ntags:\n- lora\n- mine\n---\n\n# Mine\n\nOf us.\n", "whole")
    data, body = split_card(merged)
    assert data == {"library_name": "transformers", "tags": ["mine"]}
    assert body.lstrip().startswith("> The adapter was merged into its base: all weights are in this folder. What")
    assert "\n# Mine (merged)\n\nOf us.\n" in body


def test_a_merged_card_names_its_own_folder_and_not_the_adapters():
    trained = card_of(base=BASE)
    config = replace(trained.config, output="runs/my-adapter", push_to_hub=None, title=None)
    card = merged_card(replace(trained, config=config).finetuned(), "my-model")
    assert 'p2l = P2L.from_pretrained("my-model")\n' in card
    assert "\n# my-model: a P2L model (merged)\n" in card
    assert re.findall("^.*my-adapter.*$", card, re.MULTILINE) == ["output: runs/my-adapter"]  # as it was run


def test_no_golden_card_is_left_over():
    assert {file.name for file in Path(GOLDEN).glob("*.md")} == set(CARDS)


def test_the_card_says_which_weights_were_kept_without_validation():
    def curve(**settings) -> str:
        return replace(card_of(base=BASE, validation=0.0, **settings), history=[], baseline=None).finetuned()

    assert "held out for validation; the model is that of the last step." in curve()
    assert "; the model is the moving average of the weights (decay 0.98) at the last step." in curve(average=0.98)


def test_data_have_a_hash_wherever_they_come_from(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "votes.jsonl").write_text("{}")
    votes = card_of().data
    assert data_hash("~/votes.jsonl", votes) == f"sha256 `{fingerprint(tmp_path / 'votes.jsonl')}`"
    of_rows = data_hash("org/votes", votes)
    assert re.fullmatch("sha256 of its rows `[0-9a-f]{64}`", of_rows)
    assert data_hash("a/folder", replace(votes)) == of_rows
    assert data_hash("org/votes", replace(votes, weight=2.0 * votes.weight)) != of_rows
    assert f"prompts (`org/votes`, {of_rows})." in replace(card_of(base=BASE), data_hash=of_rows).finetuned()
