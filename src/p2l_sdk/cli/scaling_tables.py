"""What `p2l analyze scaling` prints and writes."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from p2l_sdk import pictures
from p2l_sdk.analysis.scaling_report import FACTOR, Scaling, said


def write_scaling(found: Scaling, folder: Path) -> None:
    """Write scaling.json and scaling.png."""
    text = json.dumps(found.to_dict(), indent=1, allow_nan=False)
    (folder / "scaling.json").write_text(text + "\n", encoding="utf-8")
    pictures.save(found.plot().figure, folder / "scaling.png", dpi=110)


def print_scaling(found: Scaling) -> None:
    """Print the losses, the laws, and the warnings."""
    console = Console()
    console.print(Text(found.caption, style="bold"))
    losses = Table(title="loss on held-out votes, nats a vote", title_justify="left", box=None, pad_edge=False)
    losses.add_column("prompts", justify="right")
    for curve in found.curves:
        losses.add_column(found.name(curve), justify="right")
    sizes = sorted({int(size) for curve in found.curves for size in curve.law.n})
    for size in sizes:
        cells = []
        for curve in found.curves:
            place = [i for i, n in enumerate(curve.law.n) if n == size]
            cells += [f"{curve.law.loss[i]:.4f} ± {curve.law.error[i]:.4f}" for i in place] or [""]
        losses.add_row(f"{size:,}", *cells)
    console.print(losses)
    laws = Table(title="law: floor + scale * prompts^-exponent", title_justify="left", box=None, pad_edge=False)
    for name in ("model", "exponent", "floor", f"{FACTOR:.0f} times the prompts", "which would gain"):
        laws.add_column(name)
    for curve in found.curves:
        law = curve.law
        more, gain = said(law.at(FACTOR * law.n[-1])), said(law.gain(FACTOR))
        laws.add_row(found.name(curve), said(law.exponent, 2), said(law.floor), more, gain)
    console.print(laws)
    console.print(Text(f"± standard error; in brackets: limits at {found.level:.0%}", style="dim"))
    for curve in found.curves:
        for text in curve.law.warnings:
            console.print(Text(f"warning: {found.name(curve)}: {text}"))
