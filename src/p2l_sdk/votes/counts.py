"""Votes as counts: how often each pair of LLMs met, with which outcome. An averaged leaderboard needs nothing else.

A table of votes is encoded column by column, by pyarrow or pandas if the column is theirs, otherwise in one pass with a
Python dictionary. Everything after that is array arithmetic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import VotesError
from p2l_sdk.modeling.feedback_p2l import Winner
from p2l_sdk.votes.votes import WINNERS, Votes

SWAPPED = [Winner.B, Winner.A, Winner.TIE, Winner.BOTH_BAD]  # each outcome as seen from the other side


@dataclass(frozen=True, eq=False)
class VoteCounts:
    """Sums over the votes on each pair a < b (in the order of `numpy.triu_indices`), by `Winner`.

    Attributes:
        models: names of the LLMs.
        number: `(n_pairs, 4)` numbers of votes with a positive weight.
        weight: `(n_pairs, 4)` sums of their weights.
        square: `(n_pairs, 4)` sums of their squared weights, for the standard errors of weighted votes.
    """

    models: tuple[str, ...]
    number: np.ndarray
    weight: np.ndarray
    square: np.ndarray

    @classmethod
    def of(cls, votes: Any) -> VoteCounts:
        """Count `Votes`, a file of votes, or a table with the columns model_a, model_b, winner and, optionally,
        weight: a mapping of sequences or arrays, a pandas frame or a pyarrow table.

        Raises:
            VotesError: a column is missing, columns differ in length, there are no votes, or a row violates the
                contract (the message names it, counting from 1).
        """
        if isinstance(votes, VoteCounts):
            return votes
        if isinstance(votes, str | Path):
            votes = Votes.read(votes)
        if isinstance(votes, Votes):
            return cls._of_codes(votes.models, votes.a, votes.b, votes.winner, votes.weight)
        encoded = {name: _encode(_column(votes, name), name) for name in ("model_a", "model_b", "winner")}
        weight = _column(votes, "weight") if "weight" in _columns(votes) else None
        models = tuple(sorted(set(encoded["model_a"][1].values()) | set(encoded["model_b"][1].values())))
        place = {name: i for i, name in enumerate(models)}
        a, b = (_translate(*encoded[name], place) for name in ("model_a", "model_b"))
        return cls._of_codes(models, a, b, _winner_codes(*encoded["winner"]), weight)

    @classmethod
    def _of_codes(cls, models: tuple[str, ...], a: Any, b: Any, winner: Any, weight: Any) -> VoteCounts:
        n, kinds = len(models), len(Winner)
        lengths = {"model_a": len(a), "model_b": len(b), "winner": len(winner)}
        if weight is not None:
            lengths["weight"] = len(weight)
        if len(set(lengths.values())) > 1:
            raise VotesError(f"the columns differ in length: {', '.join(f'{k} {v:,}' for k, v in lengths.items())}")
        if not len(winner):
            raise VotesError("there are no votes")
        for name, codes, end in (("model_a", a, n), ("model_b", b, n), ("winner", winner, kinds)):
            if codes.min() < 0 or codes.max() >= end:  # only possible in `Votes` built by hand
                _refuse((codes < 0) | (codes >= end), f"{name} is no number from 0 to {end - 1}")
        _refuse(a == b, lambda row: f"{models[int(a[row])]!r} is compared with itself")
        cell = (np.asarray(a, dtype=np.int64) * n + b) * kinds + winner
        weights = None if weight is None else _weights(weight)

        def by_pair(values: np.ndarray | None) -> np.ndarray:
            table = np.bincount(cell, values, n * n * kinds).reshape(n, n, kinds)
            return (table + table.transpose(1, 0, 2)[:, :, SWAPPED])[np.triu_indices(n, 1)].astype(np.float64)

        if weights is None:
            number = by_pair(None)
            return cls(models, number, number, number)
        return cls(models, by_pair(weights > 0), by_pair(weights), by_pair(np.square(weights)))


def _columns(table: Any) -> list[str]:
    for attribute in ("column_names", "columns"):  # pyarrow, pandas
        if hasattr(table, attribute):
            return list(getattr(table, attribute))
    try:
        return list(table.keys())
    except AttributeError:
        raise VotesError(
            f"votes are Votes, a path, or a table with the columns model_a, model_b, winner; not {type(table).__name__}"
        ) from None


def _column(table: Any, name: str) -> Any:
    names = _columns(table)
    if name not in names:
        raise VotesError(f"the votes have no column {name!r} (they have: {', '.join(map(str, names))})")
    return table[name]


def _encode(column: Any, name: str) -> tuple[np.ndarray, dict[int, str]]:
    """Encode a column of strings as `(n_votes,)` numbers, with the string for each number that occurs."""
    if not len(column):
        raise VotesError("there are no votes")
    values: Sequence[Any]
    if hasattr(column, "dictionary_encode"):  # pyarrow
        column = column.dictionary_encode()
        column = column.unify_dictionaries() if hasattr(column, "unify_dictionaries") else column
        chunks = getattr(column, "chunks", [column])
        codes = np.concatenate([chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in chunks])
        values = chunks[0].dictionary.to_pylist()
    elif hasattr(column, "factorize"):  # pandas
        codes, values = column.factorize()
    else:
        numbers: defaultdict[Any, int] = defaultdict(count().__next__)  # a new value gets the next number
        column = column.tolist() if isinstance(column, np.ndarray) else column
        try:
            codes = np.fromiter(map(numbers.__getitem__, column), np.intp, len(column))
        except TypeError:
            raise VotesError(f"the column {name!r} holds values that are no strings") from None
        values = list(numbers)
    if codes.min() < 0:
        _refuse(codes < 0, f"{name} is missing")
    words: dict[int, str] = {}
    for k in map(int, np.flatnonzero(np.bincount(codes))):  # a dictionary may hold values that do not occur
        if not isinstance(values[k], str) or not values[k]:
            _refuse(codes == k, f"{name} is {values[k]!r}; it must be a string, not empty")
        words[k] = str(values[k])
    return codes, words


def _winner_codes(codes: np.ndarray, words: dict[int, str]) -> np.ndarray:
    meaning = {word: WINNERS.get(word.strip().lower()) for word in words.values()}
    for k, word in words.items():
        if meaning[word] is None:
            _refuse(codes == k, f"winner is {word!r}; legal values: {', '.join(WINNERS)}")
    return _translate(codes, words, meaning)


def _translate(codes: np.ndarray, words: dict[int, str], meaning: Mapping[str, Any]) -> np.ndarray:
    table = np.zeros(max(words) + 1, dtype=np.intp)
    table[list(words)] = [meaning[word] for word in words.values()]
    return table[codes]


def _weights(column: Any) -> np.ndarray:
    try:
        weights = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError):
        raise VotesError("the column 'weight' holds values that are no numbers") from None
    bad = ~(np.isfinite(weights) & (weights >= 0))
    _refuse(bad, lambda row: f"weight is {float(weights[row])}; it must be a finite number >= 0")
    return weights


def _refuse(bad: np.ndarray, reason: str | Callable[[int], str]) -> None:
    """Raise `VotesError` for the first bad row, if there is one; rows are counted from 1."""
    if bad.any():
        row = int(np.argmax(bad))
        raise VotesError(f"row {row + 1}: {reason if isinstance(reason, str) else reason(row)}")
