"""The end of a training: the model remembers what its training prompts looked like, and how far they can be trusted."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.modeling_p2l import Familiarity, P2LModel
from p2l_sdk.scorers.aggregate import spread_of_parts
from p2l_sdk.scorers.familiarity import learned_familiarity


@torch.no_grad()
def remember_prompts(
    model: P2LModel,
    vectors: torch.Tensor,
    seed: int = 0,
    error: float = 0.0,
    *,
    held_out: torch.Tensor | None = None,
    uncounted: int = 0,
) -> None:
    """Let the model know its training prompts: the last layer's input is centred on them (what the model returns for
    them does not change but for the damping of the least familiar ones), and the biases become their mean leaderboard.

    Args:
        model: a trained model that does not know its prompts; fewer than 100 prompts leave it so.
        vectors: `(n_prompts, width)` inputs of its head for the training prompts, on any device.
        seed, held_out, uncounted: see `learned_familiarity`.
        error: variance of its error for a group of prompts, see `training.group_error`; 0 if not known.
    """
    head: Any = model.head
    head = head.modules_to_save[head.active_adapter] if hasattr(head, "modules_to_save") else head  # PEFT's copy
    was_training = head.training
    head.eval()
    first = head.coefs.weight
    features = torch.cat([head.features(part.to(first.device, first.dtype)) for part in vectors.split(1024)])
    head.train(was_training)
    average = features.mean(0)
    others = None if held_out is None else held_out.float().cpu().numpy()
    states = vectors.float().cpu().numpy()
    tensors = learned_familiarity(states, average.float().cpu().numpy(), seed, others, uncounted=uncounted)
    if tensors is None:
        return
    coefs = (head.coefs(part).float().cpu().numpy() for part in features.split(1024))
    tensors["error"] = np.array([error, spread_of_parts(coefs, Feedback(model.spec.feedback))], dtype=np.float32)
    for layer in (head.coefs, head.eta, head.gamma):
        if layer is not None:
            layer.bias += layer.weight @ average
    known = Familiarity(len(tensors["directions"]), vectors.shape[1], len(average))
    known.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    head.familiarity = known.to(first.device)
    model.spec = model.spec.replace(familiarity=len(tensors["directions"]))
    model.config.familiarity = model.spec.familiarity
