"""The package pyarrow, where it is needed."""

from __future__ import annotations

from typing import Any

from p2l_sdk.errors import MissingExtraError


def need_pyarrow() -> Any:
    """The package pyarrow; MissingExtraError if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("bulk scoring", "pyarrow", "data") from None
    return pyarrow
