"""Warnings from within a reader, which runs wherever rows are needed: they point to the caller of p2l_sdk."""

from __future__ import annotations

import sys
import warnings

from p2l_sdk.errors import P2LWarning


def warn_caller(message: str) -> None:
    """Warn (`P2LWarning`) at the line outside p2l_sdk that called it."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("p2l_sdk"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, P2LWarning, stacklevel=level)
