"""Columns of votes as numbers: every distinct value of a column is checked once, and all faulty rows are found before
one error names them, or they are left out."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2l_sdk.errors import NEW_LINE, TableError
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.tables.columns import PromptIndex, is_missing, llm_name, weight_of
from p2l_sdk.tables.faults import Faults, Skipped
from p2l_sdk.tables.near_names import NearNames, near_names
from p2l_sdk.tables.numbered import Numbered, joined
from p2l_sdk.tables.places import Place, Places
from p2l_sdk.tables.plain import plain_values
from p2l_sdk.tables.prompt_cells import PromptCells
from p2l_sdk.tables.reading import Reading, not_there
from p2l_sdk.tables.sources import ABSENT
from p2l_sdk.tables.warn import warn_caller
from p2l_sdk.tables.winners import LEGAL, WinnerColumn, WinnersRead, checked_winners, cut, is_text, likely

OUTCOMES = "an outcome is model_a, model_b, tie, both_bad or, for rows to leave out, skip"
_MOST = 20  # options in a message


@dataclass(frozen=True)
class EncodedVotes:
    """Votes as numbers, without faulty rows.

    Attributes:
        prompts: the distinct prompts, in order of first appearance; empty if there are none.
        names: the LLMs, likewise.
        prompt, a, b, winner, weight: `(n_votes,)` each; `prompt` is empty if there are none.
        keep: `(n_rows,)` booleans, which rows of the table the votes are; None for all.
        skipped, winners, near, trimmed: as in `Findings`.
    """

    prompts: list[Prompt]
    names: tuple[str, ...]
    prompt: np.ndarray
    a: np.ndarray
    b: np.ndarray
    winner: np.ndarray
    weight: np.ndarray
    keep: np.ndarray | None
    skipped: Skipped | None
    winners: dict[str, str]
    near: tuple[NearNames, ...]
    trimmed: tuple[str, ...]


class VoteCodes:
    """Encodes the columns of votes as numbers, chunk by chunk.

    Args:
        with_prompts: whether the votes are on prompts; what counts votes alone needs none.
        reading: how the table is read.
        place: names a row, for messages (see `Source.place`).
        columns: the contract's columns that have another name in the table -> that name. A winner that is the name of a
            side's column is that side.

    Attributes:
        faults: the faulty rows so far; of winners only once `encoded` has read them.
        n_rows: number of rows so far.
    """

    def __init__(
        self,
        with_prompts: bool = True,
        reading: Reading | None = None,
        place: Place | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        self._reading = reading or Reading()
        self.faults = Faults(place or Places(), self._reading.skip_invalid)
        self.n_rows = 0
        self._winners = WinnerColumn()
        self._prompts = PromptIndex()
        self._cells = PromptCells()
        self._names: dict[str, int] = {}
        self._trimmed: dict[str, None] = {}
        self._columns = columns or {}
        self._with_prompts = with_prompts
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(self, chunk: Mapping[str, Any]) -> int:
        """Add the next rows and return their number.

        Args:
            chunk: the columns, each a list of plain values. Without prompts, a pandas `Series`, a pyarrow array, a
                numpy array and a `Numbered` column will do as well.
        """
        n_rows, start = len(next(iter(chunk.values()), [])), self.n_rows
        if not n_rows:
            return 0
        prompts = self._prompt_numbers(chunk) if self._with_prompts else np.empty(0, dtype=np.intp)
        a, b = (self._coded(chunk, side, self._number(side)) for side in ("model_a", "model_b"))
        winner = self._coded(chunk, "winner", self._spelling)
        again = self._headers(a, b, winner)
        if len(again):
            a[again] = b[again] = winner[again] = -1
        same = np.flatnonzero(a == b)
        if len(same := same[a[same] >= 0]):
            names = list(self._names)
            for llm in np.unique(a[same]).tolist():
                after = " after renaming" if names[llm] in self._reading.rename.values() else ""
                self.faults.add_all(start + same[a[same] == llm], f"{names[llm]!r} is compared with itself{after}")
        weight = weights(chunk["weight"], start, self.faults) if "weight" in chunk else np.ones(n_rows)
        self._parts.append((prompts, a, b, winner, weight))
        self.n_rows += n_rows
        return n_rows

    def encoded(self, times: np.ndarray | None = None) -> EncodedVotes:
        """The votes.

        Args:
            times: `(n_rows,)` how often each row occurs; by default once. No row may be faulty then.

        Raises:
            TableError: there are no votes, rows are faulty and not to be left out (the message lists them), or the
                spellings of the winner are not certain.
        """
        if not self._parts:
            raise TableError("the table holds no votes")
        prompt, a, b, codes, weight = map(joined, zip(*self._parts, strict=True))
        seen = _occurrences(a, b, len(self._names), times)
        read = self.winners_of(codes, a, b, seen)
        advice = advice_on(read) if read.unread else ""
        if read.asked:  # whatever happens to faulty rows: these are many
            others = [*self.faults.lines(), self.faults.summary(self.n_rows)] if self.faults else []
            raise TableError(NEW_LINE.join([advice, *([] if self.faults.skip else others)]))
        skipped = self.faults.settle(self.n_rows, advice)
        if unmet := self._winners.unmet(self._reading.winners):
            warn_caller(f"winner: {not_there(unmet, self._winners.texts, 'a spelling of winner in the table')}")
        names, prompts, keep, winner = tuple(self._names), self._prompts.prompts, None, read.winner
        if skipped is not None:
            keep = self.faults.keep(self.n_rows)
            prompt = prompt[keep] if self._with_prompts else prompt
            a, b, winner, weight = a[keep], b[keep], winner[keep], weight[keep]
            used, first = np.unique(prompt, return_index=True)
            used = used[np.argsort(first)]  # in order of first appearance among the rows that are kept
            place = np.zeros(len(prompts), dtype=np.intp)
            place[used] = np.arange(len(used))
            prompts, prompt = [prompts[i] for i in used], place[prompt]
            met, place = np.unique(np.concatenate([a, b]), return_inverse=True)
            names, (a, b) = tuple(names[i] for i in met), np.split(place, 2)
            seen = _occurrences(a, b, len(names))
        near = near_names(dict(zip(names, seen.tolist(), strict=True)))
        trimmed = tuple(name for name in self._trimmed if name in names)
        return EncodedVotes(prompts, names, prompt, a, b, winner, weight, keep, skipped, read.read, near, trimmed)

    def winners_of(
        self,
        codes: np.ndarray | None = None,
        a: np.ndarray | None = None,
        b: np.ndarray | None = None,
        seen: np.ndarray | None = None,
    ) -> WinnersRead:
        """Read the winners; rows where that fails are faulty, but for spellings that have to be mapped.

        Args:
            codes, a, b: the numbers of the spellings, and of the LLMs on both sides; by default those of all rows.
            seen: how often each LLM occurs, if that is known.
        """
        if codes is None or a is None or b is None:
            _, a, b, codes, _ = map(joined, zip(*self._parts, strict=True))
        sides = {self._columns[side]: side for side in ("model_a", "model_b") if side in self._columns}
        given = {**checked_winners(sides), **self._reading.winners}
        seen = _occurrences(a, b, len(self._names)) if seen is None else seen
        names = [name if there else "" for name, there in zip(self._names, seen.tolist(), strict=True)]
        read = self._winners.read(codes, a, b, names, given, strict=self.faults.skip)
        for rows, text in read.faults:
            self.faults.add_all(rows, text)
        for rows, text in read.skipped:
            self.faults.leave_out(rows, text)
        return read

    def _headers(self, a: np.ndarray, b: np.ndarray, winner: np.ndarray) -> np.ndarray:
        """The rows of a chunk that are the header again, as in files put one below the other; they are faulty."""
        own = {name: self._columns.get(name, name) for name in ("model_a", "model_b", "winner")}
        codes = [self._names.get(own["model_a"]), self._names.get(own["model_b"]), self._winners.known(own["winner"])]
        if None in codes:
            return np.empty(0, dtype=np.intp)
        rows = np.flatnonzero((a == codes[0]) & (b == codes[1]) & (winner == codes[2]))
        self.faults.add_all(self.n_rows + rows, "it is the header again; delete it")
        return rows

    def _prompt_numbers(self, chunk: Mapping[str, Any]) -> np.ndarray:
        """The numbers of the prompts, in `prompt` or, in rows without one, in `conversation_a`; -1 for faulty ones."""
        name = "prompt" if "prompt" in chunk or "conversation_a" not in chunk else "conversation_a"
        column = chunk.get(name)
        if column is None:
            self._lacking(chunk, name, range(len(next(iter(chunk.values())))))
            return np.full(len(next(iter(chunk.values()))), -1)
        if name == "prompt" and "conversation_a" in chunk:
            both = zip(column, chunk["conversation_a"], strict=True)
            column = [other if value is ABSENT else value for value, other in both]
        return self._each(chunk, name, self._cells(dict(chunk), column), self._prompts)

    def _each(
        self, chunk: Mapping[str, Any], name: str, column: Iterable[Any], check: Callable[[Any], int]
    ) -> np.ndarray:
        """`check` of each value, -1 for a faulty one."""
        made = []
        for row, value in enumerate(column):
            if value is ABSENT:
                self._lacking(chunk, name, [row])
                made.append(-1)
                continue
            try:
                made.append(check(value))
            except TableError as error:
                self.faults.add(self.n_rows + row, str(error))
                made.append(-1)
        return np.array(made, dtype=np.intp)

    def _coded(self, chunk: Mapping[str, Any], name: str, check: Callable[[Any], int]) -> np.ndarray:
        """Like `_each` for a required column; `check` sees each distinct value once."""
        if name not in chunk:
            n_rows = len(next(iter(chunk.values())))
            self._lacking(chunk, name, range(n_rows))
            return np.full(n_rows, -1)
        try:
            column = Numbered.of(chunk[name])
        except (TypeError, NotImplementedError):  # of Python or pyarrow: lists and other values that are not comparable
            return self._each(chunk, name, plain_values(chunk[name]), check)
        codes, found = column.codes.astype(np.intp, copy=False), column.occurring()
        numbers = np.zeros(max(found) + 2, dtype=np.intp)  # the last one is that of -1
        for code, value in found.items():
            if value is ABSENT:
                self._lacking(chunk, name, np.flatnonzero(codes == code))
                numbers[code] = -1
                continue
            try:
                numbers[code] = check(value)
            except TableError as error:
                self.faults.add_all(self.n_rows + np.flatnonzero(codes == code), str(error))
                numbers[code] = -1
        same = -1 not in found and (numbers[:-1] == np.arange(len(numbers) - 1)).all()
        return codes if same else numbers[codes]

    def _lacking(self, chunk: Mapping[str, Any], name: str, rows: Iterable[int]) -> None:
        """These rows of the chunk lack a column."""
        for row in rows:
            has = ", ".join(str(other) for other, column in chunk.items() if column[row] is not ABSENT)
            self.faults.add(self.n_rows + int(row), f"has no column {name!r} (it has: {has})", " ")

    def _number(self, side: str) -> Callable[[Any], int]:
        def number(value: Any) -> int:
            name = llm_name(side, value)
            if name != value:
                self._trimmed[name] = None
            return self._names.setdefault(name, len(self._names))

        return number

    def _spelling(self, value: Any) -> int:
        if is_missing(value) or (isinstance(value, str) and value.isspace()):
            if "" not in self._reading.winners:
                raise TableError(f"winner is missing; {LEGAL}")
            value = ""
        return self._winners.number(value)


def advice_on(read: WinnersRead) -> str:
    """What to say of spellings that cannot be read: all that were found, and how to map those."""
    found = f"spellings of winner: {read.found}; "
    if not read.asked:
        spelling = shlex.quote(f"{cut(next(iter(read.unread)))}=?")
        return f"{found}if another one says who won, map it: --winner {spelling} (winners={{...}}; {OUTCOMES})"
    if texts := [text for text in read.unread if is_text(text)]:
        return (
            f"winner holds texts ({cut(texts[0])!r}), not outcomes: they may be answers; {LEGAL}, or the name of "
            "the LLM that won. Name the column that says so: --column winner=NAME (columns={...})"
        )
    options, python = winner_options(read), f"in Python: winners={winner_guesses(read)}"
    fill = f"{NEW_LINE}for each ? write an outcome" if any(map(is_open, options)) else ""
    return f"{found}say what {', '.join(map(repr, read.unread))} mean: {' '.join(options)} ({python}; {OUTCOMES}){fill}"


def is_open(option: str) -> bool:
    """Whether an option of `winner_options` has to be filled in."""
    return option.endswith(("=?", "=?'"))


def winner_guesses(read: WinnersRead) -> dict[str, str]:
    """The unread spellings, each with its outcome, "?" where that is not certain."""
    return {spelling: likely(spelling, read.unread) for spelling in list(read.unread)[:_MOST]}


def winner_options(read: WinnersRead) -> list[str]:
    """The options that map the unread spellings likewise."""
    return [f"--winner {shlex.quote(f'{spelling}={guess}')}" for spelling, guess in winner_guesses(read).items()]


def _occurrences(a: np.ndarray, b: np.ndarray, n: int, times: np.ndarray | None = None) -> np.ndarray:
    """`(n,)` how often each LLM occurs on either side; -1 is none, and of rows with one `times` says nothing."""
    if times is not None and min(a.min(), b.min()) >= 0:
        return (np.bincount(a, times, n) + np.bincount(b, times, n)).astype(np.intp)
    sides = [side if len(side) == 0 or side.min() >= 0 else side[side >= 0] for side in (a, b)]
    return np.bincount(sides[0], minlength=n) + np.bincount(sides[1], minlength=n)


def weights(column: Any, start: int, faults: Faults) -> np.ndarray:
    """The weights `(n_rows,)` in a column, 0 in faulty rows; rows are counted from `start`."""
    try:
        numbers = np.asarray(column)
    except ValueError:  # a list among numbers
        numbers = np.empty(0, dtype=object)
    if numbers.ndim == 1 and numbers.dtype.kind in "biuf":
        numbers = numbers.astype(np.float64, copy=False)
        if (np.isfinite(numbers) & (numbers >= 0)).all():
            return numbers
    made = []
    for row, value in enumerate(plain_values(column), start):
        try:
            made.append(weight_of(value))
        except TableError as error:
            faults.add(row, str(error))
            made.append(0.0)
    return np.array(made)
