"""`p2l convert`: a published checkpoint in the native layout."""

from __future__ import annotations

import click

from p2l_sdk.cli.common import JSON, print_json


@click.command(short_help="Convert a checkpoint in lmarena's layout.")
@click.argument("source")
@click.argument("output")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of SOURCE on the Hub.")
@JSON
def convert(source: str, output: str, revision: str | None, as_json: bool) -> None:
    """Write SOURCE, a checkpoint in lmarena's layout (folder or Hub id), as a model of the native layout.

    The folder OUTPUT gives the same coefficients, and loads with transformers alone.
    """
    from transformers.utils import logging

    from p2l_sdk.facade import P2L

    logging.disable_progress_bar()
    p2l = P2L.from_pretrained(source, revision=revision)
    p2l.save_pretrained(output)
    if as_json:
        print_json({"output": output, "feedback": str(p2l.spec.feedback), "models": list(p2l.models)})
    else:
        click.echo(f"wrote {output}: {len(p2l.models)} LLMs, feedback {p2l.spec.feedback}")
