"""Files of prompts, votes and scores: read, checked against the contract, turned into arrays.

Columns of votes, as Chatbot Arena publishes them: `prompt` (a string, a list of user turns, or chat messages) or
`conversation_a`; `model_a`, `model_b`; `winner`; optional `weight`. Scores: `prompt` and one column per LLM.
A row that breaks the contract is an error that names it.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from p2l_sdk.errors import MissingExtraError, PromptError, VotesError, require_known
from p2l_sdk.modeling.feedback_p2l import Winner
from p2l_sdk.modeling.prompt_p2l import Prompt, user_turns

WINNERS = {
    "model_a": Winner.A,
    "model_b": Winner.B,
    "tie": Winner.TIE,
    "tie (bothbad)": Winner.BOTH_BAD,
    "both_bad": Winner.BOTH_BAD,
}

Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Votes:
    """Votes as arrays; prompts that occur in many votes are held once.

    Attributes:
        prompts: `n_prompts` distinct prompts.
        models: names of the LLMs.
        prompt, a, b, winner: `(n_votes,)` integers: index into prompts, into models, `Winner` code.
        weight: `(n_votes,)` weights of the votes.
    """

    prompts: list[Prompt]
    models: tuple[str, ...]
    prompt: np.ndarray
    a: np.ndarray
    b: np.ndarray
    winner: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.winner)

    @classmethod
    def read(cls, path: str | Path, models: Sequence[str] | None = None) -> Votes:
        """Votes of a .jsonl, .csv or .parquet file.

        Args:
            path: the file.
            models: the LLMs that may occur, in this order; all that occur, sorted, if not given.

        Raises:
            VotesError: a column is missing or a row breaks the contract.
            UnknownModelError: a vote names an LLM that is not among `models`.
        """
        return cls.from_rows(read_rows(path), models)

    @classmethod
    def from_rows(cls, rows: Iterable[Row], models: Sequence[str] | None = None) -> Votes:
        """Votes of dictionaries with the columns above; errors as in `read`."""
        prompts = _PromptIndex()
        names: dict[str, int] = {}
        columns: list[tuple[int, int, int, int, float]] = []
        for number, row in enumerate(rows, 1):
            a, b = (_text(row, key, number) for key in ("model_a", "model_b"))
            if a == b:
                raise VotesError(f"row {number}: {a!r} is compared with itself")
            columns.append(
                (
                    prompts.add(_prompt_of(row, number)),
                    names.setdefault(a, len(names)),
                    names.setdefault(b, len(names)),
                    _winner(row, number),
                    _weight(row, number),
                )
            )
        if not columns:
            raise VotesError("the file holds no votes")
        known = tuple(sorted(names)) if models is None else tuple(models)
        require_known(names, known, "the votes file")
        place = np.array([known.index(name) for name in names])
        prompt, a_index, b_index, winner = (np.array(column) for column in list(zip(*columns, strict=True))[:4])
        weight = np.array([row[4] for row in columns])
        return cls(prompts.prompts, known, prompt, place[a_index], place[b_index], winner, weight)


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores as arrays: `prompts`, `models`, and `scores` `(n_prompts, n_models)`, higher is better."""

    prompts: list[Prompt]
    models: tuple[str, ...]
    scores: np.ndarray

    @classmethod
    def read(cls, path: str | Path, models: Sequence[str]) -> Scores:
        """Scores of a .jsonl, .csv or .parquet file with a `prompt` and one column for each of these LLMs.

        Raises:
            VotesError: a column is missing, or a score is no finite number.
        """
        prompts: list[Prompt] = []
        scores = []
        for number, row in enumerate(read_rows(path), 1):
            missing = [name for name in models if name not in row]
            if missing:
                raise VotesError(
                    f"the scores file has no column {missing[0]!r}; it needs one for each LLM of the model"
                )
            prompts.append(_prompt_of(row, number))
            scores.append([_score(row, name, number) for name in models])
        if not scores:
            raise VotesError("the scores file is empty")
        return cls(prompts, tuple(models), np.array(scores))


def read_prompts(path: str | Path) -> Iterator[Prompt]:
    """Prompts of a file, one at a time: one per line of a text file, or the `prompt` column of a .jsonl, .csv or
    .parquet file; "-" is standard input, one per line or JSON lines. Empty lines are skipped.

    Raises:
        VotesError: the file cannot be read, or has no prompt column.
    """
    suffix = Path(path).suffix.lower()
    if str(path) == "-":
        yield from _standard_input()
    elif suffix in _READERS:
        for number, row in enumerate(read_rows(path), 1):
            yield _prompt_of(row, number)
    elif suffix in _TEXT:
        with _open(Path(path)) as file:
            yield from _lines(file, path)
    else:
        raise VotesError(
            f"{str(path)!r} is of no known kind; known: text with one prompt per line (.txt, .md or no ending), "
            f"{', '.join(_READERS)}"
        )


def read_rows(path: str | Path) -> Iterator[Row]:
    """Rows of a .jsonl, .csv or .parquet file as dictionaries.

    Raises:
        VotesError: the file does not exist, is of another kind, or is damaged.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    reader = _READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise VotesError(f"{str(path)!r} is of no known kind; known: {', '.join(_READERS)}")
    return reader(Path(path))


def _lines(file: Iterable[str], name: str | Path) -> Iterator[str]:
    """Lines that are not blank, without their ends."""
    try:
        for line in file:
            if line.strip():
                yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise VotesError(f"{str(name)!r} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _standard_input() -> Iterator[Prompt]:
    """Lines, or JSON lines if the first is a JSON object with a prompt."""
    lines = _lines(sys.stdin, "standard input")
    first = next(lines, "")
    following = itertools.chain([first] if first else [], lines)
    if first.lstrip().startswith("{") and '"prompt"' in first:
        for number, row in enumerate(_json_rows(following, "standard input"), 1):
            yield _prompt_of(row, number)
    else:
        yield from following


def _open(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", newline="")  # Excel puts a byte order mark in front
    except OSError as error:
        raise VotesError(f"{str(path)!r} cannot be read: {error.strerror}") from None


def _read_jsonl(path: Path) -> Iterator[Row]:
    with _open(path) as file:
        yield from _json_rows(_lines(file, path), path)


def _json_rows(lines: Iterable[str], name: str | Path) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise VotesError(f"{str(name)!r}, row {number} is no JSON: {error}") from None
        if not isinstance(row, dict):
            raise VotesError(f"{str(name)!r}, row {number} is no JSON object; JSON lines hold one object per line")
        yield row


def _read_csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    with _open(path) as file:
        try:
            for number, row in enumerate(csv.DictReader(file), 1):
                if None in row or None in row.values():
                    fields = "more" if None in row else "fewer"
                    raise VotesError(f"{str(path)!r}: row {number} has {fields} fields than the header")
                yield row
        except UnicodeDecodeError as error:
            raise VotesError(f"{str(path)!r} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
        except csv.Error as error:
            raise VotesError(f"{str(path)!r} is no whole CSV file: {error}") from None


def _read_parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MissingExtraError("Parquet", "pyarrow", "data") from None
    _open(path).close()
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise VotesError(f"{str(path)!r} is no whole Parquet file: {error}") from None


_TEXT = ("", ".txt", ".md")
_READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}


class _PromptIndex:
    """Distinct prompts and their numbers; conversations are compared by their JSON."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self._numbers: dict[str, int] = {}

    def add(self, prompt: Prompt) -> int:
        key = prompt if isinstance(prompt, str) else json.dumps(prompt)
        number = self._numbers.setdefault(key, len(self.prompts))
        if number == len(self.prompts):
            self.prompts.append(prompt)
        return number


def _prompt_of(row: Row, number: int) -> Prompt:
    value = row.get("prompt", row.get("conversation_a"))
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value:
        if all(isinstance(turn, str) for turn in value):  # a list of user turns
            value = [{"role": "user", "content": turn} for turn in value]
        try:
            user_turns(value)
        except PromptError as error:
            raise VotesError(f"row {number}: {error}") from None
        return value
    if "prompt" not in row and "conversation_a" not in row:
        raise VotesError(f"row {number} has no column 'prompt' (it has: {', '.join(map(str, row))})")
    raise VotesError(f"row {number}: the prompt is empty, or neither a string nor a list of user turns")


def _text(row: Row, key: str, number: int) -> str:
    value = row.get(key)
    if key not in row:
        raise VotesError(f"row {number} has no column {key!r} (it has: {', '.join(map(str, row))})")
    if not isinstance(value, str) or not value:
        raise VotesError(f"row {number}: {key} is {value!r}; it must be the name of an LLM")
    return value


def _winner(row: Row, number: int) -> Winner:
    if "winner" not in row:
        raise VotesError(f"row {number} has no column 'winner' (it has: {', '.join(map(str, row))})")
    winner = WINNERS.get(str(row["winner"]).strip().lower())
    if winner is None:
        raise VotesError(f"row {number}: winner is {row['winner']!r}; legal values: {', '.join(WINNERS)}")
    return winner


def _weight(row: Row, number: int) -> float:
    weight = _number(row.get("weight", 1.0))
    if not (math.isfinite(weight) and weight >= 0):
        raise VotesError(f"row {number}: weight is {row['weight']!r}; it must be a finite number >= 0")
    return weight


def _score(row: Row, name: str, number: int) -> float:
    score = _number(row[name])
    if not math.isfinite(score):
        raise VotesError(f"row {number}: the score of {name!r} is {row[name]!r}; it must be a finite number")
    return score


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
