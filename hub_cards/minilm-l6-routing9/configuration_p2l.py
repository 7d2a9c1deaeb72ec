"""`P2LConfig`: the `config.json` of a P2L model, for transformers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

from transformers import AutoConfig, PretrainedConfig

from .backbone_p2l import config_class, harmless
from .spec_p2l import AUTO_MAP, CUSTOM_PIPELINES, MODEL_TYPE, SPEC_KEYS, ModelSpec
from .static_p2l import StaticConfig

if TYPE_CHECKING:  # transformers copies the files that this one names and, in old versions, no others: see spec_p2l
    from .adapter_p2l import is_adapter  # noqa: F401
    from .errors_p2l import P2LError  # noqa: F401
    from .familiarity_p2l import familiarity  # noqa: F401
    from .feedback_p2l import Feedback  # noqa: F401
    from .leaderboard_p2l import rows  # noqa: F401
    from .limits_p2l import read_json  # noqa: F401
    from .loading_p2l import load_backbone  # noqa: F401
    from .modeling_p2l import P2LModel  # noqa: F401
    from .number_p2l import to_number  # noqa: F401
    from .pipeline_p2l import LeaderboardPipeline  # noqa: F401
    from .polynomial_p2l import Polynomial  # noqa: F401
    from .prompt_p2l import PromptEncoder  # noqa: F401
    from .template_p2l import renderer  # noqa: F401


class P2LConfig(PretrainedConfig):
    """The configuration of a text backbone, plus the fields of `ModelSpec` at the top level.

    Args:
        backbone_config: the configuration (or its dictionary) of any text backbone that `AutoModel` knows, or of
            the static backbone (`StaticConfig`).
        kwargs: the fields of `ModelSpec` (validated at once), and those of every transformers configuration.

    Raises:
        ModelFormatError: a field of the spec is missing or has an illegal value.
    """

    model_type = MODEL_TYPE
    sub_configs: ClassVar = {"backbone_config": AutoConfig}
    has_no_defaults_at_init = True

    def __init__(self, backbone_config: PretrainedConfig | dict[str, Any] | None = None, **kwargs: Any) -> None:
        if isinstance(backbone_config, dict):
            kind = backbone_config.get("model_type")
            known = StaticConfig if kind == StaticConfig.model_type else config_class(kind)
            backbone_config = known(**harmless(backbone_config, known))
        self.backbone_config: Any = backbone_config
        kwargs.pop("custom_pipelines", None)
        if isinstance(kwargs.get("auto_map"), dict):  # of the classes that a folder may name, there are these two
            kwargs["auto_map"] = {key: name for key, name in kwargs["auto_map"].items() if key in AUTO_MAP}
        given = {key: kwargs.pop(key) for key in SPEC_KEYS if key in kwargs}
        if given:  # transformers also creates empty configurations, for comparison
            given = ModelSpec.from_config({"model_type": self.model_type, **given}).to_dict()
        for key, value in given.items():
            setattr(self, key, value)
        super().__init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A configuration from the fields of a file, of which only harmless ones are used (see `backbone_p2l`), and
        from those that the caller gives, which are used as they are."""
        return super().from_dict(_of_file(cls, config_dict), **kwargs)

    @property
    def custom_pipelines(self) -> dict[str, Any]:
        """The pipelines saved with the weights, as a fresh copy: transformers writes classes into the dictionary."""
        return copy.deepcopy(CUSTOM_PIPELINES)

    def to_dict(self) -> dict[str, Any]:
        """The keys of `config.json`."""
        # name both classes even if the configuration is saved without the model, as next to an adapter
        return {**super().to_dict(), "auto_map": dict(AUTO_MAP), "custom_pipelines": copy.deepcopy(CUSTOM_PIPELINES)}

    @property
    def hidden_size(self) -> int:
        """Width of the backbone's hidden states."""
        return self.backbone_config.get_text_config().hidden_size


def _of_file(cls: type[P2LConfig], fields: dict[str, Any]) -> dict[str, Any]:
    names = ("backbone_config", "auto_map", "_commit_hash", *SPEC_KEYS)
    ours = {key: fields[key] for key in names if key in fields}
    return {**harmless({key: value for key, value in fields.items() if key not in names}, cls), **ours}


P2LConfig.register_for_auto_class()
