"""What a model's folder is, and what is odd about it, told from its small files and its weights (see `odd_weights`).

No model is loaded and nothing is run: no tokenizer, no code.
"""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

from p2l_sdk.errors import ModelFormatError, P2LError
from p2l_sdk.hub.access import HubAccess, fetch, is_repo_id
from p2l_sdk.hub.cards import split_card
from p2l_sdk.hub.config import backbone_kind, is_lmarena, is_native, read_config
from p2l_sdk.hub.files import leads_elsewhere, read_card
from p2l_sdk.hub.folders import EMBEDDED, code_folder, locate
from p2l_sdk.hub.onnx_files import ONNX_FILE, ONNX_GRAPHS, ONNX_INT8, ONNX_REPORT, inspect_onnx
from p2l_sdk.modeling.limits_p2l import odd_character, read_json, shown
from p2l_sdk.modeling.number_p2l import to_number
from p2l_sdk.modeling.spec_p2l import ADAPTER_CONFIG, AUTO_MAP, CUSTOM_PIPELINES, STATIC_BACKBONE, ModelSpec, base_of
from p2l_sdk.scorers.odd_weights import odd_weights

_SMALL = ["*.json", "*.jinja", "*.py", "README.md", "LICENSE", "NOTICE"]
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5", ".msgpack")
_BINARIES = (".so", ".dll", ".dylib", ".exe", ".sh", ".bat", ".whl")
_KEYS = ("attn_implementation", "experts_implementation", "quantization_config", "kernel_config", "custom_generate")
_MOST_FILES = 1_000


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a folder holds.

    Attributes:
        place: the folder, or the id of its repository.
        layout: "native", "lmarena" or "adapter".
        backbone: the architecture below the head, such as "p2l_static" or "qwen2"; None if none is named.
        base: of an adapter, the model that it belongs to.
        spec: the model's definition; None if it breaks a rule (see `odd`), or in lmarena's layout.
        models: names of the LLMs.
        feedback: the feedback model as the folder spells it.
        parameters: numbers in the weights; None if the weights are not here.
        onnx: what is exported for onnxruntime, as its report says it; None if nothing is.
        licence: as the card says it; None if it says nothing.
        files: bytes of each file by its name.
        code: for each file of Python, "this version's", "another version's" or "not of p2l-sdk".
        odd: what is unusual or wrong, a sentence each; empty for a model as `save_pretrained` writes it.
    """

    place: str
    layout: str
    backbone: str | None
    base: str | None = None
    spec: ModelSpec | None = None
    models: tuple[str, ...] = ()
    feedback: str | None = None
    parameters: int | None = None
    onnx: str | None = None
    licence: str | None = None
    files: dict[str, int] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    odd: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        values = {key: value for key, value in vars(self).items() if key != "spec"}
        spec = {} if self.spec is None else self.spec.to_dict()
        return {**values, "models": list(self.models), "odd": list(self.odd), "spec": spec}


def inspect_model(source: str | Path, revision: str | None = None, access: HubAccess | None = None) -> Inspection:
    """Inspect a model.

    Args:
        source: a folder, an embedded model by its name, or a Hub id, of which only the small files are fetched.
        revision: branch, tag or commit of a Hub repository.
        access: how the Hub is accessed.

    Raises:
        ModelFormatError: this is no folder of a P2L model at all.
        HubError: the repository cannot be fetched.
    """
    path = Path(source).expanduser()
    if path.is_dir() or source in EMBEDDED or not is_repo_id(str(source)):
        return _of_folder(locate(source, revision, access), str(source), whole=True)
    return _of_folder(fetch(str(source), _SMALL, revision, access), str(source))


def _of_folder(folder: Path, place: str, *, whole: bool = False) -> Inspection:
    config = read_config(folder)
    odd: list[str] = []
    spec, feedback, base = None, config.get("feedback"), None
    names: tuple[str, ...] = ()
    layout = "lmarena" if is_lmarena(config) else "adapter" if (folder / ADAPTER_CONFIG).is_file() else "native"
    try:
        if is_native(config):
            spec = ModelSpec.from_config(config)
            names = spec.models
        else:
            names = tuple(map(str, read_json(folder / "model_list.json", list)))
            feedback = read_json(folder / "training_config.json", dict).get("loss_type")
        if layout == "adapter":
            base = base_of(folder)[0]
    except (P2LError, TypeError, AttributeError) as error:
        odd.append(str(error))
    files = _files(folder)
    parameters, broken = odd_weights(folder, config, spec)
    if whole and parameters is None and not broken:
        broken = ["there are no weights (*.safetensors), so it cannot be loaded; fetch or copy the folder anew"]
    code = {name: _whose(folder / name) for name in files if name.endswith(".py")}
    odd += [*broken, *_odd_settings(folder, config), *_odd_files(folder, files, code, config), *_odd_names(names)]
    return Inspection(
        place=place,
        layout=layout,
        backbone=backbone_kind(config),
        base=base,
        spec=spec,
        models=names,
        feedback=None if feedback is None else shown(feedback).strip("'"),
        parameters=parameters,
        onnx=_exported(folder, files, odd),
        licence=_licence(folder, odd),
        files=files,
        code=code,
        odd=tuple(odd),
    )


def _files(folder: Path) -> dict[str, int]:
    """The sizes of the first files, those on top before others; a folder may hold millions."""
    found: dict[str, int] = {}
    for place, inner, names in os.walk(folder):
        inner.sort()
        for name in heapq.nsmallest(_MOST_FILES - len(found), names):
            path = Path(place, name)
            if path.is_file():
                found[path.relative_to(folder).as_posix()] = path.stat().st_size
        if len(found) >= _MOST_FILES:
            break
    return found


def _exported(folder: Path, files: dict[str, int], odd: list[str]) -> str | None:
    """What the report says of an ONNX file; what is wrong with the two goes to `odd`."""
    if not {ONNX_REPORT, *ONNX_GRAPHS}.intersection(files):
        return None
    try:
        for name in ONNX_GRAPHS:
            if name in files:
                inspect_onnx(folder / name)
        report = read_json(folder / ONNX_REPORT, dict)
        found = report.get("comparison")
        sizes = {ONNX_FILE: report.get("bytes"), ONNX_INT8: report.get("int8_bytes")}
        for name, size in sizes.items():
            if files.get(name) not in (None, size) or not isinstance(found, dict):
                odd.append(f"{ONNX_REPORT} does not belong to {name}")
                return None
        equal, n = to_number(found.get("equal_routes")), to_number(found.get("prompts"))
        return f"{shown(report.get('precision'))}, the best LLM of torch for {equal:.1%} of {n:.0f} prompts"
    except P2LError as error:
        odd.append(str(error))
        return None


def _whose(path: Path) -> str:
    own = code_folder() / path.name
    if not path.name.endswith("_p2l.py") or not own.is_file():
        return "not of p2l-sdk"
    same = path.stat().st_size == own.stat().st_size and path.read_bytes() == own.read_bytes()
    return "this version's" if same else "another version's"


def _odd_settings(folder: Path, config: dict[str, Any]) -> Iterator[str]:
    for where, key in _keys(config):
        if any(word in key for word in _KEYS):
            yield f"config.json{where} has {shown(key)}, which asks transformers for other code; it is not used"
    for name, ours in (("auto_map", AUTO_MAP), ("custom_pipelines", CUSTOM_PIPELINES)):
        if is_native(config) and config.get(name) not in (None, ours):
            yield f"config.json has an {name} that is not p2l-sdk's own: {shown(config[name])}"
    path = folder / "tokenizer_config.json"
    try:
        if path.is_file() and (found := read_json(path, dict).get("auto_map")):
            yield f"tokenizer_config.json names code for the tokenizer, which is never run: {shown(found)}"
    except ModelFormatError as error:
        yield str(error)


def _keys(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    for key, item in value.items() if isinstance(value, dict) else ():
        if item is not None:
            yield where, key
        yield from _keys(item, f"{where}, {key}")


def _odd_files(folder: Path, files: dict[str, int], code: dict[str, str], config: dict[str, Any]) -> Iterator[str]:
    for name, whose in code.items():
        if whose == "not of p2l-sdk" and name not in ("handler.py",):
            yield f"{shown(name)} is code that p2l-sdk does not write; it is never run here"
    if others := [name for name, whose in code.items() if whose == "another version's"]:
        named = ", ".join([*map(shown, others[:3]), *(["..."] if others[3:] else [])])
        yield (
            f"code that differs from this version's, in {len(others)} of {len(code)} files ({named}): another version "
            "of p2l-sdk wrote it, or somebody changed it. Only transformers without p2l-sdk would run it; "
            "P2L.from_pretrained(MODEL).save_pretrained(FOLDER) writes this version's"
        )
    for name in files:
        if name.lower().endswith(_PICKLES):
            yield f"{shown(name)} may be a pickle, which can run code; it is never opened"
        elif name.lower().endswith(_BINARIES):
            yield f"{shown(name)} is a program; it is never run"
        if leads_elsewhere(folder / name, folder):
            yield f"{shown(name)} is a link to a file elsewhere: {shown(str((folder / name).resolve()))}"
    shared = folder in EMBEDDED.values()
    if not shared and "tokenizer.json" not in files:
        yield "there is no tokenizer.json"
    if backbone_kind(config) == STATIC_BACKBONE and not shared and any(n.startswith("model-0") for n in files):
        yield "the weights of a static model are split, and must be one file"


def _odd_names(names: tuple[str, ...]) -> Iterator[str]:
    strange = [name for name in names if odd_character(name) or any(letter in name for letter in '<>`|"')]
    if strange:
        yield f"{len(strange)} names of LLMs have letters of HTML or Markdown, such as {shown(strange[0])}"
    alike = Counter(normalize("NFKC", name).casefold() for name in names)
    if twice := [name for name in names if alike[normalize("NFKC", name).casefold()] > 1]:
        yield f"{len(twice)} names of LLMs look like others of this model, such as {shown(twice[0])}"


def _licence(folder: Path, odd: list[str]) -> str | None:
    try:
        data, _ = split_card(read_card(folder) or "")
    except (P2LError, ValueError, RecursionError, ImportError) as error:
        odd.append(f"README.md: {shown(error)}")
        return None
    named = data.get("license")
    return named if isinstance(named, str) and odd_character(named) is None else None
