"""`train`, behind `p2l train`: from a file of votes to a model folder with its card.

Torch is imported inside functions, so that invalid data is refused at once.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2l_sdk import pictures
from p2l_sdk.cli.terminal import print_held_out, print_vote_summary
from p2l_sdk.errors import HubError, ModelFormatError, P2LError, VotesError
from p2l_sdk.evaluation import Report, evaluate
from p2l_sdk.hub.config import backbone_kind, is_native
from p2l_sdk.hub.folders import DEFAULT_MODEL, new_folder
from p2l_sdk.modeling.feedback_p2l import Feedback, Pointwise
from p2l_sdk.modeling.spec_p2l import STATIC_BACKBONE
from p2l_sdk.p2l import P2L
from p2l_sdk.routing.costs import load_costs
from p2l_sdk.scorers.load import load_scorer
from p2l_sdk.training.card import Card, base_name, data_hash
from p2l_sdk.training.checks import check_ground
from p2l_sdk.training.config import STATIC, STATIC_SETTINGS, WITHOUT_EFFECT, Method, TrainingConfig
from p2l_sdk.training.learning_curve import plot_learning_curve
from p2l_sdk.training.score_summary import ScoreSummary
from p2l_sdk.votes.summary import VoteSummary, summarise
from p2l_sdk.votes.votes import Scores, Votes, warn_if_shared


def train(config: TrainingConfig, *, resume: bool = False, quiet: bool = False) -> P2L | None:
    """Train a model, write it to `config.output` and load it.

    All data is read and checked before any model is loaded. The output folder appears when everything is done; until
    then the checkpoints of a text backbone are in `<output>.checkpoints`.

    Args:
        config: all settings.
        resume: continue from the last complete checkpoint of the same run.
        quiet: print nothing.

    Returns:
        The model, as loaded from its folder; None in all but the first of several processes.

    Raises:
        VotesError: votes or scores are invalid, or not enough for the feedback model.
        P2LError: a setting does not fit or has no effect, the output exists, or the run cannot be resumed.
        ModelFormatError: the base cannot be loaded.
    """
    main = os.environ.get("RANK", "0") == "0"
    quiet = quiet or not main
    _check_output(Path(config.output), main)
    notes = _notes(config)
    data = _read(config)
    costs = dict(load_costs(config.costs, data.models)) if config.costs else {}
    held_out = _HeldOut(config, data)
    feedback = _feedback(config.feedback)
    static = _static_base(config)
    _check_effect(config, feedback, static is not None, resume)
    summary = None
    if isinstance(data, Votes) and isinstance(feedback, Feedback):
        check_ground(data, feedback)
        summary = summarise(data, feedback)
        if not quiet:
            print_vote_summary(summary, config.votes)
    given = _Given(config, data, feedback, costs, held_out, summary, notes, data_hash(config.votes, data))
    if static is not None:
        return _train_static(given, static, quiet)
    return _fine_tune(given, resume, quiet)


@dataclass(frozen=True)
class _Given:
    """The inputs of a run, read and checked."""

    config: TrainingConfig
    data: Votes | Scores
    feedback: Feedback | Pointwise
    costs: dict[str, float]
    held_out: _HeldOut
    summary: VoteSummary | None
    notes: str
    data_hash: str

    def card(self, p2l: P2L, **fields: Any) -> Card:
        """The card of the trained model; this measures it on the held-out data."""
        return Card(
            config=self.config, spec=p2l.spec, data=self.data, data_hash=self.data_hash, summary=self.summary,
            reports=self.held_out.measure(p2l), notes=self.notes, **fields,
        )  # fmt: skip


def _fine_tune(given: _Given, resume: bool, quiet: bool) -> P2L | None:
    from p2l_sdk.training.callbacks import last_whole_checkpoint
    from p2l_sdk.training.finetune import checkpoint_folder, delete_checkpoints, fine_tune, save
    from p2l_sdk.training.task import Task

    config, data, feedback = given.config, given.data, given.feedback
    folder = checkpoint_folder(config)
    if isinstance(data, Scores):
        task = Task.of_scores(data, Pointwise(feedback), config.validation, config.seed)
        if not quiet:
            to_beat = f"loss {task.averaged_loss(task.train):.4f} ({feedback})"
            ScoreSummary.of(data).print(config.votes, to_beat)
    else:
        task = Task.of_votes(data, Feedback(feedback), config.validation, config.seed, config.label_smoothing)
    try:
        result = fine_tune(config, task, given.costs, resume=resume, quiet=quiet)
    except KeyboardInterrupt:
        if last_whole_checkpoint(folder) is None:
            raise
        raise KeyboardInterrupt(f"checkpoints are in {str(folder)!r}; go on with --resume") from None
    if not result.is_main:
        return None
    # an adapter records where others find its base (`base_name`); here the base is loaded from `config.base`
    base = config.base if config.trained is Method.LORA and config.base_name is not None else None
    with new_folder(Path(config.output)) as partial:
        save(result, partial, config)
        (partial / "training_history.json").write_text(json.dumps(result.history, indent=1), encoding="utf-8")
        axes = plot_learning_curve(result.history, result.baseline, unit=f"nats per {task.noun.rstrip('s')}")
        pictures.save(axes.figure, partial / "learning_curve.png")
        p2l = P2L(load_scorer(partial, result.device, base), folder=Path(config.output))
        card = given.card(
            p2l,
            method=f"{config.trained} on {base_name(config)}",
            settings=result.settings,
            seconds=result.seconds,
            baseline=result.baseline,
            history=result.history,
        )
        (partial / "README.md").write_text(card.finetuned(), encoding="utf-8")
    delete_checkpoints(folder)
    return _finished(p2l, config, card.reports, quiet)


def _train_static(given: _Given, base: Path, quiet: bool) -> P2L | None:
    config, data, feedback = given.config, given.data, given.feedback
    if isinstance(data, Scores):
        raise P2LError(f"feedback {feedback} trains text backbones; a static model takes pairwise feedback")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise P2LError("a static model trains in seconds in one process; start it without accelerate")
    from p2l_sdk.training.static import StaticRecipe, check_static, train_static, write_static
    from p2l_sdk.training.token_table import distil, table_of

    feedback = Feedback(feedback)
    recipe = StaticRecipe(feedback=feedback, seed=config.seed).for_prompts(len(data.prompts), config.epochs)
    check_static(data, feedback)
    if config.static_from is not None:
        name = config.base_name or Path(config.static_from).name
        table, origin = distil(config.static_from), f"Its token table was distilled from {name}."
    else:
        source = "the embedded default" if base == DEFAULT_MODEL else config.base
        table, origin = table_of(base), f"Its token table is that of {source}."
    with new_folder(Path(config.output)) as partial:
        model = train_static(data, table, recipe, given.costs, quiet=quiet)
        write_static(model, table.tokenizer, partial)
        p2l = P2L(load_scorer(partial), folder=Path(config.output))
        card = given.card(p2l, method="static", settings=vars(recipe))
        size = (partial / "model.safetensors").stat().st_size / 1e6
        (partial / "README.md").write_text(card.static(model, origin, size), encoding="utf-8")
    return _finished(p2l, config, card.reports, quiet)


def _finished(p2l: P2L, config: TrainingConfig, reports: dict[str, Report], quiet: bool) -> P2L:
    if not quiet:
        print_held_out(reports)
    if config.push_to_hub is not None:
        try:
            commit = p2l.push_to_hub(config.push_to_hub)
        except HubError as error:
            raise HubError(
                f"{error}. The model is trained and safe in {config.output!r}: p2l push {config.output} "
                f"{config.push_to_hub}"
            ) from error
        if not quiet:
            print(f"pushed model of {len(p2l.models)} LLMs: {commit.pr_url or commit}")
    return p2l


def _check_output(output: Path, main: bool) -> None:
    if main and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise P2LError(f"{str(output)!r} exists already; name a new or an empty folder")


def _check_effect(config: TrainingConfig, feedback: Feedback | Pointwise, static: bool, resume: bool) -> None:
    """Raise P2LError for settings that would have no effect."""
    changed = sorted(config.to_dict())
    local = Path(config.base).expanduser().exists()
    if static:
        idle = [name for name in changed if name not in STATIC_SETTINGS] + ["resume"] * resume
        cases = [(idle, "on a static model; name a text backbone with base (--base)")]
    else:
        idle = [name for name in changed if name in WITHOUT_EFFECT[config.trained]]
        smoothed = ["label_smoothing"] * (isinstance(feedback, Pointwise) and "label_smoothing" in changed)
        revised = ["base_revision"] * (local and config.base_revision is not None and config.base_name is None)
        cases = [
            (idle, f"where the method is {config.trained}; leave it out, or choose another method"),
            (smoothed, f"on the scores of feedback {feedback}; leave it out"),
            (revised, f"on {config.base!r}, a path of this machine; leave it out"),
        ]
    for names, where in cases:
        if names:
            raise P2LError(f"{', '.join(names)}: of no effect {where}")
    if not static and not local and None not in (config.base_name, config.base_revision):
        raise P2LError(
            f"base_revision cannot be that of {config.base!r} and of {config.base_name!r} at once; fetch the base into "
            "a folder and name that one as base, or leave out base_name"
        )


def _notes(config: TrainingConfig) -> str:
    """The text at the end of the card."""
    if config.notes is None:
        return ""
    try:
        return Path(config.notes).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise P2LError(f"notes {config.notes!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _feedback(name: str) -> Feedback | Pointwise:
    key = str(name).lower()
    if key in tuple(Pointwise):
        return Pointwise(key)
    try:
        return Feedback.parse(name)
    except ModelFormatError as error:
        raise P2LError(f"{error}, {', '.join(Pointwise)}") from None


def _read(config: TrainingConfig) -> Votes | Scores:
    if not isinstance(_feedback(config.feedback), Pointwise):
        return Votes.read(config.votes)
    try:
        return Scores.read(config.votes, allow_missing=True)
    except VotesError as error:
        raise VotesError(f"feedback {config.feedback} learns from scores of single answers: {error}") from None


def _static_base(config: TrainingConfig) -> Path | None:
    """The folder of the static model whose token table is used, None if the base is a text backbone."""
    if config.base == STATIC:
        return DEFAULT_MODEL
    if config.static_from is not None:
        raise P2LError("static_from goes with base 'static' alone")
    path, saved = Path(config.base).expanduser(), None
    with contextlib.suppress(OSError, ValueError):
        saved = json.loads((path / "config.json").read_text(encoding="utf-8"))
    if not isinstance(saved, dict) or not is_native(saved):
        return None
    if (kind := backbone_kind(saved)) != STATIC_BACKBONE:
        raise ModelFormatError(
            f"the base {config.base!r} is a P2L model already; name the {kind} model that it was trained from"
        )
    return path


class _HeldOut:
    """Held-out data, read and checked before training and measured after it."""

    def __init__(self, config: TrainingConfig, data: Votes | Scores) -> None:
        self._train = data if isinstance(data, Votes) else None
        self._parts: list[tuple[str, Votes | Scores]] = []
        files = {"votes": config.eval_votes, "scores": config.eval_scores}
        given = {kind: str(file) for kind, file in files.items() if file is not None}
        namesakes = len({Path(file).name for file in given.values()}) < len(set(given.values()))
        for kind, file in given.items():
            held_out = (Votes if kind == "votes" else Scores).read(file, data.models)
            name = f"{Path(file).name}, {kind}" if namesakes else Path(file).name
            shared = warn_if_shared(data, held_out, name)
            n = f"{shared:,} of its {len(held_out.prompts):,} prompts are in the training data"
            self._parts.append((f"{name} ({n}; {data_hash(file, held_out)})", held_out))

    def measure(self, p2l: P2L) -> dict[str, Report]:
        """Reports by description of the data (file name, number of prompts shared with the training data, hash); votes
        and scores of the same file share a report."""
        reports: dict[str, Report] = {}
        for name, held_out in self._parts:
            if isinstance(held_out, Votes):
                report = evaluate(p2l, held_out, baseline_votes=self._train)
            else:
                report = evaluate(p2l, scores=held_out)
            reports.setdefault(name, report).metrics |= report.metrics
        return reports
