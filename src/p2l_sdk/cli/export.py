"""`p2l export`: a model for another runtime."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from p2l_sdk.cli.common import BASE, JSON, print_json


def _runtime(context: click.Context, option: click.Parameter, value: str) -> str:
    if value not in ("onnx", "vllm"):
        raise click.BadParameter(f"{value!r} is neither onnx, which OpenVINO runs, too, nor vllm", context, option)
    return value


@click.command(short_help="Write a model for another runtime: ONNX, vLLM.")
@click.argument("source")
@click.option(
    "--runtime",
    metavar="NAME",
    required=True,
    callback=_runtime,
    help="What will run it: onnx (also OpenVINO) or vllm.",
)
@click.option("--output", metavar="DIR", help="vllm: the new folder.")
@click.option("--int8", is_flag=True, help="onnx: a graph in 8 bits, too, for a first look at each prompt.")
@click.option("--prompts", metavar="FILE", help="onnx: prompts to compare it with torch on.  [336 built-in ones]")
@click.option(
    "--force",
    is_flag=True,
    help="onnx: write an int8 model, too, that changes more than 1 % of the best LLMs, or saves no time.",
)
@BASE
@JSON
def export(source: str, runtime: str, output: str | None, as_json: bool, **options: Any) -> None:
    """Write SOURCE, a model's folder, for another runtime.

    onnx: an ONNX file beside the weights, which onnxruntime runs without torch: --runtime onnx of other commands, or
    P2L.from_pretrained(folder, runtime="onnx").

    vllm: a new folder with a sequence classifier, which `vllm serve` runs; then other commands take --model DIR
    --runtime http://HOST:8000, and Python P2L.from_pretrained(folder, runtime="http://HOST:8000").
    """
    with contextlib.suppress(ImportError):  # loading reports what is not installed
        from transformers.utils import logging

        logging.disable_progress_bar()
    if runtime == "onnx":
        if output is not None:
            raise click.UsageError("--output is of --runtime vllm; an ONNX file is written beside the weights")
        _export_onnx(source, as_json=as_json, **options)
        return
    if given := [name for name, value in options.items() if value]:
        raise click.UsageError(f"--{given[0]} is of --runtime onnx")
    if output is None:
        raise click.UsageError("name a new folder: --output DIR")
    _export_vllm(source, output, as_json)


def _export_onnx(source: str, int8: bool, prompts: str | None, force: bool, as_json: bool) -> None:
    from pathlib import Path

    from p2l_sdk.cli.common import load_scorer, telling
    from p2l_sdk.errors import ModelFormatError
    from p2l_sdk.hub.folders import EMBEDDED
    from p2l_sdk.hub.onnx_files import ONNX_FILE
    from p2l_sdk.votes.prompts import read_prompts

    folder = Path(source).expanduser()
    if source in ("default", *EMBEDDED) and not folder.is_dir():
        raise ModelFormatError(f"{source!r} is an embedded model, which is static: it is as fast without an export")
    if not folder.is_dir():
        raise ModelFormatError(
            f"there is no folder {source!r}; a model of the Hub: hf download ORG/NAME --local-dir DIR"
        )
    asked = None if prompts is None else list(read_prompts(prompts))
    scorer = load_scorer(source)  # it says what is missing: torch, or the base of an adapter
    from p2l_sdk.scorers.onnx_export import export_onnx

    with telling(as_json) as progress:
        done = export_onnx(scorer, folder, int8=int8, force=force, prompts=asked, progress=progress)
    if as_json:
        print_json({"file": str(folder / ONNX_FILE), **vars(done)})
        return
    click.echo(
        f"wrote {folder / ONNX_FILE}: {done.precision}, {done.bytes / 1e6:.1f} MB\n"
        f"compared with torch on {done.prompts} prompts: the best LLM is the same for {done.equal_routes:.1%}, "
        f"coefficients differ by at most {done.largest_difference:.2g}\n"
        + (f"in 8 bits, but for {done.scored_again:.1%} of them, scored again in float32\n" if int8 else "")
        + f'try: p2l leaderboard "Write a haiku about the sea" --model {source} --runtime onnx'
    )


def _export_vllm(source: str, output: str, as_json: bool) -> None:
    from p2l_sdk.cli.common import load_scorer
    from p2l_sdk.errors import MissingExtraError
    from p2l_sdk.outputs.folders import require_new

    require_new(output)
    scorer = load_scorer(None if source == "default" else source)
    try:
        from p2l_sdk.scorers.vllm_export import export_vllm
    except ImportError as error:
        raise MissingExtraError("an export for vLLM", error.name or "torch", "torch") from None
    done = export_vllm(scorer, scorer.spec.costs, output)
    if as_json:
        print_json({"output": output, **vars(done)})
        return
    click.echo(
        f"wrote {output}: {done.architecture}, {done.n_outputs} outputs ({done.outputs}); read back, the coefficients "
        f"of four prompts differ by at most {done.difference:.1e}\n\n"
        f"vllm serve {output} --runner pooling --max-model-len {done.max_prompt_tokens}\n"
        f'p2l leaderboard "Write a haiku about the sea" --model {output} --runtime http://127.0.0.1:8000'
    )
