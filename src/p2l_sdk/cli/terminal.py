"""Terminal output of the command line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from p2l_sdk.evaluation import Agreement, Baseline, Category, Estimate, Range, Report, SubsetStudy
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.routing.route import Route

if TYPE_CHECKING:
    from p2l_sdk.votes.summary import VoteSummary

_BAR_WIDTH, _WIDE = 12, 76
_EIGHTHS = " ▏▎▍▌▋▊▉█"

_METRICS = {
    "who wins, decisive votes": {
        "bt_log_loss": "BT log-loss",
        "bt_mse": "BT mean squared error",
        "pair_accuracy": "accuracy",
        "winner_log_loss": "log-loss, ties apart",
        "ece": "calibration error (ECE)",
    },
    "all outcomes": {
        "cross_entropy": "cross-entropy",
        "brier_score": "Brier score",
        "outcome_accuracy": "accuracy",
    },
    "does nobody win?": {"tie_log_loss": "log-loss", "tie_accuracy": "accuracy"},
    "are both bad?": {"both_bad_log_loss": "log-loss", "both_bad_accuracy": "accuracy"},
    "routing": {
        "routed_score": "routed score",
        "best_single_score": "best single LLM",
        "gain_over_best_single": "gain over best single",
        "oracle_score": "oracle: best per prompt",
    },
}
_DISTANCES = {
    "preference_l1": "mean difference of pair probabilities",
    "outcome_l1": "mean difference of outcome probabilities",
    "spearman": "Spearman's rank correlation",
    "kendall": "Kendall's tau-b",
    "top_1_overlap": "the best LLM is the same",
    "top_3_overlap": "share of the best 3 LLMs",
    "top_5_overlap": "share of the best 5 LLMs",
    "top_10_overlap": "share of the best 10 LLMs",
}


def print_leaderboard(board: Leaderboard, costs: Mapping[str, float], top: int | None = None) -> None:
    """Print a table with bars, best LLM first, with costs per 1,000 responses if any are known."""
    rows = board.rows()[:top]
    low, high = float(board.ratings.min()), float(board.ratings.max())
    console = Console()
    # no bars beside intervals, in a narrow terminal (names need the room), or in one limited to ASCII
    bars = "low" not in rows[0] and console.width >= _WIDE and not console.options.ascii_only
    table = Table(title=board.caption, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("LLM", overflow="fold")  # the only column that may wrap
    table.add_column("rating", justify="right", no_wrap=True)
    if bars:
        table.add_column("", no_wrap=True, style="cyan")
    for key, title in (("low", "95 % interval"), ("usable", "usable")):
        if key in rows[0]:
            table.add_column(title, justify="right", no_wrap=True)
    if costs:
        table.add_column("$ per 1k", justify="right", no_wrap=True)
    for row in rows:
        cells: list[str | Text] = [
            str(row["rank"]),
            Text(row["model"]),
            f"{row['rating']:.0f}",
        ]  # Text: a name is not markup
        if bars:
            cells.append(_bar(row["rating"], low, high))
        if "low" in row:
            cells.append(f"{row['low']:.0f} to {row['high']:.0f}")
        if "usable" in row:
            cells.append(f"{row['usable']:.0%}")
        if costs:
            cost = costs.get(row["model"])
            cells.append("?" if cost is None else f"{1000 * cost:.2f}")
        table.add_row(*cells, style="bold" if row["rank"] == 1 else None)
    console.print(table)
    note = "rating: 400 points are odds of 10 to 1"
    if board.usable is not None:
        note += "; usable: chance of an acceptable answer"
    console.print(Text(note, style="dim"))


def print_route(route: Route) -> None:
    """Print the chosen LLM and why."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in route.facts():
        table.add_row(name, Text(value), style="bold" if name == "call" else None)
    Console().print(table)


def print_evaluation(title: str, metrics: Mapping[str, Any], baseline: Baseline | None = None) -> None:
    """Print the metrics with their standard errors and, given a baseline, its metrics and the difference."""
    headings = ["model", "s.e."] + (["baseline", "difference", "s.e."] if baseline else []) + ["n"]
    table = _table("", *headings)
    for group, labels in _METRICS.items():
        names = [name for name in labels if isinstance(metrics.get(name), Estimate)]
        if names:
            table.add_row(Text(group, style="dim"))
        for name in names:
            estimate = metrics[name]
            cells = [f"{estimate.value:.4f}", _number(estimate.standard_error)]
            if baseline is not None:
                averaged, difference = baseline.metrics.get(name), baseline.difference.get(name)
                cells.append("" if averaged is None else f"{averaged.value:.4f}")
                cells.append("" if difference is None else f"{difference.value:+.4f}")
                cells.append("" if difference is None else _number(difference.standard_error))
            table.add_row(Text(f"  {labels[name]}"), *cells, f"{estimate.n:,}")
    note = "losses in nats, lower is better; s.e.: standard error, clustered by prompt"
    if baseline is not None:
        note += "; baseline: the averaged leaderboard of the baseline votes; difference: model less baseline"
    if "best_single_model" in metrics:
        note += f"; best single LLM: {metrics['best_single_model']}"
    _print(title, table, note)


def print_agreement(agreement: Agreement) -> None:
    """Print how the aggregate of the prompts agrees with the leaderboard of their votes, beside the leaderboard of the
    baseline votes, if there is one."""
    columns = [agreement.metrics] + ([] if agreement.baseline is None else [agreement.baseline])
    table = _table("", *["model", "baseline"][: len(columns)])
    for name, label in _DISTANCES.items():
        if name in agreement.metrics:
            table.add_row(Text(f"  {label}"), *(_number(column.get(name)) for column in columns))
    _print("Aggregate leaderboard of these prompts, against that of their votes", table, before="\n")


def print_categories(column: str, categories: Mapping[str, Category]) -> None:
    """Print one row per category."""
    compared = any(category.baseline for category in categories.values())
    gain = ["- base."] if compared else []
    table = _table(column, "prompts", "BT loss", *gain, "CE", *gain, "acc.", "distance")
    for name, category in categories.items():
        cells = [f"{category.n_prompts:,}"]
        for metric in ("bt_log_loss", "cross_entropy"):
            cells.append(_value(category.metrics, metric))
            if compared:
                cells.append(_value(category.baseline.difference if category.baseline else {}, metric, "+.3f"))
        cells.append(_value(category.metrics, "pair_accuracy"))
        cells.append(_number(category.agreement.metrics["preference_l1"] if category.agreement else None, ".3f"))
        table.add_row(Text(name or "(none)"), *cells)
    note = "BT loss, acc.: of decisive votes; CE: cross-entropy; "
    note += "- base.: model less baseline; " if compared else ""
    note += "distance: mean difference of pair probabilities, aggregate of the prompts to leaderboard of their votes"
    if any(category.agreement is None for category in categories.values()):
        note += " (-: these determine none)"
    _print(f"By {column}", table, note, before="\n")


def print_subsets(study: SubsetStudy) -> None:
    """Print, by subset size, the distance of the model's aggregate and of the subset's votes alone to all votes."""
    table = _table("prompts", "model", "95 % of subsets", "votes alone", "95 % of subsets")
    for point in study.points:
        cells = [cell for side in (point.model, point.votes) for cell in _range(side["preference_l1"])]
        table.add_row(f"{point.size:,}", *cells)
    answer = "the model is nearer at every size"
    if study.overtaken_at is not None:
        answer = f"from {study.overtaken_at:,} prompts on, their votes alone are nearer"
    note = f"mean difference of pair probabilities to the leaderboard of all votes; {answer}"
    _print(f"Random subsets of the prompts, {study.trials} of each size, against all votes", table, note, before="\n")


def print_note(text: str) -> None:
    """Print a remark on the tables."""
    Console().print(Text(text, style="dim"))


def _table(first: str, *others: str) -> Table:
    """A table whose first column may wrap, while the others hold numbers."""
    table = Table(box=None, pad_edge=False)
    table.add_column(Text(first), overflow="fold")
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _print(title: str, table: Table, note: str = "", before: str = "") -> None:
    console = Console()
    console.print(Text(before + title, style="bold"))
    console.print(table)
    if note:
        console.print(Text(note, style="dim"))


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _value(metrics: Mapping[str, Estimate], name: str, form: str = ".3f") -> str:
    return _number(metrics[name].value if name in metrics else None, form)


def _range(values: Range) -> tuple[str, str]:
    return f"{values.mean:.3f}", f"{values.low:.3f} to {values.high:.3f}"


@contextlib.contextmanager
def counting(things: str) -> Iterator[Callable[[int], None]]:
    """A live counter on stderr that disappears when done; yields the function that sets it."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} " + things), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done: progress.update(task, completed=done)


def _bar(value: float, low: float, high: float) -> str:
    # the worst LLM keeps a sliver, so that every row has a bar
    filled = 1.0 if high <= low else 0.05 + 0.95 * (value - low) / (high - low)
    eighths = round(filled * _BAR_WIDTH * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def print_held_out(reports: Mapping[str, Report]) -> None:
    """Print, for each file on which a new model was evaluated, its main loss beside the averaged leaderboard's, and its
    routed score beside the best single LLM's, as available."""
    for name, report in reports.items():
        metrics, file = report.metrics, name.partition(" (")[0]
        averaged = report.baseline.metrics if report.baseline else {}
        loss = next((key for key in ("cross_entropy", "bt_log_loss") if isinstance(metrics.get(key), Estimate)), None)
        if loss is not None:
            text = f"{file}: {'cross-entropy' if loss == 'cross_entropy' else 'BT log-loss'} {metrics[loss].value:.3f}"
            if loss in averaged:
                text += f", averaged leaderboard {averaged[loss].value:.3f}"
                if metrics[loss].value >= averaged[loss].value:
                    text += ": not better than the averaged leaderboard"
            print(text)
        if isinstance(metrics.get("routed_score"), Estimate):
            best = metrics["best_single_score"].value
            print(f"{file}: routed score {metrics['routed_score'].value:.3f}, best single LLM {best:.3f}")


def print_facts(console: Console, name: str, rows: Iterable[tuple[str, str]]) -> None:
    """Print labels and texts below the name of the data that they are about."""
    facts = Table(
        title=Text(name), title_justify="left", title_style="bold", box=None, pad_edge=False, show_header=False
    )
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    for label, text in rows:
        facts.add_row(label, Text(text))
    console.print(facts)
    console.print()


def print_vote_summary(summary: VoteSummary, name: str, top: int = 20) -> None:
    """Print the figures of a file of votes, one row for each of the first `top` LLMs, and what the votes leave open."""
    console = Console()
    print_facts(console, name, _facts(summary))
    bars = console.width >= _WIDE and not console.options.ascii_only
    table = Table(box=None, pad_edge=False)
    table.add_column("LLM", overflow="fold")
    for title in ("votes", "won", "lost", "tied", "bad"):
        table.add_column(title, justify="right", no_wrap=True)
    if bars:
        table.add_column("", no_wrap=True, style="cyan")
    for row in summary.models[:top]:
        shares = [n / max(row.n_votes, 1) for n in (row.wins, row.losses, row.ties, row.both_bad)]
        cells: list[str | Text] = [Text(row.model), f"{row.n_votes:,}", *(f"{share:.0%}" for share in shares)]
        table.add_row(*cells, *([_bar(shares[0], 0.0, 1.0)] if bars else []))
    console.print(table)
    if len(summary.models) > top:
        console.print(Text(f"and {len(summary.models) - top:,} more LLMs", style="dim"))
    if summary.undetermined:
        console.print(Text(f"Note: {summary.undetermined}.", style="yellow"))


def _facts(summary: VoteSummary) -> Iterator[tuple[str, str]]:
    mean, most = summary.mean_votes_per_prompt, summary.max_votes_per_prompt
    each = f"{most:,} each" if mean == most else f"{mean:.3g} each on average, at most {most:,}"
    prompts = "1 prompt" if summary.n_prompts == 1 else f"{summary.n_prompts:,} prompts"
    yield "votes", f"{summary.n_votes:,} on {prompts}, {each}"
    if summary.total_weight is not None:
        yield "weight", f"{summary.total_weight:,.6g} in all"
    yield "outcomes", ", ".join(f"{outcome} {share:.1%}" for outcome, share in summary.outcomes.items())
    if summary.n_duplicates:
        yield (
            "duplicates",
            f"{summary.n_duplicates:,} repeat an earlier vote: same prompt, LLMs and outcome; all are kept",
        )
    beaten = f"cross-entropy {summary.marginal_cross_entropy:.4f} ({summary.feedback})"
    if summary.marginal_bt_log_loss is not None:
        beaten += f", BT log-loss {summary.marginal_bt_log_loss:.4f} on decisive votes"
    yield "to beat", f"the averaged leaderboard: {beaten}, on these votes"
