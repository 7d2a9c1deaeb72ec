"""The pretrained text model below a P2L model: a Hub id, a folder, or a GGUF file (dequantised by transformers)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.hub.access import HubAccess, fetch, is_repo_id
from p2l_sdk.hub.folders import require_file
from p2l_sdk.modeling.limits_p2l import read_json, shown
from p2l_sdk.modeling.loading_p2l import load_backbone, load_tokenizer, place_of
from p2l_sdk.scorers.tryout import is_unusual, require_small, try_out

_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_WEIGHT_FILES = ["config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]


@dataclass(frozen=True)
class BaseModel:
    """The location of a backbone's weights.

    Attributes:
        name: a folder, a Hub id ("org/name"), a GGUF file, or a GGUF file in a Hub repository ("org/name/file.gguf").
        revision: branch, tag or commit on the Hub.
        access: how the Hub is accessed.
    """

    name: str
    revision: str | None = None
    access: HubAccess = field(default_factory=HubAccess)

    def load(self, dtype: torch.dtype = torch.float32, attention: str | None = None) -> Any:
        """Load the backbone with `AutoModel`, without its language-model head. From a Hub repository, only the config
        and the weights are fetched; the commit is stored as `_commit_hash` in the model's config.

        Raises:
            HubError: the Hub repository cannot be fetched.
            ModelFormatError: there is no such model, it is not a decoder or an encoder, or its weights are not
                safetensors.
        """
        fetched = self._fetched()
        place, options = place_of(self.name if fetched is None else str(fetched))
        options["dtype"] = dtype
        if attention is not None:
            options["attn_implementation"] = attention
        model = self._loaded(load_backbone, place, **options)
        if fetched is not None:
            model.config.name_or_path, model.config._commit_hash = self.name, fetched.name
        if model.config.is_encoder_decoder or "decoder_input_ids" in inspect.signature(model.forward).parameters:
            raise ModelFormatError(f"{self.name!r} is an encoder-decoder; a backbone is a decoder or an encoder")
        return model.to(dtype)  # GGUF weights arrive in float32 whatever dtype was requested

    def tokenizer(self) -> Any:
        """Load its tokenizer.

        Raises:
            ModelFormatError: it could not be loaded.
        """
        place, options = place_of(self.name)
        gguf = {name: options[name] for name in ("gguf_file",) if name in options}
        return self._loaded(load_tokenizer, place, **gguf)

    def _loaded(self, load: Callable[..., Any], place: str, **options: Any) -> Any:
        options |= {"revision": self.revision, **vars(self.access)}
        try:
            return load(place, **options)
        except ModelFormatError as error:
            raise ModelFormatError(f"the base {self.name!r} could not be loaded: {error}") from error
        except ImportError as error:
            raise ModelFormatError(f"the base {self.name!r} needs another package: {_first_line(error)}") from error
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelFormatError(
                f"the base {self.name!r} could not be loaded: {_first_line(error).rstrip('.')}; a base is a Hub id "
                "(org/name), a folder with a transformers model, or a .gguf file"
            ) from error

    def _fetched(self) -> Path | None:
        """The cache folder with the weights of a Hub repository; None for a local folder or a GGUF file."""
        if Path(self.name).expanduser().exists() or self.name.endswith(".gguf"):
            return None
        if not is_repo_id(self.name):
            raise ModelFormatError(
                f"there is no folder {self.name!r}, and it is no Hub id (org/name); a base is one of the two, or a "
                ".gguf file"
            )
        folder = fetch(self.name, _WEIGHT_FILES, self.revision, self.access)
        if not any(folder.glob("*.safetensors")):
            raise ModelFormatError(f"the base {self.name!r} has no safetensors weights, and pickled ones are refused")
        return folder


def is_decoder(backbone: Any) -> bool:
    """Whether each token of a backbone sees only those before it: by what transformers says of its type, and by its
    attention layers where that says nothing (such as the text part of a multimodal model)."""
    known = is_causal(backbone.config)
    return any(getattr(module, "is_causal", False) for module in backbone.modules()) if known is None else known


def is_causal(config: Any) -> bool | None:
    """Whether a model with this configuration reads from left to right; None if its type says nothing.

    transformers lists the types that have a causal language model. Those among them that can also fill in a mask, or
    whose plain model is an encoder, do so only if their configuration makes them decoders; a few others can be told to
    look both ways.
    """
    both_ways = getattr(config, "use_bidirectional_attention", None) in (True, "all")
    if config.is_encoder_decoder or both_ways or getattr(config, "is_causal", None) is False:
        return False
    plain = MODEL_MAPPING_NAMES.get(config.model_type, "")
    is_encoder = isinstance(plain, str) and plain.endswith("Encoder")
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES or is_encoder:
        return bool(getattr(config, "is_decoder", False) or getattr(config, "causal", False))
    if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return getattr(config, "attn_type", None) != "bi"  # XLNet
    return None


def longest_prompt(backbone: Any) -> int | None:
    """The most tokens that a backbone can read; None for no limit. RoBERTa-like models count positions from the padding
    index + 1, so the first rows of their position table are unused."""
    rows = getattr(backbone.config.get_text_config(), "max_position_embeddings", None)
    tables = [table for name, table in backbone.named_modules() if name.endswith("position_embeddings")]
    unused = [table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None]
    longest = rows - max(unused, default=0) if isinstance(rows, int) else 0
    return longest if longest > 1 else None  # -1, 0 and null are spellings of no limit


def default_length(backbone: Any, tokenizer: Any, most: int) -> int:
    """The number of tokens to read of a prompt: what backbone and tokenizer can, and at most `most`."""
    return min(n for n in (longest_prompt(backbone), tokenizer.model_max_length, most) if n is not None and n > 1)


def require_embeddings(name: str, tokenizer: Any, n_embeddings: int | None) -> None:
    """Raise `ModelFormatError` if a tokenizer has tokens without an embedding, other than those that stand for padding,
    or for images and sounds (which a text model lacks).

    Args:
        name: of the base, for the message.
        tokenizer: its transformers tokenizer.
        n_embeddings: see `P2LModel.n_embeddings`.
    """
    if n_embeddings is None or name.endswith(".gguf"):  # transformers adds tokens to those of a GGUF file
        return
    unread = {getattr(tokenizer, f"{kind}_token", None) for kind in ("pad", "image", "video", "audio", "boi", "eoi")}
    beyond = sorted(
        (number, token)
        for token, number in tokenizer.get_vocab().items()
        if number >= n_embeddings and token not in unread
    )
    if beyond:
        tokens = ", ".join(repr(token) for _, token in beyond[:5]) + (", ..." if len(beyond) > 5 else "")
        raise ModelFormatError(
            f"the tokenizer of {name!r} has {len(tokenizer):,} tokens, and the model embeddings for "
            f"{n_embeddings:,}: it does not know {tokens}. Give it embeddings for them and save it "
            "(model.resize_token_embeddings(len(tokenizer))), or use the tokenizer that came with it"
        )


def saved_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a saved model, without running code from its folder.

    Raises:
        ModelFormatError: `tokenizer.json` is missing (transformers would create an empty one) or damaged.
    """
    path = require_file(folder, "tokenizer.json")
    require_small(path)
    for name in _TOKENIZER_FILES:
        if (folder / name).is_file():
            _check_places(folder / name, read_json(folder / name, dict))
    try:
        tokenizer = load_tokenizer(folder, local_files_only=True)
        if is_unusual(tokenizer.backend_tokenizer):
            try_out(path)
        return tokenizer
    except ModelFormatError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelFormatError(f"{str(folder)!r} is no whole P2L model: {error}") from None


def _check_places(path: Path, fields: dict[str, Any]) -> None:
    """Raise ModelFormatError if a tokenizer's settings name a file outside its folder."""
    for key, value in fields.items():
        if key.endswith("_file") and isinstance(value, str) and Path(value).name != value and Path(value).exists():
            raise ModelFormatError(f"{str(path)!r} has the {key} {shown(value)}, which is not in its folder")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
