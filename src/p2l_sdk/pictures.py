"""The one look of every picture: axes, colours, fonts and saving. Each result draws itself with these (its `plot`)."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import MissingExtraError, P2LError, P2LWarning
from p2l_sdk.modeling.limits_p2l import visible
from p2l_sdk.outputs.files import new_file, require_file

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

_LACKING = re.compile("Glyph .* missing from font")
_NAMED = 3  # texts in a warning
_LONG = 36  # characters of an LLM's name
_TINY = 8  # font size of names beside points
_BESIDE = (  # below rather than above, where lines are that do better than the points
    (6, 0, "left"), (-6, 0, "right"), (0, -10, "center"), (0, 10, "center"), (6, -9, "left"), (6, 9, "left"),
    (-6, -9, "right"), (-6, 9, "right"), (0, -19, "center"), (6, -18, "left"), (0, -28, "center"),
    (0, 19, "center"), (6, 18, "left"), (0, 28, "center"),
)  # fmt: skip

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


def draw_bars(
    rows: Sequence[Mapping[str, Any]],
    label: str,
    value: str,
    *,
    meaning: str,
    title: str,
    ax: matplotlib.axes.Axes | None = None,
    error: str = "standard_error",
    most: int = 40,
) -> matplotlib.axes.Axes:
    """Draw a number of each row as a bar from zero, the first row on top, with its 95 % interval where that is known.

    Args:
        rows: of a result; those without the number are left out.
        label, value: the columns of the names and of the numbers.
        meaning: of the numbers, with their unit.
        title: of the picture.
        ax: where to draw; a new figure if None.
        error: the column of standard errors, where the rows have no limits `low` and `high`.
        most: rows that are drawn; the title says so if there are more.
    """
    known = [row for row in rows if isinstance(row.get(value), int | float) and np.isfinite(row[value])]
    shown = known[:most]
    ax = axes_of_size(ax, 7.5, 1.5 + 0.32 * max(len(shown), 1))
    at, limits = range(len(shown)), [_limits(row, value, error) for row in shown]
    ax.barh(at, [row[value] for row in shown], color=PALE_BLUE, edgecolor=GREY_BLUE, height=0.62)
    for y, ends in enumerate(limits):
        if ends is not None:
            ax.plot(ends, (y, y), color=INK, lw=1.6)
    ax.axvline(0.0, color=INK, lw=0.9)
    for y, (row, ends) in enumerate(zip(shown, limits, strict=True)):
        positive = row[value] >= 0
        edge = row[value] if ends is None else (max(*ends, 0.0) if positive else min(*ends, 0.0))
        beside: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": SMALL}
        beside |= {"ha": "left", "xytext": (5, 0)} if positive else {"ha": "right", "xytext": (-5, 0)}
        ax.annotate(f"{row[value]:,.4g}", (edge, y), **beside)
    ax.set_yticks(at, [str(row[label]) for row in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.margins(x=0.14)
    ax.tick_params(axis="y", length=0, labelsize=SMALL)
    lines = "; lines: 95 % intervals" if any(ends is not None for ends in limits) else ""
    ax.set_xlabel(f"{meaning}\n(bars start at zero{lines})")
    first = "" if len(shown) == len(known) else f": the first {len(shown)} of {len(known)}"
    ax.set_title(title + first, loc="left", fontsize=NORMAL, wrap=True)
    return ax


def _limits(row: Mapping[str, Any], value: str, error: str) -> tuple[float, float] | None:
    """The ends of a row's interval, if they are known."""
    low, high = row.get("low"), row.get("high")
    if low is not None and high is not None:
        return float(low), float(high)
    spread = row.get(error)
    return None if spread is None else (row[value] - 1.96 * spread, row[value] + 1.96 * spread)


def on_dark(colour: str) -> bool:
    """Whether text on this colour, "#rrggbb", is to be white."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140


def with_sizes(names: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """Names of groups as they stand beside rows, with their numbers of prompts; the first row says what the number is.

    Args:
        names: as they are to be read.
        sizes: number of prompts of each.
    """
    units = (f" prompt{'' if n == 1 else 's'}" if k == 0 else "" for k, n in enumerate(sizes))
    return [f"{as_written(name)}  ({n:,}{unit})" for name, n, unit in zip(names, sizes, units, strict=True)]


def llm_names(names: Sequence[str]) -> list[str]:
    """Names of LLMs as they stand in a picture: as they are written, long ones without their middle, as far as they
    still differ."""
    cut = [name if len(name) <= _LONG else f"{name[: _LONG // 2 - 4]}…{name[-_LONG // 2 - 3 :]}" for name in names]
    times = Counter(cut)
    return [as_written(name if times[short] > 1 else short) for name, short in zip(names, cut, strict=True)]


def as_written(name: str) -> str:
    """A name as matplotlib is given it: dollars make no formula of it, and a legend does not leave it out because it
    begins with an underscore."""
    hair = "\u200a" if name.startswith("_") else ""
    return hair + visible(name).replace("$", r"\$")


def save(figure: matplotlib.figure.Figure | Any, path: str | Path, dpi: int = 120) -> None:
    """Save a figure, the format by the file's ending, and close it. Characters that matplotlib's default font lacks,
    such as Chinese ones, are drawn in fonts of this machine that have them.

    Raises:
        P2LError: the file cannot be written.

    Warns:
        P2LWarning: no font of this machine has some characters of a name, which are boxes in the picture.
    """
    try:
        with new_file(path) as partial:
            if _drawn(figure, partial, dpi):
                return
            missing = _with_more_fonts(figure)
            _drawn(figure, partial, dpi)
            if missing:
                shown = ", ".join(map(repr, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
                warnings.warn(
                    f"no font of this machine has all characters of {shown}: the picture shows boxes in their place; "
                    "install a font that has them, such as Noto Sans CJK (on Debian and Ubuntu: apt-get install "
                    "fonts-noto-cjk; for other scripts fonts-noto)",
                    P2LWarning,
                    stacklevel=2,
                )
    finally:
        require_pyplot().close(figure)


def _drawn(figure: Any, path: Any, dpi: int) -> bool:
    """Write the picture; whether its fonts had all characters."""
    with warnings.catch_warnings(record=True) as found:
        warnings.filterwarnings("always", _LACKING.pattern)  # all else is for the filters of the caller
        figure.savefig(path, dpi=dpi)
    lacking = [_LACKING.match(str(warning.message)) is not None for warning in found]
    for warning, glyph in zip(found, lacking, strict=True):
        if not glyph:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return not any(lacking)


def _with_more_fonts(figure: Any) -> list[str]:
    """Give the texts of a figure further fonts for the characters that theirs lack, as far as this machine has such
    fonts; the lines of text that still lack some."""
    from matplotlib import font_manager
    from matplotlib.text import Text

    def characters(path: str) -> set[str]:
        return set(map(chr, font_manager.get_font(path).get_charmap()))

    texts = [text for text in figure.findobj(Text) if text.get_text()]
    wanted = {character for text in texts for character in text.get_text() if not character.isspace()}
    wanted -= characters(font_manager.findfont(font_manager.FontProperties()))
    fonts = {font.name: font.fname for font in font_manager.fontManager.ttflist if font.style == "normal"}
    chosen = []
    for name in sorted(fonts, key=lambda name: ("Sans" not in name, name)):
        if name.startswith("Last Resort"):  # it has a box for every character
            continue
        if not wanted:
            break
        known = wanted & characters(fonts[name])
        if known:
            chosen.append(name)
            wanted -= known
    for text in texts:
        text.set_fontfamily([*text.get_fontfamily(), *chosen])
    lines = (line.strip() for text in texts for line in text.get_text().splitlines())
    return list(dict.fromkeys(line for line in lines if wanted & set(line)))


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


def name_points(
    ax: matplotlib.axes.Axes,
    x: np.ndarray,
    y: np.ndarray,
    names: Sequence[str],
    colour: str,
    named: Sequence[int],
    bars: np.ndarray | None = None,
) -> None:
    """Write names beside points, each where it meets no other name, no point and no error bar, as far as there is such
    a place.

    Args:
        ax: with everything else that takes room in the figure: titles, labels and a legend decide where points lie.
        x, y: `(n,)` the points.
        names: of the points.
        colour: of the text.
        named: the points that get their names.
        bars: `(n, 2)` the lower and upper ends of the points' error bars; None without any.
    """
    figure: Any = ax.figure
    figure.draw_without_rendering()  # lays it out
    low, places, high = (
        ax.transData.transform(np.column_stack([x, heights])) * 72.0 / ax.figure.dpi  # in typographic points
        for heights in ((y, y, y) if bars is None else (bars[:, 0], y, bars[:, 1]))
    )
    lines = [(px - 1, px + 1, bottom, top) for (px, bottom), (_, top) in zip(low, high, strict=True)]
    left, right = (ax.transAxes.transform((edge, 0.0))[0] * 72.0 / ax.figure.dpi for edge in (0.0, 1.0))
    shown = llm_names(names)
    height, taken = 1.25 * _TINY, [(px - 3, px + 3, py - 3, py + 3) for px, py in places]
    for i in sorted(named, key=lambda i: -float(places[i, 1])):
        width = 0.56 * _TINY * len(shown[i])
        best: tuple[float, tuple[float, float], str, tuple[float, float, float, float]] | None = None
        for dx, dy, side in _BESIDE:
            start = places[i, 0] + dx - {"left": 0.0, "center": width / 2, "right": width}[side]
            box = (start, start + width, places[i, 1] + dy - height / 2, places[i, 1] + dy + height / 2)
            met = sum(_common(box, other) for k, other in enumerate([*taken, *lines]) if k != i)
            met += height * (max(left - box[0], 0.0) + max(box[1] - right, 0.0))
            if best is None or met < best[0] - 1e-9:
                best = met, (dx, dy), side, box
        assert best is not None
        taken.append(best[3])
        beside: dict[str, Any] = {"textcoords": "offset points", "va": "center", "ha": best[2], "zorder": 4}
        behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
        ax.annotate(
            shown[i],
            (float(x[i]), float(y[i])),
            best[1],
            fontsize=_TINY,
            color=colour,
            bbox=behind,
            **beside,
        )


def _common(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """The area that two boxes (left, right, bottom, top) have in common."""
    return max(min(a[1], b[1]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[2], b[2]), 0.0)
