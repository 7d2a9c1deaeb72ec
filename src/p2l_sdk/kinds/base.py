"""The text model below a kinds model: it gives the vectors of prompts, and a folder with a new head on top."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from p2l_sdk.errors import P2LError
from p2l_sdk.hub.access import HubAccess
from p2l_sdk.hub.config import read_config
from p2l_sdk.hub.folders import STATIC_MODEL, locate, read_tensors, save_copy
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.scorers.batches import BATCH
from p2l_sdk.scorers.load import load_scorer
from p2l_sdk.scorers.static import StaticScorer

_TOKENIZER = ("tokenizer*.json", "*.jinja", "vocab.txt", "merges.txt", "special_tokens_map.json")


class Pooled(Protocol):
    """A scorer that gives the vectors of prompts, the input of the head."""

    spec: ModelSpec

    def pooled(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """`(n_prompts, width)` float32."""
        ...


class Base:
    """A P2L model of which everything but the head is used.

    Args:
        source: None for the embedded static model; a folder or the Hub id of a P2L model, with a static backbone (numpy
            alone) or any other (torch).
        device: where torch runs.

    Raises:
        P2LError: it is no P2L model, or its weights are on a server.
    """

    def __init__(self, source: str | Path | None, device: str | None = None) -> None:
        self.folder = STATIC_MODEL if source is None else locate(source, None, HubAccess())
        scorer = load_scorer(self.folder, device)
        if not hasattr(scorer, "pooled"):
            raise P2LError(
                f"{str(source)!r} cannot be built upon: only a model whose weights are here has a text model"
            )
        self._scorer: Any = scorer
        self.spec: ModelSpec = scorer.spec

    def pooled(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """The vectors of prompts, `(n_prompts, width)` float32."""
        parts = [self._scorer.pooled(prompts[i : i + BATCH]) for i in range(0, len(prompts), BATCH)]
        return np.concatenate(parts)

    def write(self, target: Path, spec: ModelSpec, head: Mapping[str, np.ndarray], more: Any) -> None:
        """Write a model with this head to a new folder, completely or not at all.

        Args:
            target: the folder.
            spec: of the model.
            head: the tensors of the head, by their names in the model.
            more: called with the folder, to add files to it.
        """

        def weights(folder: Path) -> None:
            if isinstance(self._scorer, StaticScorer):
                _write_static(self.folder, folder, spec, head)
            else:
                _write_torch(self._scorer, folder, spec, head)
            more(folder)

        save_copy(self.folder, target, spec.costs, weights=weights, patterns=_TOKENIZER)


def _write_static(source: Path, folder: Path, spec: ModelSpec, head: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    config = read_config(source)
    backbone = {k: v for k, v in read_tensors(source).items() if k.startswith("backbone.")}
    save_file({**backbone, **head}, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**config, **spec.to_dict()}), encoding="utf-8")


def _write_torch(scorer: Any, folder: Path, spec: ModelSpec, head: Mapping[str, np.ndarray]) -> None:
    import torch

    from p2l_sdk.modeling.configuration_p2l import P2LConfig
    from p2l_sdk.modeling.modeling_p2l import P2LModel

    old = scorer.model
    model = P2LModel.on_backbone(P2LConfig(backbone_config=old.config.backbone_config, **spec.to_dict()), old.backbone)
    model.head.load_state_dict({name.removeprefix("head."): torch.from_numpy(x) for name, x in head.items()})
    model.save_pretrained(folder)
