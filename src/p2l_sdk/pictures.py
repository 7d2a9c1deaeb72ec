"""The one look of every picture: axes, colours, fonts and saving. Each result draws itself with these (its `plot`)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2l_sdk.errors import MissingExtraError, P2LError
from p2l_sdk.outputs.files import new_file, require_file

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

BLUE, PALE_BLUE, GREY_BLUE = "#1f5f99", "#9db8d2", "#7a9cc0"  # the model's own figures: main, beside it, its errors
ORANGE, BROWN = "#b5541c", "#7a3a14"  # what it is compared with, and its labels
GREY, INK = "#999999", "#333333"  # guides, error bars
SMALL, NORMAL = 9, 10  # font sizes: labels in the picture, titles

_ENDINGS = (".png", ".pdf", ".svg")


def axes_of_size(ax: matplotlib.axes.Axes | None, width: float, height: float) -> matplotlib.axes.Axes:
    """The given axes, or those of a new figure of this size in inches, without a frame above and on the right.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    pyplot = require_pyplot()
    if ax is None:
        _, ax = pyplot.subplots(figsize=(width, height), layout="constrained")
    assert ax is not None
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def save(figure: matplotlib.figure.Figure | Any, path: str | Path, dpi: int = 120) -> None:
    """Save a figure, the format by the file's ending, and close it.

    Raises:
        P2LError: the file cannot be written.
    """
    try:
        with new_file(path) as partial, warnings.catch_warnings():
            # where no font has a character, the picture shows a box
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(partial, dpi=dpi)
    finally:
        require_pyplot().close(figure)


def check_picture(path: str) -> None:
    """Raise the error that drawing into this file would raise, before anything is computed.

    Raises:
        MissingExtraError: matplotlib is not installed.
        P2LError: the file has another ending than .png, .pdf or .svg, or cannot be written.
    """
    if not path.lower().endswith(_ENDINGS):
        raise P2LError(f"{path!r} is no name of a picture; known endings: {', '.join(_ENDINGS)}")
    require_pyplot()
    require_file(path)


def require_pyplot() -> Any:
    """matplotlib.pyplot; `MissingExtraError` if matplotlib is not installed."""
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingExtraError("plot", "matplotlib", "data") from None
    return pyplot
