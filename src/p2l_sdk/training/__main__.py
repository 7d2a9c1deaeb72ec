"""`python -m p2l_sdk.training`: a static P2L model from a votes file, with its card."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from p2l_sdk.cli import run
from p2l_sdk.errors import CostError
from p2l_sdk.evaluation import evaluate_scores, evaluate_votes
from p2l_sdk.facade import P2L
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.router import checked_costs
from p2l_sdk.storage import DEFAULT_MODEL, new_folder
from p2l_sdk.terminal import print_evaluation
from p2l_sdk.training.card import static_card
from p2l_sdk.training.static import StaticRecipe, train_static, write_static
from p2l_sdk.training.token_table import distil, table_of
from p2l_sdk.votes import Scores, Votes

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@click.option("--votes", required=True, type=_FILE, help="Votes to train on: .jsonl, .csv or .parquet.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The new folder.")
@click.option("--encoder", help="Sentence encoder to distil the token table from: folder or Hub id.")
@click.option(
    "--base", type=click.Path(path_type=Path), help="Static model to take the token table from. [the default]"
)
@click.option("--encoder-name", help="What the card calls the encoder. [the folder's name]")
@click.option("--costs", type=_FILE, help='JSON: {"LLM": USD per response}.')
@click.option("--cost-note", default="", help="What the costs mean, for the card.")
@click.option("--eval-votes", type=_FILE, help="Held-out votes, measured once, after training.")
@click.option("--eval-scores", type=_FILE, help="Held-out scores, likewise.")
@click.option("--title", default="A static P2L model", show_default=True, help="Title of the card.")
@click.option("--license", help="Licence of the model, for the card's metadata, e.g. apache-2.0.")
@click.option("--notes", type=_FILE, help="Markdown put at the end of the card.")
@click.option("--no-code", is_flag=True, help="Leave the remote code out (the embedded default has it in the package).")
@click.option("--feedback", default="grk", show_default=True, help="Feedback model.")
@click.option(
    "--steps", type=click.IntRange(min=1), default=StaticRecipe.steps, show_default=True, help="Of 128 prompts each."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of weights, dropout and order.")
def main(votes: Path, output: Path, encoder: str | None, base: Path | None, costs: Path | None, **options: Any) -> None:
    """Train a static P2L model from votes and write it, with its card, to a new folder."""
    recipe = StaticRecipe(
        feedback=Feedback.parse(options["feedback"]), steps=options["steps"], seed=options["seed"]
    )  # fmt: skip
    train = Votes.read(votes)
    prices = _costs(costs, train.models) if costs else {}
    measure = _Evaluation(train, options["eval_votes"], options["eval_scores"])  # bad files are refused before training
    if encoder is not None:
        name = options["encoder_name"] or Path(encoder).name
        table, origin = distil(encoder), f"Its token table was distilled from {name}."
    else:
        table, origin = table_of(base or DEFAULT_MODEL), f"Its token table is that of {base or 'the embedded default'}."
    with new_folder(output) as partial:
        model = train_static(train, table, recipe, prices)
        write_static(model, table.tokenizer, partial)
        if options["no_code"]:
            for file in partial.glob("*.py"):
                file.unlink()
        metrics = measure(P2L.from_pretrained(partial))
        card = static_card(
            model,
            train,
            votes,
            recipe,
            title=options["title"],
            table_source=origin,
            size_mb=(partial / "model.safetensors").stat().st_size / 1e6,
            cost_note=options["cost_note"],
            metrics=metrics,
            notes=options["notes"].read_text(encoding="utf-8") if options["notes"] else "",
            source="" if options["no_code"] else f'"{output.name}"',
            license_id=options["license"],
        )
        (partial / "README.md").write_text(card, encoding="utf-8")
    click.echo(f"wrote {output}")
    for name, values in metrics.items():
        print_evaluation(f"{output} ({recipe.feedback}) on {name}", values)


def _costs(path: Path, models: tuple[str, ...]) -> dict[str, float]:
    try:
        costs = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CostError(f"{str(path)!r} is no JSON: {error}") from None
    return checked_costs(costs, models)


class _Evaluation:
    """Held-out files, read before the training and measured after it."""

    def __init__(self, train: Votes, votes: Path | None, scores: Path | None) -> None:
        self._known = {json.dumps(prompt) for prompt in train.prompts}
        self._votes = (votes.name, Votes.read(votes, train.models)) if votes else None
        self._scores = (scores.name, Scores.read(scores, train.models)) if scores else None

    def __call__(self, p2l: P2L) -> dict[str, dict[str, Any]]:
        """File and how many of its prompts were trained on -> metrics."""
        metrics: dict[str, dict[str, Any]] = {}
        if self._votes:
            metrics[self._title(*self._votes)] = dict(evaluate_votes(p2l, self._votes[1]))
        if self._scores:
            metrics[self._title(*self._scores)] = evaluate_scores(p2l, self._scores[1])
        return metrics

    def _title(self, name: str, data: Votes | Scores) -> str:
        shared = sum(json.dumps(prompt) in self._known for prompt in data.prompts)
        return f"{name} ({shared:,} of its {len(data.prompts):,} prompts are in the training votes)"


if __name__ == "__main__":
    sys.exit(run(lambda: main(prog_name="p2l_sdk.training", standalone_mode=False)))
