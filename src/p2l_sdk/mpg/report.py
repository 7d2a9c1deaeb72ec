"""The report of Project MPG: tables, the two pictures, JSON, and one HTML page that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2l_sdk.mpg.correlation import Correlation
from p2l_sdk.mpg.fastness import Fastness
from p2l_sdk.mpg.node_estimates import NodeEstimates
from p2l_sdk.plots import require_pyplot
from p2l_sdk.storage import new_folder

FAST, SUBDOMAINS, PAGE, DATA = "goodness_fastness.png", "subdomains.png", "report.html", "report.json"


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """Goodness, and where there is one Fastness and the agreement with a reference.

    Attributes:
        goodness: of the LLMs.
        fastness: of some of them, or None.
        measure: the one that the picture shows.
        agreement: with the reference; empty where there is none.
    """

    goodness: NodeEstimates
    fastness: Fastness | None = None
    measure: str = "usd_per_query"
    agreement: Sequence[Correlation] = field(default=())

    def __post_init__(self) -> None:
        if self.fastness is not None:
            self.fastness.values_of(self.measure)  # refused here, not at the picture

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: goodness, fastness (or null) and agreement."""
        return {
            "goodness": self.goodness.to_dict(),
            "fastness": None if self.fastness is None else self.fastness.to_dict(),
            "agreement": [row.to_dict() for row in self.agreement],
        }

    def to_html(self) -> str:
        """One page with everything in it: no script, nothing is fetched (needs matplotlib)."""
        from p2l_sdk.mpg.page import page

        return page(self)

    def figures(self) -> dict[str, Any]:
        """File name -> figure (needs matplotlib); the caller closes them."""
        from p2l_sdk.mpg.pictures import plot_goodness_fastness, plot_subdomains

        made = {SUBDOMAINS: plot_subdomains(self.goodness).figure}
        if self.fastness is not None:
            made[FAST] = plot_goodness_fastness(self.goodness, self.fastness, self.measure).figure
        return made

    def save(self, folder: str | Path) -> list[str]:
        """Write page, JSON and pictures to a new folder, which appears whole or not at all; names of the files.

        Raises:
            P2LError: the folder exists and is not empty, or it cannot be written.
            MissingExtraError: matplotlib is not installed.
        """
        texts = {PAGE: self.to_html(), DATA: json.dumps(self.to_dict(), indent=1, allow_nan=False)}
        figures = self.figures()
        try:
            with new_folder(Path(folder)) as partial:
                for name, text in texts.items():
                    (partial / name).write_text(text, encoding="utf-8")
                for name, figure in figures.items():
                    figure.savefig(partial / name, dpi=120)
        finally:
            for figure in figures.values():
                require_pyplot().close(figure)
        return [*texts, *figures]
