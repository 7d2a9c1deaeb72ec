"""A model that vLLM runs: `P2L.from_pretrained(folder, runtime="http://host:8000")` is the same `P2L`, without torch.

`p2l export --runtime vllm` writes the folder, and vLLM serves it as a sequence classifier. Prompts become token ids
here, so that chat template, truncation and CLS token are those of training, and what vLLM outputs becomes coefficients
here, by what is left of the head (see `scorers/vllm_export.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import MissingExtraError, ModelFormatError, RemoteError
from p2l_sdk.hub.config import chat_template
from p2l_sdk.hub.folders import REST, read_tensors
from p2l_sdk.modeling.limits_p2l import read_json
from p2l_sdk.modeling.prompt_p2l import Prompt, PromptEncoder
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.scorers.head import NumpyHead, head_shapes
from p2l_sdk.scorers.server import Server
from p2l_sdk.scorers.static import read_tokenizer

Classifier = Callable[[list[list[int]]], Any]  # token ids of prompts -> (n_prompts, n_outputs) numbers


class VllmScorer(NumpyHead):
    """Scores prompts with an exported model that runs elsewhere.

    Args:
        folder: as written by `p2l export --runtime vllm`.
        classifier: the address of the vLLM server that serves it, "http://host:port"; or any function from the prompts'
            token ids to what the classifier outputs for each, without an activation, such as one that calls vLLM's
            `LLM.classify`.
        options: of the server; see `VllmServer`.

    Raises:
        ModelFormatError: the folder holds no exported model, or a file is damaged.
        MissingExtraError: the model lays a chat template over the prompt, and jinja2 is not installed.
        RemoteError: as in `VllmServer`; or the server reads shorter prompts than the model.
    """

    def __init__(self, folder: str | Path, classifier: str | Classifier, **options: Any) -> None:
        folder = Path(folder).expanduser()
        if not (folder / REST / "config.json").is_file():
            raise ModelFormatError(
                f"{str(folder)!r} is no model exported for vLLM; make one with p2l export --runtime vllm"
            )
        config, weights = read_json(folder / REST / "config.json", dict), read_tensors(folder / REST)
        spec, self._n_outputs = ModelSpec.from_config(config), config.get("n_outputs")
        found = {name: tensor.shape for name, tensor in weights.items()}
        if type(self._n_outputs) is not int or found != head_shapes(spec, self._n_outputs):
            raise ModelFormatError(f"{str(folder / REST)!r} is damaged: its config and its tensors do not fit together")
        super().__init__(spec, weights)
        self.encoder = self.token_ids = PromptEncoder(
            spec, read_tokenizer(folder), _renderer(folder) if spec.chat else None, config.get("n_embeddings")
        )
        if isinstance(classifier, str):
            server = VllmServer(classifier, **options)
            server.require_length(spec.max_prompt_tokens)
            classifier = server
        self._classifier = classifier

    def pooled(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """What the classifier outputs for each prompt, `(n_prompts, n_outputs)` float32.

        Raises:
            PromptError: a prompt cannot be scored; its `index` is the position.
            RemoteError: the server cannot be reached, fails, or serves another model.
        """
        outputs = np.asarray(self._classifier(self.token_ids(prompts)), dtype=np.float32)
        if outputs.shape != (len(prompts), self._n_outputs):
            raise RemoteError(
                f"{self._classifier!r} outputs {outputs.shape[-1] if outputs.ndim else 1} numbers for a prompt, and "
                f"the exported model {self._n_outputs}; does it serve another model?"
            )
        return outputs


class VllmServer(Server):
    """A vLLM server with a sequence classifier: a function from token ids to outputs.

    Args:
        url, key, timeout_s, retries: see `Server`.

    Raises:
        RemoteError: it cannot be reached, refuses the key, or is no vLLM server; the message says which.
    """

    kind, program, key_variable = "a vLLM server", "vllm serve", "VLLM_API_KEY"
    batch = 128  # prompts in a request

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60.0, retries: int = 4) -> None:
        super().__init__(url, key=key, timeout_s=timeout_s, retries=retries)
        try:
            served = self._ask("GET", "/v1/models")["data"][0]
            self._model, self._max_tokens = str(served["id"]), served.get("max_model_len")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise self._unlike(error) from None

    def require_length(self, n_tokens: int) -> None:
        """Raise RemoteError if it refuses prompts of so many tokens."""
        if isinstance(self._max_tokens, int) and self._max_tokens < n_tokens:
            raise RemoteError(
                f"{self.url} reads {self._max_tokens:,} tokens, and the model {n_tokens:,}; start it with "
                f"--max-model-len {n_tokens}"
            )

    def __call__(self, token_ids: list[list[int]]) -> np.ndarray:
        """What the classifier outputs for each prompt, without an activation."""
        rows: list[Any] = []
        for start in range(0, len(token_ids), self.batch):
            part = token_ids[start : start + self.batch]
            body = {"model": self._model, "input": part, "add_special_tokens": False, "use_activation": False}
            answer = self._ask("POST", "/classify", json.dumps(body).encode())
            try:
                by_place = {row["index"]: row["probs"] for row in answer["data"]}
                rows += [by_place[i] for i in range(len(part))]
            except (KeyError, TypeError) as error:
                raise self._unlike(error) from None
        try:
            return np.array(rows, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise self._unlike(error) from None

    def _unlike(self, error: Exception) -> RemoteError:
        return RemoteError(f"{self.url} answers, but not as {self.kind} does ({error!r})")


def _renderer(folder: Path) -> Callable[[list[str]], str] | None:
    """What lays the folder's chat template over a prompt; None if it has none."""
    try:
        from p2l_sdk.modeling.template_p2l import renderer
    except ImportError as error:
        raise MissingExtraError("a chat template", error.name or "jinja2", "vllm") from None
    source = chat_template(folder)
    if source is None:
        return None
    tokens = {}
    for name, token in read_json(folder / "tokenizer_config.json", dict).items():
        text = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(text, str):
            tokens[name] = text
    render = renderer(source)
    return lambda turns: render(turns, **tokens)
