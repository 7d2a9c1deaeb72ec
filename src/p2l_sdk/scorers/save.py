"""Saving a model to a folder, as it is now: with its costs, and with the LLMs that were added, removed or renamed."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from p2l_sdk.errors import P2LError
from p2l_sdk.hub.cards import merged_card
from p2l_sdk.hub.config import is_lmarena, read_config
from p2l_sdk.hub.folders import CARDS, EditedHead, save_copy
from p2l_sdk.modeling.spec_p2l import ADAPTER_CONFIG
from p2l_sdk.scorers.scorer import SavableScorer, Scorer, editable


def save_model(
    scorer: Scorer, source: Path | None, target: str | Path, costs: Mapping[str, float], edits: tuple[str, ...]
) -> None:
    """Write a model to a new folder; see `P2L.save_pretrained`.

    Args:
        scorer: the model.
        source: the folder that it was loaded from.
        target: the new folder, written completely or not at all.
        costs: USD per response by LLM name.
        edits: descriptions of the edits since it was loaded.

    Raises:
        P2LError: it was not loaded from a folder, or the target exists and is not empty.
    """
    if source is None:
        raise P2LError("this P2L was not loaded from a folder, so there is nothing to copy")
    edited = _edited_head(scorer, edits)
    if is_lmarena(read_config(source)) and isinstance(scorer, SavableScorer):  # saved in the native layout
        save_copy(source, target, costs, edited, weights=scorer.save, patterns=CARDS)
    else:
        save_copy(source, target, costs, _with_feedback(edited, scorer, source))


def merge_model(
    scorer: Scorer, source: Path | None, target: str | Path, costs: Mapping[str, float], edits: tuple[str, ...]
) -> None:
    """Write an adapter merged into its base as a plain model; arguments as in `save_model`, see `P2L.merge`.

    Raises:
        P2LError: this is no adapter, or the target exists and is not empty.
    """
    adapter = source is not None and (source / ADAPTER_CONFIG).is_file()
    if source is None or not adapter or not isinstance(scorer, SavableScorer):
        raise P2LError("this model is no adapter, so there is nothing to merge; save_pretrained copies it")
    card = functools.partial(merged_card, name=Path(target).resolve().name)
    save_copy(source, target, costs, _edited_head(scorer, edits), weights=scorer.save_weights, card=card)


def _with_feedback(edited: EditedHead | None, scorer: Scorer, source: Path) -> EditedHead | None:
    """The edited head, with the feedback model and its eta if that is not the feedback model of the source."""
    feedback = scorer.spec.feedback
    if edited is None or read_config(source).get("feedback") == feedback:
        return edited
    eta = getattr(scorer, "eta", None) if feedback.has_eta else None
    return replace(edited, feedback=str(feedback), eta=eta)


def _edited_head(scorer: Scorer, edits: tuple[str, ...]) -> EditedHead | None:
    if not edits:
        return None
    head = editable(scorer)
    return EditedHead(head.spec.models, head.rows, head.variance, edits)
