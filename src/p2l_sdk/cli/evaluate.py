"""`p2l evaluate`: a model measured on votes and scores."""

from __future__ import annotations

from typing import Any

import click

from p2l_sdk.cli.common import JSON, MODEL, load, print_json


@click.command()
@click.option("--votes", metavar="FILE", help="Votes to predict: .jsonl, .csv or .parquet.")
@click.option("--scores", metavar="FILE", help="Scores to route for: a column 'prompt' and one per LLM.")
@MODEL
@JSON
def evaluate(votes: str | None, scores: str | None, model: str | None, as_json: bool) -> None:
    """How well a model predicts votes, and routes prompts, that it was not trained on."""
    if votes is None and scores is None:
        raise click.UsageError("there is nothing to evaluate on; give --votes FILE, --scores FILE or both")
    from p2l_sdk.evaluation import Estimate, evaluate_scores, evaluate_votes
    from p2l_sdk.votes import Scores, Votes

    p2l = load(model)
    report: dict[str, Any] = {"model": model or "embedded default", "feedback": str(p2l.spec.feedback)}
    metrics: dict[str, Any] = {}
    if votes is not None:
        table = Votes.read(votes, p2l.models)
        report |= {"n_votes": len(table), "n_prompts": len(table.prompts)}
        metrics |= evaluate_votes(p2l, table)
    if scores is not None:
        ratings = Scores.read(scores, p2l.models)
        report["n_scored_prompts"] = len(ratings.prompts)
        metrics |= evaluate_scores(p2l, ratings)
    if as_json:
        plain = {name: m.to_dict() if isinstance(m, Estimate) else m for name, m in metrics.items()}
        print_json({**report, "metrics": plain})
    else:
        from p2l_sdk import terminal

        labels = {"n_votes": "votes", "n_prompts": "prompts", "n_scored_prompts": "scored prompts"}
        counts = ", ".join(
            f"{report[key]:,} {label if report[key] != 1 else label[:-1]}"
            for key, label in labels.items()
            if key in report
        )
        terminal.print_evaluation(f"{report['model']} ({report['feedback']}) on {counts}", metrics)
