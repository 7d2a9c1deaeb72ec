"""Shared by several commands: options, loading, printing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from p2l_sdk.p2l import P2L
    from p2l_sdk.scorers.scorer import Scorer

Command = TypeVar("Command", bound=Callable[..., Any])


def _of_load(name: str, metavar: str, text: str) -> Callable[[Command], Command]:
    """An option that is not passed to the command: `load` reads it from the context."""
    return click.option(
        f"--{name}",
        metavar=metavar,
        expose_value=False,
        callback=lambda context, _, value: context.meta.update({_KEY + name: value}),
        help=text,
    )


_KEY = "p2l_sdk."
BASE = _of_load("base", "PATH", "Base of an adapter, in place of the one it names: folder, Hub id or .gguf file.")
REVISION = _of_load("revision", "REV", "Branch, tag or commit of a model on the Hub.")
DEVICE = _of_load("device", "DEVICE", "Where torch runs, e.g. cuda.  [cpu]")
COSTS = _of_load(
    "costs",
    "SOURCE",
    "USD per response, in place of the model's: a .json, .jsonl, .yaml, .csv or .parquet file, or "
    "genai-prices[:PROVIDER,...].",
)


SCORES_OUTSIDE = click.option(
    "--scores-outside",
    type=click.Choice(["clip", "rescale", "drop"]),
    help="Scores outside [0, 1]: clip them, rescale all scores, or drop them.  [keep]",
)


def listed(context: click.Context, option: click.Parameter, value: str | None) -> list[str] | None:
    """Callback of an option: the names of a comma-separated list; None if it is not given."""
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def LLMS(command: Command) -> Command:  # noqa: N802 - used as a decorator, like JSON
    """The options --llms and --not-llms, which say what columns of scores are (passed as `llms` and `not_llms`)."""
    llms = click.option("--llms", metavar="A,B,...", callback=listed, help="Of scores: only these columns are LLMs.")
    others = click.option("--not-llms", metavar="C,...", callback=listed, help="Of scores: these columns are no LLMs.")
    return llms(others(command))


COLUMNS = click.option(
    "--columns", metavar="A,B,...", callback=listed, help="Of a column per benchmark: only these are benchmarks."
)


def MODEL(command: Command) -> Command:  # noqa: N802 - used as a decorator, like JSON
    """The options --model (passed to the command as `model`), --revision, --base and --device."""
    model = click.option("--model", metavar="PATH", help="Folder or Hub id of a P2L model, or routing9.  [arena]")
    return model(REVISION(BASE(DEVICE(command))))


def MODELS_TO_COMPARE(command: Command) -> Command:  # noqa: N802 - used as a decorator, like JSON
    """Like MODEL, but --model may be given twice; it is passed to the command as the tuple `model`."""
    text = "Folder or Hub id of a P2L model, or routing9; given twice: compare the two.  [arena]"
    model = click.option("--model", metavar="PATH", multiple=True, help=text)
    return model(REVISION(BASE(DEVICE(command))))


JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object only.")


def load(model: str | None) -> P2L:
    """Load the model of --model with the options --revision, --base, --device and --costs."""
    from p2l_sdk.p2l import P2L

    meta = click.get_current_context().meta
    options: dict[str, Any] = {name: meta.get(_KEY + name) for name in ("revision", "base", "device", "costs")}
    return P2L.from_pretrained(model, **options)


def load_scorer(model: str | None) -> Scorer:
    """Load only what computes the coefficients of --model, with the options --revision, --base and --device."""
    from p2l_sdk.scorers.load import open_scorer

    meta = click.get_current_context().meta
    return open_scorer(model, **{name: meta.get(_KEY + name) for name in ("device", "base", "revision")})[0]


def _weighted(context: click.Context, option: click.Parameter, value: str | None) -> dict[str, float] | None:
    """Names with weights, "A,B=2"; a weight is 1 where none is given."""
    weights: dict[str, float] = {}
    for entry in listed(context, option, value) or ():
        name, equals, weight = entry.rpartition("=")
        try:
            weights[name.strip() if equals else entry] = float(weight) if equals else 1.0
        except ValueError:
            raise click.BadParameter(
                f"the weight of {name!r} is {weight!r}; it must be a number, as in A,B=2"
            ) from None
    return weights if value is not None else None


MODELS = click.option(
    "--models", metavar="A,B,...", callback=listed, help="Only these LLMs; gpt-4o-mini finds gpt-4o-mini-2024-07-18."
)
OPPONENTS = click.option(
    "--opponents", metavar="A,B=2,...", callback=_weighted, help="Whom win rates are against, with weights.  [all LLMs]"
)
OBJECTIVE = click.option("--objective", metavar="NAME", help="What counts: win_rate or usable.  [win_rate]")


def given(**options: Any) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def say_matched(matched: Mapping[str, str]) -> None:
    """Say on stderr, in one line, how names of LLMs were read: name as given -> the model's own."""
    if matched:
        (first, means), *others = matched.items()
        more = "".join(f", {name} as {own}" for name, own in others)
        click.echo(f"p2l: {first} is read as {means}{more}", err=True)


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    click.echo(json.dumps(value, indent=2, allow_nan=False, default=str))
