"""`p2l mpg`: Project MPG, Goodness and Fastness of LLMs from their results on benchmarks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from p2l_sdk.cli.common import COLUMNS, JSON, LLMS, SCORES_OUTSIDE, Command, number_type, print_json, say, whole_type
from p2l_sdk.cli.once import Once

if TYPE_CHECKING:
    from p2l_sdk.mpg import Correlation, NodeEstimates, Results, Tree
    from p2l_sdk.mpg.fastness import Fastness


def _number(
    name: str, metavar: str, kind: click.IntRange | click.FloatRange, default: float, text: str
) -> Callable[[Command], Command]:
    """An option with a number, whose default the help shows."""
    return click.option(name, metavar=metavar, type=kind, default=default, show_default=True, help=text)


def _names(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Callback of --column: ours -> the table's name."""
    for value in values:
        ours, equals, theirs = value.partition("=")
        if not (equals and ours.strip() and theirs.strip()):
            raise click.BadParameter(f"{value!r} is no pair; write {option.metavar}")
    return {ours.strip(): theirs.strip() for ours, _, theirs in (value.partition("=") for value in values)}


def percent_of(context: click.Context, option: click.Parameter, value: str | None) -> bool | list[str]:
    """Callback of --percent: whether it is given, or the benchmarks that it names."""
    return value is not None if not value else [name.strip() for name in value.split(",") if name.strip()]


PERCENT = click.option(
    "--percent",
    is_flag=False,
    flag_value="",
    metavar="[A,B,...]",
    callback=percent_of,
    help="The scores are in [0, 100]; or only those of the benchmarks named here.",
)


@click.group(cls=Once, short_help="Goodness and Fastness of LLMs from benchmarks.")
def mpg() -> None:
    """Goodness and Fastness of LLMs, from their results on benchmarks (Project MPG)."""


@mpg.command(short_help="How good, how sure and at what price each LLM is.")
@click.option(
    "--results",
    metavar="PATH",
    multiple=True,
    required=True,
    help="Results: a table (.csv, .xlsx, .jsonl, ...); lm-evaluation-harness's output; may be given several times.",
)
@PERCENT
@click.option(
    "--column",
    "names",
    metavar="COLUMN=NAME",
    multiple=True,
    callback=_names,
    help="The table's name of a column: model=LLM, benchmark=..., score=...",
)
@click.option("--benchmark-column", metavar="NAME", help="The results are scores: a prompt per row, a column per LLM.")
@SCORES_OUTSIDE
@LLMS
@COLUMNS
@click.option("--livebench", is_flag=True, help="The results are a table of LiveBench (table_DATE.csv).")
@click.option("--metric", metavar="NAME", help="Of lm-evaluation-harness: the metric.  [the first that all LLMs have]")
@click.option("--filter", metavar="NAME", help="Of lm-evaluation-harness: the filter, on tasks with it.  [likewise]")
@click.option("--tree", metavar="FILE", help="Tree in YAML, or mpg, or livebench; all benchmarks alike if not given.")
@click.option("--allow-absent", is_flag=True, help="Leave out benchmarks of the tree that have no results.")
@click.option("--method", default="tree", show_default=True, help="tree or one_factor.")
@click.option("--prior", default="table", show_default=True, help="table or jeffreys.")
@click.option("--missing", default="impute", show_default=True, help="impute or renormalise.")
@click.option("--weighting", default="spread", show_default=True, help="spread or plain.")
@_number(
    "--unstated-questions", "N", number_type(1), 100,
    "Number of questions assumed for a published mean that does not state it.",
)  # fmt: skip
@_number("--draws", "N", whole_type(100), 4000, "Posterior draws.")
@_number("--seed", "N", whole_type(0), 0, "Seed of the draws.")
@click.option("--prices", metavar="FILE", help="model, input_price, output_price in USD per million tokens.")
@click.option(
    "--tokens", metavar="IN OUT", type=(number_type(0), number_type(0)), default=(500, 500),
    show_default=True, help="Mean tokens of a query and of its answer, for --prices, where the results have none.",
)  # fmt: skip
@click.option(
    "--measure", metavar="NAME",
    help="What table and picture show beside Goodness: usd_per_query, queries_per_second, seconds, "
    "seconds_to_first_token or tokens_per_second; if not given, with --prices the first, else the first that most LLMs "
    "have.",
)  # fmt: skip
@click.option("--reference", metavar="FILE", help="Ratings to compare with, Arena's say: columns model, rating.")
@click.option("--output", metavar="FOLDER", help="Write the page, JSON and the pictures to a new folder.")
@JSON
def report(output: str | None, as_json: bool, **options: Any) -> None:
    """Report how good each LLM is, overall and by subdomain, how certain that is, and what it costs."""
    from p2l_sdk.errors import member
    from p2l_sdk.mpg import Method, Missing, Prior, Weighting, goodness
    from p2l_sdk.mpg.report import Report, require_output

    if output is not None:
        require_output(output)  # fail before the computation
    method, prior = member(Method, "method", options["method"]), member(Prior, "prior", options["prior"])
    missing = member(Missing, "missing", options["missing"])
    weighting = member(Weighting, "weighting", options["weighting"])
    results, tree = _read(options)
    numbers = {name: options[name] for name in ("unstated_questions", "draws", "seed")}
    estimates = goodness(results, tree, method=method, prior=prior, missing=missing, weighting=weighting, **numbers)
    fast = _fastness(results, options)
    agreement = _agreement(results, estimates, options["reference"], options["seed"])
    measure = options["measure"] or (None if options["prices"] is None else "usd_per_query")
    made = Report(estimates, fast, measure, agreement)
    files = [] if output is None else made.save(output)
    if as_json:
        print_json(made.to_dict())
        return
    from p2l_sdk.cli.mpg_tables import print_report

    print_report(made)
    if output is not None:
        say(f"wrote {output}: {', '.join(files)}")


def _read(options: dict[str, Any]) -> tuple[Results, Tree | None]:
    from p2l_sdk.errors import ResultsError
    from p2l_sdk.mpg import Results, Tree
    from p2l_sdk.mpg.harness import is_harness, read_harness
    from p2l_sdk.mpg.livebench import read_livebench
    from p2l_sdk.tables.sources import table_errors
    from p2l_sdk.votes.scores import Scores

    tree, parts, harness = None, [], []
    for path in options["results"]:
        if options["livebench"]:
            part, tree = read_livebench(path, tasks=options["columns"])
            parts.append(part)
        elif options["benchmark_column"] is not None:
            with table_errors(ResultsError):
                scores = Scores.read(
                    path,
                    options["llms"],
                    not_llms=options["not_llms"] or (),
                    allow_missing=True,
                    outside=options["scores_outside"],
                )
            parts.append(Results.of_scores(scores, options["benchmark_column"]))
        elif is_harness(path):
            harness.append(path)
        else:
            given = {name: options[name] for name in ("percent", "columns", "names")}
            parts.append(Results.read(path, **given))
    if harness:
        named = {name: options[name] for name in ("metric", "filter")} | {"percent": options["percent"] is not False}
        parts.append(read_harness(*harness, **named))
    results = parts[0] if len(parts) == 1 else Results.joined(parts)
    if options["tree"] is not None:
        tree = Tree.read(options["tree"])
        tree = tree.only(results.benchmarks) if options["allow_absent"] else tree
    return results, tree


def _fastness(results: Results, options: dict[str, Any]) -> Fastness | None:
    from p2l_sdk.errors import ResultsError
    from p2l_sdk.mpg.fastness import Fastness
    from p2l_sdk.mpg.prices import read_prices

    prices = {} if options["prices"] is None else read_prices(options["prices"])
    if options["prices"] is not None and not prices.keys() & set(results.models):
        raise ResultsError(
            f"{options['prices']!r} has no price of any LLM of the results; it has: {', '.join(prices)}; "
            f"the results have: {', '.join(results.models)}"
        )
    fast = Fastness.of_results(results, prices=prices, tokens=options["tokens"], seed=options["seed"])
    if fast.measures:
        return fast
    if options["measure"] is not None:
        raise ResultsError(f"--measure {options['measure']}: the results have neither times nor costs; give --prices")
    return None


def _agreement(results: Results, estimates: NodeEstimates, reference: str | None, seed: int) -> list[Correlation]:
    """Agreement with the reference of Goodness at every inner node, the raw average, and each benchmark on which all
    LLMs have results that differ."""
    if reference is None:
        return []
    import numpy as np

    from p2l_sdk.errors import ResultsError
    from p2l_sdk.mpg import correlations
    from p2l_sdk.tables.columns import number_of
    from p2l_sdk.tables.files import read_rows
    from p2l_sdk.tables.grids import column_key
    from p2l_sdk.tables.notation import require_one_notation
    from p2l_sdk.tables.places import placed
    from p2l_sdk.tables.sources import table_errors

    ratings: dict[str, float] = {}
    with table_errors(ResultsError):
        read = read_rows(reference)
        rows = [{column_key(name): value for name, value in row.items()} for row in read]
        with placed(read.place):
            require_one_notation("rating", [row.get("rating") for row in rows])
    for at, row in enumerate(rows):
        rating = number_of(row.get("rating"))
        if not row.get("model") or not np.isfinite(rating):
            raise ResultsError(f"{reference!r}, {read.place(at)} needs the columns model and rating, a finite number")
        ratings[str(row["model"]).strip()] = rating
    with np.errstate(invalid="ignore"):
        raw = np.nanmean(results.means, 1)
    rated = {"raw average": dict(zip(results.models, raw.tolist(), strict=True))}
    rated |= {node: estimates.values(node) for node in estimates.nodes if node in estimates.tree.nodes}
    whole = np.flatnonzero(~np.isnan(results.means).any(0) & (np.ptp(np.nan_to_num(results.means), axis=0) > 0))
    for b in whole:
        rated.setdefault(results.benchmarks[b], dict(zip(results.models, results.means[:, b].tolist(), strict=True)))
    return correlations(rated, ratings, seed=seed)


@mpg.command(short_help="Ask an endpoint questions; grade and time it.")
@click.option(
    "--base-url",
    metavar="URL",
    required=True,
    help="Base URL of an OpenAI-compatible endpoint; usually it ends in /v1.",
)
@click.option("--model", metavar="NAME", required=True, help="The endpoint's name of the LLM.")
@click.option(
    "--questions", metavar="FILE", required=True,
    help="question_id, prompt, answer; optional benchmark, choices: a table (.csv, .xlsx, .jsonl, ...).",
)  # fmt: skip
@click.option("--output", metavar="FILE", required=True, help="The answers, JSON lines; an interrupted run is resumed.")
@click.option("--api-key-env", metavar="VAR", help="The environment variable that holds the API key.")
@click.option(
    "--concurrency", metavar="N", type=whole_type(1), help="Closed loop: N queries at once.  [4, unless --rate]"
)
@click.option("--rate", metavar="R", type=number_type(above=0), help="Open loop: R queries per second.")
@_number("--warm-up", "N", whole_type(0), 3, "First queries, not measured.")
@click.option(
    "--grader", type=click.Choice(["exact", "choice"]),
    help="How answers are graded.  [choice for questions with choices, else exact]",
)  # fmt: skip
@click.option("--prices", metavar="FILE", help="model, input_price, output_price in USD per million tokens.")
@_number("--max-tokens", "N", whole_type(1), 512, "Longest answer, tokens.")
@_number("--temperature", "T", number_type(0), 0.0, "Sampling temperature.")
@_number("--timeout", "S", number_type(above=0), 120.0, "Seconds per query.")
@click.option("--retry-failed", is_flag=True, help="Ask again what failed before.")
@JSON
def measure(base_url: str, questions: str, output: str, as_json: bool, **options: Any) -> None:
    """Ask an endpoint questions, grade and time its answers, and write them to a file for `p2l mpg report`."""
    from p2l_sdk.cli.mpg_tables import measuring_bar, print_measurement
    from p2l_sdk.mpg.measure.endpoint import Endpoint
    from p2l_sdk.mpg.measure.questions import read_questions
    from p2l_sdk.mpg.measure.run import measure as run

    names = ("model", "max_tokens", "temperature", "timeout")
    key = _api_key(options["api_key_env"])
    endpoint = Endpoint(base_url=base_url, api_key=key, **{name: options[name] for name in names})
    asked = read_questions(questions)
    load = {name: options[name] for name in ("concurrency", "rate", "warm_up", "grader", "retry_failed")}
    with measuring_bar(len(asked)) as progress:
        found = run(
            endpoint, asked, output, prices=_price(options["prices"], options["model"]), progress=progress, **load
        )
    if as_json:
        print_json(found.to_dict())
        return
    print_measurement(found)
    say(f"answers: {output}")


def _api_key(variable: str | None) -> str | None:
    from p2l_sdk.errors import EndpointError

    key = None if variable is None else os.environ.get(variable)
    if variable is not None and not key:
        raise EndpointError(f"the environment variable {variable!r} of --api-key-env is not set")
    return key


def _price(path: str | None, model: str) -> tuple[float, float] | None:
    from p2l_sdk.errors import require_known
    from p2l_sdk.mpg.prices import read_prices

    if path is None:
        return None
    prices = read_prices(path)
    require_known([model], list(prices), "--model", f"of which {path!r} has no price")
    return prices[model]
