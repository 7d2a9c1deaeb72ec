"""The sums over prompts of the outcome probabilities of every pair: nearly all the time of an aggregate goes here.

A probability is a numerator times the inverses of a few denominators, all of them polynomials in the odds a and b of
the two LLMs with positive coefficients (`modeling/feedback_p2l.py`). Summed over prompts with weights w,

    sum of w * (n0(a) + n1(a) b + ...) / (d1 d2 ...)  =  dot(w n0(a), r) + dot(w n1(a), r b) + ...,  r = 1 / (d1 d2 ...)

so what depends on one LLM alone (the exponentials, w n0(a), the terms of the denominators) is computed once for each
prompt and LLM, the inverses of a pair serve all outcomes, and the weights cost nothing. Every pair is visited once.
Nothing is subtracted, so a sum is as accurate, relative to itself, as the numbers are (what is below 1e-10 of the
weights may be lost): float64, or float32 from `_MANY` LLMs on, to some 1e-8 of a logit. Prompts whose coefficients are
too large for float32 are summed in float64, and those too large for that in log space.

The LLMs are shared out among threads (numpy computes without Python's lock), and every sum is made by one of them, in
the order of the prompts: the number of threads changes no digit.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from p2l_sdk.modeling.feedback_p2l import Feedback, factors, log_pair_probabilities, plain_enough
from p2l_sdk.modeling.polynomial_p2l import Polynomial

_MANY = 100  # LLMs from which sums are made in float32, block by block: twice as fast
_PROMPTS = 256  # that are summed together: long rows, few calls
_BLOCK_BYTES = 1 << 17  # of an array of a block of pairs: a handful of them stays in the processor's cache
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


def _threads(probabilities: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    most = min(cores, int(wanted)) if wanted.isdecimal() and int(wanted) else cores
    return max(1, min(most, _MOST_THREADS, probabilities // _WORTH_A_THREAD))


def _add_plain(
    sums: np.ndarray, feedback: Feedback, theta: np.ndarray, log_s: np.ndarray, weights: np.ndarray, threads: int
) -> None:
    """Add prompts for which nothing overflows."""
    with ThreadPoolExecutor(threads) as pool:  # it starts no thread unless it is used
        share_out = pool.map if threads > 1 else map
        for x, u, w in _chunks(theta, log_s, weights):
            chunk = _Chunk(feedback, x, u, w)
            list(share_out(chunk.add_to, itertools.repeat(sums), range(threads), itertools.repeat(threads)))


class _Chunk:
    """Some prompts, and what of their probabilities depends on one LLM of a pair alone.

    Args:
        theta, log_s, weights: `(n_models, n)`, `(n,)` and `(n,)`: prompts last, the long axis.
    """

    def __init__(self, feedback: Feedback, theta: np.ndarray, log_s: np.ndarray, weights: np.ndarray) -> None:
        self._odds, s, polynomials = np.exp(theta), np.exp(log_s), factors(feedback)
        below = [place for place, (_, powers) in enumerate(polynomials) if powers.min() < 0]
        # every denominator is linear in b: a row of LLM a, plus the row of LLM b, the same for all a
        self._denominators = [self._split(polynomials[place][0], s) for place in below]
        self._numerators: list[tuple[list[int], dict[int, np.ndarray]]] = []
        for outcome in range(len(feedback.outcomes)):
            inverses = [k for k, place in enumerate(below) if polynomials[place][1][outcome] < 0]
            above = next(p for p, powers in polynomials if powers[outcome] > 0)
            terms = above.in_powers_of_b(self._odds, s)
            shape = self._odds.shape
            self._numerators.append((inverses, {j: np.broadcast_to(c * weights, shape) for j, c in terms.items()}))

    def _split(self, denominator: Polynomial, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        terms = denominator.in_powers_of_b(self._odds, s)
        return terms[0], self._odds * terms[1]

    def add_to(self, sums: np.ndarray, turn: int, turns: int) -> None:
        """Add every `turns`-th LLM's pairs with those after it, from LLM number `turn` on."""
        n_models = len(self._odds)
        size = _block_size(n_models - 1, self._odds[0].nbytes)
        memory = np.empty((len(self._denominators) + 1, size, self._odds.shape[1]), self._odds.dtype)
        for start in range(1, n_models, size):  # a block of opponents stays in the cache while the others pass
            stop = min(start + size, n_models)
            for i in range(turn, stop - 1, turns):
                first = max(start, i + 1)
                place = i * (2 * n_models - i - 1) // 2 - i - 1  # of the pair (i, 0), if there were one
                self._add_row(sums[:, place + first : place + stop], i, slice(first, stop), memory[:, : stop - first])

    def _add_row(self, sums: np.ndarray, i: int, others: slice, memory: np.ndarray) -> None:
        b, product = self._odds[others], memory[-1]
        for (own, other), inverse in zip(self._denominators, memory, strict=False):
            np.add(other[others], own[i], out=inverse)
            np.reciprocal(inverse, out=inverse)
        for total, (inverses, terms) in zip(sums, self._numerators, strict=True):
            current = memory[inverses[0]]
            for k in inverses[1:]:
                current = np.multiply(current, memory[k], out=product)
            for power in range(max(terms) + 1):
                if power:
                    current = np.multiply(current, b, out=product)
                if power in terms:
                    # no matrix product: BLAS would have threads of its own, and other digits with each number of them
                    total += np.vecdot(current, terms[power][i])


def _block_size(most: int, row_bytes: int) -> int:
    """The size of blocks of at most so many rows, such that they are about equally long and about `_BLOCK_BYTES`."""
    return -(-most // max(1, round(most * row_bytes / _BLOCK_BYTES)))


def _add_extreme(
    sums: np.ndarray, feedback: Feedback, theta: np.ndarray, log_s: np.ndarray, weights: np.ndarray
) -> None:
    """Add prompts in log space, where nothing overflows whatever the coefficients are."""
    for x, u, w in _chunks(theta, log_s, weights):
        end = 0
        for i in range(len(x) - 1):
            start, end = end, end + len(x) - 1 - i
            log_probs = log_pair_probabilities(feedback, *np.broadcast_arrays(x[i], x[i + 1 :], u))
            sums[:, start:end] += np.vecdot(np.exp(np.moveaxis(log_probs, -1, 0)), w)


def _chunks(
    theta: np.ndarray, log_s: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for start in range(0, len(theta), _PROMPTS):
        part = slice(start, start + _PROMPTS)
        yield np.ascontiguousarray(theta[part].T), log_s[part], weights[part]
