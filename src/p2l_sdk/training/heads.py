"""The head of a P2L model: its initial values, its calibration, and training it on precomputed features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import eta_of_threshold
from p2l_sdk.modeling.modeling_p2l import P2LModel, P2LOutput
from p2l_sdk.modeling.prompt_p2l import pad
from p2l_sdk.outputs.files import new_file
from p2l_sdk.training.listener import Listener, tracked

LEAST_LOG_S = -3.0  # least initial log threshold: a tie threshold t of 1.05


@torch.no_grad()
def start_at(model: P2LModel, leaderboard: Leaderboard) -> None:
    """Make the head return this leaderboard for every prompt, so that training starts at the averaged leaderboard.

    A tie threshold at its minimum has no gradient and could never be learned, so it starts a little higher.
    """
    for layer, value in outputs(model, leaderboard):
        layer.weight.zero_()
        layer.bias.copy_(value)
    if model.head.eta is not None:
        model.head.eta.bias.clamp_(min=float(eta_of_threshold(model.spec.feedback, LEAST_LOG_S)))


@torch.no_grad()
def shrink_towards(model: P2LModel, leaderboard: Leaderboard, keep: float) -> None:
    """Multiply the departure of the head's output from this leaderboard by `keep`."""
    for layer, value in outputs(model, leaderboard):
        value = value.to(layer.bias)
        layer.weight *= keep
        layer.bias.copy_(value + keep * (layer.bias - value))


@torch.no_grad()
def rescale(model: P2LModel, factor: float) -> None:
    """Multiply the coefficients that the model returns by a factor."""
    for parameter in (model.head.coefs.weight, model.head.coefs.bias):
        parameter *= factor


def outputs(model: P2LModel, leaderboard: Leaderboard) -> list[tuple[nn.Linear, torch.Tensor]]:
    """Each output layer of the head with the leaderboard's value for it, a flat float32 tensor."""
    head = model.head
    pairs = ((head.coefs, leaderboard.coefs), (head.eta, leaderboard.eta), (head.gamma, leaderboard.gamma))
    return [(layer, torch.as_tensor(value, dtype=torch.float32).reshape(-1)) for layer, value in pairs if layer]


@torch.inference_mode()
def pooled_features(
    model: P2LModel, ids: Sequence[Sequence[int]], pad_id: int, file: Path, listener: Listener, batch_size: int = 16
) -> torch.Tensor:
    """`(n_prompts, width)` pooled states of the frozen backbone in float32, computed once and stored in a file."""
    if file.is_file():
        return load_file(file)["features"]
    model.eval()
    features = torch.empty(len(ids), model.config.hidden_size)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    starts = range(0, len(order), batch_size)
    for start in tracked(starts, "reading prompts", listener):
        rows = order[start : start + batch_size]
        input_ids, mask = (torch.from_numpy(x).to(model.device) for x in pad([ids[i] for i in rows], pad_id))
        features[rows] = model.pooled(input_ids, mask).float().cpu()
    with new_file(file) as partial:
        save_file({"features": features}, partial)
    return features


class HeadOnFeatures(nn.Module):
    """The head of a P2L model on precomputed features."""

    def __init__(self, model: P2LModel) -> None:
        super().__init__()
        self.head = model.head

    def forward(self, features: torch.Tensor) -> P2LOutput:
        """`(n_prompts, width)` pooled states -> the output of `P2LModel.forward`, without running the backbone."""
        coefs, eta, gamma = self.head(features)
        return P2LOutput(coefs=coefs, eta=eta, gamma=gamma)
