"""How the numbers of a prompt are stored: as one row, the coefs first, then eta and gamma if the feedback model has
them."""

from __future__ import annotations

import numpy as np

from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.spec_p2l import ModelSpec


def to_rows(scored: Coefficients) -> np.ndarray:
    """One row per prompt, `(n_prompts, n_models + eta + gamma)`."""
    return np.hstack([part for part in (scored.coefs, scored.eta, scored.gamma) if part is not None])


def from_rows(rows: np.ndarray, spec: ModelSpec) -> Coefficients:
    """The coefficients in rows of `to_rows`, as views of them; `spec` is that of the model that gave them."""
    n_models, feedback = len(spec.models), spec.feedback
    return Coefficients(
        coefs=rows[:, :n_models],
        eta=rows[:, n_models : n_models + 1] if feedback.has_eta else None,
        gamma=rows[:, -1:] if feedback.has_gamma else None,
    )
