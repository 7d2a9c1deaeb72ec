"""A model run by onnxruntime or OpenVINO, without torch: `P2L.from_pretrained(folder, runtime="onnx")`.

`p2l export --runtime onnx` (`scorers/onnx_export.py`) writes the graph, from token ids to coefficients, beside the
weights; of these, only the head is read here, for what the graph does not say. Prompts become token ids by the same
code as for torch (`PromptEncoder`), and are batched by length. Needs tokenizers, numpy and the runtime; jinja2 for a
chat template.

With a second graph, in 8 bits, all prompts are scored by that one first, and those whose best two LLMs are near to each
other again by the first, in float32: of these, nothing of the 8 bits is left.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import thread_time
from typing import Any, Self

import numpy as np

from p2l_sdk.errors import MissingExtraError, ModelFormatError
from p2l_sdk.hub.config import chat_template
from p2l_sdk.hub.onnx_files import ONNX_FILE, ONNX_INT8, ONNX_REPORT, inspect_onnx
from p2l_sdk.hub.tensors import read_ending
from p2l_sdk.leaderboards.leaderboard import Coefficients, Kinds
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.limits_p2l import read_json, shown
from p2l_sdk.modeling.number_p2l import to_number
from p2l_sdk.modeling.prompt_p2l import Prompt, PromptEncoder, pad
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.scorers.head import NumpyHead, head_shapes
from p2l_sdk.scorers.onnx_sessions import Runtime, Session, open_session
from p2l_sdk.scorers.static import read_tokenizer

INPUTS = ("input_ids", "attention_mask")
STATE = "state"  # the output that is the head's input
OUTPUTS = ("coefs", "eta", "gamma", "familiarity")  # the others, as far as the model has them
_QUICK_TOKENS, _QUICK_SECONDS = 32, 0.0005
_BATCH, _TOKENS = 32, 1024  # of one pass: more tokens leave the processor's cache, and are slower each
_PASS = 64  # tokens that take as long as what a pass takes whatever it reads


class OnnxScorer(NumpyHead):
    """Scores prompts with an exported graph.

    Args:
        spec: the model's spec.
        weights: its tensors `head.*`.
        encoder: its prompt encoder.
        session: the graph.
        pad_id: the token id that fills up short prompts.

    Attributes:
        rough: a graph for a first look at all prompts; None if there is but one graph.
        near: logits that the best LLM must be ahead after the first look; else the prompt is scored again.
        quick: whether a short prompt takes less time than handing it to a thread would, as for two small layers;
            measured on loading.
    """

    quick = False

    def __init__(
        self, spec: ModelSpec, weights: Mapping[str, np.ndarray], encoder: PromptEncoder, session: Session, pad_id: int
    ) -> None:
        super().__init__(spec, weights)
        self.encoder = self.token_ids = encoder
        self._session, self._pad_id = session, pad_id
        self.rough: Session | None = None
        self.near = 0.0
        self._own_head = False  # whether the head is computed here, and not in the graph

    @classmethod
    def load(
        cls,
        folder: Path,
        config: dict[str, Any],
        runtime: Runtime = Runtime.ONNX,
        threads: int | None = None,
    ) -> Self:
        """Load from a folder with an exported graph.

        Args:
            folder: as written by `save_pretrained`, and by `p2l export --runtime onnx` after that.
            config: its parsed `config.json`.
            runtime: what runs it, onnxruntime or OpenVINO.
            threads: that compute; None for `default_threads`.

        Raises:
            MissingExtraError: the runtime is not installed; or jinja2 is not, and the model has a chat template.
            ModelFormatError: there is no graph, it is that of another model, or a file is damaged or refused.
        """
        spec, file, int8 = ModelSpec.from_config(config), folder / ONNX_FILE, folder / ONNX_INT8
        if not file.is_file() or not (folder / ONNX_REPORT).is_file():
            raise ModelFormatError(
                f"{str(folder)!r} has no {ONNX_FILE} with its {ONNX_REPORT}; write them: "
                f"p2l export {folder} --runtime onnx"
            )
        report = read_json(folder / ONNX_REPORT, dict)
        weights = head_tensors(folder, spec)
        fits = report.get("model") == identity(spec, weights) and report.get("bytes") == file.stat().st_size
        if not fits or (int8.is_file() and report.get("int8_bytes") != int8.stat().st_size):
            raise ModelFormatError(
                f"{str(file)!r} was exported from another model than that of its folder, which was edited or trained "
                f"since; write it again: p2l export {folder} --runtime onnx"
            )
        render = _renderer(folder, report) if spec.chat else None
        pad_id, n_embeddings = (_count(report, name) for name in ("pad_id", "n_embeddings"))
        encoder = PromptEncoder(spec, read_tokenizer(folder), render, n_embeddings)
        inspect_onnx(file)
        scorer = cls(spec, weights, encoder, open_session(file, runtime, threads), pad_id or 0)
        if int8.is_file() and runtime is Runtime.ONNX:  # OpenVINO is slow with it
            inspect_onnx(int8)
            scorer.rough, scorer.near = open_session(int8, runtime, threads), to_number(report.get("near"))
        scorer.require_fitting(str(folder))
        scorer._own_head = runtime is Runtime.OPENVINO  # bfloat16's 8 bits are too few for coefficients
        return scorer

    @property
    def sessions(self) -> list[Session]:
        """The graphs that prompts go through."""
        return [self._session] if self.rough is None else [self.rough, self._session]

    def require_fitting(self, name: str) -> None:
        """Try the graphs, which makes them warm, too.

        Raises:
            ModelFormatError: the inputs, the outputs or their shapes are not those of this model; `name` names it.
        """
        feedback, spec = self.spec.feedback, self.spec
        has = (True, feedback.has_eta, feedback.has_gamma, bool(spec.familiarity))
        wanted = {STATE, *(output for output, there in zip(OUTPUTS, has, strict=True) if there)}
        expected = {"coefs": (2, len(spec.models)), "eta": (2, 1), "gamma": (2, 1), "familiarity": (2,)}
        expected |= {STATE: (2, self._width())}
        for session in self.sessions:
            if set(session.inputs) != set(INPUTS) or set(session.outputs) != wanted:
                raise ModelFormatError(
                    f"{name!r} has no graph of this model: it goes from {shown(sorted(session.inputs))} to "
                    f"{shown(sorted(session.outputs))}"
                )
            tried = self.run_ids(np.zeros((2, 3), dtype=np.int64), np.ones((2, 3), dtype=np.int64), session)
            shapes = {output: value.shape for output, value in tried.items()}
            if shapes != {output: expected[output] for output in wanted}:
                raise ModelFormatError(
                    f"{name!r} has no graph of this model: its outputs have the shapes {shown(shapes)}"
                )
        self.quick = self._least_seconds() < _QUICK_SECONDS

    def _least_seconds(self) -> float:
        """Of this thread's processor time, for a short prompt that is scored by all graphs."""
        n_tokens, seconds = min(_QUICK_TOKENS, self.spec.max_prompt_tokens), []
        for _ in range(3):
            started = thread_time()
            for session in self.sessions:
                self.run_ids(np.zeros((1, n_tokens), dtype=np.int64), np.ones((1, n_tokens), dtype=np.int64), session)
            seconds.append(thread_time() - started)
        return min(seconds)

    def score(self, prompts: Sequence[Prompt]) -> Coefficients:
        """Coefficients of a batch of prompts, float32.

        Raises:
            ModelFormatError: a coefficient is NaN or infinite.
        """
        if self._own_head:
            return super().score(prompts)
        out = self._run(prompts)
        if not np.isfinite(out["coefs"]).all():
            raise ModelFormatError("the model gives NaN or infinite coefficients; its weights are damaged, or overflow")
        kinds = None
        if self.variance is not None:
            kinds = Kinds(self.spec.kinds, self._features(out[STATE], None), self.variance)
        return Coefficients(
            out["coefs"], out.get("eta"), out.get("gamma"), kinds=kinds, familiarity=out.get("familiarity")
        )

    def pooled(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """The inputs of the head: the prompts' pooled states, `(n_prompts, hidden_size)` float32."""
        return self._run(prompts)[STATE]

    def with_rows(self, spec: ModelSpec, rows: np.ndarray, variance: np.ndarray | None = None) -> Self:
        """The same model with the LLMs of `spec` and their rows (and variances), in float32; all else is shared."""
        return self._as_edited(super().with_rows(spec, rows, variance))

    def with_feedback(self, feedback: Feedback, eta: float | None) -> Self:
        """A model of `bt` or `bt_tie` with another feedback model, whose eta is the same for every prompt."""
        return self._as_edited(super().with_feedback(feedback, eta))

    @staticmethod
    def _as_edited(scorer: Any) -> Any:
        scorer._own_head = True
        scorer.rough = None  # which prompts are near was measured for the LLMs that there were
        return scorer

    def _width(self) -> int:
        """Of the head's input."""
        if self._norm is not None:
            return len(self._norm[0])
        if self._hidden is not None:
            return len(self._hidden[0])
        return len(self._kinds[0]) if self._kinds is not None else len(self._out[0])

    def _run(self, prompts: Sequence[Prompt]) -> dict[str, np.ndarray]:
        """The graph's outputs for prompts, in their order."""
        ids = self.token_ids(prompts)
        if self.rough is None:
            return self._run_all(ids, self._session)
        found = self._run_all(ids, self.rough)
        near = np.flatnonzero(~(lead(found["coefs"]) >= self.near))  # NaN is near, too
        if len(near):
            for name, exact in self._run_all([ids[i] for i in near], self._session).items():
                found[name][near] = exact
        return found

    def _run_all(self, ids: Sequence[Sequence[int]], session: Session) -> dict[str, np.ndarray]:
        parts, by_length = [], []
        for places in self.passes(ids):
            by_length += places
            parts.append(self.run_ids(*self.filled([ids[i] for i in places]), session))
        order = np.argsort(by_length)
        return {name: np.concatenate([part[name] for part in parts])[order] for name in session.outputs}

    def passes(self, ids: Sequence[Sequence[int]]) -> list[list[int]]:
        """The places of prompts in the passes that read them, see `buckets`."""
        return buckets(ids, self._session.step)

    def filled(self, ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Padded token ids and attention mask, as wide as the session likes it; no wider than the backbone's limit."""
        input_ids, mask = pad(ids, self._pad_id)
        longest = input_ids.shape[1]
        more = min(-longest % self._session.step, max(0, self.spec.max_prompt_tokens - longest))
        if not more:
            return input_ids, mask
        sides = ((0, 0), (0, more))
        return np.pad(input_ids, sides, constant_values=self._pad_id), np.pad(mask, sides)

    def run_ids(self, input_ids: np.ndarray, mask: np.ndarray, session: Session | None = None) -> dict[str, np.ndarray]:
        """A graph's outputs for padded token ids and their mask, `(n_prompts, n_tokens)` int64, in one pass.

        Args:
            input_ids, mask: the tokens.
            session: of `sessions`; None for that in float32.

        Raises:
            ModelFormatError: the graph cannot be run.
        """
        session = session or self._session
        try:
            out = session(dict(zip(INPUTS, (input_ids, mask), strict=True)))
        except Exception as error:  # of many kinds
            raise ModelFormatError(f"the exported graph cannot be run: {shown(error)}") from None
        return dict(zip(session.outputs, out, strict=True))


def lead(coefs: np.ndarray) -> np.ndarray:
    """How far the best LLM of each prompt is ahead of the second, in logits; infinite for a model of one LLM."""
    if coefs.shape[1] < 2:
        return np.full(len(coefs), np.inf)
    second, first = np.partition(coefs, -2, axis=1)[:, -2:].T
    return np.asarray(first - second)


def buckets(ids: Sequence[Sequence[int]], step: int = 1) -> list[list[int]]:
    """The places of prompts in passes of like length, cut so that padding and what each pass costs are least.

    Args:
        ids: token ids of the prompts.
        step: of the session, which has planned for passes whose prompts and tokens are multiples of it sooner than for
            others; planning for a shape takes about as long as what any pass costs.
    """
    by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    own = [_PASS if size % step == 0 else 2 * _PASS for size in range(_BATCH + 1)]
    least, sizes = [0.0], [0]  # of the shortest prompts: the tokens that they cost, and how many the last pass reads
    for end, place in enumerate(by_length, 1):
        width = -(-len(ids[place]) // step) * step
        best, best_size = math.inf, 0
        for size in range(1, max(1, min(_BATCH, _TOKENS // width, end)) + 1):
            cost = least[end - size] + size * width + own[size]
            if cost < best:
                best, best_size = cost, size
        least.append(best)
        sizes.append(best_size)
    passes: list[list[int]] = []
    end = len(by_length)
    while end:
        passes.append(by_length[end - sizes[end] : end])
        end -= sizes[end]
    return passes


def head_tensors(folder: Path, spec: ModelSpec) -> dict[str, np.ndarray]:
    """The tensors `head.*` of a folder's weights, float32.

    Raises:
        ModelFormatError: one is missing, of the wrong shape, or not finite.
    """
    weights = read_ending(folder, head_shapes(spec, 1))
    first = "head.norm.weight" if spec.head_norm else "head.hidden.weight" if spec.head_hidden_size else None
    first = first or ("head.kinds.0.weight" if spec.kinds else "head.coefs.weight")
    shapes = head_shapes(spec, weights[first].shape[-1] if weights[first].ndim else 0)
    for name, tensor in weights.items():
        if tensor.shape != shapes[name]:
            raise ModelFormatError(
                f"tensor {name!r} has the shape {tensor.shape}, the config asks for {shapes[name]}; weights and config "
                "do not belong together"
            )
        if not np.isfinite(tensor).all():
            raise ModelFormatError(f"tensor {name!r} holds NaN or infinite values; the weights are damaged")
    return weights


def identity(spec: ModelSpec, weights: Mapping[str, np.ndarray]) -> str:
    """What tells a model from others: a hash of its spec but for the costs, and of its head, which no training leaves
    as it was."""
    fields = {name: value for name, value in spec.to_dict().items() if name != "costs"}
    found = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for name in sorted(weights):
        found.update(name.encode() + np.ascontiguousarray(weights[name]).tobytes())
    return found.hexdigest()


def _renderer(folder: Path, report: dict[str, Any]) -> Any:
    """What lays the chat template of a folder over a prompt, with the special tokens that the report lists."""
    try:
        from p2l_sdk.modeling.template_p2l import renderer
    except ImportError as error:
        raise MissingExtraError("a chat template", error.name or "jinja2", "onnx") from None
    source, tokens = chat_template(folder), report.get("special_tokens")
    if source is None:
        return None
    if not isinstance(tokens, dict) or not all(isinstance(token, str | list) for token in tokens.values()):
        raise ModelFormatError(f"{ONNX_REPORT} is damaged: special_tokens is {shown(tokens)}")
    render = renderer(source)
    return lambda turns: render(turns, **tokens)


def _count(report: dict[str, Any], name: str) -> int | None:
    value = report.get(name)
    if value is not None and (type(value) is not int or not 0 <= value < 1 << 31):
        raise ModelFormatError(f"{ONNX_REPORT} is damaged: {name} is {shown(value)}")
    return value
