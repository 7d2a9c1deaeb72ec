"""What this room needs beyond the base install."""

from __future__ import annotations

from p2l_sdk.errors import MissingExtraError


def require_sklearn() -> None:
    """Raise MissingExtraError if scikit-learn is not installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise MissingExtraError("clusters of prompts", "scikit-learn", "analysis") from None


def require_scipy() -> None:
    """Raise MissingExtraError if SciPy is not installed; it comes with scikit-learn."""
    try:
        import scipy  # noqa: F401
    except ImportError:
        raise MissingExtraError("power laws", "scipy", "analysis") from None
