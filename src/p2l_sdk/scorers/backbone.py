"""The pretrained text model under a P2L model: a Hub id, a folder, or a GGUF file (dequantised by transformers)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModel, AutoTokenizer

from p2l_sdk.errors import ModelFormatError


@dataclass(frozen=True)
class BaseModel:
    """Where a backbone's weights lie.

    Attributes:
        name: a folder, a Hub id ("org/name"), a GGUF file, or a GGUF file of a Hub repository ("org/name/file.gguf").
        revision: branch, tag or commit, for the Hub.
    """

    name: str
    revision: str | None = None

    def load(self, dtype: torch.dtype = torch.float32, attention: str | None = None) -> Any:
        """The backbone without its language-model head, as `AutoModel` builds it.

        Raises:
            ModelFormatError: there is no such model, or it is no text model.
        """
        options: dict[str, Any] = {"dtype": dtype, "revision": self.revision}
        if self.name.endswith(".gguf") and hasattr(transformers, "GgufConfig"):
            options["quantization_config"] = transformers.GgufConfig(dequantize=True)  # packed cannot train
        if attention is not None:
            options["attn_implementation"] = attention
        model = self._from_pretrained(AutoModel, **options)
        if model.config.is_encoder_decoder:
            raise ModelFormatError(f"{self.name!r} is an encoder-decoder; a backbone is a decoder or an encoder")
        return model.to(dtype)  # a GGUF file comes in float32, whatever was asked for

    def tokenizer(self) -> Any:
        """Its tokenizer, a fast one."""
        return self._from_pretrained(AutoTokenizer, revision=self.revision)

    def _from_pretrained(self, factory: Any, **options: Any) -> Any:
        place, file = self._place()
        options["trust_remote_code"] = False  # where it is left open, transformers asks on the terminal
        try:
            return factory.from_pretrained(place, **options, **({"gguf_file": file} if file else {}))
        except ImportError as error:
            raise ModelFormatError(f"the base {self.name!r} needs another package: {_first_line(error)}") from error
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelFormatError(
                f"the base {self.name!r} could not be loaded: {_first_line(error)}; a base is a Hub id (org/name), a "
                "folder with a transformers model, or a .gguf file"
            ) from error

    def _place(self) -> tuple[str, str | None]:
        """Folder or Hub id, and the GGUF file in it."""
        path = Path(self.name).expanduser()
        if not self.name.endswith(".gguf"):
            return (str(path) if path.exists() else self.name), None
        if not path.is_file() and not path.is_absolute() and len(path.parts) == 3:
            return "/".join(path.parts[:2]), path.parts[2]
        return str(path.parent), path.name


def saved_tokenizer(folder: Path) -> Any:
    """The tokenizer of a saved model, a fast one; no code of the folder is run.

    Raises:
        ModelFormatError: there is no `tokenizer.json` (transformers would make an empty one), or it is damaged.
    """
    if not (folder / "tokenizer.json").is_file():
        raise ModelFormatError(f"{str(folder)!r} is no whole P2L model: it has no tokenizer.json")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises the bare Exception
        raise ModelFormatError(f"{str(folder)!r} is no whole P2L model: {error}") from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
