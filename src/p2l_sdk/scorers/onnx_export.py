"""Writing a model as an ONNX file beside its weights, by torch's own exporter, and comparing the two.

The graph goes from token ids to coefficients: backbone, pooling and head. With int8, there is a second one for a first
look at each prompt, with the matrix products of the backbone in 8 bits (`onnx_int8.py`).
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from p2l_sdk.errors import MissingExtraError, ModelFormatError, P2LError
from p2l_sdk.hub.config import is_native, read_config
from p2l_sdk.hub.onnx_files import ONNX_FILE, ONNX_FILES, ONNX_INT8, ONNX_REPORT, graph_bytes, inspect_onnx
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.modeling.prompt_p2l import Prompt, pad
from p2l_sdk.outputs.files import new_file, require_file
from p2l_sdk.outputs.leftovers import scratch_folder
from p2l_sdk.scorers.batches import BATCH, in_batches
from p2l_sdk.scorers.encoder import n_cut, warn_of_cut
from p2l_sdk.scorers.onnx_graphs import MOST_BYTES, join_heads
from p2l_sdk.scorers.onnx_int8 import near_enough, seen_inputs, write_int8
from p2l_sdk.scorers.onnx_prompts import trying_prompts
from p2l_sdk.scorers.onnx_scorer import INPUTS, OUTPUTS, STATE, OnnxScorer, head_tensors, identity, lead
from p2l_sdk.scorers.transformer import TransformerScorer, shallow_copy

_OPSET = 23  # the first that has attention as one operator
_LEAST_EQUAL = 0.99  # share of the prompts whose best LLM must stay the same
_MOST_AGAIN = 0.5  # share of the prompts that may be scored in int8 and in float32: with more, float32 alone is faster


@dataclass(frozen=True, kw_only=True)
class OnnxExport:
    """An exported model, and how it compares with torch.

    Attributes:
        precision: "int8" or "float32".
        bytes: of the ONNX files and their data.
        prompts: number of prompts compared.
        scored_again: share of them that int8 leaves to float32, in [0, 1].
        largest_difference: of a coefficient, in logits.
        equal_routes: share of the prompts with the same best LLM, in [0, 1].
    """

    precision: str
    bytes: int
    prompts: int
    scored_again: float
    largest_difference: float
    equal_routes: float


def export_onnx(
    scorer: Any,
    folder: Path,
    *,
    int8: bool = False,
    force: bool = False,
    prompts: Sequence[Prompt] | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> OnnxExport:
    """Write `model.onnx` and `onnx.json` to a model's folder, and `model.int8.onnx` if asked for; what is there of an
    earlier export goes.

    Args:
        scorer: of the folder, in torch.
        folder: of the model or adapter.
        int8: whether to write the graph in 8 bits, too.
        force: write it as well if it changes the best LLM of more than 1 % of the prompts, or leaves more than half of
            them to float32.
        prompts: to compare with, and to fit the 8 bits to; None for built-in ones.
        progress: is told what is being done, and 0: of none of it is known how much is done.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        ModelFormatError: torch cannot export the model, or what it exports is not the model.
        P2LError: int8 changes too much, or has nothing to do; nothing is written. Or the folder cannot be written.

    Warns:
        P2LWarning: prompts that were given are longer than what the model reads.
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
    require_file(folder / ONNX_FILE)
    weights, doing = head_tensors(folder, scorer.spec), progress or (lambda what, done: None)
    with scratch_folder() as place:
        doing("writing the graph: torch's exporter takes up to some minutes", 0)
        _write_graph(scorer, place / ONNX_FILE)
        if int8:
            doing("rounding the weights to 8 bits", 0)
        if int8 and not write_int8(place / ONNX_FILE, place / ONNX_INT8, seen_inputs(scorer, asked)):
            raise P2LError(
                f"the graph of a {scorer.model.config.backbone_config.model_type} backbone has no matrix products that "
                "int8 can take; export without --int8"
            )
        doing(f"comparing with torch on {len(asked):,} prompts", 0)
        report = _report(scorer, place, weights)
        exported = OnnxScorer.load(_beside(folder, place, report), read_config(folder))
        found = replace(_compared(scorer, exported, asked), bytes=graph_bytes(place))
        worse = found.equal_routes < _LEAST_EQUAL or found.scored_again > _MOST_AGAIN
        if worse and not (int8 and force):
            raise _unlike(found)
        if int8:
            report["near"] = exported.near
        report["comparison"] = {**asdict(found), "with": "built-in prompts" if prompts is None else "own prompts"}
        _put(place, report, folder)
    if prompts is not None:  # of built-in ones, nobody can do anything about it
        before = n_cut(scorer)
        scorer.token_ids(asked)
        warn_of_cut(scorer, n_cut(scorer) - before, len(asked))
    return found


def _report(scorer: TransformerScorer, place: Path, weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """What the runtime needs to know beside the graphs, and where they come from."""
    int8 = place / ONNX_INT8
    for graph in (place / ONNX_FILE, *([int8] if int8.is_file() else [])):
        inspect_onnx(graph)
    return {
        "file": ONNX_FILE,
        "precision": "int8" if int8.is_file() else "float32",
        "bytes": (place / ONNX_FILE).stat().st_size,
        **({"int8_bytes": int8.stat().st_size, "near": 0.0} if int8.is_file() else {}),
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
    large = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()) > MOST_BYTES
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
            join_heads(file)
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


def _beside(folder: Path, place: Path, report: dict[str, Any]) -> Path:
    """A folder as it will be: links to the model's files, and the graphs."""
    (trial := place / "trial").mkdir()
    for path in folder.iterdir():
        if path.is_file() and path.name not in ONNX_FILES:
            _link(path.resolve(), trial / path.name)
    for name in ONNX_FILES:
        if (place / name).is_file():
            _link(place / name, trial / name, soft=False)
    (trial / ONNX_REPORT).write_text(json.dumps(report), encoding="utf-8")
    return trial


def _link(source: Path, target: Path, soft: bool = True) -> None:
    try:
        (target.symlink_to if soft else target.hardlink_to)(source)
    except OSError:  # a system without links
        shutil.copyfile(source, target)


def _compared(scorer: TransformerScorer, exported: OnnxScorer, prompts: Sequence[Prompt]) -> OnnxExport:
    """Compare the two models on prompts, and tell the exported one which are near; ModelFormatError if they do not even
    read the same tokens."""
    if exported.token_ids(prompts) != scorer.token_ids(prompts):
        raise ModelFormatError(
            "without transformers, the tokenizer of this model reads other tokens: tokenizer.json does not say all "
            "that tokenizer_config.json does. Save it again with AutoTokenizer.from_pretrained and save_pretrained"
        )
    theirs, again = _coefs(scorer, prompts), 0.0
    if int8 := exported.rough is not None:
        rough = _coefs(exported, prompts)
        exported.near = near_enough(rough, theirs)
        again = float((lead(rough) < exported.near).mean())
    ours = _coefs(exported, prompts)
    return OnnxExport(
        precision="int8" if int8 else "float32",
        bytes=0,
        prompts=len(prompts),
        scored_again=again,
        largest_difference=float(np.abs(ours - theirs).max()),
        equal_routes=float((ours.argmax(1) == theirs.argmax(1)).mean()),
    )


def _coefs(scorer: TransformerScorer | OnnxScorer, prompts: Sequence[Prompt]) -> np.ndarray:
    """In batches, as `score_in_batches`, without its warning: the same prompts are scored by two models, or three."""
    return np.concatenate([scorer.score(batch).coefs for batch in in_batches(prompts, BATCH)])


def _unlike(found: OnnxExport) -> P2LError:
    text = (
        f"the {found.precision} model has another best LLM than torch's for {1 - found.equal_routes:.1%} of "
        f"{found.prompts} prompts, and coefficients up to {found.largest_difference:.2g} apart; at most "
        f"{1 - _LEAST_EQUAL:.0%} is legal, and nothing was written"
    )
    if found.precision == "float32":
        return ModelFormatError(f"{text}: torch's exporter does not know this architecture")
    if found.scored_again > _MOST_AGAIN:
        text = (
            f"in 8 bits, the best LLM of {found.scored_again:.1%} of {found.prompts} prompts is not ahead enough to be "
            "told from the second, and they would be scored again in float32, which is slower than float32 alone; "
            "nothing was written"
        )
    return P2LError(
        f"{text}. Export without --int8; compare on your own prompts (--prompts FILE); or write it all the same "
        "(--force)"
    )


def _put(place: Path, report: dict[str, Any], folder: Path) -> None:
    """Put the graphs and their report in their place, the report last: without one that fits, no graph is used."""
    for name in ONNX_FILES:
        if name == ONNX_REPORT:
            with new_file(folder / name) as partial:
                partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        elif (place / name).is_file():
            with new_file(folder / name) as partial:
                shutil.copyfile(place / name, partial)
        else:
            (folder / name).unlink(missing_ok=True)
