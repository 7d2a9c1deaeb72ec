"""`p2l evaluate`: measure a model on votes and scores."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2l_sdk.cli.common import (
    COSTS,
    JSON,
    LLMS,
    MODELS_TO_COMPARE,
    READING,
    SCORES_OUTSIDE,
    load,
    print_json,
    reading,
    say_findings,
    say_matched,
    whole_numbers,
    whole_type,
)
from p2l_sdk.cli.robustness import measure_robustness, robustness_options
from p2l_sdk.errors import P2LWarning, require_known

if TYPE_CHECKING:
    from p2l_sdk.votes.votes import Votes


def read_votes(file: str, models: tuple[str, ...], columns: dict[str, Any]) -> Votes:
    """The votes of a file, on these LLMs; they may be named as people write them. `columns` says of scores which of
    their columns are LLMs, and what is done with scores outside [0, 1]."""
    import numpy as np

    from p2l_sdk.names import matched, meant, own_names, places
    from p2l_sdk.votes.votes import Votes

    votes = Votes.read(file, **columns, **reading())
    say_findings(votes.findings)
    for name in votes.models:  # the first stranger ends it, of however many
        if not meant(name, models):
            require_known([name], models, "a vote", "which is not one of the model's LLMs")
    own = own_names(votes.models, models, "a vote")
    say_matched(matched(dict(zip(votes.models, own, strict=True))))
    place = np.array([places(models)[name] for name in own], dtype=votes.a.dtype)
    return replace(votes, models=models, a=place[votes.a], b=place[votes.b])


@contextmanager
def _noted(prefix: str = "") -> Iterator[list[str]]:
    """Our warnings become notes for the report; those of other libraries stay warnings."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", P2LWarning)
        yield notes
    for warning in caught:
        if issubclass(warning.category, P2LWarning):
            notes.append(f"{prefix}{warning.message}")
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _compare(
    models: tuple[str, ...], votes: str | None, scores: str | None, columns: dict[str, Any], as_json: bool
) -> None:
    """Measure two models on the same votes and scores, and print them with their differences."""
    from p2l_sdk.evaluation import compare
    from p2l_sdk.votes.votes import Scores

    first, second = (load(model) for model in models)
    known = tuple(dict.fromkeys((*first.models, *second.models)))
    common = [name for name in first.models if name in second.models]
    held_out = None if votes is None else read_votes(votes, known, columns)
    ratings = None
    if scores is not None and len(common) > 1:  # else `compare` says so
        outside = columns["scores_outside"]
        ratings = Scores.read(scores, common, allow_missing=True, outside=outside, **reading(scores=True))
    elif scores is not None:
        ratings = Scores.read(scores, among=known, allow_missing=True, **reading(scores=True))
    found = compare(first, second, held_out, ratings)
    if as_json:
        print_json({"compared": list(models), **found.to_dict()})
    else:
        from p2l_sdk.cli.evaluation_tables import print_comparison

        print_comparison(found, models[0], models[1])


@click.command(short_help="How well a model predicts votes and routes prompts.")
@click.option("--votes", metavar="FILE", help="Votes to predict: a table (.csv, .xlsx, .jsonl, ...).")
@click.option("--scores", metavar="FILE", help="Scores to route for: a column 'prompt' and one per LLM.")
@SCORES_OUTSIDE
@LLMS
@READING
@MODELS_TO_COMPARE
@COSTS
@click.option(
    "--baseline-votes",
    metavar="FILE",
    help="Votes that the model was trained on: their averaged leaderboard is what it has to beat.",
)
@click.option("--by", metavar="COLUMN", multiple=True, help="Also for each value of a category column of the votes.")
@click.option(
    "--subsets", metavar="SIZES", callback=whole_numbers, help="Also random subsets of so many prompts: 10,25,50."
)
@click.option("--trials", metavar="N", type=whole_type(1), default=20, show_default=True, help="Subsets of each size.")
@click.option("--seed", metavar="N", type=whole_type(0), default=0, show_default=True, help="Seed of the subsets.")
@click.option("--plot", metavar="FILE", help="Draw the calibration, and the subsets: a .png, .pdf or .svg file.")
@robustness_options
@JSON
def evaluate(
    votes: str | None,
    scores: str | None,
    model: tuple[str, ...],
    scores_outside: str | None,
    llms: list[str] | None,
    not_llms: list[str] | None,
    baseline_votes: str | None,
    plot: str | None,
    robustness: bool,
    prompts: str | None,
    budget: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure how well a model predicts votes, and routes prompts, that it was not trained on.

    With --model given twice, the two models are compared: the differences have 95 % intervals.
    """
    if robustness or prompts is not None or budget is not None:
        if len(model) > 1:
            raise click.UsageError("robustness is of one model; give --model once")
        measure_robustness(
            model[0] if model else None, robustness, votes, scores, prompts, budget, options["seed"], as_json
        )
        return
    reading()  # refuses what is illegal before any model is loaded
    if votes is None and scores is None:
        raise click.UsageError("there is nothing to evaluate on; give --votes FILE, --scores FILE or both")
    columns = {"models": llms, "not_llms": not_llms or (), "scores_outside": scores_outside}
    wanted = {"by": options["by"], "subsets": options["subsets"], "plot": plot}
    for option, value in wanted.items():
        if value and votes is None:
            raise click.UsageError(f"--{option} says something of votes; give --votes FILE too")
    if len(model) > 2:
        raise click.UsageError(f"--model is given {len(model)} times; two models can be compared")
    if len(model) == 2:
        wanted["baseline-votes"] = baseline_votes
        if more := [f"--{name}" for name, value in wanted.items() if value]:
            raise click.UsageError(f"{', '.join(more)}: of one model only; leave it out where two are compared")
        _compare(model, votes, scores, columns, as_json)
        return
    name = model[0] if model else None
    from p2l_sdk import evaluation
    from p2l_sdk.errors import P2LError
    from p2l_sdk.evaluation.averaged import Averaged
    from p2l_sdk.evaluation.picture import save_evaluation
    from p2l_sdk.pictures import check_picture
    from p2l_sdk.votes.votes import Scores, warn_if_shared

    if plot is not None:
        check_picture(plot)
    p2l = load(name)
    held_out, trained = (
        None if file is None else read_votes(file, p2l.models, columns) for file in (votes, baseline_votes)
    )
    ratings = None
    if scores is not None:
        named = reading(scores=True)
        ratings = Scores.read(scores, p2l.models, allow_missing=True, outside=scores_outside, **named)
        say_findings(ratings.findings)
    for data, file in ((held_out, votes), (ratings, scores)):
        if data is not None and trained is not None:
            warn_if_shared(trained, data, Path(str(file)).name)
    with _noted("baseline votes: ") as notes:
        averaged = None if trained is None else Averaged.of(trained, p2l.spec.feedback)
    with _noted() as more:
        report = evaluation.evaluate(p2l, held_out, ratings, baseline_votes=averaged, **options)
    report.notes.extend(dict.fromkeys(notes + more))
    if as_json:
        print_json({"model": name or "embedded default", **report.to_dict()})
    else:
        from p2l_sdk.cli.evaluation_tables import print_report

        print_report(report, name or "embedded default")
    if plot is not None:
        if report.reliability is None:
            raise P2LError(f"no vote is decisive, so there is no calibration to draw, and {plot!r} was not written")
        save_evaluation(plot, report.reliability, report.subsets)
