"""What is proved by one example in every run, and by all of them in a thorough one."""

from __future__ import annotations

from typing import Any

import pytest


def thorough(*values: Any) -> list[Any]:
    """Parameters that only `pytest -m "not slow"` tries, beside one or two that every run does; a tuple is several."""
    sets = (value if isinstance(value, tuple) else (value,) for value in values)
    return [pytest.param(*each, marks=pytest.mark.thorough) for each in sets]
