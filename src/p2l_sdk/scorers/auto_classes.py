"""Registers p2l_sdk's own classes with transformers, so that code from the folder of a P2L model is never run.

`AutoConfig`, `AutoModel` and both tasks of `pipeline` then need no `trust_remote_code`, and ignore it if it is given. A
tokenizer, a processor and the like are transformers' own classes; those classes of transformers that find them would
run a class that the folder names (`auto_map`), so they do not get to see `trust_remote_code` for a P2L model.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import transformers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    TextClassificationPipeline,
)
from transformers.pipelines import PIPELINE_REGISTRY

from p2l_sdk.modeling.configuration_p2l import P2LConfig
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.modeling.pipeline_p2l import LeaderboardPipeline, TopModelsPipeline
from p2l_sdk.modeling.spec_p2l import MODEL_TYPE

_FINDERS = ("AutoTokenizer", "AutoProcessor", "AutoImageProcessor", "AutoVideoProcessor", "AutoFeatureExtractor")
_OF_CONFIG = ("revision", "token", "cache_dir", "local_files_only", "force_download", "proxies", "subfolder")
_GUARDED = "_p2l_guarded"


class _TextClassification(TextClassificationPipeline):
    """Creates the pipeline that belongs to the model: ours for P2L models, transformers' own for all others."""

    def __new__(cls, **arguments: Any) -> Any:
        kind = TopModelsPipeline if isinstance(arguments["model"], P2LModel) else TextClassificationPipeline
        return kind(**arguments)


def register() -> None:
    """Register the classes; calling it again changes nothing."""
    AutoConfig.register(P2LConfig.model_type, P2LConfig, exist_ok=True)
    AutoModel.register(P2LConfig, P2LModel, exist_ok=True)
    AutoModelForSequenceClassification.register(P2LConfig, P2LModel, exist_ok=True)  # the class of text-classification
    # with a class of its own for the config, transformers does not ask for the folder's code
    AutoTokenizer.register(P2LConfig, fast_tokenizer_class=PreTrainedTokenizerFast, exist_ok=True)
    setattr(P2LConfig, "custom_pipelines", {})  # noqa: B010  # else transformers would run the saved copies
    tasks = PIPELINE_REGISTRY.supported_tasks
    tasks["prompt-to-leaderboard"] = {"impl": LeaderboardPipeline, "pt": (AutoModel,), "type": "text"}
    tasks["text-classification"] = {**tasks["text-classification"], "impl": _TextClassification}
    for name in _FINDERS:
        if (finder := getattr(transformers, name, None)) is not None:
            _guard(finder)


def _guard(finder: Any) -> None:
    """Let a finder of transformers ignore `trust_remote_code` for the folder or repository of a P2L model."""
    found = inspect.getattr_static(finder, "from_pretrained", None)
    if not isinstance(found, classmethod) or hasattr(found.__func__, _GUARDED):
        return
    plain = found.__func__

    @functools.wraps(plain)
    def from_pretrained(cls: Any, place: Any, *arguments: Any, **options: Any) -> Any:
        if options.get("trust_remote_code") and _is_p2l(place, options):
            options["trust_remote_code"] = False
        return plain(cls, place, *arguments, **options)

    setattr(from_pretrained, _GUARDED, True)
    finder.from_pretrained = classmethod(from_pretrained)


def _is_p2l(place: Any, options: dict[str, Any]) -> bool:
    """Whether a folder or repository holds a P2L model, in our own layout or in lmarena's."""
    given = {key: options[key] for key in _OF_CONFIG if options.get(key) is not None}
    try:
        fields, _ = PretrainedConfig.get_config_dict(place, **given)
    except (OSError, ValueError):
        return False
    return fields.get("model_type") == MODEL_TYPE or "P2LModel" in (fields.get("architectures") or ())
