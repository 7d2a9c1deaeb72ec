"""Where models lie: the embedded default, folders, the Hub's cache; and how a folder is written."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import ModelFormatError, P2LError
from p2l_sdk.modeling.spec_p2l import CUSTOM_PIPELINES
from p2l_sdk.tensor_files import replace_tensors, tensor_names

ADAPTER_CONFIG = "adapter_config.json"
DEFAULT_MODEL = Path(__file__).parent / "default_model"

_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+")
CARDS = ("README.md", "NOTICE", "LICENSE")
_MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "README.md", "NOTICE"]


def locate(source: str | Path, revision: str | None = None) -> Path:
    """The folder of a model: an existing one, or a Hub repository fetched into the local cache (no code, no pickles).

    Raises:
        ModelFormatError: neither a folder nor a repository that can be had.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if not isinstance(source, str) or not _REPO_ID.fullmatch(source):
        raise ModelFormatError(f"there is no folder {str(source)!r}, and it is no Hub repository id (org/name)")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=_MODEL_FILES))
    except Exception as error:  # the client's own errors are of many kinds
        raise ModelFormatError(
            f"there is no folder {source!r}, and the Hub repository {source!r} could not be fetched: {_reason(error)}"
        ) from error


@dataclass(frozen=True, eq=False)
class EditedHead:
    """Attributes: models, the LLMs' names; rows `(n_models, width + 1)` of the last layer, the bias last; edits, what
    was changed, in words."""

    models: tuple[str, ...]
    rows: np.ndarray
    edits: tuple[str, ...]


def save_copy(
    source: Path,
    target: Path,
    costs: Mapping[str, float],
    edited: EditedHead | None = None,
    *,
    weights: Callable[[Path], Any] | None = None,
    carried: Sequence[str] = _MODEL_FILES,
) -> None:
    """Copy a model folder with these costs in its config and the remote code beside the weights.

    Args:
        source, target: folders; the target appears whole or not at all.
        costs: USD per response by LLM name.
        edited: other LLMs than the source has.
        weights: writes weights and `config.json`, in place of those of the source (an adapter's).
        carried: patterns of the files that are copied.

    Raises:
        P2LError: the target exists and is not empty, or cannot be written.
        ModelFormatError: the LLMs are others, but the source holds no last layer whose rows could be replaced.
    """
    with new_folder(target) as partial:
        for pattern in carried:
            for file in source.glob(pattern):
                if weights is None or (file.suffix != ".safetensors" and file.name != ADAPTER_CONFIG):
                    shutil.copyfile(file, partial / file.name)
        if weights is not None:
            weights(partial)
        config = json.loads((partial / "config.json").read_text(encoding="utf-8"))
        config |= {"costs": dict(costs), "custom_pipelines": CUSTOM_PIPELINES}
        if edited is not None:
            config["models"] = list(edited.models)
            if weights is None:
                _write_rows(source, partial, edited.rows)
            _amend_card(partial / "README.md", edited.edits)
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for file in _code_folder().glob("*_p2l.py"):
            shutil.copyfile(file, partial / file.name)


def push_folder(folder: Path, repo_id: str) -> str:
    """Upload a model folder to the Hub in one commit; the address of the repository, made if there is none.

    Raises:
        P2LError: the Hub refused, or cannot be reached; the folder is as it was.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        url = api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="P2L model")
    except Exception as error:  # the client's own errors are of many kinds
        raise P2LError(f"{str(folder)!r} could not be pushed to {repo_id!r}: {_reason(error)}") from error
    return str(url)


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _write_rows(source: Path, partial: Path, rows: np.ndarray) -> None:
    changed = {"head.coefs.weight": rows[:, :-1], "head.coefs.bias": rows[:, -1]}
    # in an adapter the names have a prefix
    files = source.glob("*.safetensors")
    found = {f: {name: key for name in tensor_names(f) for key in changed if name.endswith(key)} for f in files}
    if {key for names in found.values() for key in names.values()} != changed.keys():
        raise ModelFormatError(
            f"{str(source)!r} holds no tensors {' and '.join(changed)}, so its LLMs cannot be changed on disk; "
            "save the whole model first"
        )
    for file, names in found.items():
        if names:
            replace_tensors(file, partial / file.name, {name: changed[key] for name, key in names.items()})


def _amend_card(card: Path, edits: tuple[str, ...]) -> None:
    """Say in the card, below its metadata, that it describes the model before it was edited."""
    if not card.is_file():
        return
    text = card.read_text(encoding="utf-8")
    metadata = re.match(r"---\n.*?\n---\n", text, re.DOTALL)
    head = metadata.group() if metadata else ""
    note = f"> **Edited after training:** {'; '.join(edits)}. What follows describes the model before.\n"
    card.write_text(f"{head}\n{note}\n{text[len(head) :].lstrip()}", encoding="utf-8")


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """`with new_folder(target) as partial:` fill `partial`; it becomes `target` only when all went well.

    Raises:
        P2LError: the target exists and is not empty, or cannot be written.
    """
    partial = None
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise P2LError(f"{str(target)!r} exists already; name a new or an empty folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        yield partial
        partial.chmod(0o755)  # mkdtemp and safetensors write for the owner alone
        for file in partial.iterdir():
            file.chmod(0o644)
        partial.replace(target)
    except OSError as error:
        raise P2LError(f"{str(target)!r} cannot be written: {error.strerror or error}") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _code_folder() -> Path:
    from p2l_sdk import modeling

    return Path(next(iter(modeling.__path__)))
