"""Tokenizers with more tokens than the backbone has embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CHAT_TEMPLATE, transformers_tokenizer, word_tokenizer
from fine_tuning import prompts, run, vote_rows, write_base, write_jsonl
from transformers import PreTrainedTokenizerFast

from p2l_sdk import P2L
from p2l_sdk.errors import ModelFormatError, PromptError
from p2l_sdk.kinds.base import Base
from p2l_sdk.modeling.pipeline_p2l import LeaderboardPipeline
from p2l_sdk.training import finetune
from p2l_sdk.training.token_table import distil

SHORT = {"epochs": 1, "batch_size": 16, "head_learning_rate": 2e-2, "learning_rate": 3e-3}
PROMPTS = [prompt for _, prompt in prompts(9, seed=8)]
ROWS = len(transformers_tokenizer())


@pytest.fixture(scope="module")
def votes(tmp_path_factory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("votes") / "votes.jsonl", vote_rows("grk", 48, 4))


def changed(folder: Path, kind: str, change) -> str:
    """A tiny base whose tokenizer has been changed."""
    write_base(folder, kind)
    tokenizer = transformers_tokenizer()
    change(tokenizer)
    tokenizer.save_pretrained(folder)
    return str(folder)


def with_cls(tokenizer) -> None:
    tokenizer.add_special_tokens({"cls_token": "<|mine|>"})


def with_word(tokenizer) -> None:
    tokenizer.add_tokens(["haiku"])


def with_words_beyond_a_gap(tokenizer) -> None:
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.add_tokens(["haiku", "sonnet"])


def with_pad(tokenizer) -> None:
    tokenizer.add_special_tokens({"pad_token": "<pad>"})


@pytest.mark.parametrize("method", ["lora", "full", "head"])
@pytest.mark.parametrize(
    ("kind", "change", "token"),
    [
        ("llama", with_cls, "<|mine|>"),
        ("llama", with_word, "haiku"),
        ("bert", with_word, "haiku"),
        ("bert", with_words_beyond_a_gap, "sonnet"),
    ],
)
def test_tokens_without_an_embedding_are_refused_before_anything_is_computed(
    kind, change, token, method, votes, tmp_path, monkeypatch
):
    monkeypatch.setattr(finetune, "PromptEncoder", None)  # no prompt is read
    base = changed(tmp_path / "base", kind, change)
    found = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(
        ModelFormatError,
        match=rf"has {ROWS + 1 + (token == 'sonnet') * 2} tokens, and the model .* {ROWS}: .*'{token}'",
    ):
        run(votes, tmp_path / "m", base=base, method=method, epochs=1)
    assert {path.name for path in tmp_path.iterdir()} == found


def test_other_ways_to_a_base_refuse_them_too(tmp_path):
    base = changed(tmp_path / "base", "bert", with_word)
    for way in (Base, distil):
        with pytest.raises(ModelFormatError, match=f"has {ROWS + 1} tokens, and the model embeddings for {ROWS}"):
            way(base)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_padding_needs_no_embedding(kind, votes, tmp_path):
    """With a padding token that the model does not know, everything is as with its own; it is never the CLS token."""
    for name, change in (("own", lambda tokenizer: None), ("other", with_pad)):
        run(votes, tmp_path / name, base=changed(tmp_path / f"base-{name}", kind, change), **SHORT)
    own, other = (P2L.from_pretrained(tmp_path / name) for name in ("own", "other"))
    assert own.spec.cls_token == other.spec.cls_token
    expected = own.coefficients(PROMPTS).coefs
    np.testing.assert_array_equal(other.coefficients(PROMPTS).coefs, expected)
    model, tokenizer = other._scorer.model, other._scorer._tokenizer
    assert tokenizer.pad_token_id == ROWS
    with torch.inference_mode():
        np.testing.assert_allclose(model(**model.prepare(PROMPTS, tokenizer)).coefs, expected, atol=1e-5)
    pipe = LeaderboardPipeline(model=model, tokenizer=tokenizer)
    for board, row in zip(pipe(PROMPTS), expected, strict=True):
        coefs = {entry["model"]: entry["coef"] for entry in board["leaderboard"]}
        np.testing.assert_allclose([coefs[name] for name in own.models], row, atol=1e-5)
    states = [Base(tmp_path / name).pooled(PROMPTS) for name in ("base-own", "base-other")]
    np.testing.assert_array_equal(*states)


def test_a_vocabulary_with_padding_alone_gets_no_cls_token(votes, tmp_path):
    def only_pad(tokenizer) -> None:
        for name in ("cls_token", "sep_token", "unk_token"):
            setattr(tokenizer, name, None)
        with_pad(tokenizer)

    p2l = run(votes, tmp_path / "m", base=changed(tmp_path / "base", "llama", only_pad), **SHORT)
    assert p2l.spec.cls_token is None


def test_a_token_for_images_is_refused_where_a_prompt_has_it(votes, tmp_path):
    """As in the tokenizers of multimodal models, which text models share."""

    write_base(tmp_path / "base", "llama")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer(), cls_token="[CLS]", extra_special_tokens={"image_token": "<image>"}
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(tmp_path / "base")
    base = str(tmp_path / "base")
    p2l = run(votes, tmp_path / "m", base=base, **SHORT)
    assert p2l.spec.chat
    pipe = LeaderboardPipeline(model=p2l._scorer.model, tokenizer=p2l._scorer._tokenizer)
    for read in (p2l.leaderboards, pipe):
        with pytest.raises(PromptError, match="prompt 1: the prompt has the token '<image>', which the model does not"):
            read(["sum", "what is on <image> here"])
