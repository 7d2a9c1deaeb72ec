"""p2l-sdk: predicts which LLM will answer a prompt best, and routes to it within a budget.

from p2l_sdk import P2L
P2L.from_pretrained().leaderboard("Prove that the square root of two is irrational")
"""

import importlib
from typing import TYPE_CHECKING, Any

from p2l_sdk.errors import P2LError

if TYPE_CHECKING:
    from p2l_sdk.leaderboards.leaderboard import Leaderboard
    from p2l_sdk.p2l import P2L
    from p2l_sdk.routing.costs import load_costs
    from p2l_sdk.routing.route import Route
    from p2l_sdk.routing.router import Router
    from p2l_sdk.votes.averaged import fit_leaderboard
    from p2l_sdk.votes.scores import Scores
    from p2l_sdk.votes.votes import Votes

__all__ = [
    "P2L",
    "Leaderboard",
    "P2LError",
    "Route",
    "Router",
    "Scores",
    "Votes",
    "__version__",
    "fit_leaderboard",
    "load_costs",
]
__version__ = "0.1.0"

_MODULES = {  # imported on first use
    "P2L": "p2l",
    "Leaderboard": "leaderboards.leaderboard",
    "Route": "routing.route",
    "Router": "routing.router",
    "Scores": "votes.scores",
    "Votes": "votes.votes",
    "fit_leaderboard": "votes.averaged",
    "load_costs": "routing.costs",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return list(__all__)
