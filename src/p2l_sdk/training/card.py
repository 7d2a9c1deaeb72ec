"""The model card, written from the run: data, settings, versions and metrics with their errors."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from p2l_sdk.evaluation import Estimate
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.votes import Votes

_PACKAGES = ("p2l-sdk", "torch", "transformers", "numpy")


def static_card(
    model: P2LModel,
    votes: Votes,
    votes_file: Path,
    recipe: Any,
    *,
    title: str,
    table_source: str,
    size_mb: float,
    cost_note: str,
    metrics: dict[str, dict[str, Any]],
    notes: str = "",
    source: str = '"this-folder-or-repo-id"',
    license_id: str | None = None,
) -> str:
    """The card of a static model.

    Args:
        recipe: the dataclass of settings.
        metrics: what it was measured on -> metrics (`evaluate_votes`, `evaluate_scores`).
        notes: Markdown put at the end.
        source: what the example passes to `from_pretrained`.
        license_id: for the metadata, as the Hub names licences.
    """
    template = Template(resources.files("p2l_sdk.hub_cards").joinpath("static_model.md").read_text(encoding="utf-8"))
    vocab, width = model.backbone.table.shape
    settings = dataclasses.asdict(recipe)
    return template.substitute(
        title=title,
        metadata=f"license: {license_id}\n" if license_id else "",
        feedback=model.spec.feedback,
        n_models=len(model.spec.models),
        models="\n".join(f"- {name}" for name in model.spec.models),
        source=source,
        size=f"{size_mb:.1f}",
        vocab=f"{vocab:,}",
        width=width,
        hidden=model.spec.head_hidden_size,
        table_source=table_source,
        n_votes=f"{len(votes):,}",
        n_prompts=f"{len(votes.prompts):,}",
        votes_name=votes_file.name,
        votes_hash=hashlib.sha256(votes_file.read_bytes()).hexdigest(),
        recipe=", ".join(f"{name} {value}" for name, value in settings.items()),
        versions=", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES),
        costs=cost_note,
        evaluation="\n\n".join(_table(name, values) for name, values in metrics.items()) or "Not evaluated.",
        notes=notes,
    )


def _table(name: str, metrics: dict[str, Any]) -> str:
    lines = [
        f"On {name}:",
        "",
        "| metric | value | standard error | n |",
        "|---|---|---|---|",
    ]
    for metric, estimate in metrics.items():
        if isinstance(estimate, Estimate):
            error = "" if estimate.standard_error is None else f"{estimate.standard_error:.4f}"
            lines.append(f"| {metric} | {estimate.value:.4f} | {error} | {estimate.n:,} |")
        else:
            lines.append(f"| {metric} | {estimate} | | |")
    return "\n".join(lines)
