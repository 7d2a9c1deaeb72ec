"""`p2l train` and `p2l merge`: train a model on your own votes; merge an adapter into its base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from p2l_sdk.cli.common import BASE, READING, REVISION, load, reading, say

# section of the help -> (option, type, help); the options are settings of `TrainingConfig`
_SETTINGS: dict[str, list[tuple[str, Any, str]]] = {
    "Votes and measurement": [
        (
            "votes",
            str,
            "Votes to train on, or scores: .csv, .xlsx, .jsonl, ... (several: 'v-*.jsonl'), a folder, a Hub data set.",
        ),
        (
            "feedback",
            str,
            "bt, bt_tie, rk, rk_reparam, grk, ba; of single answers: bernoulli, gaussian.  [by the votes]",
        ),
        ("teacher", str, "P2L model to learn from, beside the votes; several by commas: their mean."),
        ("by", str, "Column of categories of prompts, to recognise or to be taught by; the model needs no labels."),
        ("teacher-weight", float, "Weight of what is taught, relative to the votes.  [3]"),
        ("eval-votes", str, "Held-out votes, measured once, after training."),
        ("eval-scores", str, "Held-out scores, likewise."),
        ("scores-outside", str, "Scores outside [0, 1]: clip, rescale or drop them.  [keep]"),
        ("llms", str, "Of scores: only these columns are LLMs, by commas.  [numeric ones]"),
        ("not-llms", str, "Of scores: these columns are no LLMs, by commas."),
        ("validation", float, "Share of the prompts held out, and measured on.  [0.1; a static model: none]"),
        ("costs", str, 'File of {"LLM": USD per response}, or genai-prices; stored with the model.'),
    ],
    "Recipe and base": [
        ("recipe", str, "best, fast or tiny: defaults for all that is not given, see below."),
        (
            "base",
            str,
            "Text backbone: Hub id, folder or .gguf file; a static model's folder; arena to refine.  [static]",
        ),
        ("base-revision", str, "Branch, tag or commit of the base on the Hub."),
        ("base-name", str, "Name of the base in adapter and card, if others find it elsewhere."),
        ("static-from", str, "With the static base: sentence encoder to distil token vectors from."),
        ("pooling", str, "last, first, mean or pooler.  [depends on the base]"),
        ("cls-token", str, "Token appended to the prompt, or none.  [depends on the base]"),
        ("chat", bool, "Apply the chat template.  [depends on the base]"),
        ("max-prompt-tokens", int, "Longest prompt; the last tokens are kept.  [1024]"),
    ],
    "What is trained": [
        ("lora", "lora", "Train a LoRA and the heads.  [default]"),
        ("full", "full", "Train every weight."),
        ("head-only", "head", "Train the heads only, on features computed once."),
        ("lora-rank", int, "Rank of the LoRA.  [16]"),
        ("lora-alpha", float, "Alpha (scale) of the LoRA.  [32]"),
        ("lora-dropout", float, "Dropout of the LoRA.  [0]"),
        ("head-hidden-size", int, "Width of a hidden layer in the head.  [none]"),
        ("head-dropout", float, "Dropout of the head.  [0]"),
    ],
    "Steps": [
        ("epochs", float, "Passes over the prompts.  [3; a static model: chosen by cross-validation]"),
        ("keep", float, "Share kept of the departure from the averaged leaderboard; 0: none.  [likewise; text: 1]"),
        ("copies", int, "Changed copies of each prompt to learn from too, so that answers stay put.  [none]"),
        ("batch-size", int, "Prompts per step, over all processes.  [16; --head-only 128]"),
        ("micro-batch-size", int, "Prompts per forward pass.  [the whole step]"),
        ("length-window", int, "Sort prompts by length within so many steps; 1: random batches.  [16]"),
        ("learning-rate", float, "Of the backbone.  [lora 4e-4, full 2e-5]"),
        ("head-learning-rate", float, "Of the heads.  [1e-3]"),
        ("warmup", float, "Share of the steps that warm up.  [0.05]"),
        ("weight-decay", float, "Of AdamW.  [0.01]"),
        ("max-grad-norm", float, "Gradient clipping.  [1]"),
        ("label-smoothing", float, "Label smoothing of the votes.  [0]"),
        ("average", float, "Decay of a moving average of the weights, which is kept; e.g. 0.98.  [0: none]"),
        ("seed", int, "Random seed.  [0]"),
        ("precision", str, "auto, bf16 or fp32.  [auto]"),
        ("gradient-checkpointing", bool, "Less memory, more time."),
    ],
    "Checkpoints": [
        ("checkpoints", int, "Number in the whole run; each measures the validation loss.  [10]"),
        ("patience", int, "Stop after so many checkpoints without a better validation loss."),
        ("calibrate", bool, "Calibrate confidence on the validation prompts."),
        ("report-to", str, "Trackers of the Trainer: tensorboard, trackio, ..."),
    ],
    "Output and card": [
        ("output", str, "The new folder."),
        ("push-to-hub", str, "Repository to push the finished model to."),
        ("title", str, "Title of the card."),
        ("license", str, "Licence, for the card."),
        ("cost-note", str, "What the costs refer to, for the card."),
        ("notes", str, "Markdown file appended to the card."),
    ],
}


def _with_settings(command: Any) -> Any:
    for name, kind, text in reversed([row for rows in _SETTINGS.values() for row in rows]):
        if kind is bool:
            option = click.option(f"--{name}/--no-{name}", default=None, help=text)
        elif isinstance(kind, str):  # a flag that sets `method` to this value
            option = click.option(f"--{name}", "method", flag_value=kind, help=text)
        else:
            option = click.option(f"--{name}", type=kind, help=text)
        command = option(command)
    return command


class _InSections(click.Command):
    """A command whose help shows the many options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {param.opts[0].removeprefix("--"): param.get_help_record(ctx) for param in self.get_params(ctx)}
        for section, rows in _SETTINGS.items():
            with formatter.section(section):
                formatter.write_dl([record for name, *_ in rows if (record := records.pop(name))])
        with formatter.section("Options"):
            formatter.write_dl([record for record in records.values() if record])


@click.command(cls=_InSections, short_help="Train a model on your own votes.")
@click.option("--config", "file", metavar="YAML", help="YAML file of settings; options given here take precedence.")
@_with_settings
@READING
@click.option("--resume", is_flag=True, help="Resume the same run from its last checkpoint.")
@click.option("--quiet", is_flag=True, help="Print only errors and warnings.")
def train(file: str | None, resume: bool, quiet: bool, **options: Any) -> None:
    """Train a model on your own votes and write it, with its card, to a new folder.

    \b
    A static model, in seconds:
      p2l train --votes votes.jsonl --output my-model
    A LoRA on a text backbone:
      p2l train --votes votes.jsonl --base HuggingFaceTB/SmolLM2-135M-Instruct --output my-adapter
    Own votes on top of public knowledge, in seconds:
      p2l train --votes votes.jsonl --base arena --output my-model
    By a recipe:
      p2l train --votes votes.jsonl --recipe fast --output my-model
    On several devices:
      accelerate launch -m p2l_sdk train --config run.yaml

    \b
    Recipes (what is given beside one wins):
      best  a LoRA on all-mpnet-base-v2, 109 M parameters: the longest
      fast  every weight of all-MiniLM-L6-v2, 22 M: less time
      tiny  the static model, as without a recipe: seconds
    """
    from p2l_sdk.training.config import TrainingConfig

    given = {name: value for name, value in options.items() if value is not None} | reading()
    if file is not None:
        config = TrainingConfig.from_yaml(file, **given)
    else:
        missing = [f"--{name}" for name in ("votes", "output") if name not in given]
        if missing:
            raise click.UsageError(f"{' and '.join(missing)} must be given, here or in --config YAML")
        config = TrainingConfig(**given)
    from p2l_sdk.cli.training_progress import Quiet, Terminal
    from p2l_sdk.training.run import train as run

    p2l = run(config, resume=resume, listener=Quiet() if quiet else Terminal())
    if p2l is not None and not quiet:
        say(f"wrote {config.output}; its card: {Path(config.output) / 'README.md'}")
        say(f'try: p2l leaderboard "Write a haiku about the sea" --model {config.output}')


@click.command(short_help="Write an adapter and its base as one plain model.")
@click.argument("adapter")
@click.argument("output")
@BASE
@REVISION
def merge(adapter: str, output: str) -> None:
    """Write ADAPTER (a folder, or a Hub id) and its base as one plain model, the folder OUTPUT."""
    from p2l_sdk.outputs.folders import require_new

    require_new(output)
    load(adapter).merge(output)
    say(f"wrote {output}")
