"""Training on backbones of other families: mixtures of experts, state spaces, positions by a bias."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import transformers_tokenizer
from fine_tuning import prompts, run, tensors, vote_rows, write_jsonl
from thorough import thorough
from transformers import CONFIG_MAPPING, AutoModel

from p2l_sdk import P2L
from p2l_sdk.errors import P2LError
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.scorers.backbone import saved_tokenizer

PROMPTS = [prompt for _, prompt in prompts(9, seed=8)]
SHORT = {"epochs": 2, "batch_size": 16, "head_learning_rate": 2e-2, "learning_rate": 3e-3}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 24, "num_experts_per_tok": 2}
DECODERS = {
    "bloom": {"n_head": 2, "n_layer": 2},
    "mamba": {"num_hidden_layers": 2, "state_size": 4},
    "mamba2": {"num_hidden_layers": 2, "state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 1},
    "rwkv": {"num_hidden_layers": 2, "attention_hidden_size": 16},
}
EXPERTS = {
    "mixtral": {**HEADS, "num_hidden_layers": 2, "num_local_experts": 4},
    "qwen3_moe": {**HEADS, "num_hidden_layers": 2, "num_experts": 4, "moe_intermediate_size": 8, "head_dim": 8},
    "gpt_oss": {**HEADS, "num_hidden_layers": 2, "num_local_experts": 4, "head_dim": 8},
}


@pytest.fixture(scope="module")
def votes(tmp_path_factory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("votes") / "votes.jsonl", vote_rows("grk", 48, 4))


def write(folder: Path, kind: str) -> str:
    """A tiny random backbone of this type."""
    tokenizer = transformers_tokenizer()
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](hidden_size=16, **tokens, **{**DECODERS, **EXPERTS}[kind])
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.long
@pytest.mark.parametrize("kind", [next(iter(DECODERS)), *thorough(*[*DECODERS, *EXPERTS][1:])])
def test_a_decoder_of_any_family_is_trained_saved_and_loaded(kind, votes, tmp_path):
    p2l = run(votes, tmp_path / "m", base=write(tmp_path / "base", kind), **SHORT)
    spec = p2l.spec
    assert (spec.pooling, spec.chat, spec.cls_token, spec.add_special_tokens) == ("last", True, "[CLS]", False)
    expected = p2l.coefficients(PROMPTS).coefs
    np.testing.assert_allclose(np.concatenate([p2l.coefficients([p]).coefs for p in PROMPTS]), expected, atol=1e-5)
    remote = P2LModel.from_pretrained(tmp_path / "m")  # as by users of transformers alone
    with torch.inference_mode():
        coefs = remote(**remote.prepare(PROMPTS, saved_tokenizer(tmp_path / "m"))).coefs
    np.testing.assert_allclose(coefs, expected, atol=1e-5)
    p2l.merge(tmp_path / "merged")
    np.testing.assert_allclose(
        P2L.from_pretrained(tmp_path / "merged").coefficients(PROMPTS).coefs, expected, atol=1e-5
    )


@pytest.mark.thorough
@pytest.mark.parametrize("kind", EXPERTS)
def test_a_lora_reaches_every_expert(kind, votes, tmp_path):
    run(votes, tmp_path / "m", base=write(tmp_path / "base", kind), **SHORT)
    rank, n_experts = 16, 4
    targets = json.loads((tmp_path / "m" / "adapter_config.json").read_text())["target_parameters"]
    assert targets == ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]
    updates = {name: value for name, value in tensors(tmp_path / "m").items() if ".experts." in name}
    assert len(updates) == 2 * 2 * 2  # layers, matrices, A and B
    for name, value in updates.items():
        experts = value if "lora_A" in name else value.T
        assert len(experts) == rank * n_experts
        assert "lora_A" in name or np.abs(value).max() > 0
    P2L.from_pretrained(tmp_path / "m").merge(tmp_path / "merged")
    merged = P2L.from_pretrained(tmp_path / "merged")._scorer.model.backbone
    base = AutoModel.from_pretrained(tmp_path / "base")
    for (name, old), new in zip(base.named_parameters(), merged.parameters(), strict=True):
        if ".experts." in name and old.ndim == 3:
            moved = (new - old).abs().flatten(1).amax(1) > 0
            assert moved.sum() >= 2, name  # one that is never chosen does not move


def test_experts_have_no_dropout(votes, tmp_path):
    base = write(tmp_path / "base", "mixtral")
    with pytest.raises(
        P2LError, match=r"lora_dropout is 0.1, and .* is a mixture of experts, whose LoRA has no dropout"
    ):
        run(votes, tmp_path / "m", base=base, **SHORT, lora_dropout=0.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]
