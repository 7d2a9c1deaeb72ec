"""`p2l export`: a model for another runtime."""

from __future__ import annotations

import contextlib

import click

from p2l_sdk.cli.common import BASE, JSON, print_json


@click.command(short_help="Write a model for another runtime: ONNX.")
@click.argument("source")
@click.option("--runtime", type=click.Choice(["onnx"]), required=True, help="What will run it.")
@click.option("--int8", is_flag=True, help="onnx: quantise the weights of the matrix products.")
@click.option("--prompts", metavar="FILE", help="onnx: prompts to compare it with torch on.  [336 built-in ones]")
@click.option(
    "--force", is_flag=True, help="onnx: write an int8 model that changes more than 1 % of the best LLMs, too."
)
@BASE
@JSON
def export(source: str, runtime: str, int8: bool, prompts: str | None, force: bool, as_json: bool) -> None:
    """Write SOURCE, a model's folder, for another runtime.

    onnx: an ONNX file beside the weights, which onnxruntime runs without torch: --runtime onnx of other commands, or
    P2L.from_pretrained(folder, runtime="onnx").
    """
    with contextlib.suppress(ImportError):  # loading reports what is not installed
        from transformers.utils import logging

        logging.disable_progress_bar()
    _export_onnx(source, int8, prompts, force, as_json)


def _export_onnx(source: str, int8: bool, prompts: str | None, force: bool, as_json: bool) -> None:
    from pathlib import Path

    from p2l_sdk.cli.common import load_scorer
    from p2l_sdk.errors import ModelFormatError
    from p2l_sdk.hub.onnx_files import ONNX_FILE
    from p2l_sdk.votes.prompts import read_prompts

    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise ModelFormatError(
            f"there is no folder {source!r}; a model of the Hub: hf download ORG/NAME --local-dir DIR"
        )
    asked = None if prompts is None else list(read_prompts(prompts))
    scorer = load_scorer(source)  # it says what is missing: torch, or the base of an adapter
    from p2l_sdk.scorers.onnx_export import export_onnx

    done = export_onnx(scorer, folder, int8=int8, force=force, prompts=asked)
    if as_json:
        print_json({"file": str(folder / ONNX_FILE), **vars(done)})
        return
    click.echo(
        f"wrote {folder / ONNX_FILE}: {done.precision}, {done.bytes / 1e6:.1f} MB\n"
        f"compared with torch on {done.prompts} prompts: the best LLM is the same for {done.equal_routes:.1%}, "
        f"coefficients differ by at most {done.largest_difference:.2g}\n"
        f'try: p2l leaderboard "Write a haiku about the sea" --model {source} --runtime onnx'
    )
