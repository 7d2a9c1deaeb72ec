"""Models built from leaderboards by kind, as tables."""

from __future__ import annotations

from rich.table import Table

from p2l_sdk.cli.terminal import Console, Text, print_table
from p2l_sdk.kinds.build import BuiltModel


def print_built(built: BuiltModel) -> None:
    """Print how well each kind is recognised, and how well its leaderboard comes back."""
    kinds = f"{len(built.kinds)} kind{'' if len(built.kinds) == 1 else 's'}"
    title = f"{len(built.spec.models)} LLMs, {kinds}, {built.n_prompts:,} prompts ({built.spec.feedback})"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("kind", overflow="fold")
    for name in ("prompts", "recognised", "elsewhere", "departure", "error", "correlation"):
        table.add_column(name, justify="right", no_wrap=True)
    for kind in built.kinds:
        correlation = "" if kind.correlation is None else f"{kind.correlation:.3f}"
        shares = f"{kind.recognised:.0%}", f"{kind.elsewhere:.0%}"
        table.add_row(
            Text(kind.name), f"{kind.n_prompts:,}", *shares, f"{kind.departure:.1f}", f"{kind.error:.1f}", correlation
        )
    console = Console()
    print_table(console, table, ["correlation", "elsewhere", "prompts"])
    notes = [
        "on prompts that the recogniser had not seen; departure of a kind's ratings from the overall ones, and error "
        "of those aggregated over its prompts: mean over the LLMs, in Elo points"
    ]
    if built.none is not None:
        notes.append(f"over prompts of no known kind, the overall ratings come back within {built.none:.1f} points")
    for note in notes:
        console.print(Text(note, style="dim"))
