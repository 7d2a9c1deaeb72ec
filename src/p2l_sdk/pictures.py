"""The one look of every picture: axes, colours, fonts and saving. Each result draws itself with these (its `plot`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2l_sdk.errors import MissingExtraError, P2LError

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

BLUE, PALE_BLUE, GREY_BLUE = "#1f5f99", "#9db8d2", "#7a9cc0"  # the model's own figures: main, beside it, its errors
ORANGE, BROWN = "#b5541c", "#7a3a14"  # what it is compared with, and its labels
GREY, INK = "#999999", "#333333"  # guides, error bars
# things side by side, the dark ones and the light ones in turn, so that grey copies differ too
PALETTE = (BLUE, "#e69f00", "#2e7d32", "#8ecae6", "#7a3a14", "#f2b5c4", "#6a4c93", "#c5d86d", "#b5541c", "#66a5ad")
PALE = "#e4e4e4"  # the rest
MARKERS = "osD^vPX*<>"
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


def on_dark(colour: str) -> bool:
    """Whether text on this colour, "#rrggbb", is to be white."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140


def save(figure: matplotlib.figure.Figure | Any, path: str | Path, dpi: int = 120) -> None:
    """Save a figure, the format by the file's ending, and close it.

    Raises:
        P2LError: the file cannot be written.
    """
    try:
        figure.savefig(path, dpi=dpi)
    except OSError as error:
        raise P2LError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
    finally:
        require_pyplot().close(figure)


def check_picture(path: str) -> None:
    """Raise the error that drawing into this file would raise, before anything is computed.

    Raises:
        MissingExtraError: matplotlib is not installed.
        P2LError: the file has another ending than .png, .pdf or .svg.
    """
    if not path.lower().endswith(_ENDINGS):
        raise P2LError(f"{path!r} is no name of a picture; known endings: {', '.join(_ENDINGS)}")
    require_pyplot()


def require_pyplot() -> Any:
    """matplotlib.pyplot; `MissingExtraError` if matplotlib is not installed."""
    try:
        from matplotlib import pyplot
    except ImportError:
        raise MissingExtraError("plot", "matplotlib", "data") from None
    return pyplot
