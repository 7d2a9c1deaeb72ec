"""`p2l convert`: convert a published checkpoint to the native layout."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from p2l_sdk.cli.common import JSON, print_json, say


@click.command(short_help="Convert a checkpoint in lmarena's layout.")
@click.argument("source")
@click.argument("output")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of SOURCE on the Hub.")
@JSON
def convert(source: str, output: str, revision: str | None, as_json: bool) -> None:
    """Convert SOURCE, a checkpoint in lmarena's layout (folder or Hub id), to the native layout.

    The model in the folder OUTPUT gives the same coefficients, and loads with transformers alone.
    """
    from p2l_sdk.hub.cards import converted_card
    from p2l_sdk.outputs.folders import new_folder, require_new
    from p2l_sdk.p2l import P2L

    with contextlib.suppress(ImportError):  # loading reports what is not installed
        from transformers.utils import logging

        logging.disable_progress_bar()
    require_new(output)
    p2l = P2L.from_pretrained(source, revision=revision)
    with new_folder(output) as partial:
        p2l.save_pretrained(partial)
        card = partial / "README.md"
        if not card.exists():  # keep an existing card
            card.write_text(converted_card(p2l.spec, source, Path(output).resolve().name, revision), encoding="utf-8")
    if as_json:
        print_json({"output": output, "feedback": str(p2l.spec.feedback), "models": list(p2l.models)})
    else:
        say(f"wrote {output}: {len(p2l.models)} LLMs, feedback {p2l.spec.feedback}")
