"""p2l-sdk: for any prompt, which LLM will answer it best, and routing to it within a budget.

from p2l_sdk import P2L
P2L.from_pretrained().leaderboard("Prove that the square root of two is irrational")
"""

from p2l_sdk.errors import P2LError
from p2l_sdk.facade import P2L
from p2l_sdk.marginal import fit_leaderboard
from p2l_sdk.results import Leaderboard, Route

__all__ = ["P2L", "Leaderboard", "P2LError", "Route", "__version__", "fit_leaderboard"]
__version__ = "0.1.0"
