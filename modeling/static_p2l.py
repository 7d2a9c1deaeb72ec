"""The static backbone: one vector and one weight per token, no attention.

A prompt's vector is the weighted mean of its tokens' vectors, h = sum_i w_i E_i / sum_i w_i. The SDK computes the
same on numpy alone. The table may be stored as int8 with one scale per token: E_i = scale_i * table_i.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling


class StaticConfig(PretrainedConfig):
    """Args: vocab_size; hidden_size; quantized (the table is int8 and frozen); pad_token_id."""

    model_type = "p2l_static"

    def __init__(
        self,
        vocab_size: int = 32,
        hidden_size: int = 8,
        quantized: bool = False,
        pad_token_id: int | None = 0,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.quantized = quantized
        self.pad_token_id = pad_token_id
        super().__init__(**kwargs)


class StaticModel(PreTrainedModel):
    """Token ids -> the vector of each token and, as `pooler_output`, their weighted mean."""

    config_class = StaticConfig
    main_input_name = "input_ids"

    def __init__(self, config: StaticConfig) -> None:
        super().__init__(config)
        shape = (config.vocab_size, config.hidden_size)
        dtype = torch.int8 if config.quantized else None
        self.table = nn.Parameter(torch.zeros(shape, dtype=dtype), requires_grad=not config.quantized)
        self.scale = nn.Parameter(torch.ones(config.vocab_size), requires_grad=False) if config.quantized else None
        self.log_weight = nn.Parameter(torch.zeros(config.vocab_size))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is self and not self.config.quantized:
            nn.init.normal_(self.table)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> BaseModelOutputWithPooling:
        """input_ids, attention_mask `(n_prompts, n_tokens)` -> states `(n_prompts, n_tokens, hidden_size)`,
        pooled `(n_prompts, hidden_size)`."""
        states = self.table[input_ids].to(self.log_weight.dtype)
        if self.scale is not None:
            states = states * self.scale[input_ids][..., None]
        weight = self.log_weight[input_ids].exp()
        if attention_mask is not None:
            weight = weight * attention_mask
        pooled = (weight[..., None] * states).sum(1) / weight.sum(1, keepdim=True)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled)
