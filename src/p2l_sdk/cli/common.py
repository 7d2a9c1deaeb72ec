"""What several commands share: options, loading, printing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from p2l_sdk.facade import P2L

Command = TypeVar("Command", bound=Callable[..., Any])

_BASE = "p2l_sdk.base"
BASE = click.option(  # which `load` finds by itself
    "--base",
    metavar="PATH",
    expose_value=False,
    callback=lambda context, _, value: context.meta.update({_BASE: value}),
    help="Of an adapter: its base, in place of the one that it names (folder, Hub id or .gguf file).",
)

_REVISION = "p2l_sdk.revision"
_MODEL_REVISION = click.option(  # likewise
    "--revision",
    metavar="REV",
    expose_value=False,
    callback=lambda context, _, value: context.meta.update({_REVISION: value}),
    help="Of a model on the Hub: its branch, tag or commit.",
)


def MODEL(command: Command) -> Command:  # noqa: N802 - a decorator that stands beside JSON
    """The options --model, which the command takes as `model`, --revision and --base."""
    model = click.option(
        "--model", metavar="PATH", help="A saved P2L model or a Hub id; the embedded default if not given."
    )
    return model(_MODEL_REVISION(BASE(command)))


_COSTS = "p2l_sdk.costs"
COSTS = click.option(  # likewise
    "--costs",
    metavar="SOURCE",
    expose_value=False,
    callback=lambda context, _, value: context.meta.update({_COSTS: value}),
    help="USD per response in place of the model's: a .json, .yaml or .csv file, or genai-prices[:PROVIDER,...].",
)

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


def load(model: str | None) -> P2L:
    """The model of --model, at --revision, on the base of --base, with the costs of --costs."""
    from p2l_sdk.facade import P2L

    given = click.get_current_context().meta
    return P2L.from_pretrained(model, revision=given.get(_REVISION), base=given.get(_BASE), costs=given.get(_COSTS))


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(value, indent=2, allow_nan=False, default=str))
