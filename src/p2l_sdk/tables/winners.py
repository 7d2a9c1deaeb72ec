"""The winner of a vote as people write it: a word, a number, or the name of an LLM.

What is certain by itself is read at once ("Left", "model_1", "Tie"). Numbers are read by all spellings of the column:
1 and 2 are the first and the second LLM, and with 0.5 among them 1, 0.5 and 0 are the score of the first. Whatever may
mean two things (1 and 0 alone) is asked for.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2l_sdk.errors import P2LError
from p2l_sdk.modeling.feedback_p2l import Winner

WINNERS = {
    "model_a": Winner.A,
    "model_b": Winner.B,
    "tie": Winner.TIE,
    "tie (bothbad)": Winner.BOTH_BAD,
    "both_bad": Winner.BOTH_BAD,
}
SKIP = "skip"  # in a mapping of spellings: rows with this one are left out
LEGAL = f"legal values: {', '.join(WINNERS)}"

_NUMBER = re.compile(r"[+-]?\d+([.,]\d*)?")
_SIDES = {
    **dict.fromkeys(("a", "left", "first", "1"), Winner.A),
    **dict.fromkeys(("b", "right", "second", "2"), Winner.B),
}
_BARE = {"1", "2"}  # sides only beside a word such as "model"
_NOUNS = {"model", "llm", "assistant", "answer", "response", "option", "side", "output", "candidate", "system"}
_FILLERS = {
    "is", "the", "better", "best", "wins", "win", "won", "winner", "preferred", "much", "slightly", "clearly",
    "significantly", "strongly",
}  # fmt: skip
_TIES = {"tie", "tied", "ties", "draw", "equal", "same", "even", "tie inconsistent", "both good", "tie both good",
         "tie bothgood", "bothgood", "a tie", "equally good", "both equally good"}  # fmt: skip
_BOTH_BAD = {"both bad", "bothbad", "tie both bad", "tie bothbad", "both are bad", "equally bad", "both equally bad"}
_SHARE, _ROWS = 0.05, 3  # an unread spelling in more rows than these is no fault of single rows
_MOST = 20  # spellings in a message
_PHRASE = 4  # words; a longer text is no outcome
_LONGEST, _MOST_WORDS = 80, 12  # characters and words of a spelling; a longer one is a text
_SHOWN = 40  # characters of a text in a message
_LARGEST = 10  # a larger number is a sum or a count, and no outcome
_SIGN = re.compile(r"\s*([^<>=]*?)\s*(>+|<+|={1,3})\s*([^<>=]*?)\s*")
_DEGREES = {"far", "by", "more", "very", "bit", "lot", "definitely", "strong", "slight", "little"}
_TIES_TOO = {"both", "no preference", "no difference", "no winner", "not different", "indifferent"}
_OF_COMPARISONS = {
    "tie", "tied", "both", "equal", "equally", "draw", "same", "none", "neither", "no", "yes", "bad", "worse", "better",
    "good", "left", "right", "first", "second", "unclear", "unsure", "undecided",
}  # fmt: skip

_UNREAD, _NAMED, _SKIPPED = -1, -2, -3


def words_of(text: str) -> str:
    """A text in small words, without punctuation; "model1" is "model 1"."""
    small = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\d+|[^\W\d_]+", small))


def side_or_tie(text: str) -> Winner | None:
    """The outcome that a word or phrase certainly means; None if it may mean another, as a number alone may."""
    found = WINNERS.get(text.strip().lower())
    if found is not None:
        return found
    words = words_of(text)
    if words in _TIES:
        return Winner.TIE
    if words in _BOTH_BAD:
        return Winner.BOTH_BAD
    parts = [word for word in words.split() if word not in _FILLERS]
    rest = [word for word in parts if word not in _NOUNS]
    if len(rest) != 1 or (rest[0] in _BARE and len(parts) == 1):
        return None
    return _SIDES.get(rest[0])


def number_in(value: Any) -> str | None:
    """The number that a winner is written as, "1" for 1.0 and "1.00"; None if it is no number."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        try:
            return f"{value:g}"
        except OverflowError:  # of an integer, more than a double holds
            return "inf" if value > 0 else "-inf"
    text = value.strip().lower()
    if text in ("true", "false"):
        return str(text)
    return f"{float(text.replace(',', '.')):g}" if _NUMBER.fullmatch(text) else None


def outcomes_of_numbers(numbers: set[str]) -> dict[str, Winner]:
    """The outcomes that these numbers mean together; empty if that is not certain."""
    if numbers == {"1", "2"}:
        return {"1": Winner.A, "2": Winner.B}
    if "0.5" in numbers and numbers <= {"0", "0.5", "1"}:
        return {"1": Winner.A, "0.5": Winner.TIE, "0": Winner.B}
    return {}


def checked_winners(given: Mapping[Any, Any]) -> dict[str, Winner | None]:
    """A user's mapping of spellings, checked: spelling -> outcome, None for rows to leave out.

    Raises:
        P2LError: a value is none of the legal ones.
    """
    found: dict[str, Winner | None] = {}
    for spelling, meaning in given.items():
        outcome = side_or_tie(str(meaning))
        if outcome is None and str(meaning).strip().lower() != SKIP:
            raise P2LError(
                f"the winner {str(spelling)!r} is mapped to {str(meaning)!r}; {LEGAL}, and {SKIP} for rows to leave out"
            )
        found[_plain(spelling)] = outcome
    return found


def _plain(value: Any) -> str:
    """A spelling for comparisons; "" for an empty cell."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    number = number_in(value) if isinstance(value, str | bool | int | float) else None
    return (number or str(value).strip()).casefold()


def likely(spelling: str, others: Collection[str]) -> str:
    """The outcome that a spelling means beside the others, for a suggestion that may be pasted as it is; "?" where that
    is not certain: numbers (but for a 0 between -1 and 1), and words that say something else, or nothing, of a side."""
    number, text = number_in(spelling), str(spelling)
    if number is not None:
        return "tie" if number == "0" and {"-1", "1"} <= {number_in(other) for other in others} else "?"
    sign, words = _SIGN.fullmatch(text), words_of(text)
    named = [[w for w in words_of(part).split() if w not in _NOUNS] for part in sign.groups()[::2]] if sign else []
    sides = [_SIDES.get(" ".join(part)) for part in named]
    if sign and (sides in ([Winner.A, Winner.B], [Winner.B, Winner.A]) or not (sign[1] or sign[3])):
        turned = (sides == [Winner.B, Winner.A]) is not ("<" in sign[2])
        return "tie" if "=" in sign[2] else "model_b" if turned else "model_a"
    if words in _TIES_TOO:
        return "tie"
    parts = [word for word in words.split() if word not in {*_FILLERS, *_NOUNS, *_DEGREES}]
    found = {_SIDES[word] for word in parts if word in _SIDES and word not in _BARE}
    if len(parts) == len(found) == 1:
        return "model_b" if Winner.B in found else "model_a"
    return "?"


def may_be_outcome(spelling: str) -> bool:
    """Whether a spelling is written as outcomes are: a mark, a small number, or a word or two about a comparison."""
    number = number_in(spelling)
    if number is not None:
        return number in ("true", "false") or abs(float(number)) <= _LARGEST
    words = words_of(spelling).split()
    return len(words) <= _PHRASE and (not words or bool(_OF_COMPARISONS & set(words)) or likely(spelling, ()) != "?")


def cut(spelling: Any) -> Any:
    """A spelling as a message shows it: of a long text, the beginning."""
    return f"{spelling[:_SHOWN]}..." if isinstance(spelling, str) and len(spelling) > _LONGEST else spelling


def is_text(spelling: str) -> bool:
    """Whether a spelling is a text, such as the answer of an LLM: too long for an outcome or a name."""
    return len(spelling) > _LONGEST or len(words_of(spelling).split()) > _MOST_WORDS


@dataclass(frozen=True)
class WinnersRead:
    """A winner column, read.

    Attributes:
        winner: `(n_votes,)` `Winner` codes; -1 where it cannot be read.
        faults: rows (from 0) that cannot be read, and why, for each kind of fault.
        skipped: rows that are to be left out, likewise.
        read: spellings other than the contract's -> what they were read as.
        asked: whether spellings have to be mapped, whatever happens to faulty rows, since many votes have them. They
            are not among the faults.
        unread: spellings that cannot be read -> number of rows.
        found: all spellings, each with its number and how it was read.
    """

    winner: np.ndarray
    faults: list[tuple[np.ndarray, str]]
    skipped: list[tuple[np.ndarray, str]]
    read: dict[str, str]
    asked: bool
    unread: dict[str, int]
    found: str


class _Other(str):
    """A value that is neither a text nor a number, as it is shown."""

    def __new__(cls, value: Any) -> _Other:
        return super().__new__(cls, repr(value))

    __repr__ = str.__str__


class WinnerColumn:
    """Numbers the spellings of a winner column, and reads them once all are known."""

    def __init__(self) -> None:
        self._spellings: dict[Any, int] = {}

    def number(self, value: Any) -> int:
        """The number of a spelling that is not missing."""
        key = value.strip() if isinstance(value, str) else value
        if isinstance(value, str | bool | int | float):
            return self._spellings.setdefault((type(key).__name__, key), len(self._spellings))
        return self._spellings.setdefault(("", _Other(value)), len(self._spellings))

    def known(self, spelling: str) -> int | None:
        """The number of a spelling that has occurred; None if it has not."""
        return self._spellings.get(("str", spelling))

    @property
    def texts(self) -> list[str]:
        """The spellings so far."""
        return [str(key[1]) for key in self._spellings]

    def unmet(self, given: Iterable[str]) -> list[str]:
        """The spellings of which something is said (see `checked_winners`), though none is written so."""
        there = {_plain(key[1]) for key in self._spellings}
        return [spelling for spelling in given if spelling not in there]

    def read(
        self,
        codes: np.ndarray,
        a: np.ndarray,
        b: np.ndarray,
        names: Sequence[str],
        given: Mapping[str, Winner | None],
        strict: bool = False,
    ) -> WinnersRead:
        """Read the column.

        Args:
            codes: `(n_votes,)` numbers of spellings; -1 in rows that are faulty already.
            a, b: `(n_votes,)` the LLMs of the votes, indices into names.
            names: the LLMs.
            given: what is said of spellings, see `checked_winners`.
            strict: whether a spelling that probably is an outcome has to be mapped, however rare it is: where faulty
                rows are left out, it must not go with them.
        """
        spellings = [key[1] for key in self._spellings]
        counts = np.bincount(codes if codes.min() >= 0 else codes[codes >= 0], minlength=len(spellings))
        meant, llms = _meanings(spellings, (counts > 0).tolist(), codes, (a, b), names, given)
        table = np.array([*meant, _UNREAD], dtype=np.intp)
        winner = table[codes]  # -1 is the last one
        named = winner == _NAMED
        if named.any():
            llm = np.array([*llms, -1])[codes]
            winner = np.where(named & (a == llm), Winner.A, np.where(named & (b == llm), Winner.B, winner))
        unread: dict[str, np.ndarray] = {}
        faults, skipped, unmapped = [], [], []
        uncertain = any(n and code < 0 for n, code in zip(counts, meant, strict=True))
        bad = np.flatnonzero((winner < 0) & (codes >= 0)) if uncertain else np.empty(0, dtype=np.intp)
        for i in np.unique(codes[bad]).tolist():
            rows, text = bad[codes[bad] == i], spellings[i]
            if meant[i] == _SKIPPED:
                skipped.append((rows, f"winner is {text!r}, which is to be skipped"))
            elif meant[i] == _NAMED:
                faults.append((rows, f"winner is {cut(text)!r}, which is neither of the vote's two LLMs"))
            else:
                unread[str(text)] = rows
                unmapped.append((rows, f"winner is {cut(text)!r}; {LEGAL}"))
        total, n_unread = int(counts.sum()), sum(map(len, unread.values()))
        asked = any(n >= _ROWS and n > _SHARE * total for n in map(len, unread.values())) or 2 * n_unread > total
        asked |= strict and any(map(may_be_outcome, unread))
        if not asked:
            faults += unmapped
        words = [self._word(meaning) for meaning in meant]
        read = {str(t): w for t, w, n in zip(spellings, words, counts, strict=True) if n and w and _own(t) is None}
        most = np.argsort(-counts, kind="stable")[:_MOST]
        found = ", ".join(f"{cut(spellings[i])!r} {counts[i]:,} x ({words[i] or '?'})" for i in most if counts[i])
        n_rows = {text: len(rows) for text, rows in unread.items()}
        winner = np.maximum(winner, -1) if uncertain else winner
        return WinnersRead(winner, faults, skipped, read, asked, n_rows, found)

    @staticmethod
    def _word(meaning: int) -> str:
        if meaning >= 0:
            return next(word for word, winner in WINNERS.items() if winner == meaning)
        return {_NAMED: "the LLM of that name", _SKIPPED: SKIP}.get(meaning, "")


def _meanings(
    spellings: Sequence[Any],
    seen: Sequence[bool],
    codes: np.ndarray,
    sides: tuple[np.ndarray, np.ndarray],
    names: Sequence[str],
    given: Mapping[str, Winner | None],
) -> tuple[list[int], list[int]]:
    """For each spelling a `Winner` or one of the codes above, and the LLM of that name or -1; only those that are seen
    say what numbers mean."""
    texts = ["" if isinstance(text, _Other) else text for text in spellings]
    said = [given.get(_plain(text), ...) for text in texts]
    words = [side_or_tie(text) if isinstance(text, str) else None for text in texts]
    numbers = [number_in(text) for text in texts]
    open_ = [there and meaning is ... for there, meaning in zip(seen, said, strict=True)]
    sided = any(is_open and word in (Winner.A, Winner.B) for is_open, word in zip(open_, words, strict=True))
    bare = {number for is_open, number in zip(open_, numbers, strict=True) if is_open and number is not None}
    of_numbers = {} if sided else outcomes_of_numbers(bare)
    words = [of_numbers.get(n, w) if n is not None else w for n, w in zip(numbers, words, strict=True)]
    exact = {name.strip().casefold() for name in names}  # an LLM called "model-A" takes no word of the contract away
    of_contract = [text for text in texts if isinstance(text, str) and text.strip().lower() in WINNERS]
    kept = {text for text in of_contract if text.strip().casefold() not in exact}
    llms = [-1 if text in kept else llm for text, llm in zip(texts, _llms(texts, names), strict=True)]
    only_named = any(k >= 0 and w is None for k, w in zip(llms, words, strict=True))
    only_sided = any(k < 0 and w in (Winner.A, Winner.B) for k, w in zip(llms, words, strict=True))
    meant: list[int] = []
    for i, (meaning, word, llm) in enumerate(zip(said, words, llms, strict=True)):
        if meaning is not ...:
            meant.append(_SKIPPED if meaning is None else int(meaning))
        elif word is None or llm < 0:
            meant.append(int(word) if word is not None else _NAMED if llm >= 0 else _UNREAD)
        elif word in (Winner.A, Winner.B) and (sides[word][codes == i] == llm).all():
            meant.append(int(word))  # "A" is both the side and an LLM called A
        elif only_named is only_sided:
            meant.append(_UNREAD)
        else:
            meant.append(_NAMED if only_named else int(word))
    return meant, llms


def _own(text: Any) -> Winner | None:
    return WINNERS.get(text.strip().lower()) if isinstance(text, str) else None


def _llms(spellings: Sequence[Any], names: Sequence[str]) -> list[int]:
    """The LLM that each spelling names: as it is written or, if only one LLM is so, but for capitals and marks."""
    exact = {name.strip(): number for number, name in enumerate(names) if name}
    alike: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        alike.setdefault(words_of(name), []).append(number)
    alike.pop("", None)  # of marks alone
    found = []
    for text in spellings:
        near = alike.get(words_of(text), []) if isinstance(text, str) else []
        found.append(exact.get(text, near[0] if len(near) == 1 else -1) if isinstance(text, str) else -1)
    return found
