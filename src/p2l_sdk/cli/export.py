"""`p2l export`: a model in the layout of another runtime."""

from __future__ import annotations

import contextlib

import click

from p2l_sdk.cli.common import BASE, JSON, REVISION, load_scorer, print_json


@click.command(short_help="Write a model for another runtime, such as vLLM.")
@click.argument("source")
@click.option("--runtime", type=click.Choice(["vllm"]), required=True, help="What will run it.")
@click.option("--output", metavar="DIR", required=True, help="The new folder.")
@BASE
@REVISION
@JSON
def export(source: str, runtime: str, output: str, as_json: bool) -> None:
    """Write SOURCE, a model (folder or Hub id), to the folder OUTPUT for another runtime.

    vllm: a sequence classifier, which `vllm serve` runs and P2L(VllmScorer(folder, address)) reads.
    """
    from p2l_sdk.outputs.folders import require_new

    with contextlib.suppress(ImportError):  # loading reports what is not installed
        from transformers.utils import logging

        logging.disable_progress_bar()
    require_new(output)
    _export_vllm(source, output, as_json)


def _export_vllm(source: str, output: str, as_json: bool) -> None:
    from p2l_sdk.errors import MissingExtraError

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
        f"vllm serve {output} --runner pooling --max-model-len {done.max_prompt_tokens}"
    )
