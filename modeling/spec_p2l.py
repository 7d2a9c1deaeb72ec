"""`ModelSpec`: everything that defines a P2L model except its weights. Needs neither torch nor transformers.

Its fields are the P2L keys of a saved `config.json`, so loading a model needs nothing but its folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from .errors_p2l import CostError, ModelFormatError
from .feedback_p2l import Feedback
from .limits_p2l import checked_names, odd_character, read_json, shown
from .number_p2l import to_number

FORMAT_VERSION = 1
MODEL_TYPE, STATIC_BACKBONE = "p2l", "p2l_static"  # in config.json: of the model, of the static backbone
ADAPTER_CONFIG = "adapter_config.json"  # as PEFT writes it

# Keys of config.json in which transformers finds the classes. Each of the files named here imports every other file
# of this folder, if only for type checking: transformers saves with a model the files that its own one imports, and
# versions before 5.10 then copy to their cache only those that the file itself imports, not those that these need.
AUTO_MAP = {"AutoConfig": "configuration_p2l.P2LConfig", "AutoModel": "modeling_p2l.P2LModel"}
# and the pipelines
CUSTOM_PIPELINES = {
    "prompt-to-leaderboard": {"impl": "pipeline_p2l.LeaderboardPipeline", "pt": ["AutoModel"], "type": "text"},
    "text-classification": {"impl": "pipeline_p2l.TopModelsPipeline", "pt": ["AutoModel"], "type": "text"},
}

_MOST_TOKENS, _WIDEST = 100_000_000, 1 << 20
_MOST_LISTED = 300  # names of LLMs in a message


class Pooling(StrEnum):
    """How the hidden states of a prompt's tokens are reduced to one vector."""

    LAST = "last"  # decoders: the last token that is not padding, which is the CLS token if there is one
    FIRST = "first"  # encoders with a trained [CLS]
    MEAN = "mean"  # sentence encoders
    POOLER = "pooler"  # the backbone's own pooler; for the static backbone, the mean by learned token weights


class Activation(StrEnum):
    """The activation after the hidden layer of the head."""

    GELU = "gelu"  # the tanh approximation, which is the same in numpy and torch
    RELU = "relu"
    IDENTITY = "identity"


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The definition of a P2L model, validated on creation.

    Attributes:
        models: unique names of the LLMs, in the order of the coefficients.
        feedback: the feedback model.
        costs: USD per response of the LLMs whose cost is known.
        pooling: how token states are reduced to one vector.
        max_prompt_tokens: number of tokens kept, counted from the end of the prompt, including the CLS token.
        chat: whether the tokenizer's chat template is applied to the user turns.
        cls_token: the token appended to the prompt; None for none.
        add_special_tokens: whether the tokenizer adds its own special tokens (encoders).
        head_norm: whether a LayerNorm precedes the head.
        head_hidden_size: width of the head's hidden layer; None for a linear head.
        head_activation: activation after the hidden layer.
        kinds: names of the kinds of prompt that the head recognises: of each it computes a share in [0, 1], and from
            these shares alone the coefficients; () for a head that goes to the coefficients directly.
        familiarity: number of directions in which the head knows the spread of its training prompts, and so how
            familiar a prompt is (see `familiarity_p2l`); 0 if it does not know.
        head_input_dropout: dropout of the head's input, in training.
        head_dropout: dropout before the last linear layer, in training.
        format_version: format of the saved folder.

    Raises:
        ModelFormatError: a field has an illegal value; the message names the legal ones.
        CostError: a cost is illegal, or is given for an unknown LLM.
    """

    models: tuple[str, ...]
    feedback: Feedback
    costs: Mapping[str, float] = field(default_factory=dict)
    pooling: Pooling = Pooling.LAST
    max_prompt_tokens: int = 8192
    chat: bool = True
    cls_token: str | None = None
    add_special_tokens: bool = False
    head_norm: bool = False
    head_hidden_size: int | None = None
    head_activation: Activation = Activation.GELU
    kinds: tuple[str, ...] = ()
    familiarity: int = 0
    head_input_dropout: float = 0.0
    head_dropout: float = 0.0
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        assign = object.__setattr__
        assign(self, "models", checked_names("models", "LLM", self.models))
        if not self.models:
            raise ModelFormatError("the list of LLMs is empty")
        assign(self, "feedback", Feedback.parse(self.feedback))
        assign(self, "costs", validate_costs(self.costs, self.models))
        assign(self, "pooling", _member(Pooling, "pooling", self.pooling))
        assign(self, "head_activation", _member(Activation, "head_activation", self.head_activation))
        _check_count("max_prompt_tokens", self.max_prompt_tokens, 2, _MOST_TOKENS)
        if self.head_hidden_size is not None:
            _check_count("head_hidden_size", self.head_hidden_size, 1, _WIDEST)
        assign(self, "kinds", checked_names("kinds", "kind", self.kinds))
        _check_count("familiarity", self.familiarity, 0, _WIDEST)
        for name in ("head_input_dropout", "head_dropout"):
            value = getattr(self, name)
            _check(name, value, isinstance(value, int | float) and 0.0 <= value < 1.0, "a number in [0, 1)")
        for name in ("chat", "add_special_tokens", "head_norm"):
            _check(name, getattr(self, name), isinstance(getattr(self, name), bool), "true or false")
        token = self.cls_token
        _check("cls_token", token, token is None or (isinstance(token, str) and token != ""), "null or a token")
        if self.format_version != FORMAT_VERSION:
            raise ModelFormatError(
                f"this model has format version {shown(self.format_version)}, this p2l-sdk reads {FORMAT_VERSION}; "
                "install a newer one: pip install -U p2l-sdk"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelSpec:
        """The spec in a parsed `config.json`; keys of the backbone and of transformers are ignored.

        Raises:
            ModelFormatError: this is not the config of a P2L model, or a key is missing or has an illegal value.
        """
        if config.get("model_type") != MODEL_TYPE:
            kind = config.get("model_type")
            raise ModelFormatError(f"config.json has model_type {kind!r}, a P2L model has {MODEL_TYPE!r}")
        missing = [key for key in ("models", "feedback") if key not in config]
        if missing:
            raise ModelFormatError(f"config.json lacks {', '.join(missing)}")
        try:
            return cls(**{key: config[key] for key in SPEC_KEYS if key in config})
        except CostError as error:
            raise ModelFormatError(f"config.json is damaged: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values, for `config.json`."""
        values = {key: getattr(self, key) for key in SPEC_KEYS}
        return {
            key: list(v) if isinstance(v, tuple) else dict(v) if isinstance(v, Mapping) else
            str(v) if isinstance(v, StrEnum) else v
            for key, v in values.items()
        }  # fmt: skip

    def replace(self, **changes: Any) -> ModelSpec:
        """A copy with some fields changed; it is validated again."""
        return dataclasses.replace(self, **changes)


SPEC_KEYS = tuple(f.name for f in dataclasses.fields(ModelSpec))


def base_of(folder: Path) -> tuple[str, str | None]:
    """Name and revision of the base of the adapter in a folder; ModelFormatError if its config does not name a base."""
    path = folder / ADAPTER_CONFIG
    adapter = read_json(path, dict)
    name, revision = adapter.get("base_model_name_or_path"), adapter.get("revision")
    if not isinstance(name, str) or not name or odd_character(name):
        raise ModelFormatError(f"{str(path)!r} is damaged: base_model_name_or_path is {name!r}; it must name a base")
    if revision is not None and not isinstance(revision, str):
        raise ModelFormatError(f"{str(path)!r} is damaged: revision is {shown(revision)}; it must be text")
    return name, revision


def validate_costs(costs: Mapping[str, float] | None, models: tuple[str, ...]) -> dict[str, float]:
    """Check costs (USD per response) and return them as a plain dictionary of floats.

    Raises:
        CostError: a cost is not a finite number >= 0, or its LLM is not in `models`.
    """
    checked = {}
    if not isinstance(costs, Mapping | None):
        raise CostError(f"costs must map names of LLMs to USD per response, and are {shown(costs)}")
    known = frozenset(models)
    for name, cost in (costs or {}).items():
        if name not in known:
            raise CostError(f"a cost is given for {shown(name)}, which is not among the LLMs: {_listed(models)}")
        value = to_number(cost)
        if not value >= 0:
            raise CostError(f"the cost of {name!r} is {shown(cost)}; a cost is a finite number >= 0, USD per response")
        checked[name] = value
    return checked


def _listed(models: tuple[str, ...]) -> str:
    more = f" and {len(models) - _MOST_LISTED} more" if len(models) > _MOST_LISTED else ""
    return ", ".join(models[:_MOST_LISTED]) + more


def _member(enum: type[StrEnum], name: str, value: Any) -> StrEnum:
    try:
        return enum(value)
    except ValueError:
        raise ModelFormatError(f"{name} is {shown(value)}; legal values: {', '.join(enum)}") from None


def _check_count(name: str, value: Any, least: int, most: int) -> None:
    legal = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    _check(name, value, legal, f"an integer from {least} to {most:,}")


def _check(name: str, value: Any, legal: bool, rule: str) -> None:
    if not legal:
        raise ModelFormatError(f"{name} is {shown(value)}; it must be {rule}")
