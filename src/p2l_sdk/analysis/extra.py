"""What this room needs beyond the base install."""

from __future__ import annotations

from p2l_sdk.errors import MissingExtraError


def require_sklearn() -> None:
    """Raise MissingExtraError if scikit-learn is not installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise MissingExtraError("clusters of prompts", "scikit-learn", "analysis") from None
