"""`p2l inspect`: what a model is, and what is odd about it, before it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2l_sdk.cli.common import JSON, print_json

if TYPE_CHECKING:
    from p2l_sdk.scorers.inspect import Inspection

_MOST_NAMES, _MOST_ODD = 8, 20


@click.command(short_help="What a model is and what is odd, without loading it.")
@click.argument("model", default="arena")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of a model on the Hub.")
@click.option(
    "--no-tryout",
    is_flag=True,
    help="Try out neither its tokenizer nor its exported graph.",
)
@JSON
def inspect(model: str, revision: str | None, no_tryout: bool, as_json: bool) -> None:
    """Tell what MODEL is: a folder, a Hub id (whose weights are not fetched), or an embedded model by its name.

    Nothing of it is loaded or run here; its tokenizer and chat template read trying texts, and its exported graph
    computes, in child processes with limits on time and memory. What is odd is listed below the facts; the exit status
    is 0 all the same.
    """
    from p2l_sdk.hub.folders import EMBEDDED
    from p2l_sdk.scorers.inspect import inspect_model

    found = inspect_model(model, revision)
    odd = list(found.odd)
    if not no_tryout and model not in EMBEDDED and Path(model).expanduser().is_dir():
        odd += _tried_out(Path(model).expanduser())
    if as_json:
        print_json({**found.to_dict(), "odd": odd})
    else:
        _print(found, odd)


def _tried_out(folder: Path) -> list[str]:
    from p2l_sdk.errors import P2LError
    from p2l_sdk.scorers.load import try_out_folder

    try:
        try_out_folder(folder, "onnx")
    except P2LError as error:
        return [str(error)]
    return []


def _print(found: Inspection, odd: list[str]) -> None:
    from rich.table import Table

    from p2l_sdk.cli.terminal import Console, Text

    console = Console()
    console.print(Text(found.place, style="bold"))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _facts(found):
        table.add_row(label, Text(value))
    console.print(table)
    if not odd:
        console.print(Text("Nothing is odd about it.", style="green"))
        return
    console.print(Text(f"Odd ({len(odd)}):", style="bold yellow"))
    for sentence in odd[:_MOST_ODD]:
        console.print(Text(f"  - {sentence}"))
    if len(odd) > _MOST_ODD:
        console.print(Text(f"  ... and {len(odd) - _MOST_ODD} more; --json lists them all", style="dim"))


def _facts(found: Inspection) -> list[tuple[str, str]]:
    spec = found.spec
    kind = {"native": "P2L model", "adapter": "adapter (LoRA)", "lmarena": "checkpoint in lmarena's layout"}
    own = [name for name, whose in found.code.items() if whose == "this version's"]
    names = ", ".join(found.models[:_MOST_NAMES])
    more = f", and {len(found.models) - _MOST_NAMES} more" if len(found.models) > _MOST_NAMES else ""
    facts = [
        ("kind", f"{kind[found.layout]} on {found.backbone or 'no backbone'}"),
        ("base", found.base),
        ("LLMs", f"{len(found.models)}: {names}{more}" if found.models else None),
        ("feedback", found.feedback),
        ("costs", None if spec is None else f"of {len(spec.costs)} of {len(spec.models)} LLMs"),
        ("kinds", ", ".join(spec.kinds) if spec is not None and spec.kinds else None),
        ("prompt", None if spec is None else f"its last {spec.max_prompt_tokens:,} tokens"),
        ("weights", "not here" if found.parameters is None else f"{found.parameters:,} numbers"),
        ("onnx", found.onnx),
        ("licence", found.licence or "none named"),
        ("files", f"{len(found.files)}, {_size(sum(found.files.values()))}"),
        ("code", f"{len(own)} of {len(found.code)} files are this version's" if found.code else "none"),
    ]
    return [(label, value) for label, value in facts if value is not None]


def _size(n: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            break
        n /= 1000
    return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
