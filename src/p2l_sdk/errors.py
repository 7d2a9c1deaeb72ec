"""The exceptions of p2l-sdk: `P2LError` and its subclasses. Each message says what is wrong and how to fix it.

`P2LWarning` is the category of its warnings.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TypeVar

from p2l_sdk.modeling.errors_p2l import CostError, ModelFormatError, P2LError, PromptError

__all__ = [
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
_MOST_SIMILAR = 4
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
    """The known name closest in spelling to this one; None if there is no close one."""
    return next(iter(difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)), None)


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
        similar: the names to suggest instead of the closest one, if they are few.
    """
    for name in names:
        if name not in models:
            short = name[:LONGEST_NAME] if isinstance(name, str) else name
            near = did_you_mean(short, models)
            if 0 < len(similar) <= _MOST_SIMILAR:
                near = f"did you mean {' or '.join(map(repr, similar))}?"
            if unknown is not None:
                raise UnknownModelError(f"{what} names {short!r}, {unknown}; {near}")
            raise UnknownModelError(f"{what} names {short!r}, which this model does not know; {near} ({NO_VOTES})")
