"""Where models are stored (the embedded default, folders, the Hub's cache), and how a model folder is written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.hub.access import HubAccess, fetch, is_repo_id
from p2l_sdk.hub.config import is_native
from p2l_sdk.hub.files import CARD, own_files, plain_files, read_card
from p2l_sdk.hub.onnx_files import ONNX_FILES
from p2l_sdk.hub.tensors import read_header, replace_tensors, tensor_names
from p2l_sdk.modeling.limits_p2l import read_json, shown
from p2l_sdk.modeling.spec_p2l import ADAPTER_CONFIG, AUTO_MAP, CUSTOM_PIPELINES, MODEL_TYPE

_EMBEDDED = Path(__file__).parents[1] / "embedded"
EMBEDDED = {name: _EMBEDDED / name for name in ("arena", "routing9")}  # the embedded models, by their short names
DEFAULT_MODEL = EMBEDDED["arena"]
STATIC_MODEL = EMBEDDED["routing9"]  # whose text model, the largest part by far, the other embedded one shares
REST = "p2l"  # folder in one exported for vLLM: what is left of the head, and how prompts are read
_HEAD = "head.safetensors"  # all that such a one has of its own
CARDS = ("README.md", "NOTICE", "LICENSE")  # what a folder says about its model, in words

_RESEARCH_CONFIG = "training_config.json"  # of checkpoints that the paper's authors published
_ADDRESS = re.compile(r"[\w.-]+:\d+/?")  # of a server, with http:// forgotten
_CONFIG_FILES = ["config.json", _RESEARCH_CONFIG]
_PICTURES = ["learning_curve.png", "leaderboard.png"]  # shown in the card
_MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "vocab.txt", "merges.txt", "*.model", "README.md", "NOTICE"]
_MODEL_FILES += _PICTURES
_EDITED = "> **Edited after training.** What follows describes the model before these edits, newest first:"
_KNOWS = "> - LLMs now:"
_BANNER = re.compile(rf"^{re.escape(_EDITED)}\n>\n((?:> - .*\n)+)", re.MULTILINE)


def locate(
    source: str | Path, revision: str | None = None, access: HubAccess | None = None, besides: Sequence[str] = ()
) -> Path:
    """The folder of a model: an existing folder, an embedded model by its short name ("arena", "routing9"), or a Hub
    repository fetched into the local cache.

    No code, pickles or subfolders are fetched, and no weights unless the config is that of a P2L model; graphs of
    another runtime only if their names are among `besides`.

    Raises:
        ModelFormatError: the source is neither a folder nor a repository id, or the repository holds another model.
        HubError: the repository cannot be fetched.
    """
    if not isinstance(source, str | os.PathLike):
        raise ModelFormatError(f"the model is a {type(source).__name__}; name a folder or a Hub id, as text")
    folder = Path(source).expanduser()
    with contextlib.suppress(OSError):  # a name may be too long for a file
        if folder.is_dir():
            return folder
    if source in EMBEDDED:
        return EMBEDDED[str(source)]
    if not isinstance(source, str) or not is_repo_id(source):
        server = "; the address of a server starts with http://" if _ADDRESS.fullmatch(str(source)) else ""
        unfinished, run = Path(f"{folder}.checkpoints"), ""
        with contextlib.suppress(OSError):
            if unfinished.is_dir():
                run = f"; an unfinished run lies in {str(unfinished)!r} (p2l train --resume)"
        raise ModelFormatError(
            f"there is no folder {shown(str(source))}, and it is no Hub repository id (org/name) and none of the "
            f"embedded models ({', '.join(EMBEDDED)}){server}{run}"
        )
    found = fetch(source, _CONFIG_FILES, revision, access)
    if not (found / _RESEARCH_CONFIG).is_file():
        _require_p2l(found / "config.json", source)
    return fetch(
        source, [*_MODEL_FILES, *besides], found.name, access
    )  # the same commit, even if another is pushed meanwhile


def _require_p2l(config: Path, repo_id: str) -> None:
    if not config.is_file():
        raise ModelFormatError(f"the Hub repository {repo_id!r} is no P2L model: it has no config.json")
    try:
        parsed = read_json(config)
    except ModelFormatError:
        return  # a damaged file is reported when the model is loaded
    if not isinstance(parsed, dict) or not is_native(parsed):
        kind = parsed.get("model_type") if isinstance(parsed, dict) else None
        raise ModelFormatError(
            f"the Hub repository {repo_id!r} is no P2L model: its model_type is {shown(kind)}, not {MODEL_TYPE!r}; its "
            "weights were not fetched"
        )


@dataclass(frozen=True, eq=False)
class EditedHead:
    """The last layer of an edited model.

    Attributes:
        models: names of the LLMs.
        rows: `(n_models, width + 1)` rows of the last layer, the bias last.
        variance: `(n_models, width + 1)` their variance, of a model that recognises kinds of prompt; None for others.
        edits: descriptions of the edits.
        feedback: the feedback model, if an edit changed it; `eta` is the tie threshold that it brings, if it has one.
    """

    models: tuple[str, ...]
    rows: np.ndarray
    variance: np.ndarray | None
    edits: tuple[str, ...]
    feedback: str | None = None
    eta: float | None = None


def save_copy(
    source: Path,
    target: str | Path,
    costs: Mapping[str, float],
    edited: EditedHead | None = None,
    *,
    weights: Callable[[Path], Any] | None = None,
    patterns: Sequence[str] = _MODEL_FILES,
    card: Callable[[str], str] | None = None,
) -> None:
    """Copy a model folder, with these costs in its config and the remote code beside the weights.

    Args:
        source, target: folders; the target is written completely or not at all.
        costs: USD per response by LLM name.
        edited: the last layer, if the LLMs were edited.
        weights: writes weights and `config.json` to a folder, instead of copying those of the source.
        patterns: glob patterns of the files to copy.
        card: turns the source's card into the copy's.

    Raises:
        P2LError: the target exists and is not empty, or cannot be written.
        ModelFormatError: the LLMs were edited, but the source holds no last layer whose rows can be replaced.
    """
    from p2l_sdk.outputs.folders import new_folder

    if edited is not None or card is not None:
        read_card(source)  # an error names this one, before any work
    trusted = source in EMBEDDED.values()  # installers may make links of a package's files
    with new_folder(target) as partial, whole_folder(source) as source:
        for pattern in (*patterns, *ONNX_FILES):
            for file in plain_files(source, pattern) if trusted else own_files(source, pattern):
                if edited is not None and file.name in ONNX_FILES:
                    continue  # its graph is not that of the edited model
                if weights is None or (file.suffix != ".safetensors" and file.name != ADAPTER_CONFIG):
                    shutil.copyfile(file, partial / file.name)
        if weights is not None:
            weights(partial)
        if card is not None and (text := read_card(partial)) is not None:
            (partial / CARD).write_text(card(text), encoding="utf-8")
        config = read_json(partial / "config.json", dict)
        config |= {"costs": dict(costs), "auto_map": AUTO_MAP, "custom_pipelines": CUSTOM_PIPELINES}
        if edited is not None:
            config["models"] = list(edited.models)
            if edited.feedback is not None:
                config["feedback"] = edited.feedback
            if weights is None:
                _write_rows(source, partial, edited)
            _amend_card(partial, edited.edits, edited.models)
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for file in code_folder().glob("*_p2l.py"):
            shutil.copyfile(file, partial / file.name)


def _write_rows(source: Path, partial: Path, edited: EditedHead) -> None:
    changed = {"head.coefs.weight": edited.rows[:, :-1], "head.coefs.bias": edited.rows[:, -1]}
    if edited.variance is not None:
        changed["head.variance"] = edited.variance
    added = {}
    if edited.eta is not None:
        added = {"head.eta.weight": np.zeros((1, edited.rows.shape[1] - 1)), "head.eta.bias": np.full(1, edited.eta)}
    # in an adapter, the tensors' names have a prefix
    files = plain_files(source, "*.safetensors")
    found = {f: {name: key for name in tensor_names(f) for key in changed if name.endswith(key)} for f in files}
    if {key for names in found.values() for key in names.values()} != changed.keys():
        raise ModelFormatError(
            f"{str(source)!r} holds no tensors {' and '.join(changed)}, so its LLMs cannot be changed on disk; "
            "save the whole model first"
        )
    for file, names in found.items():
        if names:
            new = {name: changed[key] for name, key in names.items()}
            replace_tensors(file, partial / file.name, new, added if "head.coefs.bias" in names else {})


def _amend_card(folder: Path, edits: tuple[str, ...], models: Sequence[str]) -> None:
    """Add a note to the card, below its metadata, that it describes the model before these edits, and which LLMs it
    knows now; earlier edits are kept in the same note. Results leave the metadata: they are not those of this model."""
    text = read_card(folder)
    if text is None:
        return
    metadata = re.match(r"---\n.*?\n---\n", text, re.DOTALL)
    head = metadata.group() if metadata else ""
    body = text[len(head) :]
    head = re.sub(r"^model-index:\n(?:[ -].*\n)*", "", head, flags=re.MULTILINE)
    found = _BANNER.search(body)
    earlier = [line for line in (found[1] if found else "").splitlines() if not line.startswith(_KNOWS)]
    lines = [f"{_KNOWS} {', '.join(models)}", *(f"> - {' '.join(edit.split())}" for edit in reversed(edits)), *earlier]
    banner = f"{_EDITED}\n>\n" + "".join(f"{line}\n" for line in lines)
    (folder / CARD).write_text(f"{head}\n{banner}\n{_BANNER.sub('', body, count=1).lstrip()}", encoding="utf-8")


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Context manager that yields a folder with all files of a model: the folder itself or, for an embedded model that
    shares its text model, a temporary one."""
    if not (folder / _HEAD).is_file():
        yield folder
        return
    from safetensors.numpy import save_file

    from p2l_sdk.outputs.leftovers import scratch_folder

    with scratch_folder() as whole:
        for file in (*STATIC_MODEL.glob("tokenizer*.json"), *folder.iterdir()):
            if file.name != _HEAD:
                shutil.copyfile(file, whole / file.name)
        save_file(read_tensors(folder), whole / "model.safetensors", {"format": "pt"})
        yield whole


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """The tensors of a model with a static backbone, by name; ModelFormatError if they are missing or damaged."""
    if not (folder / _HEAD).is_file():
        return _read_safetensors(require_file(folder, "model.safetensors"))
    shared = _read_safetensors(STATIC_MODEL / "model.safetensors")
    text = {name: tensor for name, tensor in shared.items() if name.startswith("backbone.")}
    return text | _read_safetensors(folder / _HEAD)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        with path.open("rb") as file:
            read_header(file, path)
        return load_file(path)
    except ModelFormatError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as error:
        raise ModelFormatError(f"{str(path)!r} is damaged ({error}); copy or download it again") from None


def tokenizer_file(folder: Path) -> Path:
    """The `tokenizer.json` of a model; ModelFormatError if it is missing."""
    return require_file(STATIC_MODEL if (folder / _HEAD).is_file() else folder, "tokenizer.json")


def require_file(folder: Path, name: str) -> Path:
    """The file of this name in a model's folder; ModelFormatError if it is missing."""
    path = folder / name
    if not path.is_file():
        raise ModelFormatError(f"{str(folder)!r} is no whole P2L model: it has no {name}")
    return path


def code_folder() -> Path:
    """Where the code that is saved with a model lies."""
    from p2l_sdk import modeling

    return Path(next(iter(modeling.__path__)))
