"""p2l-sdk: predicts which LLM will answer a prompt best, and routes to it within a budget.

from p2l_sdk import P2L
P2L.from_pretrained().leaderboard("Prove that the square root of two is irrational")
"""

from typing import TYPE_CHECKING, Any

from p2l_sdk.errors import P2LError
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.p2l import P2L
from p2l_sdk.routing.route import Route

if TYPE_CHECKING:
    from p2l_sdk.votes.averaged import fit_leaderboard

__all__ = ["P2L", "Leaderboard", "P2LError", "Route", "__version__", "fit_leaderboard"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "fit_leaderboard":  # imported on first use: answering a prompt needs nothing that reads votes
        from p2l_sdk.votes.averaged import fit_leaderboard

        return fit_leaderboard
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
