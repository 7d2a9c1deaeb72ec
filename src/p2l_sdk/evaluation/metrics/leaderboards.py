"""Comparison of two leaderboards: their probabilities, their order, their best LLMs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from p2l_sdk.errors import P2LError
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import log_probabilities
from p2l_sdk.names import places

_PIECE = 1 << 18  # pairs of LLMs that are looked at together


def compare_leaderboards(a: Leaderboard, b: Leaderboard, k: Iterable[int] = (1, 3, 5, 10)) -> dict[str, float]:
    """Measure how close leaderboard a is to leaderboard b, on the LLMs that both contain.

    Args:
        a, b: leaderboards of any feedback models; b is taken as the truth.
        k: numbers of top LLMs to compare; those above the number of LLMs are absent from the result.

    Returns:
        `preference_l1`: mean over pairs of |s(d_a) - s(d_b)|, the difference of the Bradley-Terry probabilities;
        `outcome_l1`: mean absolute difference of the outcome probabilities over pairs and outcomes, ties included, if
        both leaderboards have the same feedback model, and it has ties; `spearman` and `kendall` (tau-b): rank
        correlations of the coefficients, absent if all coefficients of one leaderboard are equal; `top_<k>_overlap`:
        share of b's k best LLMs that are among a's; `top_<k>_displacement`: mean number of places by which b's k best
        LLMs are displaced in a.

    Raises:
        P2LError: the leaderboards have fewer than two LLMs in common, or a k is below 1.
    """
    theirs = places(b.models)
    names = [name for name in a.models if name in theirs]
    if len(names) < 2:
        raise P2LError(
            f"the leaderboards have {len(names)} LLMs in common; at least 2 are needed (check how the LLMs are named)"
        )
    x, y = (board.coefs[[places(board.models)[name] for name in names]].astype(np.float64) for board in (a, b))
    metrics = {
        "preference_l1": _mean_over_pairs(len(x), lambda i, j: np.abs(_preferences(x, i, j) - _preferences(y, i, j)))
    }
    if a.feedback is b.feedback and a.feedback.has_eta:
        metrics["outcome_l1"] = _mean_over_pairs(
            len(x), lambda i, j: np.abs(_outcomes(a, x, i, j) - _outcomes(b, y, i, j)).mean(-1)
        )
    if np.ptp(x) > 0 and np.ptp(y) > 0:
        metrics |= {"spearman": spearman(x, y), "kendall": kendall(x, y)}
    order, true_order = (np.argsort(-coefs, kind="stable") for coefs in (x, y))
    place = np.argsort(order)
    for size in k:
        if size < 1:
            raise P2LError(f"a top of {size} LLMs cannot be compared; k is 1 or more")
        if size <= len(names):
            best = place[true_order[:size]]
            metrics[f"top_{size}_overlap"] = float((best < size).mean())
            metrics[f"top_{size}_displacement"] = float(np.abs(best - np.arange(size)).mean())
    return metrics


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation of two `(n,)` arrays; equal values share their mean rank. NaN if one is constant."""
    first, second = (_mean_ranks(values) - (len(values) - 1) / 2 for values in (x, y))
    scale = np.sqrt(np.square(first).sum() * np.square(second).sum())
    return float(first @ second / scale) if scale else float("nan")


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's tau-b of two `(n,)` arrays: concordant minus discordant pairs, over the geometric mean of the numbers
    of pairs that are not tied in x and in y. NaN if one is constant."""
    x, y = np.asarray(x), np.asarray(y)
    both = untied_x = untied_y = 0.0
    for i, j in _pairs(len(x)):
        first, second = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
        both += float((first * second).sum())
        untied_x += float(np.abs(first).sum())
        untied_y += float(np.abs(second).sum())
    scale = np.sqrt(untied_x * untied_y)
    return float(both / scale) if scale else float("nan")


def spread_of_coefficients(coefs: np.ndarray) -> dict[str, np.ndarray]:
    """How far apart the LLMs' coefficients are on each prompt, in logits.

    Args:
        coefs: `(n_prompts, n_models)`.

    Returns:
        `range` (maximum - minimum), `iqr` (interquartile range) and `std` (ddof=1), each `(n_prompts,)`.
    """
    coefs = np.asarray(coefs, dtype=np.float64)
    low, high = np.quantile(coefs, [0.25, 0.75], axis=1)
    return {"range": np.ptp(coefs, axis=1), "iqr": high - low, "std": coefs.std(1, ddof=1)}


def _pairs(n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pairs i < j of n LLMs in pieces, so that memory does not grow with their number."""
    size = max(1, _PIECE // n)
    for start in range(0, n - 1, size):
        i, j = np.triu_indices(min(size, n - 1 - start), 1, n - start)
        yield i + start, j + start


def _mean_over_pairs(n: int, values: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    return sum(float(values(i, j).sum()) for i, j in _pairs(n)) / (n * (n - 1) / 2)


def _preferences(coefs: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-np.logaddexp(0.0, coefs[j] - coefs[i])))


def _outcomes(board: Leaderboard, coefs: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """`(n_pairs, n_outcomes)`."""
    eta, gamma = (None if x is None else np.array([float(x)]) for x in (board.eta, board.gamma))
    return np.asarray(np.exp(log_probabilities(board.feedback, coefs[i], coefs[j], eta, gamma)))


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[level]
