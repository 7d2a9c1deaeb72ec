"""What `p2l analyze` prints."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from p2l_sdk.analysis import Finding, Strengths
from p2l_sdk.cli.terminal import Console, Text, keep_words, print_whole
from p2l_sdk.names import find_model

_TOLD = 3  # LLMs of a cluster
_NOTE = (
    "numbers: rating points above (+) or below (-) the LLM's own rating over all prompts (60 points are odds of 7 to "
    "5), {}"
)
_EXPECTED = "told if beyond chance in the whole search; limits: what other prompts like these would give, {}"
_MEASURED = (
    "as the votes measured them, told if sure to show again; limits: what an eighth as many prompts would measure"
)
_OWN_ERROR = {
    True: "and how wrong the model usually is about such a group",
    False: "not where the model itself is wrong",
}


def table_of(title: str, *columns: tuple[str, str]) -> Table:
    """An empty table, without a title if that is empty. A column is a name and its kind: a "number", a "score" (whose
    name may wrap), a "text", or a "wide" one, which takes the room that there is."""
    table = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name, kind in columns:
        if kind == "number":
            table.add_column(name, justify="right", no_wrap=True)
        elif kind == "score":
            table.add_column(name, justify="right", overflow="fold", min_width=5)
        else:
            table.add_column(name, overflow="fold", ratio=1 if kind == "wide" else None)
    return table


def print_strengths(found: Strengths) -> None:
    """Print the clusters, and who stands out in each."""
    console = Console()
    if not found.clusters:
        _print_none(console, found)
        return
    table = table_of(found.caption, ("prompts", "number"), ("cluster", "text"), ("above", "text"), ("below", "text"))
    for k, cluster in enumerate(found.clusters):
        sides = (Text(", ".join(side)) for side in _sides(found, k))
        table.add_row(f"{cluster.n_prompts:,}", Text(cluster.name), *sides)
    print_whole(console, table, "cluster")
    console.print(Text(_note(found), style="dim"))


def _sides(found: Strengths, k: int) -> tuple[list[str], list[str]]:
    """Who stands most above, and who below, in a cluster."""
    marked = np.flatnonzero(found.found[k])
    order = marked[np.argsort(-np.abs(found.deviations[k, marked]), kind="stable")]
    above, below = ([i for i in order if found.deviations[k, i] * sign > 0][:_TOLD] for sign in (1, -1))
    told = [f"{found.models[i]} {found.deviations[k, i]:+.0f}" for i in (*above, *below)]
    return told[: len(above)], told[len(above) :]


def print_report(found: Strengths, llm: str) -> None:
    """Print where one LLM is strong and weak, and what to use instead."""
    console = Console()
    if not found.clusters:
        _print_none(console, found)
        return
    findings, name = found.of(llm), find_model(llm, found.asked, "strengths")
    clusters = f"{len(found.clusters)} clusters of {found.counted}"
    console.print(Text(f"{name} stands out in {len(findings)} of {clusters}", style="bold"))
    for title, sign in (("Use it for", 1), ("Not for", -1)):
        mine = [finding for finding in findings if finding.deviation * sign > 0]
        if mine:
            _print_findings(console, found, name, title, mine if sign > 0 else mine[::-1])
    if not findings:
        console.print(Text("as overall in every cluster, as far as these prompts can tell"))
    console.print(Text(_note(found), style="dim"))


def _print_findings(console: Console, found: Strengths, name: str, title: str, findings: list[Finding]) -> None:
    """What was found about an LLM in a table; in lines where that has no room."""
    table = table_of(
        title, ("", "number"), ("limits", "number"), ("prompts", "number"), ("cluster", "text"), ("rank", "number"),
        ("best there", "text"), *[("for no more money", "text")] * any(finding.instead for finding in findings),
    )  # fmt: skip
    rows = [(finding, *_better(found, name, finding)) for finding in findings]
    for finding, best, instead in rows:
        table.add_row(
            f"{finding.deviation:+.0f}",
            f"{finding.low:+.0f} to {finding.high:+.0f}",
            f"{finding.cluster.n_prompts:,}",
            Text(finding.cluster.name),
            f"{finding.rank} ({finding.rank_overall})",
            *map(Text, (best, instead)[: len(table.columns) - 5]),
        )
    if keep_words(console, table):
        console.print(table)
        return
    console.print(Text(title, style="bold"))
    for finding, best, instead in rows:
        said = f"{finding.deviation:+.0f} ({finding.low:+.0f} to {finding.high:+.0f})  {finding.cluster.name}: "
        said += f"{finding.cluster.n_prompts:,} prompts, rank {finding.rank} (overall {finding.rank_overall}), "
        said += f"best there: {best}" + (f", for no more money: {instead}" if instead else "")
        console.print(Text(said))


def _better(found: Strengths, name: str, finding: Finding) -> tuple[str, str]:
    """The best LLM where something was found, and the best for no more money, each named once."""
    if finding.best == name:
        return "itself", ""
    if finding.instead is None:
        return _priced(found, finding.best), ""
    instead = "the same" if finding.instead == finding.best else _priced(found, finding.instead)
    return _priced(found, finding.best), f"{instead} {finding.gain:+.0f}"


def _note(found: Strengths) -> str:
    return _NOTE.format(_MEASURED if found.measured else _EXPECTED.format(_OWN_ERROR[found.own_error]))


def _priced(found: Strengths, name: str) -> str:
    cost = found.costs.get(name)
    return name if cost is None else f"{name} (${1000 * cost:.2f} per 1k)"


def print_comparison(found: Strengths, a: str, b: str) -> None:
    """Print where one LLM is ahead of another one."""
    console = Console()
    if not found.clusters:
        _print_none(console, found)
        return
    table = table_of(f"{a} against {b}", ("ahead", "number"), ("prompts", "number"), ("cluster", "text"))
    for cluster, ahead in found.compare(a, b):
        table.add_row(f"{ahead:+.0f}", f"{cluster.n_prompts:,}", Text(cluster.name))
    print_whole(console, table, "cluster")
    console.print(Text(f"ahead: rating points of {a} over {b} (400 points are odds of 10 to 1)", style="dim"))


def _print_none(console: Console, found: Strengths) -> None:
    console.print(Text(f"{found.caption}: every LLM is what it is overall, as far as the model knows", style="bold"))
