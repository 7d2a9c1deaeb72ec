"""The report of Project MPG: tables, two pictures, JSON and one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2l_sdk import pictures
from p2l_sdk.mpg.correlation import Correlation
from p2l_sdk.mpg.fastness import Fastness
from p2l_sdk.mpg.node_estimates import NodeEstimates
from p2l_sdk.mpg.page import page
from p2l_sdk.outputs.folders import new_folder, require_new
from p2l_sdk.pictures import require_pyplot
from p2l_sdk.tabular import Tabular

if TYPE_CHECKING:
    import matplotlib.axes

FAST, SUBDOMAINS, PAGE, DATA = "goodness_fastness.png", "subdomains.png", "report.html", "report.json"


def require_output(folder: str | Path) -> None:
    """Raise what `Report.save` would raise, before anything is computed.

    Raises:
        P2LError: the folder exists and is not empty.
        MissingExtraError: matplotlib is not installed.
    """
    require_new(folder)
    require_pyplot()


@dataclass(frozen=True, eq=False, repr=False)
class Report(Tabular):
    """Goodness and, optionally, Fastness and the agreement with a reference.

    Attributes:
        goodness: Goodness of the LLMs.
        fastness: Fastness of some or all of them, or None.
        measure: the measure of Fastness shown in table and picture; None for the one known for most of the LLMs.
        agreement: agreement with a reference; empty if there is none.
    """

    goodness: NodeEstimates
    fastness: Fastness | None = None
    measure: str | None = None
    agreement: Sequence[Correlation] = field(default=())

    def __post_init__(self) -> None:
        if self.fastness is not None and self.shown_measure is not None:
            self.fastness.values_of(self.shown_measure)  # raise for an unknown measure now, not when plotting

    @property
    def shown_measure(self) -> str | None:
        """The measure shown in table and picture; None without a Fastness."""
        if self.fastness is None:
            return None
        return self.measure or self.fastness.first_measure(self.goodness.models)

    @property
    def notes(self) -> list[str]:
        """What a reader has to know, one sentence each."""
        notes = list(self.goodness.notes)
        if self.fastness is not None and self.shown_measure is not None:
            notes.append(f"Fastness: {self.fastness.note}")
            values = self.fastness.values_of(self.shown_measure)
            absent = [model for model in self.goodness.models if model not in values]
            if absent:
                notes.append(f"{self.shown_measure} is not known of {', '.join(absent)}")
            if not self._is_pictured:
                notes.append(
                    f"no picture of Goodness over {self.shown_measure}: it takes two LLMs with a number above 0"
                )
        return notes

    @property
    def _is_pictured(self) -> bool:
        if self.fastness is None or self.shown_measure is None:
            return False
        values = self.fastness.values_of(self.shown_measure)
        return sum(values.get(model, 0.0) > 0 for model in self.goodness.models) >= 2

    @property
    def caption(self) -> str:
        """A one-line description."""
        return self.goodness.caption

    def rows(self) -> list[dict[str, Any]]:
        """Those of the Goodness, with a column for the measure of Fastness that is shown."""
        rows = self.goodness.rows()
        if self.fastness is None or self.shown_measure is None:
            return rows
        values = self.fastness.values_of(self.shown_measure)
        return [{**row, self.shown_measure: values.get(row["model"])} for row in rows]

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw Goodness over the measure of Fastness that is shown, or Goodness alone where there is none.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        if not self._is_pictured:
            return self.goodness.plot(ax)
        from p2l_sdk.mpg.pictures import plot_goodness_fastness

        assert self.fastness is not None
        assert self.shown_measure is not None
        return plot_goodness_fastness(self.goodness, self.fastness, self.shown_measure, ax)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: goodness, fastness (or null) and agreement."""
        return {
            "goodness": self.goodness.to_dict(),
            "fastness": None if self.fastness is None else self.fastness.to_dict(),
            "agreement": [row.to_dict() for row in self.agreement],
        }

    def to_html(self) -> str:
        """One self-contained HTML page, without scripts (needs matplotlib)."""
        return page(self.goodness, self.fastness, self.agreement, self.notes, self.figures())

    def figures(self) -> dict[str, Any]:
        """File name -> figure, to be closed by the caller (needs matplotlib)."""
        from p2l_sdk.mpg.pictures import plot_goodness_fastness, plot_subdomains

        made = {SUBDOMAINS: plot_subdomains(self.goodness).figure}
        if self.fastness is not None and self.shown_measure is not None and self._is_pictured:
            made[FAST] = plot_goodness_fastness(self.goodness, self.fastness, self.shown_measure).figure
        return made

    def save(self, folder: str | Path) -> list[str]:
        """Write page, JSON and pictures to a new folder, atomically. Returns the names of the files.

        Raises:
            P2LError: the folder exists and is not empty, or it cannot be written.
            MissingExtraError: matplotlib is not installed.
        """
        texts = {PAGE: self.to_html(), DATA: json.dumps(self.to_dict(), indent=1, allow_nan=False)}
        figures = self.figures()
        try:
            with new_folder(folder) as partial:
                for name, text in texts.items():
                    (partial / name).write_text(text, encoding="utf-8")
                for name, figure in figures.items():
                    pictures.save(figure, partial / name)
        finally:
            for figure in figures.values():
                require_pyplot().close(figure)
        return [*texts, *figures]
