"""What `p2l analyze scaling` prints and writes."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from p2l_sdk import pictures
from p2l_sdk.analysis.scaling_report import FACTOR, Scaling, said
from p2l_sdk.cli.terminal import Console, Text


def write_scaling(found: Scaling, folder: Path) -> None:
    """Write scaling.json and scaling.png."""
    text = json.dumps(found.to_dict(), indent=1, allow_nan=False)
    (folder / "scaling.json").write_text(text + "\n", encoding="utf-8")
    pictures.save(found.plot().figure, folder / "scaling.png", dpi=110)


def print_scaling(found: Scaling) -> None:
    """Print the losses, the laws, and the warnings."""
    console = Console()
    console.print(Text(found.caption, style="bold"))
    losses = _table("prompts", *(found.name(curve) for curve in found.curves))
    for size in sorted({int(size) for curve in found.curves for size in curve.law.n}):
        cells = [f"{curve.law.loss[curve.law.n == size][0]:.4f}" for curve in found.curves]
        losses.add_row(f"{size:,}", *cells)
    console.print(Text("loss on held-out votes, nats a vote", style="bold"))
    console.print(losses)
    laws = _table("", "exponent", "floor", f"{FACTOR:.0f} times the prompts")
    for curve in found.curves:
        law = curve.law
        laws.add_row(found.name(curve), said(law.exponent, 2), said(law.floor), said(law.at(FACTOR * law.n[-1])))
    console.print(Text("law: floor + scale * prompts^-exponent", style="bold"))
    console.print(laws)
    errors = [float(error) for curve in found.curves for error in (curve.law.error.min(), curve.law.error.max())]
    note = (
        f"standard errors of the losses {min(errors):.4f} to {max(errors):.4f}; in brackets: limits, {found.level:.0%}"
    )
    console.print(Text(note, style="dim"))
    console.print(Text(found.headline))
    if found.check:
        console.print(Text(found.check))
    for curve in found.curves:
        for text in curve.law.warnings:
            console.print(Text(f"warning: {found.name(curve)}: {text}"))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right")
    return table
