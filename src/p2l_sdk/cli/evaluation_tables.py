"""What `p2l evaluate` shows: metrics, agreement of leaderboards, categories and subsets as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from p2l_sdk.cli.terminal import Console, Text
from p2l_sdk.evaluation import Agreement, Baseline, Category, Comparison, Estimate, Range, Report, SubsetStudy

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
        "best_single_score": "best single LLM in hindsight",
        "gain_over_best_single": "gain over best single",
        "relative_gain_over_best_single": "gain, relative to best single",
        "oracle_score": "oracle: best per prompt",
        "gap_to_oracle": "gap to oracle",
        "relative_gap_to_oracle": "gap, relative to oracle",
        "routed_cost": "cost, USD per 1,000",
        "best_single_cost": "best single's cost, likewise",
        "cost_saved": "cost saved at equal quality",
        "router_arena_score": "RouterArena's score",
        "same_llm": "both route to the same LLM",
    },
}
_PER_THOUSAND = ("routed_cost", "best_single_cost")  # kept in USD per response, shown in USD per 1,000
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


def print_report(report: Report, model: str) -> None:
    """Print all parts of a report that there are; `model` is what the reader knows the model as."""
    print_metrics(f"{model} ({report.feedback}) on {_counts(report.sizes)}", report.metrics, report.baseline)
    if report.agreement is not None:
        print_agreement(report.agreement)
    for column, categories in report.categories.items():
        print_categories(column, categories)
    if report.subsets is not None:
        print_subsets(report.subsets)
    console = Console()
    for note in report.notes:
        console.print(Text(note, style="dim"))


def print_metrics(title: str, metrics: Mapping[str, Any], baseline: Baseline | None = None) -> None:
    """Print the metrics with their standard errors and, given a baseline, its metrics and the difference."""
    headings = ["model", "s.e."] + (["baseline", "difference", "s.e."] if baseline else []) + ["n"]
    table = _table("", *headings)
    for group, labels in _METRICS.items():
        names = [name for name in labels if isinstance(metrics.get(name), Estimate)]
        if names:
            table.add_row(Text(group, style="dim"))
        for name in names:
            estimate = _shown(name, metrics[name])
            cells = [f"{estimate.value:.4f}", _number(estimate.standard_error)]
            if baseline is not None:
                averaged, difference = (
                    None if part is None else _shown(name, part)
                    for part in (baseline.metrics.get(name), baseline.difference.get(name))
                )
                cells.append("" if averaged is None else f"{averaged.value:.4f}")
                cells.append("" if difference is None else f"{difference.value:+.4f}")
                cells.append("" if difference is None else _number(difference.standard_error))
            table.add_row(Text(f"  {labels[name]}"), *cells, f"{estimate.n:,}")
    note = "losses in nats, lower is better; s.e.: standard error, clustered by prompt"
    if baseline is not None:
        note += "; baseline: the averaged leaderboard of the baseline votes; difference: model less baseline"
    if "averaged_leaderboard_model" in metrics:
        note += f", on scores its first LLM for every prompt: {metrics['averaged_leaderboard_model']}"
    if "best_single_model" in metrics:
        note += f"; best single LLM on these prompts: {metrics['best_single_model']}"
    _print(title, table, note)


def print_comparison(comparison: Comparison, first: str, second: str) -> None:
    """Print the metrics of two models, known to the reader by these names, with their differences and intervals."""
    table = _table("", "first", "second", "difference", "s.e.", "95 % interval", "n")
    for group, labels in _METRICS.items():
        names = [name for name in labels if name in comparison.difference]
        if names:
            table.add_row(Text(group, style="dim"))
        for name in names:
            sides = [side.get(name) for side in (comparison.first, comparison.second)]
            cells = ["" if side is None else f"{_shown(name, side).value:.4f}" for side in sides]
            difference = _shown(name, comparison.difference[name])
            sign = "" if name == "same_llm" else "+"
            low, high = difference.interval or (None, None)
            interval = "-" if low is None or high is None else f"{low:{sign}.4f} to {high:{sign}.4f}"
            cells += [f"{difference.value:{sign}.4f}", _number(difference.standard_error), interval]
            table.add_row(Text(f"  {labels[name]}"), *cells, f"{difference.n:,}")
    n_models = len(comparison.models)
    title = f"{first} ({comparison.feedback[0]}) less {second} ({comparison.feedback[1]}), {n_models} common LLMs"
    _print(f"{title}, {_counts(comparison.sizes)}", table, "losses in nats; s.e.: standard error, clustered by prompt")
    for note in comparison.notes:
        Console().print(Text(note, style="dim"))


def print_agreement(agreement: Agreement) -> None:
    """Print how the aggregate of the prompts agrees with the leaderboard of their votes, beside the leaderboard of the
    baseline votes, if there is one."""
    columns = [agreement.metrics] + ([] if agreement.baseline is None else [agreement.baseline])
    table = _table("", *["model", "baseline"][: len(columns)])
    for name, label in _DISTANCES.items():
        if name in agreement.metrics:
            table.add_row(Text(f"  {label}"), *(_number(column.get(name)) for column in columns))
    _print("Aggregate leaderboard of these prompts, against that of their votes", table, apart=True)


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
    _print(f"By {column}", table, note, apart=True)


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
    _print(f"Random subsets of the prompts, {study.trials} of each size, against all votes", table, note, apart=True)


def _counts(sizes: Mapping[str, int]) -> str:
    labels = {"n_votes": "votes", "n_prompts": "prompts", "n_scored_prompts": "scored prompts"}
    return ", ".join(f"{n:,} {labels[name] if n != 1 else labels[name][:-1]}" for name, n in sizes.items())


def _shown(name: str, estimate: Estimate) -> Estimate:
    """The estimate in the unit in which it is shown."""
    if name not in _PER_THOUSAND:
        return estimate
    error = estimate.standard_error
    return Estimate(1000.0 * estimate.value, None if error is None else 1000.0 * error, estimate.n)


def _table(first: str, *others: str) -> Table:
    """A table whose first column may wrap, while the others hold numbers."""
    table = Table(box=None, pad_edge=False)
    table.add_column(Text(first), overflow="fold")
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _print(title: str, table: Table, note: str = "", apart: bool = False) -> None:
    console = Console()
    if apart:
        console.print()
    console.print(Text(title, style="bold"))
    console.print(table)
    if note:
        console.print(Text(note, style="dim"))


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _value(metrics: Mapping[str, Estimate], name: str, form: str = ".3f") -> str:
    return _number(metrics[name].value if name in metrics else None, form)


def _range(values: Range) -> tuple[str, str]:
    return f"{values.mean:.3f}", f"{values.low:.3f} to {values.high:.3f}"
