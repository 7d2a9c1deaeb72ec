"""The sums over prompts of the outcome probabilities of every pair: nearly all the time of an aggregate goes here.

A probability is a numerator times the inverses of a few denominators, all of them polynomials in the odds a and b of
the two LLMs with positive coefficients (`modeling/feedback_p2l.py`). Summed over prompts with weights w,

    sum of w * (n0(a) + n1(a) b + ...) / (d1 d2 ...)  =  dot(w n0(a), r) + dot(w n1(a), r b) + ...,  r = 1 / (d1 d2 ...)

so what depends on one LLM alone (the exponentials, w n0(a), the terms of the denominators) is computed once for each
prompt and LLM, the inverses of a pair serve all outcomes, and the weights cost nothing; `sum_plan.py` lists the steps.
Nothing is subtracted, so a sum is as accurate, relative to itself, as the numbers are (what is below 1e-10 of the
weights may be lost): float64, or float32 from `_MANY` LLMs on, to some 1e-8 of a logit. Prompts whose coefficients are
too large for float32 are summed in float64, and those too large for that in log space.

The pairs of a few LLMs with a few others are a tile: each step goes through all of it in one call, and what a tile
takes of rows and inverses stays in the processor's cache, while calls are few and long: each waits for Python's lock if
another thread has it.

The tiles are shared out among threads (numpy computes without Python's lock), and every sum is made by one of them, in
the order of the prompts: the number of threads changes no digit.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from p2l_sdk.leaderboards.sum_plan import Plan, plan_of
from p2l_sdk.modeling.feedback_p2l import Feedback, log_pair_probabilities, plain_enough

_MANY = 100  # LLMs from which sums are made in float32: twice as fast
_PROMPTS = 2048  # that are summed together: long rows, few calls
_TILE_BYTES = 1 << 19  # of an array of a tile's pairs
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
    sums = np.zeros((len(feedback.outcomes), n_models * (n_models - 1) // 2))
    threads = threads or _threads(len(theta) * sums.shape[1])
    exponent = int(np.frexp(weights.max(initial=0.0))[1])  # weights up to 1: they are multiplied by odds
    rest, weights = np.arange(len(theta)), np.ldexp(weights, -exponent)
    for kind in (np.float32, np.float64) if n_models >= _MANY else (np.float64,):
        x, u = theta[rest].astype(kind), log_s[rest].astype(kind)
        plain = plain_enough(x, u)
        _add_plain(sums, feedback, x[plain], u[plain], weights[rest[plain]].astype(kind), threads)
        rest = rest[~plain]
    _add_extreme(sums, feedback, theta[rest], log_s[rest], weights[rest])
    return np.ldexp(sums, exponent)


def _parts(n_models: int) -> Iterator[tuple[int, slice]]:
    """Every LLM but the last, and where its pairs with those behind it are."""
    end = 0
    for llm in range(n_models - 1):
        start, end = end, end + n_models - 1 - llm
        yield llm, slice(start, end)


def _threads(probabilities: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    most = min(cores, int(wanted)) if wanted.isdecimal() and int(wanted) else cores
    return max(1, min(most, _MOST_THREADS, probabilities // _WORTH_A_THREAD))


def _add_plain(
    sums: np.ndarray, feedback: Feedback, theta: np.ndarray, log_s: np.ndarray, weights: np.ndarray, threads: int
) -> None:
    """Add prompts for which nothing overflows."""
    if len(theta) == 0:
        return
    size = -(-len(theta) // -(-len(theta) // _PROMPTS))  # of chunks that are equally long
    chunk = _Chunk(plan_of(feedback), theta.shape[1], -(-size // _LINE) * _LINE, theta.dtype, threads)
    with ThreadPoolExecutor(threads) as pool:  # it starts no thread unless it is used
        share_out = pool.map if threads > 1 else map
        for start in range(0, len(theta), size):
            part = slice(start, start + size)
            prompts = theta[part], log_s[part], weights[part]
            list(share_out(chunk.fill, range(threads), itertools.repeat(prompts)))
            list(share_out(chunk.add_up, range(threads)))
            for outcome, found in zip(chunk.outcomes, chunk.sums, strict=True):
                for llm, pairs in _parts(len(found)):
                    sums[outcome, pairs] += found[llm, llm + 1 :]


class _Chunk:
    """Some prompts, what of their probabilities depends on one LLM of a pair alone, and their sums; made once, and
    filled with one chunk of prompts after the other.

    Args:
        plan: of the steps.
        n_models, width: LLMs, and the most prompts.
        kind: of the numbers.
        threads: among which the tiles are shared out.

    Attributes:
        outcomes: the place of the outcome that each sum is a part of.
        sums: `(n_sums, n_models, n_models)`, above the diagonal.
    """

    def __init__(self, plan: Plan, n_models: int, width: int, kind: np.dtype, threads: int) -> None:
        self._plan, self.outcomes = plan, plan.outcomes
        self._rows = _empty((len(plan.rows), n_models, width), kind)
        self.sums = np.empty((len(plan.outcomes), n_models, n_models), kind)
        side = max(1, round(math.sqrt(_TILE_BYTES / (width * kind.itemsize))))
        tiles = list(_tiles(n_models, side))
        self._operands = [self._cut(tiles[thread::threads], min(side, n_models) ** 2) for thread in range(threads)]

    def fill(self, thread: int, prompts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        """Make the rows of a thread's LLMs, of prompts in theta, log_s and weights: `(n, n_models)`, `(n,)` and `(n,)`.
        What is left of the width gets no weight."""
        (_, n_models, width), threads = self._rows.shape, len(self._operands)
        llms = slice(n_models * thread // threads, n_models * (thread + 1) // threads)
        theta, log_s, weights = prompts
        x, u, w = (_prompts_last(values, width) for values in (theta[:, llms], log_s, weights))
        odds, s = np.exp(x), np.exp(u)
        for row, values in zip(self._plan.rows, self._rows[:, llms], strict=True):
            values[...] = row.polynomial.in_powers_of_b(odds, s)[0]
            if row.weighted:
                values *= w

    def add_up(self, thread: int) -> None:
        """Make the sums of a thread's tiles."""
        steps = self._plan.steps
        for operands in self._operands[thread]:
            for function, x, y, out in steps:
                function(operands[x], operands[y], operands[out])

    def _cut(self, tiles: list[tuple[slice, slice]], largest: int) -> list[list[np.ndarray]]:
        """What the steps work on, for each of these tiles. Their inverses share one place, for `largest` pairs."""
        rows, width, kind = self._rows, self._rows.shape[-1], self._rows.dtype
        inverses, one = _empty((self._plan.n_inverses, largest, width), kind), (np.ones(1, kind),)
        firsts, others, places = {}, {}, {}  # cut once for all tiles that have them
        for a, b in tiles:
            firsts[a.start, a.stop] = list(rows[:, a, None])
            others[b.start, b.stop] = list(rows[:, None, b])
            n, m = shape = a.stop - a.start, b.stop - b.start
            places[shape] = list(inverses[:, : n * m].reshape(-1, n, m, width))
        found = []
        for a, b in tiles:
            place = places[a.stop - a.start, b.stop - b.start]
            arrays = firsts[a.start, a.stop], others[b.start, b.stop], place, self.sums[:, a, b], one  # as in `Kind`
            found.append([arrays[kind][number] for kind, number in self._plan.operands])
        return found


def _tiles(n_models: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Every pair of a first LLM and one behind it, in rectangles of so many on each side at most."""
    squares = n_models >= 8 * side  # on the diagonal: half of their pairs is for nothing, but in a single call
    for start in range(0, n_models, side):
        stop = min(start + side, n_models)
        for other in range(start if squares else stop, n_models, side):
            yield slice(start, stop), slice(other, min(other + side, n_models))
        for first in () if squares else range(start, stop - 1):
            yield slice(first, first + 1), slice(first + 1, stop)


def _prompts_last(values: np.ndarray, width: int) -> np.ndarray:
    """The transpose, with zeros up to this width: prompts without weight."""
    rows = _empty((*values.shape[1:], width), values.dtype)
    rows[..., : len(values)], rows[..., len(values) :] = values.T, 0.0
    return rows


def _empty(shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    """An array that starts where a line of the cache does, unlike numpy's own."""
    size, line = math.prod(shape) * kind.itemsize, _LINE * 4
    memory = np.empty(size + line, np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + size].view(kind).reshape(shape)


def _add_extreme(
    sums: np.ndarray, feedback: Feedback, theta: np.ndarray, log_s: np.ndarray, weights: np.ndarray
) -> None:
    """Add prompts in log space, where nothing overflows whatever the coefficients are."""
    for start in range(0, len(theta), _PROMPTS):
        part = slice(start, start + _PROMPTS)
        x = np.ascontiguousarray(theta[part].T)
        for llm, pairs in _parts(len(x)):
            log_probs = log_pair_probabilities(feedback, *np.broadcast_arrays(x[llm], x[llm + 1 :], log_s[part]))
            sums[:, pairs] += np.vecdot(np.exp(np.moveaxis(log_probs, -1, 0)), weights[part])
