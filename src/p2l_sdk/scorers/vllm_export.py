"""A transformer with a P2L head as a plain sequence classifier of transformers, which vLLM serves.

What the classifier outputs is linear in the pooled state: the raw outputs of a linear head, without its bias (for which
most classifiers have no place), and of any other head the state itself. What is left of the head lies beside it, in the
folder `p2l`, and is applied by whoever reads the outputs (`scorers/vllm.py`).
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from p2l_sdk.errors import P2LError
from p2l_sdk.hub.folders import REST
from p2l_sdk.modeling.spec_p2l import MODEL_TYPE, ModelSpec, Pooling
from p2l_sdk.outputs.folders import new_folder
from p2l_sdk.scorers.scorer import Scorer
from p2l_sdk.scorers.transformer import TransformerScorer, shallow_copy
from p2l_sdk.scorers.vllm import VllmScorer

# Decoders whose classifier is one matrix without a bias, `score`, on the state of the last token; vLLM 0.33 has each.
DECODERS = (
    "gemma", "gemma2", "gemma3_text", "llama", "mistral", "mixtral", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe",
)  # fmt: skip
ENCODERS = ("bert", "roberta", "xlm-roberta")  # between the first state and the classifier stand a layer and a tanh
_SMALL = 2.0**-16  # for states up to 20, tanh(x * _SMALL) is x * _SMALL but for float32's last digit
_SAMPLE = (
    "Hi",
    "Write a Python function that merges two sorted lists.",
    [{"role": "user", "content": "What is the capital of Australia?"}, {"role": "user", "content": "Why not Sydney?"}],
    "Prove that there are infinitely many prime numbers. " * 200,
)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        architecture: name of the class of transformers.
        outputs: what it outputs: "coefficients" (without the bias) or "states".
        n_outputs: numbers that it outputs for a prompt.
        max_prompt_tokens: tokens that vLLM must accept (--max-model-len).
        difference: largest difference, in logits, of a coefficient of four prompts between the model and what is read
            back.
    """

    architecture: str
    outputs: str
    n_outputs: int
    max_prompt_tokens: int
    difference: float


def export_vllm(scorer: Scorer, costs: Mapping[str, float], target: str | Path) -> Exported:
    """Write a model to a new folder that vLLM serves and `VllmScorer` reads.

    Args:
        scorer: the model.
        costs: USD per response by LLM name.
        target: the new folder, written completely or not at all.

    Raises:
        P2LError: the model's backbone or pooling has no such classifier, or the folder exists and is not empty.
    """
    if not isinstance(scorer, TransformerScorer):
        raise P2LError("vLLM serves transformers, and this model is none; p2l serve runs it")
    spec, kind = scorer.spec.replace(costs=costs), scorer.model.config.backbone_config.model_type
    _check(kind, spec.pooling)
    linear = not (spec.head_norm or spec.head_hidden_size or spec.kinds or spec.familiarity)
    tensors = {f"head.{name}": tensor.float().cpu() for name, tensor in scorer.model.head.state_dict().items()}
    matrix = _without_weights(tensors) if linear else torch.eye(scorer.model.config.hidden_size)
    ids = scorer.token_ids(_SAMPLE)
    with new_folder(target) as partial, torch.inference_mode():
        classifier = _classifier(scorer, kind, matrix, _labels(spec, len(matrix), linear), [row[-1] for row in ids])
        classifier.save_pretrained(partial)
        scorer.save_tokenizer(partial)
        (partial / REST).mkdir()
        save_file({name: t.contiguous() for name, t in tensors.items()}, partial / REST / "model.safetensors")
        rest = {"model_type": MODEL_TYPE, "n_outputs": len(matrix), "n_embeddings": scorer.model.n_embeddings}
        rest |= spec.to_dict()
        (partial / REST / "config.json").write_text(json.dumps(rest, indent=2) + "\n", encoding="utf-8")
        reader = VllmScorer(partial, lambda rows: np.concatenate([_logits(classifier, row) for row in rows]))
        if reader.token_ids(_SAMPLE) != ids:
            raise P2LError("this model's tokenizer cannot be exported: read back, it gives other tokens")
        difference = np.abs(reader.score(_SAMPLE).coefs - scorer.score(_SAMPLE).coefs).max()
    return Exported(
        architecture=type(classifier).__name__,
        outputs="coefficients" if linear else "states",
        n_outputs=len(matrix),
        max_prompt_tokens=spec.max_prompt_tokens,
        difference=float(difference),
    )


def _check(kind: str, pooling: Pooling) -> None:
    if kind not in (*DECODERS, *ENCODERS):
        known = ", ".join((*DECODERS, *ENCODERS))
        raise P2LError(f"a backbone of type {kind} cannot be exported for vLLM, only one of {known}; p2l serve runs it")
    legal = [Pooling.LAST] if kind in DECODERS else [Pooling.FIRST]
    if kind == "bert":
        legal.append(Pooling.POOLER)
    if pooling not in legal:
        raise P2LError(
            f"this model's pooling is {str(pooling)!r}, and that of a sequence classifier of type {kind} is "
            f"{' or '.join(repr(str(one)) for one in legal)}, so vLLM cannot serve it; p2l serve runs it"
        )


def _without_weights(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The weights of a linear head in one matrix. They are replaced by rows of the identity: what is left of the head
    passes through what the matrix gives, and adds the bias."""
    names = [f"head.{name}.weight" for name in ("coefs", "eta", "gamma") if f"head.{name}.weight" in tensors]
    parts = [tensors[name] for name in names]
    matrix = torch.cat(parts)
    tensors |= zip(names, torch.eye(len(matrix)).split([len(part) for part in parts]), strict=True)
    return matrix


def _labels(spec: ModelSpec, n_outputs: int, linear: bool) -> list[str]:
    if not linear:
        return [f"state {i}" for i in range(n_outputs)]
    return [*spec.models, *["(eta)"] * spec.feedback.has_eta, *["(gamma)"] * spec.feedback.has_gamma]


def _classifier(
    scorer: TransformerScorer, kind: str, matrix: torch.Tensor, labels: Sequence[str], ends: Sequence[int]
) -> Any:
    """A sequence classifier that shares the model's backbone, and outputs the pooled state times the matrix."""
    backbone = scorer.model.backbone
    config = copy.deepcopy(backbone.config)
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.problem_type = "regression"  # for which vLLM outputs the numbers as they are
    if kind in DECODERS:  # transformers takes the last token that is not this one; vLLM does not pad
        config.pad_token_id = next(i for i in itertools.chain([scorer.pad_id], itertools.count()) if i not in ends)
    with torch.device("meta"):
        classifier = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)](config)
    if kind in DECODERS:
        classifier.score = _layer(matrix, bias=False)
    elif scorer.spec.pooling is Pooling.POOLER:
        classifier.classifier = _layer(matrix)
    else:  # a tanh that does nothing
        small, large = _layer(torch.eye(matrix.shape[1]) * _SMALL), _layer(matrix / _SMALL)
        backbone = shallow_copy(backbone)
        if kind == "bert":
            backbone.pooler = shallow_copy(backbone.pooler)
            backbone.pooler.dense, classifier.classifier = small, large
        else:
            backbone.pooler = None
            classifier.classifier.dense, classifier.classifier.out_proj = small, large
    setattr(classifier, classifier.base_model_prefix, backbone)
    return classifier.to(backbone.device).eval()


def _layer(matrix: torch.Tensor, *, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=bias)
    layer.weight.data = matrix.clone()
    if bias:
        layer.bias.data.zero_()
    return layer


def _logits(classifier: Any, token_ids: list[int]) -> np.ndarray:
    return classifier(input_ids=torch.tensor([token_ids], device=classifier.device)).logits.float().cpu().numpy()
