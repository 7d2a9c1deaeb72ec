"""Pictures of names that matplotlib's default font cannot write."""

from __future__ import annotations

import sys
import warnings

import pytest

pyplot = pytest.importorskip("matplotlib.pyplot")
from matplotlib import font_manager  # noqa: E402

from p2l_sdk.errors import P2LWarning  # noqa: E402
from p2l_sdk.pictures import save  # noqa: E402

NOWHERE = "\U0010fff0"  # for private use: no font has it


def characters(path: str) -> set[int]:
    return set(font_manager.get_font(path).get_charmap())


def figure_of(*names: str):
    figure, ax = pyplot.subplots()
    ax.set_yticks(range(len(names)), names)
    return figure


def test_a_character_that_another_font_has_is_drawn_in_that_font(tmp_path):
    fonts = {font.name: font.fname for font in font_manager.fontManager.ttflist if not font.name.startswith("Last")}
    usual = characters(font_manager.findfont(font_manager.FontProperties()))
    other = min(characters(fonts["STIXGeneral"]) - usual)  # matplotlib brings this font along
    figure = figure_of(f"model {chr(other)}", "plain")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, tmp_path / "names.png")
    label = figure.axes[0].get_yticklabels()[0]
    assert any(other in characters(fonts[name]) for name in label.get_fontfamily() if name in fonts)
    assert (tmp_path / "names.png").stat().st_size > 0


def test_names_that_no_font_can_write_are_named_once(tmp_path):
    names = [f"{NOWHERE} {i}" for i in range(5)]
    with pytest.warns(P2LWarning) as told:
        save(figure_of(*names, "plain"), tmp_path / "names.svg")
    (message,) = [str(warning.message) for warning in told if warning.category is P2LWarning]
    assert f"{names[0]!r}, {names[1]!r}, {names[2]!r}, ...:" in message
    assert "install a font that has them" in message
    assert "plain" not in message


def test_other_warnings_pass(tmp_path):
    figure = figure_of("plain")
    figure.savefig = lambda path, dpi: warnings.warn("something else", UserWarning, stacklevel=1)
    with pytest.warns(UserWarning, match="something else"):
        save(figure, tmp_path / "names.png")


def test_a_warning_of_something_else_that_is_collected_meanwhile_does_not_stop_a_picture(tmp_path, monkeypatch):
    class Left:  # as an event loop or a file that somebody forgot to close
        def __del__(self) -> None:
            warnings.warn("unclosed", ResourceWarning, stacklevel=1)

    def drawn_while_collected(path, dpi):
        Left()
        return draw(path, dpi=dpi)

    figure = figure_of("plain")
    draw, figure.savefig = figure.savefig, drawn_while_collected
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)  # Python's own way with errors of what is collected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, tmp_path / "names.png")
    assert (tmp_path / "names.png").stat().st_size > 0
    assert [type(one.exc_value) for one in seen] == [ResourceWarning]
