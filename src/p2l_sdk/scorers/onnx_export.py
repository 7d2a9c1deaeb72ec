"""Writing a model as an ONNX file beside its weights, by torch's own exporter, and comparing the two.

The graph goes from token ids to coefficients: backbone, pooling and head. With int8, the matrix products of the
backbone are in 8 bits (`onnx_int8.py`): the inputs in one term, or in two where one changes too much.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p2l_sdk.errors import MissingExtraError, ModelFormatError, P2LError
from p2l_sdk.hub.config import is_native, read_config
from p2l_sdk.hub.onnx_files import ONNX_DATA, ONNX_FILE, ONNX_FILES, ONNX_REPORT, inspect_onnx
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.modeling.prompt_p2l import Prompt, pad
from p2l_sdk.outputs.files import new_file
from p2l_sdk.outputs.leftovers import scratch_folder
from p2l_sdk.scorers.onnx_int8 import second_moments, write_int8
from p2l_sdk.scorers.onnx_prompts import trying_prompts
from p2l_sdk.scorers.onnx_scorer import INPUTS, OUTPUTS, STATE, OnnxScorer, head_tensors, identity
from p2l_sdk.scorers.transformer import TransformerScorer, shallow_copy

_OPSET = 23  # the first that has attention as one operator
_LEAST_EQUAL = 0.99  # share of the prompts whose best LLM must stay the same
_LARGEST = 1_900_000_000  # bytes of weights in one protocol buffer, which holds 2 GiB
_BATCH = 256  # prompts compared at a time


@dataclass(frozen=True, kw_only=True)
class OnnxExport:
    """An exported model, and how it compares with torch.

    Attributes:
        precision: "int8" or "float32".
        bytes: of the ONNX file and its data.
        prompts: number of prompts compared.
        largest_difference: of a coefficient, in logits.
        equal_routes: share of the prompts with the same best LLM, in [0, 1].
    """

    precision: str
    bytes: int
    prompts: int
    largest_difference: float
    equal_routes: float


def export_onnx(
    scorer: Any, folder: Path, *, int8: bool = False, force: bool = False, prompts: Sequence[Prompt] | None = None
) -> OnnxExport:
    """Write `model.onnx` and `onnx.json` to a model's folder; what is there of an earlier export is replaced.

    Args:
        scorer: of the folder, in torch.
        folder: of the model or adapter.
        int8: whether to quantise.
        force: write an int8 model, too, that changes the best LLM of more than 1 % of the prompts.
        prompts: to compare with; None for built-in ones.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        ModelFormatError: torch cannot export the model, or what it exports is not the model.
        P2LError: int8 changes too much; nothing is written.
    """
    if not isinstance(scorer, TransformerScorer) or not is_native(read_config(folder)):
        raise P2LError(
            f"{str(folder)!r} has no text backbone in p2l-sdk's own layout, and only such are exported: a static model "
            "is as fast without, and a checkpoint in lmarena's layout becomes one by p2l convert"
        )
    _require_packages()
    asked = list(trying_prompts() if prompts is None else prompts)
    if not asked:
        raise P2LError("there are no prompts to compare the exported model on; give at least one")
    weights = head_tensors(folder, scorer.spec)
    with scratch_folder() as place:
        _write_graph(scorer, graph := place / ONNX_FILE)
        moments = second_moments(scorer, asked) if int8 else {}
        for terms in (1, 2) if int8 else (0,):
            (made := place / f"terms{terms}").mkdir()
            if terms:
                write_int8(graph, made / ONNX_FILE, moments, terms=terms)
            tried = made / ONNX_FILE if terms else graph
            report = _report(scorer, tried, weights, "int8" if int8 else "float32")
            exported = OnnxScorer.load(_beside(folder, tried, report, made / "trial"), read_config(folder))
            found = _compared(scorer, exported, asked, report["precision"], tried)
            if found.equal_routes >= _LEAST_EQUAL:
                break
        if found.equal_routes < _LEAST_EQUAL and not (int8 and force):
            raise _unlike(found)
        report["comparison"] = {**asdict(found), "with": "built-in prompts" if prompts is None else "own prompts"}
        _put(tried, report, folder)
    return found


def _report(scorer: TransformerScorer, graph: Path, weights: dict[str, np.ndarray], precision: str) -> dict[str, Any]:
    """What the runtime needs to know beside the graph, and where it comes from."""
    inspect_onnx(graph)
    return {
        "file": ONNX_FILE,
        "precision": precision,
        "bytes": graph.stat().st_size,
        "model": identity(scorer.spec, weights),
        "pad_id": scorer.pad_id,
        "n_embeddings": scorer.model.n_embeddings,
        "special_tokens": scorer.special_tokens,
        "made_with": {name: version(name) for name in ("p2l-sdk", "torch", "transformers", "onnxruntime")},
    }


def _require_packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(name) is None:
            raise MissingExtraError("p2l export --runtime onnx", name, "onnx-export")


class _Graph(torch.nn.Module):
    """What is exported: a P2L model with its outputs as a tuple."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = self.model(input_ids=input_ids, attention_mask=attention_mask)
        found = (getattr(out, name) for name in OUTPUTS)
        return (*(value for value in found if value is not None), out.hidden_state.float())


class _Positioned(torch.nn.Module):
    """A backbone with rotary positions that are given for each prompt: those that it makes itself are the same for all,
    and onnxruntime does not spread them."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone, self.config = backbone, backbone.config

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        places = torch.arange(input_ids.shape[1], device=input_ids.device).expand(input_ids.shape)
        return self.backbone(input_ids=input_ids, attention_mask=attention_mask, position_ids=places)


def _write_graph(scorer: TransformerScorer, file: Path) -> None:
    """Export the model, with any number of prompts and tokens."""
    model, spec = shallow_copy(scorer.model), scorer.spec
    if hasattr(model.backbone, "rotary_emb"):
        model.backbone = _Positioned(model.backbone)
    ids, mask = (
        torch.from_numpy(x).to(model.device) for x in pad(scorer.token_ids(trying_prompts()[:3]), scorer.pad_id)
    )
    has = (True, spec.feedback.has_eta, spec.feedback.has_gamma, bool(spec.familiarity))
    names = [name for name, there in zip(OUTPUTS, has, strict=True) if there]
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    large = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()) > _LARGEST
    try:
        with _quiet():
            program = torch.onnx.export(
                _Graph(model).eval(),
                (ids, mask),
                input_names=list(INPUTS),
                output_names=[*names, STATE],
                opset_version=_OPSET,
                dynamo=True,
                dynamic_shapes=(sizes, sizes),
                verbose=False,
            )
            program.save(file, external_data=large)  # type: ignore[union-attr]
    except Exception as error:  # of many kinds: the exporter follows every line of the architecture
        cause = error.__cause__ or error
        raise ModelFormatError(
            f"torch cannot export a {model.config.backbone_config.model_type} backbone: {type(cause).__name__} "
            f"{shown(cause)}"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context manager in which torch's exporter and the quantiser say nothing: not a word of theirs is for users."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _beside(folder: Path, graph: Path, report: dict[str, Any], trial: Path) -> Path:
    """A folder as it will be: links to the model's files, and the graph."""
    trial.mkdir()
    for path in folder.iterdir():
        if path.is_file() and path.name not in ONNX_FILES:
            _link(path.resolve(), trial / path.name)
    for path in graph.parent.glob(f"{ONNX_FILE}*"):
        _link(path, trial / path.name, soft=False)
    (trial / ONNX_REPORT).write_text(json.dumps(report), encoding="utf-8")
    return trial


def _link(source: Path, target: Path, soft: bool = True) -> None:
    try:
        (target.symlink_to if soft else target.hardlink_to)(source)
    except OSError:  # a system without links
        shutil.copyfile(source, target)


def _compared(
    scorer: TransformerScorer, exported: OnnxScorer, prompts: Sequence[Prompt], precision: str, graph: Path
) -> OnnxExport:
    """Compare the two models on prompts; ModelFormatError if they do not even read the same tokens."""
    if exported.token_ids(prompts) != scorer.token_ids(prompts):
        raise ModelFormatError(
            "without transformers, the tokenizer of this model reads other tokens: tokenizer.json does not say all "
            "that tokenizer_config.json does. Save it again with AutoTokenizer.from_pretrained and save_pretrained"
        )
    largest, equal = 0.0, 0
    for start in range(0, len(prompts), _BATCH):
        part = prompts[start : start + _BATCH]
        ours, theirs = scorer.score(part).coefs, exported.score(part).coefs
        largest = max(largest, float(np.abs(ours - theirs).max()))
        equal += int((ours.argmax(1) == theirs.argmax(1)).sum())
    return OnnxExport(
        precision=precision,
        bytes=sum(path.stat().st_size for path in graph.parent.glob(f"{ONNX_FILE}*")),
        prompts=len(prompts),
        largest_difference=largest,
        equal_routes=equal / len(prompts),
    )


def _unlike(found: OnnxExport) -> P2LError:
    text = (
        f"the {found.precision} model has another best LLM than torch's for {1 - found.equal_routes:.1%} of "
        f"{found.prompts} prompts, and coefficients up to {found.largest_difference:.2g} apart; at most "
        f"{1 - _LEAST_EQUAL:.0%} is legal, and nothing was written"
    )
    if found.precision == "float32":
        return ModelFormatError(f"{text}: torch's exporter does not know this architecture")
    return P2LError(
        f"{text}. Export without --int8; compare on your own prompts (--prompts FILE); or write it all the same "
        "(--force)"
    )


def _put(graph: Path, report: dict[str, Any], folder: Path) -> None:
    """Put graph and report in their place, the report last: without one that fits, a graph is not used."""
    data = graph.parent / ONNX_DATA
    writers: dict[str, Callable[[Path], Any]] = {ONNX_DATA: lambda path: shutil.copyfile(data, path)}
    if not data.is_file():
        (folder / ONNX_DATA).unlink(missing_ok=True)
        writers = {}
    writers |= {
        ONNX_FILE: lambda path: shutil.copyfile(graph, path),
        ONNX_REPORT: lambda path: path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8"),
    }
    for name, write in writers.items():
        with new_file(folder / name) as partial:
            write(partial)
