"""Two transformers pipelines for a P2L model.

    pipeline("prompt-to-leaderboard", model, trust_remote_code=True)(prompt)   # the leaderboard, as in the SDK
    pipeline("text-classification", model, trust_remote_code=True)(prompt)     # labels and scores, as shown by widgets

A string or a conversation (chat messages) is one prompt and gives one result; a list of prompts gives a list; any other
iterable, such as a data set or a generator, gives a generator. Prompts are encoded and padded as in the SDK, whatever
the tokenizer's settings.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Pipeline

from .errors_p2l import ModelFormatError, P2LError, PromptError
from .feedback_p2l import Feedback
from .leaderboard_p2l import Z_95, chances, kind_errors, rows
from .prompt_p2l import Prompt, PromptEncoder, batches, pad, padding_id

if TYPE_CHECKING:  # transformers copies the files that this one names and, in old versions, no others: see spec_p2l
    from .adapter_p2l import is_adapter  # noqa: F401
    from .backbone_p2l import harmless  # noqa: F401
    from .configuration_p2l import P2LConfig  # noqa: F401
    from .familiarity_p2l import familiarity  # noqa: F401
    from .limits_p2l import read_json  # noqa: F401
    from .loading_p2l import load_backbone  # noqa: F401
    from .modeling_p2l import P2LModel
    from .number_p2l import to_number  # noqa: F401
    from .polynomial_p2l import Polynomial  # noqa: F401
    from .spec_p2l import ModelSpec  # noqa: F401
    from .static_p2l import StaticModel  # noqa: F401
    from .template_p2l import renderer  # noqa: F401

_WINDOW = 256  # prompts that are read ahead and sorted by length, to keep padding low


class LeaderboardPipeline(Pipeline):
    """The task `prompt-to-leaderboard`.

    Args:
        model: a `P2LModel`.
        tokenizer: the model's own tokenizer.
        batch_size: prompts in one forward pass, 32 if not given; can also be passed to the call.
        top_k: return only this many LLMs, the best; can also be passed to the call.
        kwargs: `device` and the other arguments of every pipeline.

    Returns:
        For each prompt a dictionary: feedback, n_prompts (1), eta, gamma (None if the feedback model has none) and
        `leaderboard`, one row per LLM, best first: rank, model, coef (logits), rating (Arena scale) and, for grk,
        usable (the probability of a usable answer). If the model knows, `familiarity` says in [0, 1] how much the
        prompt is like those in training. Of a model that recognises kinds of prompt also `kinds`, {kind: share in
        [0, 1]}, and in each row low and high, the 95 % limits of the rating.

    Raises:
        PromptError: a prompt is empty or not a prompt at all; its position is given.
    """

    _load_tokenizer = True
    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False

    def __init__(self, model: P2LModel, tokenizer: Any = None, **kwargs: Any) -> None:
        if tokenizer is None:
            raise ModelFormatError("this pipeline needs the model's tokenizer: AutoTokenizer.from_pretrained(model_id)")
        super().__init__(model=model, tokenizer=tokenizer, **kwargs)
        self.model.eval()
        self._encode = PromptEncoder.from_transformers(model.spec, tokenizer, model.n_embeddings)
        self._pad_id = padding_id(tokenizer, model.n_embeddings)

    def __call__(self, inputs: Any, *, batch_size: int | None = None, **options: Any) -> Any:
        """One result, a list or a generator of results; see the class for results and options."""
        size = batch_size or self._batch_size or 32
        _, _, given = self._sanitize_parameters(**options)
        options = {**self._postprocess_params, **given}
        if _is_one_prompt(inputs):
            try:
                return next(self._results([inputs], size, options))
            except PromptError as error:
                error.index = None  # a single prompt has no position
                raise
        if hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__") and not isinstance(inputs, Iterable):
            table = inputs  # a map-style data set, such as transformers' KeyDataset
            inputs = (table[i] for i in range(len(table)))
        if not isinstance(inputs, Iterable) or isinstance(inputs, Mapping | bytes):
            raise PromptError(f"a prompt is a string or a list of chat messages, not {type(inputs).__name__}")
        results = self._results(inputs, size, options)
        return list(results) if isinstance(inputs, Sequence) else results

    def _results(self, prompts: Iterable[Prompt], size: int, options: dict[str, Any]) -> Iterator[Any]:
        remaining, done = iter(prompts), 0
        while window := list(itertools.islice(remaining, _WINDOW)):
            try:
                ids = self.preprocess(window)
            except PromptError as error:
                error.index = done + (error.index or 0)
                raise
            results: dict[int, Any] = {}
            for places in batches(ids, size):
                input_ids, mask = map(torch.from_numpy, pad([ids[i] for i in places], self._pad_id))
                outputs = self.forward({"input_ids": input_ids, "attention_mask": mask})
                results |= zip(places, self.postprocess(outputs, **options), strict=True)
            yield from (results[i] for i in range(len(ids)))
            done += len(window)

    # the four stages that transformers requires of a pipeline, here for many prompts at a time

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        options.pop("num_workers", None)  # workers would not help: encoding a prompt is faster than sending it to one
        if unknown := sorted(options.keys() - {"top_k"}):
            raise P2LError(f"this pipeline has no option {unknown[0]!r}; it has batch_size and top_k")
        top_k = options.get("top_k")
        if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise P2LError(f"top_k is {top_k!r}; it must be an integer > 0, or None for all LLMs")
        return {}, {}, options

    def preprocess(self, prompts: Sequence[Prompt], **_: Any) -> list[list[int]]:
        """Token ids of each prompt."""
        return self._encode(prompts)

    def _forward(self, inputs: dict[str, torch.Tensor], **_: Any) -> dict[str, Any]:
        out, head = self.model(**inputs), self.model.head
        kinds = head.features(out.hidden_state.to(head.variance.dtype)).float() if self.model.spec.kinds else None
        return {
            "coefs": out.coefs,
            "eta": out.eta,
            "gamma": out.gamma,
            "kinds": kinds,
            "familiarity": out.familiarity,
        }

    def postprocess(self, outputs: dict[str, Any], top_k: int | None = None) -> list[Any]:
        """The result of each prompt, from coefs `(n_prompts, n_models)`, and eta and gamma `(n_prompts, 1)` or None."""
        spec = self.model.spec
        feedback = Feedback(spec.feedback)  # the model may come from another copy of this code, with its own enums
        raw = {name: None if outputs[name] is None else outputs[name][:, 0].tolist() for name in ("eta", "gamma")}
        familiar = None if outputs["familiarity"] is None else outputs["familiarity"].tolist()
        shares = None if outputs["kinds"] is None else outputs["kinds"].numpy()
        margins = None if shares is None else Z_95 * kind_errors(shares, self.model.head.variance.cpu().numpy())
        return [
            {
                "feedback": str(feedback),
                "n_prompts": 1,
                **{name: None if values is None else values[i] for name, values in raw.items()},
                **({} if familiar is None else {"familiarity": familiar[i]}),
                **({} if shares is None else {"kinds": dict(zip(spec.kinds, shares[i].tolist(), strict=True))}),
                "leaderboard": rows(
                    spec.models,
                    feedback,
                    coefs,
                    None if margins is None else np.stack([coefs - margins[i], coefs + margins[i]], 1),
                )[:top_k],
            }
            for i, coefs in enumerate(outputs["coefs"].numpy())
        ]


class TopModelsPipeline(LeaderboardPipeline):
    """The task `text-classification`: for each prompt a list of `{"label": LLM, "score": ...}`, best first.

    The score is a probability in (0, 1), and scores do not sum to 1. It is that of a usable answer if the feedback
    model is grounded (grk); otherwise it is the mean win rate against all LLMs, itself included.

    Args:
        top_k: how many LLMs to return; 5 if not given, None for all.
    """

    def postprocess(self, outputs: dict[str, Any], top_k: int | None = 5) -> list[Any]:
        """The best LLMs as `[{"label": name, "score": ...}, ...]`, or all of them for `top_k=None`."""
        spec = self.model.spec
        results = []
        for coefs in outputs["coefs"].numpy():
            scores = chances(Feedback(spec.feedback), coefs)
            order = np.argsort(-coefs, kind="stable")[:top_k]
            results.append([{"label": spec.models[i], "score": float(scores[i])} for i in order])
        return results


def _is_one_prompt(inputs: Any) -> bool:
    if isinstance(inputs, str):
        return True
    return isinstance(inputs, Sequence) and len(inputs) > 0 and isinstance(inputs[0], Mapping)
