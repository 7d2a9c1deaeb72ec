"""`P2LModel`: every backbone and feedback model, round trips, pooling, the loss."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import MODELS, build_model, transformers_tokenizer
from researcher import without_p2l_sdk

from p2l_sdk import P2L
from p2l_sdk.errors import ModelFormatError
from p2l_sdk.modeling.configuration_p2l import P2LConfig
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, log_probabilities
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.modeling.static_p2l import StaticConfig

PROMPTS = ["write a poem about python", "sum", "prove that the square root of two is irrational in code"]
KINDS = ["static", "quantized", "llama", "qwen2", "bert"]


@pytest.mark.long
def test_saved_folders_are_the_same_models_without_p2l_sdk(saved, tmp_path):
    cases = [*((kind, "grk") for kind in KINDS), *(("static", feedback) for feedback in Feedback), ("llama", "bt")]
    folders = [saved(kind, feedback, head_hidden_size=8, head_norm=True) for kind, feedback in cases]
    results = without_p2l_sdk(tmp_path, PROMPTS, folders)
    for case, folder, theirs in zip(cases, folders, results, strict=True):
        ours = P2L.from_pretrained(folder, device="cpu").coefficients(PROMPTS)
        for key in ("coefs", "eta", "gamma"):
            mine = getattr(ours, key)
            assert (mine is None) == (theirs[key] is None), case
            if mine is not None:
                np.testing.assert_allclose(mine, theirs[key], atol=1e-5, err_msg=str(case))


@pytest.mark.parametrize("kind", ["static", "quantized"])
@pytest.mark.parametrize("feedback", ["bt", "grk", "ba"])
@pytest.mark.parametrize(
    "head", [{}, {"head_hidden_size": 8, "head_norm": True}, {"head_hidden_size": 8, "head_activation": "relu"}]
)
def test_the_numpy_path_is_the_torch_path(kind, feedback, head, saved):
    folder = saved(kind, feedback, **head)
    fast, slow = P2L.from_pretrained(folder), P2L.from_pretrained(folder, device="cpu")
    assert type(fast._scorer).__name__ != type(slow._scorer).__name__
    a, b = fast.coefficients(PROMPTS), slow.coefficients(PROMPTS)
    for key in ("coefs", "eta", "gamma"):
        if getattr(b, key) is None:
            assert getattr(a, key) is None
        else:
            np.testing.assert_allclose(getattr(a, key), getattr(b, key), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_the_same_as_one_by_one(kind, saved):
    p2l = P2L.from_pretrained(saved(kind))
    together = p2l.coefficients(PROMPTS)
    for i, prompt in enumerate(PROMPTS):
        np.testing.assert_allclose(together.coefs[i], p2l.leaderboard(prompt).coefs, atol=2e-5)


@pytest.mark.parametrize("feedback", list(Feedback))
def test_heads_are_those_of_the_feedback_model(feedback):
    model = build_model("static", feedback)
    out = model(torch.tensor([[8, 9]]))
    assert out.coefs.shape == (1, len(MODELS))
    assert (out.eta is not None) == feedback.has_eta
    assert (out.gamma is not None) == feedback.has_gamma
    assert out.loss is None


@pytest.mark.parametrize("pooling", ["last", "first", "mean"])
def test_pooling_reads_real_tokens_only(pooling):
    model = build_model("bert", pooling=pooling)
    ids = torch.tensor([[8, 9, 10, 11, 12]])
    states = model.backbone(input_ids=ids[:, :3]).last_hidden_state[0]
    expected = {"last": states[-1], "first": states[0], "mean": states.mean(0)}[pooling]
    out = model(ids, attention_mask=torch.tensor([[1, 1, 1, 0, 0]]))
    torch.testing.assert_close(out.hidden_state[0], expected, atol=1e-5, rtol=1e-5)


def votes(n: int, n_prompts: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    a = torch.randint(0, 4, (n,), generator=generator)
    b = (a + torch.randint(1, 4, (n,), generator=generator)) % 4
    rows = torch.randint(0, n_prompts, (n,), generator=generator)
    return torch.stack([rows, a, b, torch.randint(0, 4, (n,), generator=generator)], 1)


@pytest.mark.parametrize("feedback", list(Feedback))
def test_the_loss_is_the_mean_negative_log_likelihood(feedback):
    model = build_model("static", feedback)
    ids, labels = torch.tensor([[8, 9], [10, 11], [12, 13]]), votes(40, 3)
    out = model(ids, labels=labels)
    expected, count = 0.0, 0
    for row, a, b, winner in labels.tolist():
        eta, gamma = (None if x is None else x[row, 0] for x in (out.eta, out.gamma))
        log_probs = log_probabilities(feedback, out.coefs[row, a], out.coefs[row, b], eta, gamma)
        names = [Winner(o) for o in feedback.outcomes]
        if winner in names:
            expected -= log_probs[names.index(winner)].item()
        elif Winner.TIE in names:
            expected -= log_probs[names.index(Winner.TIE)].item()
        elif feedback is Feedback.BT_TIE:
            expected -= log_probs[:2].mean().item()
        else:
            continue
        count += 1
    assert out.loss.item() == pytest.approx(expected / count, rel=1e-5)


def test_votes_that_share_a_prompt_share_its_forward_pass():
    model = build_model("static")
    ids, labels = torch.tensor([[8, 9], [10, 11]]), votes(12, 2)
    grouped = model(ids, labels=labels)
    grouped.loss.backward()
    gradient = model.head.coefs.weight.grad.clone()
    model.zero_grad()
    plain_labels = labels.clone()
    plain_labels[:, 0] = torch.arange(12)
    plain = model(ids[labels[:, 0]], labels=plain_labels)
    plain.loss.backward()
    torch.testing.assert_close(plain.loss, grouped.loss)
    torch.testing.assert_close(model.head.coefs.weight.grad, gradient, atol=1e-6, rtol=1e-4)


def test_weights_of_votes():
    model, ids, labels = build_model("static"), torch.tensor([[8, 9], [10, 11]]), votes(6, 2)
    weights = torch.tensor([0.0, 2.0, 1.0, 0.0, 1.0, 3.0])
    repeated = labels.repeat_interleave(weights.long(), 0)
    torch.testing.assert_close(model(ids, labels=labels, weights=weights).loss, model(ids, labels=repeated).loss)


def test_a_batch_of_ties_costs_bradley_terry_nothing():
    model = build_model("static", "bt")
    loss = model(torch.tensor([[8]]), labels=torch.tensor([[0, 0, 1, Winner.TIE]])).loss
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(model.head.coefs.weight.grad).all()


def test_half_precision_backbones_give_float32_coefficients():
    model = build_model("llama").to(torch.bfloat16)
    inputs = model.prepare(PROMPTS, transformers_tokenizer())
    assert model(**inputs).coefs.dtype == torch.float32


def test_adding_an_unused_input_changes_nothing():
    model = build_model("bert")
    ids = torch.tensor([[8, 9]])
    torch.testing.assert_close(model(ids, token_type_ids=torch.zeros_like(ids)).coefs, model(ids).coefs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"models": ["a", "b", "a"]}, "names a more than once"),
        ({"models": []}, "the list of LLMs is empty"),
        ({"models": "abc"}, "list of LLM names"),
        ({"feedback": "elo"}, "unknown feedback model 'elo'"),
        ({"pooling": "max"}, "pooling is 'max'; legal values: last, first, mean, pooler"),
        ({"costs": {"a": float("nan")}}, "the cost of 'a' is nan"),
        ({"costs": {"a": -1}}, "the cost of 'a' is -1"),
        ({"costs": {"zz": 1}}, "given for 'zz', which is not among"),
        ({"max_prompt_tokens": 0}, "max_prompt_tokens is 0"),
        ({"head_dropout": 1.5}, "head_dropout is 1.5"),
        ({"format_version": 99}, "format version 99"),
    ],
)
def test_a_config_is_checked_when_it_is_made(fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        P2LConfig(backbone_config=StaticConfig(), **{"models": ["a", "b"], "feedback": "bt", **fields})
    assert isinstance(caught.value.__cause__ or caught.value, ModelFormatError | ValueError)


@pytest.mark.long
def test_no_code_that_a_backbone_names_is_run(monkeypatch):
    """Of a kind with a configuration but no model of its own in transformers, which asks for it on a terminal."""

    def asked(*_):
        raise AssertionError("asked whether to run the code")

    monkeypatch.setattr("builtins.input", asked)
    spec = {"models": ["a", "b"], "feedback": "bt"}
    named = {"model_type": "colpali", "auto_map": {"AutoModel": "evil/repo--bomb.Bomb"}}
    config = P2LConfig(backbone_config=named, **spec)
    assert not hasattr(config.backbone_config, "auto_map")
    with pytest.raises(ValueError, match="Unrecognized configuration class"):
        P2LModel(config)
    config.backbone_config.auto_map = named["auto_map"]  # also from a configuration object
    with pytest.raises(ValueError, match="trust_remote_code"):
        P2LModel(config)


def test_a_config_survives_json(tmp_path):
    config = build_model("llama").config
    config.save_pretrained(tmp_path)
    again = P2LConfig.from_pretrained(tmp_path)
    assert again.to_dict()["models"] == list(MODELS)
    assert again.to_dict() == P2LConfig(**json.loads((tmp_path / "config.json").read_text())).to_dict()
