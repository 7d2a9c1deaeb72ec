"""The contract for the columns of votes and scores: values are validated and encoded as numbers; errors name the row.

A string prompt that was seen before is looked up, not validated again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from p2l_sdk.errors import PromptError, VotesError
from p2l_sdk.modeling.feedback_p2l import Winner
from p2l_sdk.modeling.prompt_p2l import Prompt, user_turns
from p2l_sdk.tables.sources import ABSENT, Chunk

WINNERS = {
    "model_a": Winner.A,
    "model_b": Winner.B,
    "tie": Winner.TIE,
    "tie (bothbad)": Winner.BOTH_BAD,
    "both_bad": Winner.BOTH_BAD,
}
T = TypeVar("T")


def turns_of(prompt: Prompt) -> tuple[str, ...]:
    """The identity of a prompt: the exact texts of its user turns."""
    return tuple(user_turns(prompt))


class PromptIndex:
    """Numbers distinct prompts in order of first appearance; prompts with the same user turns are the same prompt."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self._numbers: dict[tuple[str, ...], int] = {}
        self._strings: dict[str, int] = {}

    def __call__(self, value: Any) -> int:
        """The number of a prompt, validated if it is new; the `VotesError` does not name the row."""
        if not isinstance(value, str):
            return self.number(checked_prompt(value))
        if value not in self._strings:
            self._strings[value] = self.number(checked_prompt(value))
        return self._strings[value]

    def number(self, prompt: Prompt) -> int:
        """The number of a prompt that is already validated."""
        number = self._numbers.setdefault(turns_of(prompt), len(self.prompts))
        if number == len(self.prompts):
            self.prompts.append(prompt)
        return number


def checked_prompt(value: Any) -> Prompt:
    """The prompt in a cell: a string, or chat messages (a list of strings is a list of user turns)."""
    if isinstance(value, list) and value and all(isinstance(turn, str) for turn in value):
        value = [{"role": "user", "content": turn} for turn in value]
    if not (isinstance(value, str) and value.strip()) and not (isinstance(value, list) and value):
        raise VotesError("the prompt is empty, or neither a string nor a list of user turns")
    try:
        user_turns(value)
    except PromptError as error:
        raise VotesError(str(error)) from None
    return value


def model_name(column: str, value: Any) -> str:
    """Validate the name of an LLM in this column."""
    if not isinstance(value, str) or not value:
        raise VotesError(f"{column} is {value!r}; it must be the name of an LLM")
    return value


def winner_code(value: Any) -> Winner:
    """The `Winner` for a cell of the winner column, ignoring case."""
    winner = WINNERS.get(str(value).strip().lower())
    if winner is None:
        raise VotesError(f"winner is {value!r}; legal values: {', '.join(WINNERS)}")
    return winner


def weights(chunk: Chunk, n_rows: int, start: int) -> np.ndarray:
    """`(n_rows,)` weights, 1 where absent; errors count rows from `start` + 1."""
    values = chunk.get("weight", [1.0] * n_rows)
    numbers = np.array([1.0 if value is ABSENT else number_of(value) for value in values])
    bad = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= 0)))
    if len(bad):
        at = int(bad[0])
        raise VotesError(f"row {start + at + 1}: weight is {values[at]!r}; it must be a finite number >= 0")
    return numbers


def number_of(value: Any) -> float:
    """The number that a cell contains or spells; NaN if there is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def prompt_column(chunk: Chunk, start: int) -> list[Any]:
    """The prompts of a chunk: `prompt`, or `conversation_a` in rows without one."""
    if "conversation_a" not in chunk:
        return required(chunk, "prompt", start)
    if "prompt" not in chunk:
        return required(chunk, "conversation_a", start)
    both = zip(chunk["prompt"], chunk["conversation_a"], strict=True)
    return required({**chunk, "prompt": [b if a is ABSENT else a for a, b in both]}, "prompt", start)


def required(chunk: Chunk, name: str, start: int) -> list[Any]:
    """A column that must be present in every row; errors count rows from `start` + 1."""
    values = chunk.get(name)
    at = 0 if values is None else next((i for i, value in enumerate(values) if value is ABSENT), None)
    if at is not None:
        has = [str(other) for other, column in chunk.items() if column[at] is not ABSENT]
        raise VotesError(f"row {start + at + 1} has no column {name!r} (it has: {', '.join(has)})")
    return values or []


def checked(values: Iterable[Any], check: Callable[[Any], T], start: int) -> list[T]:
    """Apply `check` to each value of a column; its `VotesError` is raised with the row, counted from `start` + 1."""
    made: list[T] = []
    try:
        for value in values:
            made.append(check(value))
    except VotesError as error:
        raise VotesError(f"row {start + len(made) + 1}: {error}") from None
    return made


class VoteCodes:
    """Encodes the columns of votes as numbers, chunk by chunk.

    Attributes:
        prompts: the distinct prompts.
        names: name of each LLM -> its number, in order of first appearance.
        n_rows: number of votes so far.
    """

    def __init__(self) -> None:
        self.prompts = PromptIndex()
        self.names: dict[str, int] = {}
        self.n_rows = 0
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(self, chunk: Chunk, n_rows: int) -> None:
        """Add the next votes; a `VotesError` names the row, counted from 1 over all chunks."""
        start, sides = self.n_rows, ("model_a", "model_b")
        prompt = checked(prompt_column(chunk, start), self.prompts, start)
        a, b = (np.array(checked(required(chunk, side, start), self._number(side), start)) for side in sides)
        same = np.flatnonzero(a == b)
        if len(same):
            name = chunk["model_a"][same[0]]
            raise VotesError(f"row {start + int(same[0]) + 1}: {name!r} is compared with itself")
        winner = checked(required(chunk, "winner", start), winner_code, start)
        self._parts.append((np.array(prompt), a, b, np.array(winner), weights(chunk, n_rows, start)))
        self.n_rows += n_rows

    def columns(self) -> tuple[np.ndarray, ...]:
        """prompt, a, b, winner, weight: `(n_votes,)` each."""
        return tuple(np.concatenate(column) for column in zip(*self._parts, strict=True))

    def _number(self, side: str) -> Callable[[Any], int]:
        return lambda value: self.names.setdefault(model_name(side, value), len(self.names))
