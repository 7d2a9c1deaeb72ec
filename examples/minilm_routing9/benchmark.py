"""A linear recogniser of the benchmark that a prompt is from: one of the three teachers of teach.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from p2l_sdk.modeling.loading_p2l import load_backbone, load_tokenizer

_TOKENS = 384  # of a prompt that the encoders read, the last ones
_RIDGE = 1000.0  # on standardised states; chosen on a held-out seventh of the training prompts
_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@torch.inference_mode()
def states(encoder: str, prompts: Sequence[str], batch: int = 32) -> np.ndarray:
    """`(n_prompts, 2 width)` mean states of the middle and the last layer: the middle knows more of a text's form."""
    tokenizer = load_tokenizer(encoder, truncation_side="left")
    model = load_backbone(encoder, dtype=torch.bfloat16, attn_implementation="eager").eval().to(_DEVICE)
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    parts = []
    for start in tqdm(range(0, len(order), batch), f"{Path(encoder).name}, frozen"):
        texts = [prompts[i] for i in order[start : start + batch]]
        inputs = tokenizer(texts, truncation=True, max_length=_TOKENS, padding=True, return_tensors="pt").to(_DEVICE)
        mask = inputs["attention_mask"][..., None]
        hidden = model(**inputs, output_hidden_states=True).hidden_states
        layers = (hidden[len(hidden) // 2], hidden[-1])
        parts.append(torch.cat([(layer.float() * mask).sum(1) / mask.sum(1) for layer in layers], dim=1).cpu())
    return torch.cat(parts).numpy()[np.argsort(order)].astype(np.float64)


def recognised(x: np.ndarray, train: np.ndarray, kind: np.ndarray, boards: np.ndarray) -> np.ndarray:
    """The benchmarks' averaged leaderboards, weighted by how likely each prompt is from each.

    Args:
        x: `(n_prompts, width)` states.
        train: the numbers of the prompts to learn from.
        kind: `(n_prompts,)` number of the benchmark.
        boards: `(n_kinds, n_models + 1)` coefficients and eta of each benchmark's training prompts.

    Returns:
        `(n_prompts, n_models + 1)` coefficients and eta.
    """
    inputs = torch.from_numpy((x - x[train].mean(0)) / x[train].std(0))
    weight = torch.zeros(x.shape[1], len(boards), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(boards), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")
    target = torch.from_numpy(kind[train])

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(inputs[train] @ weight + bias, target, reduction="sum")
        value = value + _RIDGE / 2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    shares = torch.softmax(inputs @ weight.detach() + bias.detach(), dim=1)
    return shares.numpy() @ boards
