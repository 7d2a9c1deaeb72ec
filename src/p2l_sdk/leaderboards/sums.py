"""The sums over prompts of the outcome probabilities of every pair: nearly all the time of an aggregate goes here.

A probability is a numerator times the inverses of a few denominators, all of them polynomials in the odds a and b of
the two LLMs with positive coefficients (`modeling/feedback_p2l.py`). Summed over prompts with weights w,

    sum of w * (n0(a) + n1(a) b + ...) / (d1 d2 ...)  =  dot(w n0(a), r) + dot(w n1(a), r b) + ...,  r = 1 / (d1 d2 ...)

so what depends on one LLM alone (the exponentials, w n0(a), the terms of the denominators) is computed once for each
prompt and LLM, the inverses of a pair serve all outcomes, and the weights cost nothing; `sum_plan.py` lists the steps.
Nothing is subtracted, so a sum is as accurate, relative to itself, as the numbers are (what is below 1e-10 of the
weights may be lost): float64, or float32 from `_MANY` LLMs on, to some 1e-8 of a logit. Prompts whose coefficients are
too large for float32 are summed in float64, and those too large for that in log space.

Every pair is visited once, lag by lag: LLMs i to j are paired with LLMs i + lag to j + lag, two slices of the rows.
numpy goes through these as through one long array, which takes half the time of one LLM's row against many; they start
where a line of the processor's cache does; and from one lag to the next, all but one of them are in the cache already.

The lags are shared out among threads (numpy computes without Python's lock), and every sum is made by one of them, in
the order of the prompts: the number of threads changes no digit.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from p2l_sdk.leaderboards.sum_plan import Kind, Plan, plan_of
from p2l_sdk.modeling.feedback_p2l import Feedback, log_pair_probabilities, plain_enough

_MANY = 100  # LLMs from which sums are made in float32: twice as fast
_PROMPTS = 2048  # that are summed together: long rows, few calls
_BLOCK_BYTES = 1 << 17  # of an array of a block of pairs: a handful of them stays in the processor's cache
_SHARED_BYTES = 1 << 19  # with several threads, which wait for Python's lock at each call: fewer and longer calls
_LINE = 16  # numbers in float32, of a line of that cache: every row is some lines
_WORTH_A_THREAD, _MOST_THREADS = 1 << 20, 8  # probabilities; above that, Python's lock is what threads wait for


def pair_sums(
    feedback: Feedback, theta: np.ndarray, log_s: np.ndarray, weights: np.ndarray, threads: int | None = None
) -> np.ndarray:
    """Weighted sums over the prompts of the outcome probabilities of every pair.

    Args:
        theta, log_s: `(n, n_models)` and `(n,)`, from `natural_parameters`.
        weights: `(n,)`, finite and >= 0.
        threads: how many; by default as many as this process has cores, at most the environment's OMP_NUM_THREADS and
            8, and one where there is little to do. The sums are the same, to the last digit.

    Returns:
        `(n_outcomes, n_pairs)`, for the pairs a < b of `numpy.triu_indices(n_models, 1)`.
    """
    n_models = theta.shape[1]
    sums = np.zeros((len(feedback.outcomes), n_models * (n_models - 1) // 2))  # lag by lag
    threads = threads or _threads(len(theta) * sums.shape[1])
    exponent = int(np.frexp(weights.max(initial=0.0))[1])  # weights up to 1: they are multiplied by odds
    rest, weights = np.arange(len(theta)), np.ldexp(weights, -exponent)
    for kind in (np.float32, np.float64) if n_models >= _MANY else (np.float64,):
        x, u = theta[rest].astype(kind), log_s[rest].astype(kind)
        plain = plain_enough(x, u)
        _add_plain(sums, feedback, x[plain], u[plain], weights[rest[plain]].astype(kind), threads)
        rest = rest[~plain]
    a, b = np.triu_indices(n_models, 1)
    places = _starts(n_models)[b - a] + a
    for row in sums:
        row[:] = row[places]
    _add_extreme(sums, feedback, theta[rest], log_s[rest], weights[rest])
    return np.ldexp(sums, exponent)


def _starts(n_models: int) -> np.ndarray:
    """Where the pairs of each lag start, lag by lag."""
    lags = np.arange(n_models)
    return (lags - 1) * (2 * n_models - lags) // 2


def _threads(probabilities: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    most = min(cores, int(wanted)) if wanted.isdecimal() and int(wanted) else cores
    return max(1, min(most, _MOST_THREADS, probabilities // _WORTH_A_THREAD))


def _add_plain(
    sums: np.ndarray, feedback: Feedback, theta: np.ndarray, log_s: np.ndarray, weights: np.ndarray, threads: int
) -> None:
    """Add prompts for which nothing overflows."""
    plan = plan_of(feedback)
    with ThreadPoolExecutor(threads) as pool:  # it starts no thread unless it is used
        share_out = pool.map if threads > 1 else map
        for x, u, w in _chunks(theta, log_s, weights):
            width = -(-len(w) // _LINE) * _LINE
            chunk = _Chunk(plan, *(_prompts_last(values, width) for values in (x, u, w)))
            list(share_out(chunk.add_up, range(threads), itertools.repeat(threads)))
            for outcome, part in zip(plan.outcomes, chunk.sums, strict=True):
                sums[outcome] += part


class _Chunk:
    """Some prompts, what of their probabilities depends on one LLM of a pair alone, and their sums.

    Args:
        theta, log_s, weights: `(n_models, n)`, `(n,)` and `(n,)`: prompts last, the long axis.
    """

    def __init__(self, plan: Plan, theta: np.ndarray, log_s: np.ndarray, weights: np.ndarray) -> None:
        self._plan, self._shape, self._kind = plan, theta.shape, theta.dtype
        self._rows: list[np.ndarray] = []
        odds, s = np.exp(theta), np.exp(log_s)
        for row in plan.rows:
            values = row.polynomial.in_powers_of_b(odds, s)[0]
            values = _aligned(values * weights if row.weighted else values)
            self._rows.append(np.broadcast_to(values, odds.shape))
        self.sums = np.empty((len(plan.outcomes), len(theta) * (len(theta) - 1) // 2), theta.dtype)

    def add_up(self, turn: int, turns: int) -> None:
        """Make the sums of every `turns`-th lag's pairs, from lag number `turn` + 1 on."""
        n_models, n = self._shape
        wanted = _BLOCK_BYTES if turns == 1 else _SHARED_BYTES
        size = _block_size(n_models - 1, n * self._kind.itemsize, wanted)
        inverses = _empty((self._plan.n_inverses, size, n), self._kind)
        arrays: dict[Kind, Any] = {Kind.FIRST: self._rows, Kind.OTHER: self._rows, Kind.INVERSE: inverses}
        arrays |= {Kind.SUM: self.sums, Kind.ONE: np.ones((1,), self._kind)}
        operands = [(arrays[kind][number], kind) for kind, number in self._plan.operands]
        starts = _starts(n_models).tolist()
        for start in range(0, n_models - 1, size):
            for lag in range(turn + 1, n_models - start, turns):
                stop = min(start + size, n_models - lag)
                llms, others = slice(start, stop), slice(start + lag, stop + lag)
                pairs = slice(starts[lag] + start, starts[lag] + stop)
                parts = (llms, others, slice(stop - start), pairs, ...)  # in the order of `Kind`
                given = [array[parts[kind]] for array, kind in operands]
                for function, x, y, out in self._plan.steps:
                    function(given[x], given[y], out=given[out])


def _prompts_last(values: np.ndarray, width: int) -> np.ndarray:
    """The transpose, with zeros up to this width: prompts without weight."""
    rows = _empty((*values.shape[1:], width), values.dtype)
    rows[..., : len(values)], rows[..., len(values) :] = values.T, 0.0
    return rows


def _aligned(values: np.ndarray) -> np.ndarray:
    copy = _empty(values.shape, values.dtype)
    copy[...] = values
    return copy


def _empty(shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    """An array that starts where a line of the cache does, unlike numpy's own."""
    size, line = math.prod(shape) * kind.itemsize, _LINE * 4
    memory = np.empty(size + line, np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + size].view(kind).reshape(shape)


def _block_size(most: int, row_bytes: int, wanted: int) -> int:
    """The size of blocks of at most so many rows, such that they are about equally long and about as many bytes."""
    return -(-most // max(1, round(most * row_bytes / wanted)))


def _add_extreme(
    sums: np.ndarray, feedback: Feedback, theta: np.ndarray, log_s: np.ndarray, weights: np.ndarray
) -> None:
    """Add prompts in log space, where nothing overflows whatever the coefficients are."""
    for rows, u, w in _chunks(theta, log_s, weights):
        x, end = np.ascontiguousarray(rows.T), 0
        for i in range(len(x) - 1):
            start, end = end, end + len(x) - 1 - i
            log_probs = log_pair_probabilities(feedback, *np.broadcast_arrays(x[i], x[i + 1 :], u))
            sums[:, start:end] += np.vecdot(np.exp(np.moveaxis(log_probs, -1, 0)), w)


def _chunks(
    theta: np.ndarray, log_s: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for start in range(0, len(theta), _PROMPTS):
        part = slice(start, start + _PROMPTS)
        yield theta[part], log_s[part], weights[part]
