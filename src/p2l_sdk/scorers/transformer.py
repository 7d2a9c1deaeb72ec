"""Any backbone in torch: `P2LModel` of `modeling/`, on batches sorted by length to keep padding low."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError

from p2l_sdk.errors import ModelFormatError, P2LError
from p2l_sdk.hub.access import HubAccess
from p2l_sdk.hub.config import is_native, read_config
from p2l_sdk.hub.tensors import require_held
from p2l_sdk.hub.weights import FLOATING, stored, weight_files
from p2l_sdk.leaderboards.leaderboard import Coefficients, Kinds
from p2l_sdk.modeling.familiarity_p2l import TENSORS
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.modeling.prompt_p2l import Prompt, PromptEncoder, batches, pad, padding_id
from p2l_sdk.modeling.spec_p2l import ADAPTER_CONFIG, ModelSpec
from p2l_sdk.scorers import auto_classes, lmarena
from p2l_sdk.scorers.backbone import saved_tokenizer
from p2l_sdk.scorers.head import check_familiarity

_PROBLEMS = {
    "missing_keys": "the weights lack the tensor",
    "unexpected_keys": "config.json knows nothing of the tensor",
    "error_msgs": "a tensor cannot be read:",
}

_T = TypeVar("_T")

auto_classes.register()


class TransformerScorer:
    """Scores prompts with a `P2LModel`.

    Args:
        model: the model; it is set to evaluation mode.
        tokenizer: its transformers tokenizer.
        batch_size: maximum number of prompts in one forward pass.

    Attributes:
        pad_id: the token id that fills up short prompts.
    """

    def __init__(self, model: P2LModel, tokenizer: Any, batch_size: int = 32) -> None:
        self.spec: ModelSpec = model.spec
        self.model = model.eval()
        self._tokenizer = tokenizer
        self.encoder = self._encode = PromptEncoder.from_transformers(self.spec, tokenizer, model.n_embeddings)
        self.pad_id = padding_id(tokenizer, model.n_embeddings)
        self._batch_size = batch_size

    @classmethod
    def load(
        cls,
        folder: Path,
        config: dict[str, Any],
        device: str | None = None,
        base: str | None = None,
        access: HubAccess | None = None,
    ) -> TransformerScorer:
        """Load from a saved folder, which may hold an adapter; arguments as in `load_scorer`.

        Raises:
            HubError: the base of an adapter cannot be fetched from the Hub.
            MissingExtraError: this is an adapter, and peft is not installed.
            ModelFormatError: a file is missing or damaged, a tensor is missing, left over or of the wrong shape, or
                `base` is given for a model that is not an adapter.
            P2LError: the device cannot be used.
        """
        _on(device, lambda place: torch.empty(1, device=place))  # before weights are fetched and read
        adapter = (folder / ADAPTER_CONFIG).is_file()
        if base is not None and not adapter:
            raise ModelFormatError(f"{str(folder)!r} is a whole model, no adapter: it takes no base")
        if not is_native(config):
            model, tokenizer = lmarena.load(folder, config)
        else:
            ModelSpec.from_config(config)
            if adapter:
                from p2l_sdk.scorers.adapter import load_adapter

                model = load_adapter(folder, base, access)
            else:
                model = _whole_model(folder)
            tokenizer = saved_tokenizer(folder)
        _check_numbers(model)
        scorer = _on(device, lambda place: cls(model.to(place), tokenizer))
        scorer.warm_up()
        return scorer

    def warm_up(self) -> None:
        """Score two tokens, so that the first prompt does not wait for what torch does once: kernels, memory."""
        ids = torch.zeros((1, 2), dtype=torch.long, device=self.model.device)
        with torch.inference_mode(), contextlib.suppress(Exception):  # what fails will fail for the first prompt, too
            self.model(input_ids=ids, attention_mask=torch.ones_like(ids))

    def save(self, folder: Path) -> None:
        """Write weights, config, code and tokenizer in the native layout, whatever layout they were loaded from."""
        self.save_weights(folder)
        self.save_tokenizer(folder)

    def save_weights(self, folder: Path) -> None:
        """Write weights, config and code in the native layout; those of an adapter are merged into its base."""
        self.model.save_pretrained(folder)

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer and its chat template."""
        self._tokenizer.save_pretrained(folder)

    def token_ids(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The token ids of each prompt; see `PromptEncoder`."""
        return self._encode(prompts)

    @property
    def special_tokens(self) -> dict[str, Any]:
        """The tokenizer's special tokens by name, which its chat template may write."""
        return dict(self._tokenizer.special_tokens_map)

    def score(self, prompts: Sequence[Prompt]) -> Coefficients:
        """Coefficients of a batch of prompts, float32.

        Raises:
            ModelFormatError: a coefficient is NaN or infinite.
        """
        scored, _ = self._run(prompts)
        if not np.isfinite(scored.coefs).all():
            raise ModelFormatError("the model gives NaN or infinite coefficients; its weights are damaged, or overflow")
        return scored

    def features(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """The inputs of the last layer, `(n_prompts, width)` float32."""
        return self._features(self._run(prompts)[1])

    def pooled(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """The inputs of the head: the prompts' pooled states, `(n_prompts, hidden_size)` float32."""
        return self._run(prompts)[1].float().cpu().numpy()

    def score_pooled(self, pooled: np.ndarray) -> Coefficients:
        """Apply the head: `score` for prompts with these pooled states, without their familiarity."""
        return self.score_features(self._features(torch.from_numpy(pooled).to(self.model.device)))

    def score_features(self, features: np.ndarray) -> Coefficients:
        """Apply only the last layer: `score` for prompts with these features."""
        head = self.model.head
        state = torch.from_numpy(features).to(head.coefs.weight)

        def output(layer: Any) -> np.ndarray:
            with torch.inference_mode():
                return layer(state).float().cpu().numpy()

        eta, gamma = (None if layer is None else output(layer) for layer in (head.eta, head.gamma))
        return Coefficients(output(head.coefs), eta, gamma, self._kinds(features))

    @property
    def group_error(self) -> np.ndarray | None:
        """See `group_error_of`."""
        known = self.model.head.familiarity
        return None if known is None else known.error.float().cpu().numpy()

    @property
    def rows(self) -> np.ndarray:
        """The LLMs' rows of the last layer, `(n_models, width + 1)` float32; the last column is the bias."""
        layer = self.model.head.coefs
        return torch.cat([layer.weight, layer.bias[:, None]], 1).detach().float().cpu().numpy()

    @property
    def variance(self) -> np.ndarray | None:
        """How uncertain these numbers are, `(n_models, width + 1)` in squared logits; None without kinds."""
        return self.model.head.variance.float().cpu().numpy() if self.spec.kinds else None

    def with_rows(self, spec: ModelSpec, rows: np.ndarray, variance: np.ndarray | None = None) -> TransformerScorer:
        """The same model with the LLMs of `spec` and their rows (and variances), in the head's dtype; all else is
        shared."""
        edited = copy.copy(self)
        edited.model = shallow_copy(self.model)
        edited.spec = edited.model.spec = spec
        edited.model.config = copy.deepcopy(self.model.config)
        edited.model.config.update(spec.to_dict())
        edited.model.head = shallow_copy(self.model.head)
        values = torch.from_numpy(np.asarray(rows)).to(self.model.head.coefs.weight)
        layer = torch.nn.Linear(values.shape[1] - 1, len(values), device=values.device, dtype=values.dtype)
        layer.weight.data, layer.bias.data = values[:, :-1].contiguous(), values[:, -1].contiguous()
        edited.model.head.coefs = layer
        if spec.kinds:
            edited.model.head.__dict__["_buffers"] = {"variance": torch.from_numpy(np.asarray(variance)).to(values)}
        return edited

    def _run(self, prompts: Sequence[Prompt]) -> tuple[Coefficients, torch.Tensor]:
        """Coefficients, and the pooled states that are the input of the head."""
        ids = self._encode(prompts)
        parts, states, by_length = [], [], []
        for places in batches(ids, self._batch_size):
            by_length += places
            input_ids, mask = pad([ids[i] for i in places], self.pad_id)
            with torch.inference_mode():
                out = self.model(
                    input_ids=torch.from_numpy(input_ids).to(self.model.device),
                    attention_mask=torch.from_numpy(mask).to(self.model.device),
                )
            eta, gamma = (None if x is None else x.cpu().numpy() for x in (out.eta, out.gamma))
            familiar = None if out.familiarity is None else out.familiarity.cpu().numpy()
            parts.append(Coefficients(out.coefs.cpu().numpy(), eta, gamma, familiarity=familiar))
            states.append(out.hidden_state)
        order = np.argsort(by_length)
        scored, pooled = Coefficients.concatenate(parts)[order], torch.cat(states)[torch.from_numpy(order)]
        return replace(scored, kinds=self._kinds(self._features(pooled))) if self.spec.kinds else scored, pooled

    def _features(self, states: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return self.model.head.features(states.to(self.model.head.coefs.weight.dtype)).float().cpu().numpy()

    def _kinds(self, features: np.ndarray) -> Kinds | None:
        variance = self.variance
        return None if variance is None else Kinds(self.spec.kinds, features, variance)


def shallow_copy(module: Any) -> Any:
    """A module that shares its parameters with the original, but whose submodules can be replaced independently."""
    copied = copy.copy(module)
    copied.__dict__["_modules"] = dict(module._modules)
    return copied


def _on(device: str | None, work: Callable[[torch.device], _T]) -> _T:
    """The result of work that needs a torch device, the CPU if none is named."""
    try:
        place = torch.device(device or "cpu")
        if place.type == "meta":
            raise RuntimeError("it holds no numbers")
        return work(place)
    except (RuntimeError, AssertionError) as error:
        raise P2LError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error


def _check_numbers(model: P2LModel) -> None:
    """Raise ModelFormatError if a weight is NaN or infinite, which attention may hide, or is none of the head."""
    for name, tensor in model.state_dict().items():
        # without a copy; NaN spreads to both
        if tensor.numel() and tensor.is_floating_point() and not all(map(torch.isfinite, torch.aminmax(tensor))):
            raise ModelFormatError(f"tensor {name!r} holds NaN or infinite values; the weights are damaged")
    known = {name: getattr(model.head.familiarity, name) for name in TENSORS} if model.head.familiarity else {}
    arrays = {f"head.familiarity.{name}": tensor.float().cpu().numpy() for name, tensor in known.items()}
    if model.spec.kinds:
        arrays["head.variance"] = model.head.variance.float().cpu().numpy()
    check_familiarity(arrays)


def _whole_model(folder: Path) -> P2LModel:
    try:
        require_held(folder)
        model, report = P2LModel.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except ModelFormatError:
        raise
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise ModelFormatError(f"{str(folder)!r} is no whole P2L model: {error}") from None
    types = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    for problem in misfits(folder, read_config(folder), report, types):
        raise ModelFormatError(f"weights and config of {str(folder)!r} do not belong together: {problem}")
    return model


def misfits(
    folder: Path, config: dict[str, Any], report: dict[str, Any], types: Mapping[str, torch.dtype]
) -> Iterator[str]:
    """What of a folder's weights does not fit the model that its config asks for, a sentence each.

    Args:
        folder, config: the model's, in the native layout.
        report: of transformers on loading it.
        types: of the model's tensors.
    """
    for problem, says in _PROBLEMS.items():
        for name in sorted(map(str, report.get(problem) or ())):
            yield f"{says} {shown(name)}"
    for name, found, expected in sorted(report.get("mismatched_keys") or ()):
        shapes = (tuple(found), tuple(expected))
        yield f"tensor {shown(name)} has the shape {shown(shapes[0])}, and config.json asks for {shown(shapes[1])}"
    for name, tensor in sorted(stored(weight_files(folder, config)).items()):
        wanted = types.get(name)
        if tensor.dtype not in FLOATING and (wanted is None or wanted.is_floating_point):
            yield f"tensor {shown(name)} is of type {tensor.dtype}, and must be floating"


def shapes_report(folder: Path) -> list[str]:
    """What `misfits` says of a model in the native layout, whose weights are not read for it.

    Raises:
        ImportError: accelerate is not installed.
        ModelFormatError: it is no model that transformers can build.
    """
    try:
        model, report = P2LModel.from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            device_map="meta",  # names, shapes and types alone
        )
    except (ImportError, ModelFormatError):
        raise
    except Exception as error:  # for values that no model has, libraries raise errors of their own kinds
        raise ModelFormatError(f"no model can be built from config.json: {shown(error)}") from None
    types = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    return list(misfits(folder, read_config(folder), report, types))
