"""The static backbone: one vector and one weight per token, no attention.

A prompt's vector is the weighted mean of its tokens' vectors, h = sum_i w_i E_i / sum_i w_i, rescaled to
h / |h|^norm_power; with the length feature, it has one more entry, the standardised logarithm of the number of tokens.
With word features it has some more, sums over the tokens that occur, however often, by how rare they are:
sum_t idf_t W_t / sqrt(sum_t idf_t^2), as a linear classifier of TF-IDF vectors computes its logits. The SDK computes
the same in numpy alone. Both tables can be stored as int8 with one scale per token: E_i = scale_i * table_i.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .spec_p2l import STATIC_BACKBONE


class StaticConfig(PretrainedConfig):
    """Configuration of the static backbone.

    Args:
        vocab_size, embedding_size: shape of the table.
        norm_power: 0 leaves the mean unchanged, 1 normalises it to unit length, values between do so partly.
        length_feature: whether the prompt's vector has the logarithm of the token count as an additional entry.
        word_features: number of word features; 0 for none.
        quantized: whether the tables are int8 (and frozen).
        pad_token_id: the token used for padding.
    """

    model_type = STATIC_BACKBONE

    def __init__(
        self,
        vocab_size: int = 32,
        embedding_size: int = 8,
        norm_power: float = 0.0,
        length_feature: bool = False,
        word_features: int = 0,
        quantized: bool = False,
        pad_token_id: int | None = 0,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.norm_power = norm_power
        self.length_feature = length_feature
        self.word_features = word_features
        self.quantized = quantized
        self.pad_token_id = pad_token_id
        super().__init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Width of the prompt's vector."""
        return self.embedding_size + int(self.length_feature) + self.word_features


class WordFeatures(nn.Module):
    """From token ids to sums over the tokens that occur; see the module."""

    def __init__(self, config: StaticConfig) -> None:
        super().__init__()
        shape = (config.vocab_size, config.word_features)
        dtype = torch.int8 if config.quantized else None
        self.table = nn.Parameter(torch.zeros(shape, dtype=dtype), requires_grad=not config.quantized)
        self.scale = nn.Parameter(torch.ones(config.vocab_size), requires_grad=False) if config.quantized else None
        self.idf = nn.Parameter(torch.ones(config.vocab_size), requires_grad=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """input_ids, attention_mask `(n_prompts, n_tokens)` -> `(n_prompts, word_features)`."""
        ids = input_ids.masked_fill(attention_mask == 0, -1).sort(1).values
        new = (ids >= 0) & (ids != functional.pad(ids[:, :-1], (1, 0), value=-1))
        ids = ids.clamp_min(0)
        idf = self.idf[ids] * new
        states = self.table[ids].to(idf.dtype)
        factor = idf if self.scale is None else idf * self.scale[ids]
        return torch.bmm(factor[:, None], states)[:, 0] / idf.norm(dim=1, keepdim=True).clamp_min(1e-12)


class StaticModel(PreTrainedModel):
    """From token ids to the vector of each token and, as `pooler_output`, the vector of the prompt."""

    config_class = StaticConfig
    main_input_name = "input_ids"

    def __init__(self, config: StaticConfig) -> None:
        super().__init__(config)
        shape = (config.vocab_size, config.embedding_size)
        dtype = torch.int8 if config.quantized else None
        self.table = nn.Parameter(torch.zeros(shape, dtype=dtype), requires_grad=not config.quantized)
        self.scale = nn.Parameter(torch.ones(config.vocab_size), requires_grad=False) if config.quantized else None
        self.log_weight = nn.Parameter(torch.zeros(config.vocab_size))
        # for log(number of tokens): centre, factor, and the minimum and maximum seen in training
        length = torch.tensor([0.0, 1.0, 0.0, 20.0])
        self.length = nn.Parameter(length, requires_grad=False) if config.length_feature else None
        self.words = WordFeatures(config) if config.word_features else None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is self and not self.config.quantized:
            nn.init.normal_(self.table)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> BaseModelOutputWithPooling:
        """input_ids, attention_mask `(n_prompts, n_tokens)` -> states `(n_prompts, n_tokens, embedding_size)`,
        pooled `(n_prompts, hidden_size)`."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        states = self.table[input_ids].to(self.log_weight.dtype)
        if self.scale is not None:
            states = states * self.scale[input_ids][..., None]
        weight = self.log_weight[input_ids].exp() * attention_mask
        pooled = torch.bmm(weight[:, None], states)[:, 0] / weight.sum(1, keepdim=True)
        if self.config.norm_power:
            pooled = pooled / pooled.norm(dim=1, keepdim=True).clamp_min(1e-12) ** self.config.norm_power
        if self.length is not None:
            centre, factor, low, high = self.length
            log_length = attention_mask.sum(1, keepdim=True).to(pooled.dtype).log().clamp(low, high)
            pooled = torch.cat([pooled, (log_length - centre) * factor], 1)
        if self.words is not None:
            pooled = torch.cat([pooled, self.words(input_ids, attention_mask)], 1)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled)
