"""Every kind of base and every training method, in 16 and in 32 bits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import transformers_tokenizer
from fine_tuning import LLMS, prompts, run, tensors, vote_rows, write_jsonl
from thorough import thorough

from p2l_sdk import P2L
from p2l_sdk.errors import HubError, ModelFormatError, P2LError
from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.scorers.backbone import BaseModel, saved_tokenizer
from p2l_sdk.training import finetune
from p2l_sdk.training import run as training_run

HEAD = {"epochs": 3, "batch_size": 16, "head_learning_rate": 2e-2}
SHORT = {**HEAD, "learning_rate": 3e-3}
PROMPTS = [prompt for _, prompt in prompts(9, seed=8)]


@pytest.fixture(scope="module")
def votes(tmp_path_factory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("votes") / "votes.jsonl", vote_rows("grk", 48, 20))


def learned(folder: Path) -> None:
    """Check that the validation loss fell below that of the averaged leaderboard."""
    history = json.loads((folder / "training_history.json").read_text())
    baseline = float((folder / "README.md").read_text().partition("averaged leaderboard ")[2].split()[0].rstrip("."))
    assert min(entry["eval_loss"] for entry in history if "eval_loss" in entry) < baseline


@pytest.mark.long
@pytest.mark.parametrize("method", ["lora", *thorough("full", "head")])
@pytest.mark.parametrize("precision", ["fp32", *thorough("bf16")])
@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_a_base_is_trained_saved_and_loaded(kind, method, precision, votes, base, tmp_path):
    before = {name: value.copy() for name, value in tensors(base(kind)).items()}
    settings = {**HEAD, "head_hidden_size": 16} if method == "head" else SHORT
    p2l = run(votes, tmp_path / "m", base=str(base(kind)), method=method, precision=precision, **settings)
    assert p2l.models == LLMS
    spec = p2l.spec
    if kind == "llama":
        assert (spec.pooling, spec.chat, spec.cls_token, spec.add_special_tokens) == ("last", True, "[CLS]", False)
    else:
        assert (spec.pooling, spec.chat, spec.cls_token, spec.add_special_tokens) == ("mean", False, None, True)
    learned(tmp_path / "m")
    model = P2L.from_pretrained(tmp_path / "m")._scorer.model
    assert {p.dtype for p in model.head.parameters()} == {torch.float32}
    own = {"llama": "layers.1.mlp.down_proj.weight", "bert": "encoder.layer.1.output.dense.weight"}[kind]
    moved = (model.backbone.get_parameter(own).float() - torch.from_numpy(before[own])).abs().max()
    if method == "head":
        rounding = 0.0 if precision == "fp32" else 2e-3
        assert moved <= rounding
    else:
        assert moved > 1e-4
    boards = p2l.coefficients(PROMPTS)
    assert np.isfinite(boards.coefs).all()
    assert np.ptp(boards.coefs, axis=0).max() > 0.01  # coefficients depend on the prompt


@pytest.mark.long
def test_the_last_states_are_computed_once(votes, base, tmp_path, monkeypatch):
    """Heads on features: the forward passes of the backbone are kept in a file, which a resumed run reads."""
    calls = []
    real = finetune.pooled_features
    monkeypatch.setattr(finetune, "pooled_features", lambda *a, **k: calls.append(a[3].is_file()) or real(*a, **k))
    monkeypatch.setattr(finetune.P2LTrainer, "train", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    settings = {"base": str(base("llama")), "method": "head", **HEAD, "epochs": 4}
    with pytest.raises(KeyboardInterrupt):
        run(votes, tmp_path / "killed", **settings)
    monkeypatch.undo()
    monkeypatch.setattr(finetune, "pooled_features", lambda *a, **k: calls.append(a[3].is_file()) or real(*a, **k))
    resumed = run(votes, tmp_path / "killed", resume=True, **settings)
    assert calls == [False, False, True, True]  # training and validation prompts: first computed, then read
    whole = run(votes, tmp_path / "whole", **settings)
    np.testing.assert_array_equal(resumed.coefficients(PROMPTS).coefs, whole.coefficients(PROMPTS).coefs)


@pytest.mark.thorough
def test_gradient_checkpointing_changes_nothing(votes, base, tmp_path):
    settings = {"base": str(base("llama")), **SHORT, "epochs": 1, "method": "full"}
    plain = run(votes, tmp_path / "plain", **settings)
    frugal = run(votes, tmp_path / "frugal", **settings, gradient_checkpointing=True)
    np.testing.assert_allclose(plain.coefficients(PROMPTS).coefs, frugal.coefficients(PROMPTS).coefs, atol=1e-5)


@pytest.mark.long
def test_a_static_base_is_that_of_the_default(votes, tmp_path):
    p2l = run(votes, tmp_path / "model", base="static", precision="auto", epochs=100)
    assert p2l.models == LLMS
    assert type(p2l._scorer).__name__ == "StaticScorer"
    table, given = (tensors(folder)["backbone.table"] for folder in (tmp_path / "model", STATIC_MODEL))
    assert table.shape == given.shape
    assert p2l.leaderboard("python code sum list").best == "coder"
    assert p2l.leaderboard("write a poem about").best == "poet"
    run(votes, tmp_path / "again", base=str(tmp_path / "model"), precision="auto", epochs=1)
    np.testing.assert_array_equal(tensors(tmp_path / "again")["backbone.table"], table)


def write_gguf(path: Path) -> Path:
    """Write a random two-layer llama with a byte-level tokenizer to a GGUF file, as llama.cpp would."""
    gguf = pytest.importorskip("gguf", reason="the gguf package is not here: no GGUF base is tested")
    from tokenizers.pre_tokenizers import ByteLevel

    rng = np.random.default_rng(0)
    tokens = ["<s>", "</s>", *sorted(ByteLevel.alphabet()), "th", "the"]
    width, inner, heads, kv_heads = 32, 48, 4, 2
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    writer.add_feed_forward_length(inner)
    writer.add_rope_dimension_count(width // heads)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    kv = width // heads * kv_heads
    shapes = {"attn_q": (width, width), "attn_k": (kv, width), "attn_v": (kv, width), "attn_output": (width, width)}
    shapes |= {"ffn_gate": (inner, width), "ffn_up": (inner, width), "ffn_down": (width, inner)}
    shapes |= {"attn_norm": (width,), "ffn_norm": (width,)}
    layers = {f"blk.{i}.{name}": shape for i in range(2) for name, shape in shapes.items()}
    for name, shape in {"token_embd": (len(tokens), width), "output_norm": (width,), **layers}.items():
        value = np.ones(shape) if "norm" in name else rng.normal(size=shape) * 0.1
        writer.add_tensor(f"{name}.weight", value.astype(np.float16 if len(shape) == 2 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.long
def test_a_gguf_base(votes, tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf")
    p2l = run(votes, tmp_path / "adapter", base=str(file), **SHORT)
    learned(tmp_path / "adapter")
    assert (p2l.spec.pooling, p2l.spec.chat, p2l.spec.max_prompt_tokens) == ("last", False, 128)
    again = P2L.from_pretrained(tmp_path / "adapter")
    np.testing.assert_array_equal(again.coefficients(PROMPTS).coefs, p2l.coefficients(PROMPTS).coefs)
    remote = P2LModel.from_pretrained(tmp_path / "adapter")  # as by users of transformers alone
    with torch.inference_mode():
        coefs = remote(**remote.prepare(PROMPTS, saved_tokenizer(tmp_path / "adapter"))).coefs
    np.testing.assert_allclose(coefs, p2l.coefficients(PROMPTS).coefs, atol=1e-6)
    p2l.merge(tmp_path / "merged")
    merged = P2L.from_pretrained(tmp_path / "merged")  # without the GGUF file
    np.testing.assert_allclose(merged.coefficients(PROMPTS).coefs, p2l.coefficients(PROMPTS).coefs, atol=1e-5)
    assert BaseModel(str(file)).load(torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such-base", "'no/such-base' is not in the cache"),
        ("no/such-base/file.gguf", "the base 'no/such-base/file.gguf' could not be loaded"),
        ("./nofolder", r"there is no folder '\./nofolder', and it is no Hub id \(org/name\); a base is one of the two"),
        ("nofolder", r"there is no folder 'nofolder', and it is no Hub id \(org/name\)"),
        ("nothing.gguf", "the base 'nothing.gguf' could not be loaded"),
    ],
)
def test_a_base_that_cannot_be_had(name, message):
    with pytest.raises((ModelFormatError, HubError), match=message):
        BaseModel(name).load()


def test_an_encoder_decoder_is_no_base(tmp_path):
    from transformers import AutoModel, T5Config

    small = T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    AutoModel.from_config(small).save_pretrained(tmp_path)
    with pytest.raises(ModelFormatError, match="is an encoder-decoder; a backbone is a decoder or an encoder"):
        BaseModel(str(tmp_path)).load()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_prompt_tokens": 9999}, "max_prompt_tokens is 9999, and .* reads 2048 at most"),
        (
            {"cls_token": "<|nothing|>"},
            r"cls_token '<\|nothing\|>' is not in the base's vocabulary; its special tokens",
        ),
    ],
)
def test_settings_that_do_not_suit_the_base(settings, message, votes, base, tmp_path):
    with pytest.raises(P2LError, match=message):
        run(votes, tmp_path / "m", base=str(base("llama")), **settings)


@pytest.mark.long
def test_a_base_that_numbers_positions_from_behind_its_padding(votes, tmp_path):
    """RoBERTa and its kin: of 40 rows of the table of positions, the first one belongs to no token."""
    from transformers import AutoModel, RobertaConfig

    tokenizer = transformers_tokenizer()
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=40, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    settings = {"base": str(tmp_path / "base"), "method": "head", **HEAD}
    p2l = run(votes, tmp_path / "m", **settings)
    assert p2l.spec.max_prompt_tokens == 39
    assert np.isfinite(p2l.coefficients(["python " * 60]).coefs).all()
    with pytest.raises(P2LError, match=r"max_prompt_tokens is 40, and .* reads 39 at most"):
        run(votes, tmp_path / "n", max_prompt_tokens=40, **settings)


# --- devices and trackers -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_features_and_measurements_are_made_where_the_training_ran(votes, base, tmp_path, monkeypatch):
    made, real_to, real_load, real = [], P2LModel.to, training_run.load_scorer, finetune.pooled_features
    monkeypatch.setattr(P2LModel, "to", lambda self, place: made.append(f"to {place}") or real_to(self, place))
    monkeypatch.setattr(training_run, "load_scorer", lambda f, d, *b: made.append(f"load {d}") or real_load(f, d, *b))
    monkeypatch.setattr(finetune, "pooled_features", lambda *a, **k: made.append("features") or real(*a, **k))
    run(votes, tmp_path / "m", base=str(base("llama")), method="head", **HEAD)
    assert made[made.index("features") - 1] == "to cpu"
    assert "load cpu" in made


@pytest.mark.parametrize(
    ("tracker", "message"),
    [
        ("tensorbord", "report_to is 'tensorbord', which is no tracker of the Trainer; known: .*tensorboard, trackio"),
        ("tensorboard", "report_to 'tensorboard' needs a package that is not installed: pip install tensorboard"),
    ],
)
def test_trackers_are_checked_before_the_base_is_loaded(tracker, message, votes, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_tensorboard_available", lambda: False)
    with pytest.raises(P2LError, match=message):
        run(votes, tmp_path / "m", base="no/such-base", report_to=tracker)
