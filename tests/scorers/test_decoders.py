"""Which backbones are decoders, over all types that transformers lists, and how long a prompt they read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModel
from transformers.models.auto import modeling_auto as lists

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.scorers.backbone import BaseModel, default_length, is_causal, is_decoder, longest_prompt

CAUSAL, MASKED = lists.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, lists.MODEL_FOR_MASKED_LM_MAPPING_NAMES
# of these types alone, the plain model looks both ways although only a causal language model is listed
BOTH_WAYS = {"bert-generation", "xlnet"}
SMALL = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "pad_token_id": 0}
HEADS = {"num_attention_heads": 2, "intermediate_size": 24}


def config_of(kind: str, **fields):
    try:
        return CONFIG_MAPPING[kind](**fields)
    except Exception as error:  # a few have no defaults
        pytest.skip(f"{kind} has no default configuration: {type(error).__name__}")


@pytest.mark.parametrize("kind", sorted({*CAUSAL, *MASKED}))
def test_every_type_of_the_lists_is_told_by_its_configuration(kind):
    config = config_of(kind)
    expected = kind not in MASKED and kind not in BOTH_WAYS and not config.is_encoder_decoder
    assert is_causal(config) is expected


@pytest.mark.parametrize("kind", sorted(set(MASKED) & set(CAUSAL)))
def test_an_encoder_that_is_made_a_decoder_is_one(kind):
    if config_of(kind).is_encoder_decoder:
        assert is_causal(config_of(kind, is_decoder=True)) is False
    else:
        assert is_causal(config_of(kind, **{"causal" if kind == "xlm" else "is_decoder": True})) is True


def test_a_decoder_may_be_told_to_look_both_ways():
    assert is_causal(config_of("gemma3_text", use_bidirectional_attention=True)) is False
    assert is_causal(config_of("gemma3_text", use_bidirectional_attention="vision")) is True
    assert is_causal(config_of("qwen2", is_causal=False)) is False
    assert is_causal(config_of("xlnet", attn_type="uni")) is True
    assert is_causal(config_of("t5")) is False
    assert is_causal(config_of("clip_text_model")) is None


TINY = {  # families of which the attention layers do not say that they are causal, and some that do
    "bloom": {"n_head": 2, "n_layer": 2},
    "mamba": {"state_size": 4},
    "rwkv": {"attention_hidden_size": 16},
    "mpt": {"d_model": 16, "n_heads": 2, "n_layers": 2},
    "gpt2": {"n_embd": 16, "n_head": 2, "n_layer": 2},
    "opt": {**HEADS, "ffn_dim": 24, "word_embed_proj_dim": 16},
    "gpt_neox": HEADS,
    "llama": HEADS,
    "bert": HEADS,
    "roberta": HEADS,
    "xlm": {"emb_dim": 16, "n_heads": 2, "n_layers": 2},
    "modernbert": {**HEADS, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
}


@pytest.mark.parametrize("kind", TINY)
def test_a_decoder_is_one_whose_first_state_does_not_see_the_last_token(kind):
    torch.manual_seed(0)
    backbone = AutoModel.from_config(config_of(kind, **SMALL, **TINY[kind])).eval()
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]])
    with torch.inference_mode():
        states = backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    assert not torch.allclose(states[0, -1], states[1, -1], atol=1e-6)
    assert is_decoder(backbone) is bool(torch.allclose(states[0, 0], states[1, 0], atol=1e-6))


@pytest.mark.parametrize("more", [{}, {"is_encoder_decoder": False}])
def test_an_encoder_decoder_is_refused(more, tmp_path):
    config = config_of("t5", vocab_size=32, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    config.update(more)
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelFormatError, match="is an encoder-decoder; a backbone is a decoder or an encoder"):
        BaseModel(str(tmp_path)).load()


@pytest.mark.parametrize("rows", [-1, 0, 1, None, "none", 1e30])
def test_what_is_no_number_of_positions_is_no_limit(rows):
    backbone = AutoModel.from_config(config_of("llama", **SMALL, **HEADS))
    backbone.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=rows))
    assert longest_prompt(backbone) is None
    for length, expected in ((512, 512), (int(1e30), 1024), (-1, 1024), (0, 1024), (None, 1024)):
        assert default_length(backbone, SimpleNamespace(model_max_length=length), 1024) == expected


@pytest.mark.parametrize(
    ("kind", "longest"), [("bert", 64), ("roberta", 63), ("gpt2", 64), ("mamba", None), ("bloom", None)]
)
def test_the_limit_of_a_backbone(kind, longest):
    fields = {} if kind in ("mamba", "bloom") else {"n_positions" if kind == "gpt2" else "max_position_embeddings": 64}
    backbone = AutoModel.from_config(config_of(kind, **SMALL, **TINY[kind], **fields))
    assert longest_prompt(backbone) == longest
