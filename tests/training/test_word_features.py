"""Features of the words that tell categories: what they say, of whom they learned, and that they end in the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import build_model
from fine_tuning import tensors, write_jsonl
from test_category_teacher import WORDS, rows

from p2l_sdk.hub.config import read_config
from p2l_sdk.kinds.base import Base
from p2l_sdk.scorers.static import StaticScorer
from p2l_sdk.training.categories import Categories
from p2l_sdk.training.config import TrainingConfig
from p2l_sdk.training.recognised import largest
from p2l_sdk.training.run import train
from p2l_sdk.training.word_features import WordFeatures
from p2l_sdk.votes.votes import Votes

VOCAB, N = 40, 300
CATEGORY, FOLD = np.arange(N) % 3, np.arange(N) // 3 % 5


def prompts(seed: int = 0) -> list[list[int]]:
    """Tokens 30 to 39 anywhere; one of 0 to 2, 3 to 5 or 6 to 8 once, by the category; each now and then twice."""
    random = np.random.default_rng(seed)
    found = []
    for category in CATEGORY:
        row = [*random.integers(30, 40, 12), 3 * category + random.integers(3)]
        found.append(random.permutation([*row, *random.choice(row, 5)]).tolist())
    return found


def learned(ids: list[list[int]], category: np.ndarray = CATEGORY) -> WordFeatures:
    return WordFeatures.learned(ids, category, FOLD, VOCAB, 0, lambda: None)


def test_words_tell_the_category_of_prompts_that_were_left_out():
    ids = prompts()
    found = learned(ids).left_out(ids)
    assert found.shape == (N, 3)
    assert (found.argmax(1).numpy() == CATEGORY).all()
    assert float(found.std()) == pytest.approx(12.0, rel=1e-5)


def test_a_prompt_is_measured_by_tables_that_did_not_see_its_category():
    ids, other = prompts(), CATEGORY.copy()
    other[FOLD == 2] = (other[FOLD == 2] + 1) % 3
    before, after = learned(ids), learned(ids, other)
    scale = before.tables[2].norm() / after.tables[2].norm()  # all five have one scale
    torch.testing.assert_close(before.tables[2], scale * after.tables[2])
    assert float((before.tables[1] - scale * after.tables[1]).abs().max()) > 1.0


def test_they_are_the_logits_of_the_regression_on_tf_idf_vectors():
    sklearn = pytest.importorskip("sklearn.linear_model")
    ids = prompts()
    occurs = np.zeros((N, VOCAB))
    for i, row in enumerate(ids):
        occurs[i, row] = 1.0
    x = occurs * (1.0 + np.log((1 + N) / (1 + occurs.sum(0))))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found = np.empty((N, 3))
    for i in range(5):
        model = sklearn.LogisticRegression(C=20.0, max_iter=1000, tol=1e-8).fit(x[i != FOLD], CATEGORY[i != FOLD])
        found[i == FOLD] = x[i == FOLD] @ model.coef_.T
    np.testing.assert_allclose(learned(ids).left_out(ids).numpy(), found * 12.0 / found.std(ddof=1), atol=0.05)


def test_prompts_without_a_category_and_words_of_one_prompt_teach_nothing():
    ids, some = prompts(), np.where(np.arange(N) < 30, -1, CATEGORY)
    ids[40] = [*ids[40], 20]
    found = learned(ids, some)
    assert not found.tables[:, 20].any()
    assert not found.tables[:, 10:20].any()
    ids[0] = [0, 3, 6]
    torch.testing.assert_close(learned(ids, some).tables.sign()[:, :9], found.tables.sign()[:, :9])


def test_of_very_many_categories_it_is_said_that_the_largest_are_recognised():
    found = [{**row, "topic": str(i % 101)} for i, row in enumerate(rows(n_prompts=202))]
    votes = Votes.from_rows(found)
    told = str(Categories.of(votes, "topic", recognised=True))
    assert told == "101 by 'topic', of 2 to 2 prompts; only the 100 largest are recognised"
    assert str(Categories.of(votes, "topic")) == "101 by 'topic', of 2 to 2 prompts"


def test_of_very_many_categories_the_largest_are_told():
    category = np.concatenate([np.arange(150), np.arange(40, 140), [-1, -1]])
    found = largest(category)
    assert found[-2:].tolist() == [-1, -1]
    assert found.max() == 99
    assert (found[40:140] == np.arange(100)).all()
    assert (found[:40] == -1).all()
    assert (largest(CATEGORY) == CATEGORY).all()


def test_a_fold_outside_of_which_no_prompt_has_a_category_tells_nothing():
    found = learned(prompts(), np.where(FOLD == 1, CATEGORY, -1))
    assert not found.tables[1].any()
    assert found.tables[0].any()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("told")


@pytest.fixture(scope="module")
def told(folder) -> StaticScorer:
    """The scorer of a model that reads words."""
    file = write_jsonl(folder / "votes.jsonl", rows(n_prompts=200))
    train(TrainingConfig(votes=file, output=folder / "model", by="topic", epochs=4.0, keep=1.0, copies=1))
    return StaticScorer.load(folder / "model", read_config(folder / "model"))


@pytest.mark.long
def test_the_saved_model_reads_words_wherever_they_stand_and_however_often(told, folder):
    found = tensors(folder / "model")
    assert found["backbone.words.table"].shape == (30522, 2)
    assert found["backbone.words.table"].dtype == np.int8
    text = f"{WORDS['code']} rain"
    states = told.pooled([text, " ".join(reversed(text.split())), f"{text} rain rain", "rain"])
    np.testing.assert_allclose(states[1, -2:], states[0, -2:], rtol=1e-5)
    np.testing.assert_array_equal(states[2, -2:], states[0, -2:])
    assert np.abs(states[3, -2:] - states[0, -2:]).max() > 1.0


def test_the_card_says_that_words_tell_the_categories_of_the_column(told, folder):
    card = (folder / "model" / "README.md").read_text()
    assert "an entry for each of 2 categories (those of the column `topic`" in card
    assert "by topic" in card
    assert "teacher_weight" not in card  # nothing was taught


def test_how_familiar_a_prompt_is_does_not_follow_from_what_its_words_tell(told):
    states = np.repeat(told.pooled([f"{WORDS['code']} rain"]), 2, 0)
    states[1, -2:] += 100.0
    familiar = told.score_pooled(states).familiarity
    assert familiar[0] == familiar[1] > 0.0


@pytest.mark.long
def test_where_nothing_is_kept_no_words_are_read_and_nobody_says_that_categories_are_used(tmp_path):
    file = write_jsonl(tmp_path / "votes.jsonl", rows(n_prompts=100))
    train(TrainingConfig(votes=file, output=tmp_path / "model", by="topic", epochs=2.0, keep=0.0))
    assert "backbone.words.table" not in tensors(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "difference +0.0000" in card
    assert "nothing that either learned is kept" in card
    assert "they are used" not in card
    assert "an entry for each of" not in card


def test_torch_numpy_and_batches_read_the_same(told, folder):
    from p2l_sdk.modeling.modeling_p2l import P2LModel
    from p2l_sdk.modeling.prompt_p2l import pad
    from p2l_sdk.scorers.many import for_many

    texts = [*(f"{text} ships, ships; {'doors ' * i}" for i, text in enumerate(WORDS.values())), "?", "a b c d e f"]
    one_by_one = np.concatenate([told.pooled([text]) for text in texts])
    many = for_many(told)
    np.testing.assert_array_equal(many._pooled(many.encoder(texts)), one_by_one)
    ids, mask = (torch.from_numpy(x) for x in pad(told.encoder(texts), 0))
    with torch.inference_mode():
        states = P2LModel.from_pretrained(folder / "model").backbone(ids, mask).pooler_output.numpy()
    np.testing.assert_allclose(states, one_by_one, rtol=1e-4, atol=1e-4)


def test_padding_is_no_word():
    words = build_model("quantized").backbone.words
    ids = torch.tensor([[5, 9, 5, 7]])
    alone = words(ids, torch.ones_like(ids))
    for pad_id in (0, 9):
        padded = torch.tensor([[pad_id, pad_id, 5, 9, 5, 7, pad_id]])
        mask = torch.tensor([[0, 0, 1, 1, 1, 1, 0]])
        torch.testing.assert_close(words(padded, mask), alone)


def test_kinds_are_built_on_it_without_its_words(told, folder):
    states = Base(folder / "model").pooled(["rain"])
    assert states.shape[1] == told.pooled(["rain"]).shape[1] - 2
