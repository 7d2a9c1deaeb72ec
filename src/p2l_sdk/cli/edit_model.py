"""`p2l add-model | remove-model | rename-model`: change the LLMs of a saved model without retraining."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from p2l_sdk.cli.common import (
    JSON,
    MODEL,
    READING,
    SCORES_OUTSIDE,
    load,
    number_type,
    print_json,
    reading,
    say,
    say_findings,
    say_matched,
)
from p2l_sdk.modeling.number_p2l import to_number

if TYPE_CHECKING:
    from p2l_sdk.p2l import P2L

OUTPUT = click.option("--output", metavar="FOLDER", required=True, help="The new folder.")


def _rated(context: click.Context, option: click.Parameter, value: str | None) -> dict[str, float] | None:
    """{kind: rating} of "coding=1300,overall=1280"; None if it is not given."""
    ratings: dict[str, float] = {}
    for entry in [] if value is None else value.split(","):
        kind, _, rating = entry.strip().rpartition("=")
        ratings[kind] = to_number(rating)
        if math.isnan(ratings[kind]):
            raise click.BadParameter(f"{entry!r} is no rating; write KIND=NUMBER, as in coding=1300")
    return None if value is None else ratings


@click.command(short_help="Add an LLM, learned from votes, scores or ratings.")
@click.argument("name")
@click.option("--votes", metavar="FILE", help="Votes on NAME: a table (.csv, .xlsx, ...); others in it are ignored.")
@click.option("--scores", metavar="FILE", help="Scores: columns 'prompt', NAME and at least one known LLM.")
@SCORES_OUTSIDE
@READING
@click.option("--ratings", metavar="KIND=N,...", callback=_rated, help="Ratings by kind, for a model built from such.")
@click.option("--cost", metavar="USD", type=number_type(), help="Cost of NAME per response.")
@click.option("--prior", default="similar", show_default=True, help="What it is before its votes: similar or mean.")
@MODEL
@OUTPUT
@JSON
def add_model(
    name: str, model: str | None, scores_outside: str | None, output: str, as_json: bool, **learn_from: Any
) -> None:
    """Add the LLM NAME, learned in seconds from votes, scores or ratings, and write the model to a new folder."""
    from p2l_sdk.names import meant
    from p2l_sdk.outputs.folders import require_new
    from p2l_sdk.votes.votes import Scores, Votes

    named = reading()
    require_new(output)
    known = load(model)
    if learn_from["votes"] is not None:
        learn_from["votes"] = Votes.read(learn_from["votes"], **named)
        say_findings(learn_from["votes"].findings)
        others = [other for other in learn_from["votes"].models if other not in (name, *known.models)]
        say_matched({other: own[0] for other in others if len(own := meant(other, known.models)) == 1})
    if learn_from["scores"] is not None:
        learn_from["scores"] = Scores.read(
            learn_from["scores"],
            among=(name, *known.models),
            allow_missing=True,
            outside=scores_outside,
            **reading(scores=True),
        )
        say_findings(learn_from["scores"].findings)
    p2l = known.add_model(name, **learn_from)
    added = p2l.additions.get(name)
    if added is None:
        _finish(p2l, output, as_json, f"{name}: added from its ratings", {"added": {"name": name}})
        return
    text = (
        f"{name}: {added.source} ({added.n_ignored:,} ignored); "
        f"coefficient known to ± {added.standard_error:.2f} logits, where the known LLMs differ by {added.spread:.2f}"
    )
    if p2l.costs and name not in p2l.costs:
        say(f"p2l: {name} has no cost, which routing within a budget needs (--cost USD)", err=True)
    _finish(p2l, output, as_json, text, {"added": added.to_dict()})


@click.command(short_help="Remove an LLM from a model.")
@click.argument("name")
@MODEL
@OUTPUT
@JSON
def remove_model(name: str, model: str | None, output: str, as_json: bool) -> None:
    """Remove the LLM NAME and write the model to a new folder."""
    from p2l_sdk.outputs.folders import require_new

    require_new(output)
    _finish(load(model).remove_model(name), output, as_json, f"{name}: removed", {"removed": name})


@click.command(short_help="Give an LLM of a model another name.")
@click.argument("name")
@click.argument("new_name")
@MODEL
@OUTPUT
@JSON
def rename_model(name: str, new_name: str, model: str | None, output: str, as_json: bool) -> None:
    """Rename the LLM NAME to NEW_NAME and write the model to a new folder."""
    from p2l_sdk.outputs.folders import require_new

    require_new(output)
    renamed = load(model).rename_model(name, new_name)
    _finish(renamed, output, as_json, f"{name}: renamed {new_name}", {"renamed": {name: new_name}})


def _finish(p2l: P2L, output: str, as_json: bool, text: str, result: dict[str, Any]) -> None:
    p2l.save_pretrained(output)
    if as_json:
        print_json({"output": output, "models": list(p2l.models), **result})
    else:
        say(f"{text}\nwrote {output}: {len(p2l.models)} LLMs")
