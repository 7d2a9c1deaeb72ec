"""What is odd about a model's weights, before they are loaded: tensors that are missing, left over, of another shape or
type than `config.json` asks for, or that hold NaN.

Of their files, the headers are read, and the numbers in blocks; torch, where a model needs it, builds the model without
numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from p2l_sdk.errors import ModelFormatError, P2LError
from p2l_sdk.hub.config import backbone_kind, is_lmarena
from p2l_sdk.hub.files import plain_files
from p2l_sdk.hub.folders import EMBEDDED, STATIC_MODEL
from p2l_sdk.hub.tensors import read_ending, require_held
from p2l_sdk.hub.weights import ADAPTER, FLOATING, HEAD, WEIGHTS, Stored, differences, is_finite, stored, weight_files
from p2l_sdk.modeling.limits_p2l import read_json, shown
from p2l_sdk.modeling.spec_p2l import ADAPTER_CONFIG, STATIC_BACKBONE, ModelSpec
from p2l_sdk.scorers.head import check_familiarity, head_shapes

_MOST = 20  # sentences of one kind


def odd_weights(folder: Path, config: dict[str, Any], spec: ModelSpec | None) -> tuple[int | None, list[str]]:
    """Look at the weights of a folder.

    Args:
        folder, config: the model's.
        spec: its spec; None if it has none that is legal, or is in lmarena's layout.

    Returns:
        How many numbers its safetensors files hold, None without any; and what is odd, a sentence each.
    """
    files, odd = plain_files(folder, "*.safetensors"), list[str]()
    total = 0
    for path in files:
        try:
            total += sum(tensor.size for tensor in stored([path]).values())
        except ModelFormatError as error:
            odd.append(str(error))
    if odd or not files or folder in EMBEDDED.values():
        return total if files else None, odd
    try:
        read = weight_files(folder, config)
        odd += [f"{shown(path.name)} holds weights that are not read" for path in files if path not in read]
        tensors = stored(read)
        odd += _few(_misfits(folder, config, spec, tensors))
        odd += _few(_not_numbers(tensors))
    except P2LError as error:
        odd.append(str(error))
    return total, odd


def _few(sentences: Iterator[str]) -> Iterator[str]:
    """The first sentences, and how many more there are."""
    more = 0
    for i, sentence in enumerate(sentences):
        if i < _MOST:
            yield sentence
        more = i + 1 - _MOST
    if more > 0:
        yield f"and {more:,} more tensors of this kind"


def _misfits(
    folder: Path, config: dict[str, Any], spec: ModelSpec | None, tensors: Mapping[str, Stored]
) -> Iterator[str]:
    if is_lmarena(config):
        with _torch() as torch_is_there:
            if torch_is_there:
                from p2l_sdk.scorers.lmarena import check

                check(folder, config)
        return
    if spec is None:
        return
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / WEIGHTS).is_file():
        yield from _of_adapter(folder, config, spec, tensors)
    elif backbone_kind(config) == STATIC_BACKBONE:
        yield from _of_static(folder, config, spec, tensors)
    else:
        require_held(folder)
        with _torch() as torch_is_there:
            if torch_is_there:
                from p2l_sdk.scorers.transformer import shapes_report

                yield from shapes_report(folder)
    check_familiarity(read_ending(folder, [n for n in tensors if n.startswith(("head.familiarity.", "head.variance"))]))


@contextlib.contextmanager
def _torch() -> Iterator[bool]:
    """Context manager that yields whether torch, transformers and accelerate are installed, and keeps what they say of
    a model to themselves."""
    try:
        import accelerate  # type: ignore[import-untyped]  # noqa: F401
        from transformers.utils import logging
    except ImportError:
        yield False
        return
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield True
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _of_static(folder: Path, config: dict[str, Any], spec: ModelSpec, tensors: Mapping[str, Stored]) -> Iterator[str]:
    from p2l_sdk.scorers.static import TABLES, tensor_shapes

    expected = tensor_shapes(spec, config["backbone_config"])
    found = dict(tensors)
    if (folder / HEAD).is_file():
        found |= {n: t for n, t in stored([STATIC_MODEL / WEIGHTS]).items() if n.startswith("backbone.")}
    yield from differences({name: tensor.shape for name, tensor in found.items()}, expected)
    packed = config["backbone_config"].get("quantized")
    for name, tensor in found.items():
        wanted = {"I8"} if packed and name in TABLES else FLOATING - {"BF16"}
        if name in expected and tensor.dtype not in wanted:
            yield f"tensor {shown(name)} is of type {tensor.dtype}, and must be of {' or '.join(sorted(wanted))}"


def _of_adapter(folder: Path, config: dict[str, Any], spec: ModelSpec, tensors: Mapping[str, Stored]) -> Iterator[str]:
    """The head in full, and pairs of matrices of one rank each; which layers they belong to, the base says."""
    start, lora = "base_model.model.", (".lora_A.weight", ".lora_B.weight")
    if not tensors:
        yield f"there is no {ADAPTER}"
        return
    head = {n.removeprefix(start): t.shape for n, t in tensors.items() if n.startswith(f"{start}head.")}
    backbone = config["backbone_config"]
    width = backbone.get("hidden_size", (backbone.get("text_config") or {}).get("hidden_size"))
    first = next((head[n] for n in ("head.norm.weight", "head.hidden.weight") if n in head), None)
    if not isinstance(width, int) or isinstance(width, bool):
        first = first or head.get("head.coefs.weight", (0,))
        width = first[-1] if first else 0
    yield from differences(head, head_shapes(spec, width))
    rank = read_json(folder / ADAPTER_CONFIG, dict).get("r")
    for name, tensor in sorted(tensors.items()):
        kind = next((end for end in lora if name.endswith(end)), None)
        if tensor.dtype not in FLOATING:
            yield f"tensor {shown(name)} is of type {tensor.dtype}, and must be floating"
        if kind is None and ".lora_" not in name and not name.startswith(f"{start}head."):
            yield f"{ADAPTER} has the tensor {shown(name)}, which is neither of a LoRA nor of the head"
        if kind is not None:
            other = tensors.get(name.removesuffix(kind) + lora[1 - lora.index(kind)])
            if other is None:
                yield f"{ADAPTER} has the tensor {shown(name)}, and not the other one of its pair"
            elif kind == lora[0] and tensor.shape[:1] != other.shape[1:2]:
                yield f"tensor {shown(name)} has the shape {shown(tensor.shape)}, its pair {shown(other.shape)}"
    ranks = {t.shape[0] for n, t in tensors.items() if n.endswith(lora[0]) and t.shape}
    if ranks and rank not in ranks and not read_json(folder / ADAPTER_CONFIG, dict).get("rank_pattern"):
        yield f"{ADAPTER_CONFIG} has the rank {shown(rank)}, and the weights {shown(min(ranks))}"


def _not_numbers(tensors: Mapping[str, Stored]) -> Iterator[str]:
    for name, tensor in sorted(tensors.items()):
        if not is_finite(tensor):
            yield f"tensor {shown(name)} holds NaN or infinite values"
