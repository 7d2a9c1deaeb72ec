"""`--recipe`: defaults under a name; whatever is given beside it wins."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
from conftest import ROOT
from fine_tuning import run, vote_rows, write_base, write_jsonl

from p2l_sdk.cli import cli
from p2l_sdk.errors import P2LError
from p2l_sdk.training.config import Method, TrainingConfig
from p2l_sdk.training.plan import Plan
from p2l_sdk.training.recipes import Recipe

GIVEN = {"votes": "v.jsonl", "output": "out"}


@pytest.mark.parametrize("recipe", list(Recipe))
def test_a_recipe_sets_what_is_not_given(recipe):
    plain, config = TrainingConfig(**GIVEN), TrainingConfig(**GIVEN, recipe=str(recipe))
    assert config.recipe is recipe
    for field in dataclasses.fields(TrainingConfig):
        expected = {"recipe": recipe, **recipe.settings}.get(field.name, getattr(plain, field.name))
        assert getattr(config, field.name) == expected, field.name
    assert config.chosen == ["output", "recipe", "votes"]
    for again in (
        TrainingConfig.from_dict(config.to_dict()),
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
    ):
        assert again == config
    Plan.of(config, resume=False)  # all of them fit together


def test_what_is_given_wins_even_where_it_is_the_default():
    config = TrainingConfig(**GIVEN, recipe="fast", average=0.0, epochs=1, base="some/base", calibrate=False)
    assert (config.average, config.epochs, config.base, config.calibrate) == (0.0, 1, "some/base", False)
    assert (config.method, config.learning_rate) == (Method.FULL, 1e-4)
    again = TrainingConfig.from_dict(config.to_dict())
    assert again == config
    assert dataclasses.replace(config, seed=1).average == 0.0


def test_a_file_may_name_the_recipe_and_options_win(tmp_path, monkeypatch):
    file, seen = tmp_path / "run.yaml", []
    file.write_text("votes: v.jsonl\noutput: out\nrecipe: best\nbase: own/base\n")
    monkeypatch.setattr("p2l_sdk.training.run.train", lambda config, **_: seen.append(config))
    cli(["train", "--config", str(file), "--recipe", "fast", "--epochs", "1"], prog_name="p2l", standalone_mode=False)
    assert (seen[0].recipe, seen[0].base, seen[0].method, seen[0].epochs) == (Recipe.FAST, "own/base", Method.FULL, 1)


def test_nothing_to_calibrate_on_and_nothing_to_choose():
    assert not TrainingConfig(**GIVEN, recipe="fast", validation=0).calibrate
    assert not TrainingConfig(**GIVEN, recipe="fast", keep=0.5).calibrate
    with pytest.raises(P2LError, match="calibrate is True"):
        TrainingConfig(**GIVEN, recipe="fast", validation=0, calibrate=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "quick"}, "unknown recipe 'quick'; known: best, fast, tiny"),
        ({"recipe": "fast", "base": "static"}, "recipe fast trains a text backbone, and base 'static' is none"),
        ({"recipe": "tiny", "base": "a/b"}, "recipe tiny trains a static model, and base 'a/b' is none"),
        ({"recipe": "best", "base": "arena"}, "recipe: of no effect where votes refine a model of kinds"),
        ({"recipe": "fast", "lora_rank": 4}, "lora_rank: of no effect where the method is full"),
    ],
)
def test_recipes_that_are_refused(settings, message):
    with pytest.raises(P2LError) as caught:
        Plan.of(TrainingConfig(**GIVEN, **settings), resume=False)
    assert message in str(caught.value)


def test_another_method_than_the_recipes_is_legal():
    """The recipe's learning rate has no effect then, and nobody gave it."""
    Plan.of(TrainingConfig(**GIVEN, recipe="fast", method="head"), resume=False)


@pytest.mark.long
def test_a_run_by_recipe_says_so_in_its_card(tmp_path):
    votes = write_jsonl(tmp_path / "votes.jsonl", vote_rows("grk", 40, votes_per_pair=4))
    base = str(write_base(tmp_path / "base", "bert"))
    p2l = run(votes, tmp_path / "out", recipe="fast", base=base, epochs=2, checkpoints=1)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "recipe: fast\n" in card
    assert "average 0.98" in card
    assert "recipe fast" in card
    assert p2l.verdict.keep == float(card.split("keep ")[1].split(",")[0])


def test_the_help_and_the_docs_list_every_recipe(capsys):
    cli(["train", "--help"], prog_name="p2l", standalone_mode=False)
    text = capsys.readouterr().out
    docs = (ROOT / "docs" / "train-on-your-votes.md").read_text()
    for recipe in Recipe:
        assert f"{recipe}: " in text or f" {recipe} " in text
        assert f"| `{recipe}` |" in docs
        assert recipe.base.rpartition("/")[2] in docs
        assert recipe.base.rpartition("/")[2] in text
