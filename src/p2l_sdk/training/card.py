"""The model card, written from the run: data, settings, versions and metrics with intervals."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from p2l_sdk import __version__
from p2l_sdk.editing.refined import Refined
from p2l_sdk.evaluation import Estimate, Report
from p2l_sdk.hub.cards import adapter_section, as_yaml, hub_id, model_index
from p2l_sdk.hub.markdown import Markdown, block, bullets, code, literal, render, row, text
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.tables.sources import hub_repository
from p2l_sdk.training.config import TrainingConfig
from p2l_sdk.training.verdict import Verdict
from p2l_sdk.votes.summary import VoteSummary
from p2l_sdk.votes.votes import Scores, Votes

if TYPE_CHECKING:
    from p2l_sdk.modeling.modeling_p2l import P2LModel

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "numpy")


def _versions() -> str:
    """The packages that made the model; p2l-sdk may run from its sources, without having been installed."""
    return ", ".join([f"p2l-sdk {__version__}", *(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)])


@dataclass(frozen=True)
class Card:
    """The contents of a model card.

    Attributes:
        config: the settings of the run.
        spec: of the model.
        data: the training data.
        summary: of the votes; None for scores.
        method: what was trained, on which base.
        settings: the settings used, defaults resolved.
        reports: name of the held-out data -> report of `evaluation.evaluate`; for votes, compared with the averaged
            leaderboard of the training votes.
        data_hash: see the function `data_hash`; empty for none.
        notes: Markdown for the end of the card.
        verdict: the model beside the averaged leaderboard on votes that it was not fitted to, if there were any.
        seconds, baseline, history: of fine-tuning: duration, validation loss of the averaged leaderboard, logs.
    """

    config: TrainingConfig
    spec: ModelSpec
    data: Votes | Scores
    summary: VoteSummary | None
    method: str
    settings: dict[str, Any]
    reports: dict[str, Report]
    data_hash: str = ""
    notes: str = ""
    verdict: Verdict | None = None
    seconds: float = 0.0
    baseline: float | None = None
    history: list[dict[str, float]] | None = None

    def static(self, model: P2LModel, table_source: str, size_mb: float, choice: tuple[str, ...] = ()) -> str:
        """The card of a static model; `choice` says what cross-validation chose and measured, line by line."""
        vocab, width = model.backbone.table.shape
        return self._render(
            "static_model.md",
            size=f"{size_mb:.1f}",
            vocab=f"{vocab:,}",
            width=width,
            hidden=model.spec.head_hidden_size,
            words=_told_by_words(model.backbone.config.word_features, self.config.by),
            table_source=table_source,
            recipe=_words(self.settings),
            choice=Markdown(f"{bullets(choice)}\n" if choice else ""),
        )

    def refined(self, refined: Refined) -> str:
        """The card of a model that the votes refined."""
        choice, losses = refined.choice, refined.held_out_loss
        return self._render(
            "refined_model.md",
            base=code(base_name(self.config)),
            refined=refined.source,
            added=Markdown(f" New to it: {text(', '.join(refined.added))}.") if refined.added else "",
            n_refined=len(refined.models),
            level_scale=f"{choice.level_scale:g}",
            kinds_scale=f"{choice.kinds_scale:g}",
            level=f"{choice.level:g}",
            kinds=f"{choice.kinds:g}",
            kind_names=", ".join(self.spec.kinds),
            **{f"loss_{name}": f"{loss:.4f}" for name, loss in losses.items()},
        )

    def finetuned(self) -> str:
        """The card of a fine-tuned text backbone."""
        adapter = self.config.trained == "lora"
        base = base_name(self.config)
        return self._render(
            "finetuned_model.md",
            metadata=self._metadata({"base_model": hub_id(base)} if "/" in base else {}),
            tags=Markdown("- peft\n- lora\n" if adapter else ""),
            method=self.method,
            kind=adapter_section(base, self._source()) if adapter else "All weights are in this folder.",
            config=block(yaml.safe_dump(_portable(self.config), sort_keys=False), "yaml"),
            recipe=_words(self.settings),
            reading=_reading(self.spec),
            minutes=f"{self.seconds / 60:.0f}",
            machine=_machine(),
            curve=self._curve(),
            verdict=self._verdict(),
        )

    def _render(self, template: str, **fields: Any) -> str:
        config = self.config
        return render(
            template,
            title=config.title or f"{Path(config.output).name}: a P2L model",
            feedback=self.spec.feedback,
            n_models=len(self.spec.models),
            models=bullets(self.spec.models),
            source=literal(self._source()),
            data=self._data(),
            versions=_versions(),
            costs=Markdown(config.cost_note),
            evaluation=Markdown("\n\n".join(_table(*named) for named in self.reports.items()) or "Not evaluated."),
            notes=Markdown(self.notes),
            **{"metadata": self._metadata(), **fields},
        )

    def _source(self) -> str:
        """The name to load the model by: Hub repository or folder."""
        return self.config.push_to_hub or Path(self.config.output).name

    def _metadata(self, more: dict[str, Any] | None = None) -> Markdown:
        """Licence, data set and results in the format of the Hub's metadata, and `more`."""
        results: dict[str, dict[str, float]] = {}
        for name, report in self.reports.items():
            values = {m: e.value for m, e in report.metrics.items() if isinstance(e, Estimate)}
            results.setdefault(name.rpartition(" (")[0] or name, {}).update(values)
        dataset = hub_repository(self.config.votes)
        data: dict[str, Any] = {"license": self.config.license} if self.config.license else {}
        data |= {"datasets": [dataset]} if dataset else {}
        data |= {"model-index": model_index(Path(self.config.output).name, results)} if results else {}
        data |= more or {}
        return Markdown(as_yaml(data) if data else "")

    def _data(self) -> Markdown:
        path = Path(self.config.votes).expanduser()
        name = path.name if path.is_absolute() or path.exists() else self.config.votes
        digest = f", {self.data_hash}" if self.data_hash else ""
        n = f"{len(self.data.prompts):,} prompts ({code(name)}{digest})"
        if isinstance(self.data, Scores):
            return Markdown(f"Scores of {len(self.data.models)} LLMs on {n}.{text(self._findings())}")
        found = f"{len(self.data):,} votes on {n}.{text(self._findings())}"
        if self.summary is not None:
            shares = ", ".join(f"{label} {share:.1%}" for label, share in self.summary.outcomes.items())
            found += f" Outcomes: {shares}."
            if self.summary.why_feedback:
                why = self.summary.why_feedback
                found += f" The feedback model `{self.spec.feedback}` was chosen from these votes: {text(why)}."
            if self.summary.undetermined:
                found += f" Of these votes, {text(self.summary.undetermined)}."
        return Markdown(found)

    def _findings(self) -> str:
        """What was done when the data were read, in sentences that begin with a blank."""
        found, said = self.data.findings, ""
        if found.skipped is not None:
            said += f" {found.skipped.n:,} of {found.skipped.n_rows:,} rows were left out: {found.skipped.why}."
        if found.renamed:
            said += f" Renamed: {', '.join(f'{old} to {new}' for old, new in found.renamed.items())}."
        if found.near:
            said += f" Names that are nearly the same count as different LLMs: {'; '.join(map(str, found.near))}."
        return said

    def _curve(self) -> str:
        losses = [entry["eval_loss"] for entry in self.history or [] if "eval_loss" in entry]
        if not losses or self.baseline is None:
            average = f"the moving average of the weights (decay {self.config.average:g}) at"
            kept = average if self.config.average else "that of"
            return f"No prompts were held out for validation; the model is {kept} the last step."
        return (
            f"Of the prompts, {self.config.held_out:.0%} were held out for validation. Lowest validation loss "
            f"{min(losses):.4f} (kept), averaged leaderboard {self.baseline:.4f}."
        )

    def _verdict(self) -> str:
        """The verdict in a paragraph; empty without one."""
        if (found := self.verdict) is None:
            return ""
        sentence = found.sentence[0].upper() + found.sentence[1:]
        kept = f" It keeps {found.keep:.0%} of its departure from it." if found.keep not in (0.0, 1.0) else ""
        return f"{sentence}.{kept} Loss: {found.figures} ({found.measured}, n = {found.n_prompts:,} prompts)."


def fingerprint(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_hash(source: str, data: Votes | Scores) -> str:
    """A fingerprint of the data for the card, in words: the sha256 of the file or, for a data set or a folder, of the
    rows that were read."""
    path = Path(source).expanduser()
    if path.is_file():
        return f"sha256 `{fingerprint(path)}`"
    sha = hashlib.sha256(repr(data.models).encode())
    for prompt in data.prompts:
        sha.update(repr(prompt).encode("utf-8", "surrogatepass"))
    columns = [data.scores] if isinstance(data, Scores) else [data.prompt, data.a, data.b, data.winner, data.weight]
    for column in columns:
        sha.update(np.asarray(column, dtype=np.float64).tobytes())
    return f"sha256 of its rows `{sha.hexdigest()}`"


def _told_by_words(number: int, column: str | None) -> Markdown:
    """What the word features of a static model are, in a sentence that begins with a blank; empty without any."""
    if not number:
        return Markdown("")
    return Markdown(
        f" Beside that mean, a prompt's vector has an entry for each of {number:,} categories (those of the column "
        f"{code(column)}, or the largest of them): what the words that occur say of it. New prompts need no category."
    )


def _reading(spec: ModelSpec) -> Markdown:
    """How the model reads a prompt, in words."""
    chat = "the chat template over the user turns" if spec.chat else "the user turns without a chat template"
    cls = "no CLS token" if spec.cls_token is None else f"CLS token {code(spec.cls_token)}"
    return Markdown(f"{chat}, the last {spec.max_prompt_tokens:,} tokens at most, {cls}, pooling {spec.pooling}")


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {str(v) if isinstance(v, StrEnum) else v}" for name, v in settings.items())


def base_name(config: TrainingConfig) -> str:
    """The name of the base in the card: `base_name` if given, a Hub id unchanged, a local path by its last part."""
    if config.base_name is not None:
        return config.base_name
    path = Path(config.base).expanduser()
    return path.name if path.is_absolute() or path.exists() else config.base


def _portable(config: TrainingConfig) -> dict[str, Any]:
    """The settings without absolute paths of this machine."""
    values = config.to_dict() | {"base": base_name(config)}
    values.pop("base_name", None)
    if config.teachers:
        values["teacher"] = ",".join(Path(name).name if Path(name).is_absolute() else name for name in config.teachers)
    paths = ("votes", "output", "eval_votes", "eval_scores", "costs", "notes")
    return {k: Path(v).name if k in paths and Path(str(v)).is_absolute() else v for k, v in values.items()}


def _machine() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} CPU threads ({platform.machine()})"


def _table(name: str, report: Report) -> Markdown:
    """A Markdown table of the metrics with intervals, compared with the averaged leaderboard if there is a baseline."""
    averaged = report.baseline.metrics if report.baseline else {}
    difference = report.baseline.difference if report.baseline else {}
    rows = []
    for metric, estimate in report.metrics.items():
        if not isinstance(estimate, Estimate):
            rows.append(row(metric, estimate, "", "", "", ""))
            continue
        less = difference.get(metric)
        cells = [
            f"{estimate.value:.4f}",
            _interval(estimate),
            f"{averaged[metric].value:.4f}" if metric in averaged else "",
            "" if less is None else _difference(less),
            f"{estimate.n:,}",
        ]
        rows.append(row(metric, *cells))
    data, bracket, told = name.rpartition(" (")  # the rest is ours, and Markdown
    named = Markdown(text(data) + bracket + told) if data else name
    return Markdown(render("evaluation_table.md", name=named, rows=Markdown("\n".join(rows))).rstrip())


def _difference(less: Estimate) -> str:
    return f"{less.value:+.4f}" + ("" if less.standard_error is None else f" ({less.standard_error:.4f})")


def _interval(estimate: Estimate) -> str:
    if estimate.standard_error is None:
        return ""
    margin = 1.96 * estimate.standard_error
    return f"{estimate.value - margin:.4f} to {estimate.value + margin:.4f}"
