"""`P2LModel`: a backbone reads the prompt, and a head outputs one Bradley-Terry coefficient per LLM.

Source: Prompt-to-Leaderboard (arXiv 2502.14855), section 2. `feedback_p2l` has the formulas of the outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from .adapter_p2l import is_adapter, load_base, merge_adapter, refuse_adapter_by_id
from .configuration_p2l import P2LConfig
from .familiarity_p2l import damping, distances, familiarity, shapes
from .feedback_p2l import log_probabilities, vote_log_likelihood
from .loading_p2l import refuse_random
from .prompt_p2l import Prompt, PromptEncoder, pad, padding_id
from .spec_p2l import Activation, ModelSpec, Pooling
from .static_p2l import StaticConfig, StaticModel

if TYPE_CHECKING:  # transformers copies the files that this one names and, in old versions, no others: see spec_p2l
    from .backbone_p2l import harmless  # noqa: F401
    from .errors_p2l import P2LError  # noqa: F401
    from .leaderboard_p2l import rows  # noqa: F401
    from .limits_p2l import read_json  # noqa: F401
    from .number_p2l import to_number  # noqa: F401
    from .pipeline_p2l import LeaderboardPipeline  # noqa: F401
    from .polynomial_p2l import Polynomial  # noqa: F401
    from .template_p2l import renderer  # noqa: F401

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    Activation.GELU: lambda: nn.GELU(approximate="tanh"),
    Activation.RELU: nn.ReLU,
    Activation.IDENTITY: nn.Identity,
}


@dataclass
class P2LOutput(ModelOutput):
    """The output of `P2LModel`.

    Attributes:
        loss: mean negative log-likelihood of the votes; None without labels.
        coefs: `(n_prompts, n_models)` coefficients in logits, in the order of `config.models`.
        eta: `(n_prompts, 1)` raw tie threshold; None if the feedback model has none.
        gamma: `(n_prompts, 1)` raw ground strength; None if the feedback model has none.
        hidden_state: `(n_prompts, hidden_size)` pooled state, the input of the head.
        familiarity: `(n_prompts,)` how much a prompt is like those in training, in [0, 1]; None if the model does not
            know.
    """

    loss: torch.Tensor | None = None
    coefs: torch.Tensor | None = None
    eta: torch.Tensor | None = None
    gamma: torch.Tensor | None = None
    hidden_state: torch.Tensor | None = None
    familiarity: torch.Tensor | None = None


def n_embeddings(backbone: Any) -> int | None:
    """Number of tokens that a backbone has an embedding for; None if it does not say."""
    try:
        return len(backbone.get_input_embeddings().weight)
    except (AttributeError, NotImplementedError):  # it has no table of the usual kind
        return getattr(backbone.config, "vocab_size", None)


class Familiarity(nn.Module):
    """What the training prompts looked like to the head; see `familiarity_p2l`."""

    centre: torch.Tensor
    directions: torch.Tensor
    precision: torch.Tensor
    quantiles: torch.Tensor
    average: torch.Tensor
    error: torch.Tensor

    def __init__(self, rank: int, width: int, n_features: int) -> None:
        super().__init__()
        for name, shape in shapes(rank, width, n_features).items():
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """Pooled states `(n_prompts, width)` -> familiarity `(n_prompts,)`, float32."""
        return familiarity(distances(state.float(), self.centre, self.directions, self.precision), self.quantiles)


class P2LHead(nn.Module):
    """From the pooled state to coefficients: optional LayerNorm, optional hidden layer, optional recognition of kinds
    of prompt (`ModelSpec.kinds`; a linear layer and a sigmoid), linear layer. If the head knows the training prompts
    (`ModelSpec.familiarity`) and recognises no kinds, the linear layer's input is centred, and damped for unfamiliar
    prompts.

    Of a head with kinds, `variance` `(n_models, n_kinds + 1)` holds how uncertain the numbers of `coefs` are (the bias
    last), in squared logits: a prompt's coefficients have the variance `variance @ (shares^2, 1)`.
    """

    variance: torch.Tensor

    def __init__(self, spec: ModelSpec, width: int) -> None:
        super().__init__()
        state_width = width
        self.norm = nn.LayerNorm(width) if spec.head_norm else nn.Identity()
        self.input_dropout = nn.Dropout(spec.head_input_dropout)
        self.hidden: nn.Module = nn.Identity()
        if spec.head_hidden_size is not None:
            self.hidden = nn.Linear(width, spec.head_hidden_size)
            width = spec.head_hidden_size
        self.activation = _ACTIVATIONS[spec.head_activation]() if spec.head_hidden_size else nn.Identity()
        self.dropout = nn.Dropout(spec.head_dropout)
        self.kinds: nn.Module = nn.Identity()
        self.recognises = bool(spec.kinds)
        if spec.kinds:
            self.kinds = nn.Sequential(nn.Linear(width, len(spec.kinds)), nn.Sigmoid())
            width = len(spec.kinds)
        self.familiarity = Familiarity(spec.familiarity, state_width, width) if spec.familiarity else None
        self.coefs = nn.Linear(width, len(spec.models))
        if spec.kinds:
            self.register_buffer("variance", torch.zeros(len(spec.models), width + 1))
        self.eta = nn.Linear(width, 1) if spec.feedback.has_eta else None
        self.gamma = nn.Linear(width, 1) if spec.feedback.has_gamma else None

    def features(self, state: torch.Tensor) -> torch.Tensor:
        """Pooled states `(n_prompts, hidden_size)` -> inputs of the last linear layers, `(n_prompts, width)`."""
        inputs = self.input_dropout(self.norm(state))
        features = self.kinds(self.dropout(self.activation(self.hidden(inputs))))
        if self.familiarity is None or self.recognises:  # of an unfamiliar prompt, no kind is recognised
            return features
        known = self.familiarity
        return (features - known.average) * damping(known(state))[:, None]

    def forward(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """States `(n, width)` to coefs `(n, n_models)`, eta and gamma `(n, 1)` or None."""
        state = self.features(state)
        eta = None if self.eta is None else self.eta(state).float()
        gamma = None if self.gamma is None else self.gamma(state).float()
        return self.coefs(state).float(), eta, gamma


class P2LModel(PreTrainedModel):
    """A Prompt-to-Leaderboard model on any text backbone that `AutoModel` knows, or on the static backbone."""

    config_class = P2LConfig
    base_model_prefix = "p2l"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _keep_in_fp32_modules_strict: ClassVar[list[str]] = ["head"]  # even if the backbone is in 16 bits
    accepts_loss_kwargs = False  # tells the Trainer that the loss is the mean over this batch, never rescaled
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: P2LConfig) -> None:
        super().__init__(config)
        # transformers may have loaded the configuration from another copy of this code, so do not rely on its classes
        self.spec = ModelSpec.from_config(config.to_dict())
        backbone: Any = config.backbone_config
        static = backbone.model_type == StaticConfig.model_type
        self.backbone = StaticModel(backbone) if static else AutoModel.from_config(backbone, trust_remote_code=False)
        self.head = P2LHead(self.spec, config.hidden_size)
        self.post_init()

    @classmethod
    def from_pretrained(cls, place: Any, *args: Any, config: Any = None, **options: Any) -> Any:
        """Load like any transformers model; also loads an adapter's folder, merging it into the base that it names
        (in float32 by default).

        Raises:
            ImportError: this is an adapter, and peft is not installed.
            ModelFormatError: the adapter is damaged, belongs to another base, or is named by its Hub id; or a tensor is
                missing, in whose place transformers puts random numbers (`output_loading_info` lists it instead).
        """
        if not is_adapter(place):
            wanted = options.get("output_loading_info")
            options["use_safetensors"] = True  # a pickle can run code
            options["output_loading_info"] = True
            model, report = super().from_pretrained(place, *args, config=config, **options)
            refuse_adapter_by_id(model, place)
            if not wanted:
                refuse_random(place, report)
            return (model, report) if wanted else model
        config = config or cls.config_class.from_pretrained(place)
        model = merge_adapter(cls.on_backbone(config, load_base(Path(place), options)), Path(place))
        return (model, {}) if options.get("output_loading_info") else model

    @classmethod
    def on_backbone(cls, config: P2LConfig, backbone: Any) -> Any:
        """A P2L model on a backbone that is already loaded, with a random head."""
        with torch.device("meta"):  # do not allocate a second, random backbone
            model = cls(config)
        model.backbone = backbone
        model.head = P2LHead(model.spec, config.hidden_size)
        return model

    def get_input_embeddings(self) -> nn.Module:
        """The token embeddings of the backbone."""
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embeddings of the backbone."""
        self.backbone.set_input_embeddings(value)

    @property
    def n_embeddings(self) -> int | None:
        """Number of tokens that the backbone has an embedding for; None if it does not say."""
        return n_embeddings(self.backbone)

    def prepare(self, prompts: Sequence[Prompt], tokenizer: Any) -> dict[str, torch.Tensor]:
        """Convert prompts to the `input_ids` and `attention_mask` of `forward`, on the model's device.

        Args:
            prompts: strings or conversations.
            tokenizer: the model's own tokenizer, from `AutoTokenizer.from_pretrained(folder)`.

        Raises:
            PromptError: a prompt cannot be scored; its `index` is the position in the batch.
        """
        ids = PromptEncoder.from_transformers(self.spec, tokenizer, self.n_embeddings)(prompts)
        input_ids, mask = pad(ids, padding_id(tokenizer, self.n_embeddings))
        return {
            "input_ids": torch.from_numpy(input_ids).to(self.device),
            "attention_mask": torch.from_numpy(mask).to(self.device),
        }

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> P2LOutput:
        """Score prompts and, given labels, compute the loss on votes.

        Other inputs that a tokenizer may add, such as `token_type_ids`, are ignored.

        Args:
            input_ids, attention_mask: `(n_prompts, n_tokens)` from `PromptEncoder` and `pad`.
            labels: `(n_votes, 4)` integers: the prompt's row in this batch, the index of model_a, the index of
                model_b, and the `Winner` code. Any number of votes may share a prompt.
            weights: `(n_votes,)` weights of the votes; 1 if not given.
            return_dict: treated as true; accepted for the Trainer.

        Returns:
            P2LOutput: its coefficients are float32, whatever the dtype of the backbone.
        """
        state = self.pooled(input_ids, attention_mask)
        with torch.autocast(state.device.type, enabled=False):  # bfloat16's 8 bits are too few for coefficients
            inputs = state.to(next(self.head.parameters()).dtype)
            coefs, eta, gamma = self.head(inputs)
            familiar = None if self.head.familiarity is None else self.head.familiarity(inputs)
        loss = None if labels is None else self.vote_loss(coefs, eta, gamma, labels, weights)
        return P2LOutput(loss=loss, coefs=coefs, eta=eta, gamma=gamma, hidden_state=state, familiarity=familiar)

    def pooled(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """The input of the head, `(n_prompts, hidden_size)`; arguments as in `forward`."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        return self._pool(self.backbone(input_ids=input_ids, attention_mask=attention_mask), attention_mask)

    def vote_loss(
        self,
        coefs: torch.Tensor,
        eta: torch.Tensor | None,
        gamma: torch.Tensor | None,
        labels: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean negative log-likelihood of votes under the head's output; shapes as in `forward`."""
        row, a, b, winner = labels.unbind(1)
        log_probs = log_probabilities(
            self.spec.feedback,
            coefs[row, a],
            coefs[row, b],
            None if eta is None else eta[row, 0],
            None if gamma is None else gamma[row, 0],
        )
        log_likelihood, counts = vote_log_likelihood(self.spec.feedback, log_probs, winner)
        weights = counts if weights is None else weights * counts
        # votes that this feedback model ignores do not dilute the mean; a batch of only such votes has loss 0
        return -(weights * log_likelihood).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)

    def _pool(self, output: Any, mask: torch.Tensor) -> torch.Tensor:
        if self.spec.pooling is Pooling.POOLER:
            return output.pooler_output
        states = output.last_hidden_state
        if self.spec.pooling is Pooling.MEAN:
            weights = mask[..., None].to(states.dtype)
            return (states * weights).sum(1) / weights.sum(1)
        position = torch.zeros_like(mask[:, 0])
        if self.spec.pooling is Pooling.LAST:
            position = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(1)
        rows = torch.arange(states.shape[0], device=states.device)  # len(states) would be a constant of a traced graph
        return states[rows, position]


P2LModel.register_for_auto_class("AutoModel")
