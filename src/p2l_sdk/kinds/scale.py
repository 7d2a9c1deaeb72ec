"""Whether ratings are on the scale that their user says."""

from __future__ import annotations

import warnings

import numpy as np

from p2l_sdk.editing.rated import Scale
from p2l_sdk.errors import P2LWarning
from p2l_sdk.modeling.leaderboard_p2l import ARENA_SCALE

_MOST_LOGITS, _LEAST_POINTS = 30.0, 10.0  # how much ratings may differ before their scale is in doubt
_PERCENT = 100.0 + 1e-6  # Elo ratings from 0 up to here may be scores


def warn_of_scale(scale: Scale, ratings: np.ndarray) -> None:
    """Warn if ratings (given here in logits) differ so much, or so little, that they may be on another scale."""
    low, high = float(np.nanmin(ratings)), float(np.nanmax(ratings))
    points = (high - low) * ARENA_SCALE
    if scale is Scale.LOGIT and high - low > _MOST_LOGITS:
        said = f"differ by {high - low:.0f} logits: are they Elo points?"
    elif scale is Scale.ELO and points < _LEAST_POINTS:
        said = f"differ by {points:.1f} Elo points at most: are they logits, or shares (--scores)?"
    elif scale is Scale.ELO and low >= 0.0 and high * ARENA_SCALE <= _PERCENT:
        said = "lie between 0 and 100: are they scores in percent (--scores, --percent)?"
    else:
        return
    warnings.warn(f"the ratings {said}", P2LWarning, stacklevel=4)
