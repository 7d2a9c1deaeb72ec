"""Votes as counts: how often each pair of LLMs met, with which outcome. An averaged leaderboard needs nothing else.

The columns of a table in memory are encoded whole, by pyarrow or pandas if they are theirs; every other source is read
chunk by chunk. No prompts are needed. Everything after that is array arithmetic.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import P2LWarning, TableError, VotesError
from p2l_sdk.leaderboards.weights import scaled
from p2l_sdk.modeling.feedback_p2l import Winner
from p2l_sdk.tables.faults import Faults
from p2l_sdk.tables.near_names import warning_of
from p2l_sdk.tables.numbered import distinct_rows
from p2l_sdk.tables.places import Places
from p2l_sdk.tables.reading import Reading
from p2l_sdk.tables.score_cells import is_scores
from p2l_sdk.tables.sources import Source, open_columns, require_equal_lengths, table_errors
from p2l_sdk.tables.vote_codes import EncodedVotes, VoteCodes, weights
from p2l_sdk.votes.missing_columns import require_columns
from p2l_sdk.votes.votes import Votes

SWAPPED = [Winner.B, Winner.A, Winner.TIE, Winner.BOTH_BAD]  # each outcome as seen from the other side


@dataclass(frozen=True, eq=False)
class VoteCounts:
    """Sums over the votes on each pair a < b that met, in the order of `numpy.triu_indices`, by `Winner`.

    Attributes:
        models: names of the LLMs.
        a, b: `(n_pairs,)` indices of the LLMs of each pair.
        number: `(n_pairs, 4)` numbers of votes with a positive weight.
        weight: `(n_pairs, 4)` sums of their weights. Very large or small weights are divided by a power of two, the
            same for all: only their ratios count.
        square: `(n_pairs, 4)` sums of their squared weights, for the standard errors of weighted votes.
    """

    models: tuple[str, ...]
    a: np.ndarray
    b: np.ndarray
    number: np.ndarray
    weight: np.ndarray
    square: np.ndarray

    @classmethod
    def of(cls, votes: Any) -> VoteCounts:
        """Count `Votes`, or a table of votes or scores: any source that `Votes.read` accepts. Votes need no prompts.

        Raises:
            VotesError: the source cannot be read, a column is missing, columns differ in length, there are no votes, or
                a row violates the contract (the message names it, counting from 1).
        """
        if isinstance(votes, VoteCounts):
            return votes
        with table_errors(VotesError, votes):
            if not isinstance(votes, Votes):
                # a table in memory is there already, whatever its size
                reading = Reading() if isinstance(votes, str | Path) else Reading(max_rows=sys.maxsize)
                opened = open_columns(votes, ("model_a", "model_b", "winner"), ("weight",))
                named, applied = reading.apply(opened)
                first, named = named.peek()
                if not is_scores(first, named.untyped):
                    named = require_columns(named, reading, applied.columns, with_prompts=False)
                    read, times = _encoded(named, applied.columns)
                    if read.near:
                        warnings.warn(warning_of(read.near, "votes"), P2LWarning, stacklevel=4)
                    return cls._of_codes(read.names, read.a, read.b, read.winner, read.weight, times, sort=True)
                votes = Votes.read(named)
            _check(votes)
            return cls._of_codes(votes.models, votes.a, votes.b, votes.winner, votes.weight)

    @classmethod
    def _of_codes(
        cls,
        models: tuple[str, ...],
        a: np.ndarray,
        b: np.ndarray,
        winner: np.ndarray,
        weight: np.ndarray,
        times: np.ndarray | None = None,
        sort: bool = False,
    ) -> VoteCounts:
        """Count votes; `sort` puts the models in alphabetical order.

        If all weigh 1, `times` may say how often each occurs.
        """
        n, kinds, weight = len(models), len(Winner), scaled(weight)
        order = np.array(sorted(range(n), key=models.__getitem__)) if sort else np.arange(n)
        names = tuple(models[i] for i in order)
        if n * n * kinds > max(len(a), _SMALL):
            return cls._of_sorted(names, np.argsort(order), a, b, winner, weight, times)
        cell = a * n
        cell += b
        cell *= kinds
        cell += winner
        first, second = np.triu_indices(n, 1)

        def by_pair(values: np.ndarray | None) -> np.ndarray:
            """Of each pair, met or not: the sums over the votes in which its first LLM is a, and is b."""
            sums = np.bincount(cell, values, n * n * kinds).reshape(n, n, kinds)[np.ix_(order, order)]
            return (sums[first, second] + sums[second, first][:, SWAPPED]).astype(np.float64)

        votes = by_pair(times)
        met = votes.any(1)
        weights = [votes] * 3
        if not (weight == 1.0).all():
            weights = [by_pair(values) for values in (weight > 0, weight, np.square(weight))]
        return cls(names, first[met], second[met], *(sums[met] for sums in weights))

    @classmethod
    def _of_sorted(
        cls,
        models: tuple[str, ...],
        place: np.ndarray,
        a: np.ndarray,
        b: np.ndarray,
        winner: np.ndarray,
        weight: np.ndarray,
        times: np.ndarray | None = None,
    ) -> VoteCounts:
        """As `_of_codes`, for so many LLMs that most pairs have not met; `place` is that of each code in `models`."""
        n, kinds = len(models), len(Winner)
        a, b = place[a], place[b]
        pair = np.minimum(a, b) * n + np.maximum(a, b)
        met, number_of = _distinct(pair, n * n)
        cell = number_of * kinds + np.where(a < b, winner, np.array(SWAPPED)[winner])

        def by_pair(values: np.ndarray | None) -> np.ndarray:
            return np.bincount(cell, values, len(met) * kinds).reshape(-1, kinds).astype(np.float64)

        first, second = np.divmod(met, n)
        if (weight == 1.0).all():
            number = by_pair(times)
            return cls(models, first, second, number, number, number)
        return cls(models, first, second, by_pair(weight > 0), by_pair(weight), by_pair(np.square(weight)))


_SMALL = 1 << 16  # cells (LLM a, LLM b, winner) that are counted whether any vote falls into them or not
_FEW = 1 << 22  # numbers up to which a table of all is faster than sorting


def _encoded(source: Source, columns: Mapping[str, str]) -> tuple[EncodedVotes, np.ndarray | None]:
    """The votes of a source, and how often each occurs; None for once.

    Of a table in memory the distinct rows are read, unless one is faulty: then each row counts, and has a number.
    """

    def encoded(chunks: Iterable[Mapping[str, Any]], times: np.ndarray | None = None) -> EncodedVotes:
        codes = VoteCodes(with_prompts=False, place=source.place, columns=columns)
        for chunk in chunks:
            codes.add(chunk)
        return codes.encoded(times)

    begun = list(itertools.islice(source.chunks, 2))
    if len(begun) == 1 and (distinct := distinct_rows(begun[0])) is not None:
        rows, times = distinct
        with contextlib.suppress(TableError):
            return encoded([rows], times), times
    return encoded(itertools.chain(begun, source.chunks)), None


def _distinct(numbers: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct integers in an array of such from 0 to `end`, ascending, and for each element its place in them."""
    if end > _FEW:
        return np.unique(numbers, return_inverse=True)
    there = np.zeros(end, dtype=bool)
    there[numbers] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[numbers]


def _check(votes: Votes) -> None:
    """Raise `TableError` for what is wrong with the arrays of votes that were built by hand."""
    columns = {"model_a": votes.a, "model_b": votes.b, "winner": votes.winner, "weight": votes.weight}
    require_equal_lengths(columns)
    if not len(votes):
        raise TableError("the table holds no votes")
    n = len(votes.models)
    for (name, codes), end in zip(columns.items(), (n, n, len(Winner)), strict=False):
        _refuse((codes < 0) | (codes >= end), f"{name} is no number from 0 to {end - 1}")
    same = votes.a == votes.b
    if same.any():
        _refuse(same, f"{votes.models[votes.a[same.argmax()]]!r} is compared with itself")
    faults = Faults(Places())
    weights(votes.weight, 0, faults)
    faults.settle(len(votes))


def _refuse(bad: np.ndarray, reason: str) -> None:
    """Raise `TableError` for the first bad row, if there is one; rows are counted from 1."""
    if bad.any():
        raise TableError(f"row {int(bad.argmax()) + 1}: {reason}")
