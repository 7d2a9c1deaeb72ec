"""The coefficients of prompts as columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from p2l_sdk.leaderboards.leaderboard import Coefficients

if TYPE_CHECKING:
    import pyarrow

BEST, BEST_COEFS = "best", "best_coefs"


def best_columns(coefs: np.ndarray, models: tuple[str, ...], top: int) -> dict[str, pyarrow.Array]:
    """The names of each prompt's best LLMs, best first, and their coefficients in logits: two columns of lists."""
    import pyarrow as pa

    places = best_places(coefs, min(top, len(models)))
    n, k = places.shape
    offsets = pa.array(np.arange(0, n * k + 1, k, dtype=np.int32) if k else np.zeros(n + 1, dtype=np.int32))
    names = pa.array(models, pa.string()).take(pa.array(places.ravel()))
    values = pa.array(np.take_along_axis(coefs, places, 1).ravel().astype(np.float32))
    return {
        BEST: pa.ListArray.from_arrays(offsets, names),
        BEST_COEFS: pa.ListArray.from_arrays(offsets, values),
    }


def best_places(coefs: np.ndarray, k: int) -> np.ndarray:
    """`(n_prompts, k)` places of the k highest coefficients, highest first, equal ones in the order of the LLMs."""
    if 4 * k >= coefs.shape[1] or not len(coefs):
        return np.argsort(-coefs, axis=1, kind="stable")[:, :k]
    found = np.argpartition(-coefs, k - 1, axis=1)[:, :k]
    found.sort(axis=1)
    values = np.take_along_axis(coefs, found, 1)
    found = np.take_along_axis(found, np.argsort(-values, axis=1, kind="stable"), 1)
    tied = np.flatnonzero((coefs >= values.min(1, keepdims=True)).sum(1) > k)  # which of them, argpartition decides
    if len(tied):
        found[tied] = np.argsort(-coefs[tied], axis=1, kind="stable")[:, :k]
    return found


def coefficient_columns(scored: Coefficients, models: Sequence[str]) -> dict[str, pyarrow.Array]:
    """The coefficients of all LLMs in logits, a column for each by its name; eta and gamma where the model has them."""
    import pyarrow as pa

    columns = np.ascontiguousarray(scored.coefs.T)
    found = {name: pa.array(column) for name, column in zip(models, columns, strict=True)}
    for name, values in (("eta", scored.eta), ("gamma", scored.gamma)):
        if values is not None:
            found[name] = pa.array(np.ascontiguousarray(values[:, 0]))
    return found
