"""How much of its departure from the averaged leaderboard a text model keeps, and how it compares with it.

Both rest on the prompts that are held out for validation. The share to keep is fitted to them, so the loss at that
share flatters; the verdict is measured on prompts that had no part in choosing it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.modeling_p2l import P2LOutput
from p2l_sdk.training.objective import Objective
from p2l_sdk.training.verdict import Verdict

_KEEPS = tuple(k / 100 for k in range(121))  # 0 is the averaged leaderboard; a cautious model deserves more than 1
_FOLDS = 5


@dataclass(frozen=True)
class Losses:
    """Losses on the validation prompts by the share of the departure from the averaged leaderboard that is kept.

    Attributes:
        keeps: the shares.
        mean: `(n_prompts, n_keeps)` mean loss of the votes (or scores) on each prompt, in nats.
        weight: `(n_prompts,)` total weight of these votes.
    """

    keeps: tuple[float, ...]
    mean: np.ndarray
    weight: np.ndarray

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        objective: Objective,
        leaderboard: Leaderboard,
        output: P2LOutput,
        feedback: dict[str, torch.Tensor],
        keeps: tuple[float, ...] = _KEEPS,
    ) -> Losses:
        """The losses of a model.

        Args:
            objective: the loss.
            leaderboard: the averaged leaderboard.
            output: of the model for each prompt, on the CPU.
            feedback: on these prompts, in the order of the output.
            keeps: the shares to measure at.
        """
        parts = ((output.coefs, leaderboard.coefs), (output.eta, leaderboard.eta), (output.gamma, leaderboard.gamma))
        pairs = [None if x is None else (x, torch.as_tensor(c, dtype=x.dtype).reshape(-1)) for x, c in parts]
        assert output.coefs is not None
        row, n = feedback["labels"][:, 0].numpy(), len(output.coefs)
        weights = feedback["weights"].double().numpy()
        total = np.bincount(row, weights, n)
        columns = []
        for keep in keeps:
            coefs, eta, gamma = (None if pair is None else torch.lerp(pair[1], pair[0], keep) for pair in pairs)
            values = objective.measure(P2LOutput(coefs=coefs, eta=eta, gamma=gamma), feedback)["loss"][0]
            columns.append(np.bincount(row, values.double().numpy() * weights, n) / np.maximum(total, 1e-300))
        return cls(keeps, np.stack(columns, 1), total)

    def best(self, prompts: np.ndarray | slice = slice(None)) -> int:
        """The position of the share with the lowest loss on some of the prompts, or all."""
        return int(np.argmin(self.weight[prompts] @ self.mean[prompts]))

    def cross_fitted(self, seed: int) -> np.ndarray:
        """`(n_prompts,)` positions of shares, each chosen on the prompts of the other folds."""
        n = len(self.weight)
        fold = np.random.default_rng(seed).permutation(n) % min(_FOLDS, n)
        chosen = np.zeros(n, dtype=int)
        for k in range(min(_FOLDS, n)):
            rest = fold != k
            chosen[~rest] = self.best(rest) if rest.any() else self.best()
        return chosen


def calibrated(losses: Losses, seed: int, measured: str) -> Verdict:
    """The share to keep, and the verdict on the model that keeps it.

    Args:
        losses: of the model on the validation prompts, at shares from 0.
        seed: of the folds.
        measured: how the losses were measured, for the verdict.

    Returns:
        Its losses are at shares that were chosen on the other folds. Where the model is then no better than the
        averaged leaderboard, it keeps 0 and returns that for every prompt.
    """
    n = len(losses.weight)
    keep = losses.keeps[losses.best()]
    model = losses.mean[np.arange(n), losses.cross_fitted(seed)]
    verdict = _verdict(model, losses, measured, keep)
    return verdict if verdict.better else as_it_is(losses, 0.0, measured)


def as_it_is(losses: Losses, keep: float, measured: str) -> Verdict:
    """The verdict on a model that keeps a given share, one of the shares of the losses."""
    return _verdict(losses.mean[:, losses.keeps.index(keep)], losses, measured, keep)


def _verdict(model: np.ndarray, losses: Losses, measured: str, keep: float) -> Verdict:
    averaged = losses.mean[:, losses.keeps.index(0.0)]
    n = len(losses.weight)
    return Verdict.of_losses(model, averaged, np.arange(n), losses.weight, measured=measured, keep=keep)
