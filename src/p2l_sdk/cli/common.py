"""What several commands share: options, loading, printing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from p2l_sdk.facade import P2L

MODEL = click.option(
    "--model", metavar="PATH", help="A saved P2L model or a Hub id; the embedded default if not given."
)
BASE = click.option("--base", metavar="PATH", help="For an adapter: its base in place of the one it names.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


def load(model: str | None, base: str | None = None) -> P2L:
    """The model that --model names, an adapter's on the base of --base."""
    from p2l_sdk.facade import P2L

    return P2L.from_pretrained(model, base=base)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(value, indent=2, allow_nan=False, default=str))
