"""Where models lie: the embedded default, folders, the Hub's cache; and how a folder is written."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from p2l_sdk.errors import ModelFormatError, P2LError

DEFAULT_MODEL = Path(__file__).parent / "default_model"

_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+")
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
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelFormatError(
            f"there is no folder {source!r}, and the Hub repository {source!r} could not be fetched: {reason}"
        ) from error


def save_copy(source: Path, target: Path, costs: Mapping[str, float]) -> None:
    """Copy a model folder with these costs in its config and the remote code beside the weights."""
    with new_folder(target) as partial:
        for pattern in _MODEL_FILES:
            for file in source.glob(pattern):
                shutil.copyfile(file, partial / file.name)
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        config["costs"] = dict(costs)
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for file in _code_folder().glob("*_p2l.py"):
            shutil.copyfile(file, partial / file.name)


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
