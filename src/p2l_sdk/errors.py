"""All errors that p2l-sdk raises on purpose, `P2LError` and below. Each names the thing and the remedy.

`P2LWarning` is the category of its warnings.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from p2l_sdk.modeling.errors_p2l import CostError, ModelFormatError, P2LError, PromptError

__all__ = [
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
    "UnknownModelError",
    "VotesError",
    "did_you_mean",
    "nearest",
    "require_known",
]

_LONGEST_NAME = 100


class UnknownModelError(P2LError):
    """A name that is not among the LLMs of the model."""


class BudgetError(P2LError):
    """No mixture of the LLMs fits the budget.

    Attributes:
        cheapest: the lowest feasible budget, USD per response (None if the budget is no number at all).
    """

    def __init__(self, message: str, cheapest: float | None = None) -> None:
        super().__init__(message)
        self.cheapest = cheapest


class VotesError(P2LError):
    """A votes, scores or prompts file that breaks the data contract; names the row and the legal values."""


class ResultsError(P2LError):
    """Results of benchmarks, a tree over them or prices that break the contract; names the place and the remedy."""


class EndpointError(P2LError):
    """An address that does not answer as an OpenAI-compatible endpoint, or cannot be asked so."""


class HubError(P2LError):
    """The Hub has not what was asked for, refused, or could not be reached; its cause is the client's own error."""


class RemoteError(P2LError):
    """The p2l server that a `P2L` asks refused, failed, or could not be reached."""


class ConvergenceError(P2LError):
    """A solver did not reach its optimum."""


class P2LWarning(UserWarning):
    """A result that is right, but says less than it seems to; names what it does not say."""


class MissingExtraError(P2LError, ImportError):
    """An optional package is not installed; the text holds the pip line that brings it."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f'{feature} needs {package}, which is not installed: pip install "p2l-sdk[{extra}]"')


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The known name that is spelled most like this one; None where none is like it."""
    return next(iter(difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)), None)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest that is known, or all of them."""
    known = list(known)
    near = nearest(name, known)
    return f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"


def require_known(
    names: Iterable[str], models: Sequence[str], what: str, unknown: str = "which this model does not know"
) -> None:
    """Raise `UnknownModelError` for the first name that is not among the models, with the nearest that is."""
    for name in names:
        if name not in models:
            short = name[:_LONGEST_NAME] if isinstance(name, str) else name  # a request may hold megabytes
            raise UnknownModelError(f"{what} names {short!r}, {unknown}; {did_you_mean(short, models)}")
