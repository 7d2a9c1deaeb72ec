"""Registers p2l_sdk's own classes with transformers, so that code saved with the weights is never run.

`AutoConfig`, `AutoModel` and both tasks of `pipeline` then need no `trust_remote_code`, and ignore it if it is given.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, TextClassificationPipeline
from transformers.pipelines import PIPELINE_REGISTRY

from p2l_sdk.modeling.configuration_p2l import P2LConfig
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.modeling.pipeline_p2l import LeaderboardPipeline, TopModelsPipeline


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
    setattr(P2LConfig, "custom_pipelines", {})  # noqa: B010  # else transformers would run the saved copies
    tasks = PIPELINE_REGISTRY.supported_tasks
    tasks["prompt-to-leaderboard"] = {"impl": LeaderboardPipeline, "pt": (AutoModel,), "type": "text"}
    tasks["text-classification"] = {**tasks["text-classification"], "impl": _TextClassification}
