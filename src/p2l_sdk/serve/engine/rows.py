"""How the numbers of a prompt are stored: as one row, the coefs first, then eta and gamma if the feedback model has
them, then the shares of kinds if the model recognises any (the errors of the coefs follow from these), then the
familiarity if the model knows it."""

from __future__ import annotations

import numpy as np

from p2l_sdk.leaderboards.leaderboard import Coefficients, Kinds
from p2l_sdk.modeling.spec_p2l import ModelSpec


def to_rows(scored: Coefficients) -> np.ndarray:
    """One row per prompt, `(n_prompts, n_models + eta + gamma + n_kinds + familiarity)`."""
    familiar = None if scored.familiarity is None else scored.familiarity[:, None]
    shares = None if scored.kinds is None else scored.kinds.shares
    return np.hstack([part for part in (scored.coefs, scored.eta, scored.gamma, shares, familiar) if part is not None])


def from_rows(rows: np.ndarray, spec: ModelSpec, variance: np.ndarray | None = None) -> Coefficients:
    """The coefficients in rows of `to_rows`, as views of them; `spec` and `variance` are those of the model that gave
    them."""
    n_models, feedback = len(spec.models), spec.feedback
    width = n_models + feedback.has_eta + feedback.has_gamma + (0 if variance is None else len(spec.kinds))
    familiar = rows[:, -1] if rows.shape[1] > width else None
    numbers, kinds = rows[:, :width], None
    if variance is not None:
        end = width - len(spec.kinds)
        numbers, shares = numbers[:, :end], numbers[:, end:]
        kinds = Kinds(spec.kinds, shares, variance)
    return Coefficients(
        coefs=rows[:, :n_models],
        eta=rows[:, n_models : n_models + 1] if feedback.has_eta else None,
        gamma=numbers[:, -1:] if feedback.has_gamma else None,
        kinds=kinds,
        familiarity=familiar,
    )
