"""Scores as votes: every two LLMs that have a score for a prompt are compared on it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2l_sdk.errors import ScoresError
from p2l_sdk.modeling.feedback_p2l import Winner

_SAME = 1e-6  # scores that differ by at most this are equal
_MOST_VOTES = 30_000_000  # some 2 GB
_CELLS = 1 << 22  # pairs times prompts that are compared together


def compared(
    scores: np.ndarray, pairs: tuple[np.ndarray, np.ndarray] | None, usable: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The votes that scores stand for, in memory that grows with their number.

    Args:
        scores: `(n_prompts, n_models)`, NaN where an LLM has none.
        pairs: the pairs to compare; all if not given.
        usable: the mean score from which equal answers are a tie, and below it both bad; None where all are ties.

    Returns:
        Prompt, LLM a, LLM b and winner of each vote, by prompt.

    Raises:
        ScoresError: there are more votes than fit into memory.
    """
    if pairs is None:
        _require_few(np.isfinite(scores).sum(1, dtype=np.int64))
    parts = [(np.zeros(0, np.int64),) * 4]
    for rows, first, second in _blocks(scores, pairs):
        left, right = scores[rows, first], scores[rows, second]
        equal = Winner.TIE if usable is None else np.where((left + right) / 2 >= usable, Winner.TIE, Winner.BOTH_BAD)
        winner = np.where(np.abs(left - right) > _SAME, np.where(left > right, Winner.A, Winner.B), equal)
        row, pair = np.nonzero(np.isfinite(left) & np.isfinite(right))
        parts.append((rows.start + row, first[pair], second[pair], winner[row, pair]))
    prompt, a, b, winner = (np.concatenate(column) for column in zip(*parts, strict=True))
    return prompt, a, b, winner


def _require_few(answers: np.ndarray) -> None:
    """Refuse too many votes, given the number of LLMs with a score for each prompt."""
    votes = int((answers * (answers - 1) // 2).sum())
    if votes > _MOST_VOTES:
        raise ScoresError(
            f"scores of up to {answers.max():,} LLMs on {len(answers):,} prompts are {votes:,} votes, every two LLMs "
            f"compared on every prompt; at most {_MOST_VOTES:,} fit into memory: choose LLMs (--llms A,B,...), give "
            "fewer prompts, or train on the scores themselves (--feedback bernoulli or gaussian)"
        )


def _blocks(
    scores: np.ndarray, pairs: tuple[np.ndarray, np.ndarray] | None
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Prompts that are compared together, and the pairs that may have scores there."""
    n_prompts, n_models = scores.shape
    n_pairs = n_models * (n_models - 1) // 2 if pairs is None else len(pairs[0])
    size = max(1, _CELLS // max(n_pairs, 1))
    for start in range(0, n_prompts, size):
        rows = slice(start, min(start + size, n_prompts))
        if pairs is not None:
            yield rows, *pairs
            continue
        there = np.flatnonzero(np.isfinite(scores[rows]).any(0))
        i, j = np.triu_indices(len(there), 1)
        yield rows, there[i], there[j]
