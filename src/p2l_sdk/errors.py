"""The exceptions of p2l-sdk: `P2LError` and its subclasses. Each message says what is wrong and how to fix it.

`P2LWarning` is the category of its warnings.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TypeVar

from p2l_sdk.modeling.errors_p2l import CostError, ModelFormatError, P2LError, PromptError

__all__ = [
    "COMMON_WORDS",
    "LONGEST_NAME",
    "NEW_LINE",
    "NO_VOTES",
    "BudgetError",
    "ConvergenceError",
    "CostError",
    "EndpointError",
    "HubError",
    "MissingExtraError",
    "ModelFormatError",
    "P2LError",
    "P2LWarning",
    "PromptError",
    "RemoteError",
    "ResultsError",
    "ScoresError",
    "TableError",
    "UnknownModelError",
    "UnknownOptionError",
    "VotesError",
    "did_you_mean",
    "member",
    "nearest",
    "require_known",
]

NEW_LINE = "\n  "  # in a message of several lines, such as one for each faulty row
LONGEST_NAME = 100  # of an LLM in a message; a request may hold megabytes
_MOST_NAMED = 20  # names listed in a message
_MOST_SIMILAR, _MOST_OF_NAME = 4, 8  # those that may be meant; those that share a name without a version
_CLOSE, _BEGINNING = 0.5, 0.2  # least similarity of a name to suggest; what a common beginning adds to it
_ALIKE = 0.75  # least similarity of two words of which one may be a typing error
_WORD = re.compile(r"[^\W\d_]{2,}")
COMMON_WORDS = {  # of names of anything, which say nothing of what is meant
    "chat", "instruct", "it", "latest", "llm", "model", "preview", "mini", "small", "large", "pro", "max", "base",
}  # fmt: skip
_DATES = re.compile(r"(?:-(?:20\d\d-?[01]\d-?[0-3]\d|[01]\d-20\d\d|[01]\d-?[0-3]\d|2\d[01]\d|latest))+$")
_TUNED = re.compile(r"(?:-(?:instruct|it|chat))+$")
NO_VOTES = "is it not there at all? docs/no-votes.md ('You have no votes') adds it, from ratings or votes"

Member = TypeVar("Member", bound=StrEnum)


class UnknownModelError(P2LError):
    """A name that is not one of the model's LLMs."""


class UnknownOptionError(P2LError, TypeError):
    """A keyword that a function does not have; the message names the nearest one."""


class BudgetError(P2LError):
    """No mixture of the LLMs fits the budget, or the budget is invalid.

    Attributes:
        cheapest: the lowest feasible budget, USD per response; None if the budget is invalid.
    """

    def __init__(self, message: str, cheapest: float | None = None) -> None:
        super().__init__(message)
        self.cheapest = cheapest


class TableError(P2LError):
    """A table (a file, a data set, a frame) that cannot be read or violates the contract of its columns; the message
    names the row and the legal values."""


class VotesError(TableError):
    """Votes or prompts that violate the data contract; the message names the row and the legal values."""


class ScoresError(VotesError):
    """Scores that violate the data contract; also a `VotesError`, since scores are read wherever votes are."""


class ResultsError(TableError):
    """Benchmark results, a tree over them or prices that violate the contract; the message says where and how to fix
    it."""


class EndpointError(P2LError):
    """An address that cannot be used as an OpenAI-compatible endpoint, or does not answer as one."""


class HubError(P2LError):
    """The Hub does not have what was requested, refused, or could not be reached; the client's error, if any, is the
    `__cause__`."""


class RemoteError(P2LError):
    """The p2l server behind a `P2L` refused, failed, or could not be reached."""


class ConvergenceError(P2LError):
    """A solver did not reach its optimum."""


class P2LWarning(UserWarning):
    """A result that is correct but says less than it seems to; the message explains what it does not say."""


class MissingExtraError(P2LError, ImportError):
    """An optional package is not installed; the message contains the pip command that installs it."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f'{feature} needs {package}, which is not installed: pip install "p2l-sdk[{extra}]"')


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The known name closest in spelling to this one; None if there is no close one, or the two share no word, not even
    a mistyped one. Dates, makers in front and endings of tuned weights do not count, and of names that are as close,
    the one that begins alike for longer is taken."""
    wanted, best, most = _shorter(str(name)), None, (0.0, 0)
    for other in known:
        forms = _shorter(str(other))
        alike = max(_likeness(*pair) for pair in zip(wanted, forms, strict=True))
        found = (alike, -abs(len(forms[1]) - len(wanted[1])))
        if alike >= _CLOSE and (best is None or found > most) and _share_a_word(wanted[0], forms[0]):
            best, most = other, found
    return best


def _likeness(a: str, b: str) -> float:
    """How alike two names are, from 0 (not close) to 1, and a little more for a common beginning."""
    matcher = difflib.SequenceMatcher(None, a, b)
    if matcher.real_quick_ratio() < _CLOSE or matcher.quick_ratio() < _CLOSE or matcher.ratio() < _CLOSE:
        return 0.0
    return matcher.ratio() + _BEGINNING * _beginning(a, b) / max(len(a), 1)


def _beginning(a: str, b: str) -> int:
    """The number of characters with which both texts begin."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _share_a_word(a: str, b: str) -> bool:
    """Whether two names have a word in common, or two of which one may be a typing error or a form of the other."""
    first, second = _words(a), _words(b)
    if not first or not second:  # names of digits and single letters
        return True
    return any(_same_word(one, other) for one in first for other in second)


def _same_word(a: str, b: str) -> bool:
    begins = _beginning(a, b) >= max(3, _ALIKE * min(len(a), len(b)))  # coding, code
    return a == b or begins or sorted(a) == sorted(b) or difflib.SequenceMatcher(None, a, b).ratio() >= _ALIKE


def _words(name: str) -> set[str]:
    words = set(_WORD.findall(name))
    return words - COMMON_WORDS or words


def _shorter(name: str) -> tuple[str, str]:
    """A name of an LLM in small letters, without its maker in front and its date; and without endings of tuned weights,
    too."""
    small = re.sub(r"[\s_]+", "-", name.strip().lower().rpartition("/")[2]) or name.lower()
    undated = _DATES.sub("", small) or small
    return undated, _TUNED.sub("", undated) or undated


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the closest known name, or else all known names."""
    known = list(known)
    near = nearest(name, known)
    if near:
        return f"did you mean {near!r}?"
    more = f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED + 1 else ""
    return f"known: {', '.join(known[:_MOST_NAMED] if more else known)}{more}"


def member(kind: type[Member], what: str, value: object, others: str = "") -> Member:
    """The member of an enum that a user named, ignoring case.

    Args:
        kind: the enum.
        what: what the enum is, for the message.
        value: a member, or its name.
        others: end of the message, naming what else is legal.

    Raises:
        P2LError: there is no such member; the message lists the legal ones.
    """
    try:
        return kind(str(value).lower())
    except ValueError:
        raise P2LError(f"unknown {what} {value!r}; known: {', '.join(kind)}{others}") from None


def _one_of(similar: Sequence[str]) -> str:
    if len(similar) <= _MOST_SIMILAR:
        return f"did you mean {' or '.join(map(repr, similar))}?"
    more = f" and {len(similar) - _MOST_OF_NAME} more" if len(similar) > _MOST_OF_NAME + 1 else ""
    return f"known of that name: {', '.join(similar[:_MOST_OF_NAME] if more else similar)}{more}"


def require_known(
    names: Iterable[str],
    models: Sequence[str],
    what: str,
    unknown: str | None = None,
    *,
    similar: Sequence[str] = (),
) -> None:
    """Raise `UnknownModelError` for the first name that is not in `models`, suggesting the closest one.

    Args:
        names: the names to check.
        models: the legal names.
        what: what holds the names, for the message.
        unknown: what it means that a name is not in `models`; by default that the P2L model does not know the LLM, and
            then the message ends with the way to add it (`NO_VOTES`).
        similar: the names to suggest instead of the closest one.
    """
    known = set(models)
    for name in names:
        if not isinstance(name, str) or name not in known:
            short = name[:LONGEST_NAME] if isinstance(name, str) else name
            near = did_you_mean(short, models)
            if similar:
                near = _one_of(similar)
            if unknown is not None:
                raise UnknownModelError(f"{what} names {short!r}, {unknown}; {near}")
            raise UnknownModelError(f"{what} names {short!r}, which this model does not know; {near} ({NO_VOTES})")
