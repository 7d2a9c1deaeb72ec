"""The text model below a kinds model: it gives the vectors of prompts, and a folder with a new head on top."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import MissingExtraError, ModelFormatError, P2LError
from p2l_sdk.hub.access import HubAccess, is_repo_id
from p2l_sdk.hub.config import is_native, read_config
from p2l_sdk.hub.folders import EMBEDDED, STATIC_MODEL, locate, read_tensors, save_copy
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.limits_p2l import read_json
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import ModelSpec, Pooling
from p2l_sdk.outputs.folders import new_folder
from p2l_sdk.scorers.batches import BATCH
from p2l_sdk.scorers.load import load_scorer
from p2l_sdk.scorers.static import StaticScorer

_TOKENIZER = ("tokenizer*.json", "*.jinja", "vocab.txt", "merges.txt", "special_tokens_map.json")
_MOST_TOKENS = 1024


class Base:
    """A text model without a head.

    Args:
        source: None for the embedded static model, on numpy alone; the folder or Hub id of a P2L model, whose head is
            left away; or, with torch, any text model: a folder, a Hub id, or a .gguf file. Its states are averaged over
            the tokens.
        device: where torch runs.

    Raises:
        P2LError: it cannot be loaded, or its weights are on a server.
        MissingExtraError: it needs torch, which is not installed.
    """

    def __init__(self, source: str | Path | None, device: str | None = None) -> None:
        self._folder = STATIC_MODEL if source is None else _p2l_folder(source)
        if self._folder is not None:
            self._scorer: Any = load_scorer(self._folder, device)
            if isinstance(self._scorer, StaticScorer):
                loaded, weights = self._scorer, _without_words(self._folder)
                self._scorer = StaticScorer(loaded.spec, loaded.encoder, weights, norm_power=1.0)
        else:
            self._scorer = _of_text_model(str(source), device)
        self.spec: ModelSpec = self._scorer.spec

    def pooled(self, prompts: Sequence[Prompt], progress: Callable[[int], None] | None = None) -> np.ndarray:
        """The vectors of prompts, `(n_prompts, width)` float32; `progress` is called with the number done so far."""
        parts = []
        for start in range(0, len(prompts), BATCH):
            parts.append(self._scorer.pooled(prompts[start : start + BATCH]))
            if progress is not None:
                progress(min(start + BATCH, len(prompts)))
        return np.concatenate(parts)

    def write(
        self, target: Path, spec: ModelSpec, head: Mapping[str, np.ndarray], more: Callable[[Path], None]
    ) -> None:
        """Write a model with this head to a new folder, completely or not at all.

        Args:
            target: the folder.
            spec: of the model.
            head: the tensors of the head, by their names in the model.
            more: called with the folder, to add files to it.
        """
        if isinstance(self._scorer, StaticScorer) and self._folder is not None:
            source = self._folder

            def weights(folder: Path) -> None:
                _write_static(source, folder, spec, head)
                more(folder)

            save_copy(source, target, spec.costs, weights=weights, patterns=_TOKENIZER)
            return
        with new_folder(target) as folder:
            _with_head(self._scorer, spec, head).save(folder)
            more(folder)


def _p2l_folder(source: str | Path) -> Path | None:
    """The folder of a P2L model; None if this is another text model."""
    if str(source).startswith(("http://", "https://")):
        raise P2LError(f"{str(source)!r} is a server; only a model whose weights are here can be built upon")
    path = Path(source).expanduser()
    if source in EMBEDDED or path.is_dir():
        folder = locate(source, None, HubAccess())
        try:
            return folder if is_native(read_config(folder)) else None
        except ModelFormatError:
            if _has_a_type(folder):
                return None  # it is another text model
            raise
    if path.suffix == ".gguf" or not is_repo_id(str(source)):
        return None
    try:
        return locate(source, None, HubAccess())
    except ModelFormatError:
        return None  # a repository with another model


def _has_a_type(folder: Path) -> bool:
    """Whether a folder's `config.json` names a type of model."""
    try:
        config = read_json(folder / "config.json")
    except ModelFormatError:
        return False
    return isinstance(config, dict) and isinstance(config.get("model_type"), str)


def _of_unit_length(folder: Path) -> dict[str, Any]:
    """The config of a static model whose means of token vectors are scaled to unit length. Words that say nothing of
    the kind, such as "please", then only turn the vector a little, and do not shorten it. Features of words, which tell
    the categories that the model was trained with, are left away."""
    config = read_config(folder)
    return {**config, "backbone_config": {**config["backbone_config"], "norm_power": 1.0, "word_features": 0}}


def _without_words(folder: Path) -> dict[str, np.ndarray]:
    return {name: x for name, x in read_tensors(folder).items() if not name.startswith("backbone.words.")}


def _write_static(source: Path, folder: Path, spec: ModelSpec, head: Mapping[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    backbone = {name: tensor for name, tensor in _without_words(source).items() if name.startswith("backbone.")}
    save_file({**backbone, **head}, folder / "model.safetensors", {"format": "pt"})
    config = {**_of_unit_length(source), **spec.to_dict()}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _of_text_model(name: str, device: str | None) -> Any:
    """A scorer on a text model, with a head that says nothing."""
    try:
        from p2l_sdk.modeling.configuration_p2l import P2LConfig
        from p2l_sdk.modeling.modeling_p2l import P2LModel
        from p2l_sdk.scorers.backbone import BaseModel, default_length, is_decoder, require_embeddings
        from p2l_sdk.scorers.transformer import TransformerScorer
    except ImportError as error:
        raise MissingExtraError(f"the base {name!r}", error.name or "torch", "torch") from None
    base = BaseModel(name)
    backbone, tokenizer = base.load(), base.tokenizer()
    spec = ModelSpec(
        models=("a", "b"),
        feedback=Feedback.BT,
        pooling=Pooling.MEAN,
        max_prompt_tokens=default_length(backbone, tokenizer, _MOST_TOKENS),
        chat=False,
        add_special_tokens=not is_decoder(backbone),
    )
    model = P2LModel.on_backbone(P2LConfig(backbone_config=backbone.config, **spec.to_dict()), backbone)
    require_embeddings(name, tokenizer, model.n_embeddings)
    model.config.backbone_config.name_or_path = "" if Path(name).expanduser().exists() else name  # no local path
    return TransformerScorer(model.to(device or "cpu"), tokenizer)


def _with_head(scorer: Any, spec: ModelSpec, head: Mapping[str, np.ndarray]) -> Any:
    """A scorer on the same text model with this head."""
    import torch

    from p2l_sdk.modeling.configuration_p2l import P2LConfig
    from p2l_sdk.modeling.modeling_p2l import P2LModel
    from p2l_sdk.scorers.transformer import TransformerScorer

    old = scorer.model
    model = P2LModel.on_backbone(P2LConfig(backbone_config=old.config.backbone_config, **spec.to_dict()), old.backbone)
    model.head.load_state_dict({name.removeprefix("head."): torch.from_numpy(x) for name, x in head.items()})
    return TransformerScorer(model, scorer._tokenizer)
