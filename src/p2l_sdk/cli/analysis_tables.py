"""What `p2l analyze` prints."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from p2l_sdk.analysis import Finding, Strengths
from p2l_sdk.cli.terminal import Console, Text

_TOLD = 3  # LLMs of a cluster
_NARROW = 72  # columns of a terminal in which a report is lines, not a table
_NOTE = (
    "numbers: rating points above (+) or below (-) the LLM's own rating over all prompts (50 points are odds of 4 to "
    "3), told if beyond chance in the whole search; limits: what other prompts like these would give, {}"
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
    table = table_of(found.caption, ("prompts", "number"), ("cluster", "text"), ("above", "wide"), ("below", "wide"))
    for k, cluster in enumerate(found.clusters):
        marked = np.flatnonzero(found.found[k])
        order = marked[np.argsort(-np.abs(found.deviations[k, marked]), kind="stable")]
        sides = [[i for i in order if found.deviations[k, i] * sign > 0][:_TOLD] for sign in (1, -1)]
        said = [", ".join(f"{found.models[i]} {found.deviations[k, i]:+.0f}" for i in side) for side in sides]
        table.add_row(f"{cluster.n_prompts:,}", Text(cluster.name), Text(said[0]), Text(said[1]))
    console.print(table)
    console.print(Text(_note(found), style="dim"))


def print_report(found: Strengths, llm: str) -> None:
    """Print where one LLM is strong and weak, and what to use instead."""
    console = Console()
    if not found.clusters:
        _print_none(console, found)
        return
    findings, name = found.of(llm), found.asked[0]
    console.print(Text(f"{name} stands out in {len(findings)} of {len(found.clusters)} clusters", style="bold"))
    for title, sign in (("Use it for", 1), ("Not for", -1)):
        mine = [finding for finding in findings if finding.deviation * sign > 0]
        if mine:
            _print_findings(console, found, title, mine if sign > 0 else mine[::-1])
    if not findings:
        console.print(Text("as overall in every cluster, as far as these prompts can tell"))
    console.print(Text(_note(found), style="dim"))


def _print_findings(console: Console, found: Strengths, title: str, findings: list[Finding]) -> None:
    priced = found.asked[0] in found.costs
    if console.width < _NARROW:
        _print_lines(console, found, title, findings)
        return
    table = table_of(
        title, ("", "number"), ("limits", "number"), ("prompts", "number"), ("cluster", "wide"), ("rank", "number"),
        ("best there", "text"), *[("for no more money", "text")] * priced,
    )  # fmt: skip
    for finding in findings:
        instead = "-" if finding.instead is None else f"{_priced(found, finding.instead)} {finding.gain:+.0f}"
        table.add_row(
            f"{finding.deviation:+.0f}",
            f"{finding.low:+.0f} to {finding.high:+.0f}",
            f"{finding.cluster.n_prompts:,}",
            Text(finding.cluster.name),
            f"{finding.rank} ({finding.rank_overall})",
            Text(_priced(found, finding.best)),
            *[Text(instead)] * priced,
        )
    console.print(table)


def _print_lines(console: Console, found: Strengths, title: str, findings: list[Finding]) -> None:
    """The same where a table has no room."""
    console.print(Text(title, style="bold"))
    for finding in findings:
        said = f"{finding.deviation:+.0f} ({finding.low:+.0f} to {finding.high:+.0f})  {finding.cluster.name}: "
        said += f"{finding.cluster.n_prompts:,} prompts, rank {finding.rank} (overall {finding.rank_overall}), "
        said += f"best there {_priced(found, finding.best)}"
        if finding.instead is not None:
            said += f", for no more money {_priced(found, finding.instead)} {finding.gain:+.0f}"
        console.print(Text(said))


def _note(found: Strengths) -> str:
    return _NOTE.format(_OWN_ERROR[found.own_error])


def _priced(found: Strengths, name: str) -> str:
    cost = found.costs.get(name)
    return name if cost is None else f"{name} (${1000 * cost:.2f} per 1k)"


def print_comparison(found: Strengths, a: str, b: str) -> None:
    """Print where one LLM is ahead of another one."""
    console = Console()
    if not found.clusters:
        _print_none(console, found)
        return
    table = table_of(f"{a} against {b}", ("ahead", "number"), ("prompts", "number"), ("cluster", "wide"))
    for cluster, ahead in found.compare(a, b):
        table.add_row(f"{ahead:+.0f}", f"{cluster.n_prompts:,}", Text(cluster.name))
    console.print(table)
    console.print(Text(f"ahead: rating points of {a} over {b} (400 points are odds of 10 to 1)", style="dim"))


def _print_none(console: Console, found: Strengths) -> None:
    console.print(Text(f"{found.caption}: every LLM is what it is overall, as far as the model knows", style="bold"))
