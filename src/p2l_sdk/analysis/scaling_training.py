"""Trains the models of a scaling study."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2l_sdk.analysis.scaling_points import Cell, Point, draw
from p2l_sdk.errors import P2LError, P2LWarning, VotesError
from p2l_sdk.modeling.feedback_p2l import Feedback, vote_targets
from p2l_sdk.votes.votes import Votes

if TYPE_CHECKING:
    from p2l_sdk.training.static_study import Part, StaticStudy

_WINNERS = ("model_a", "model_b", "tie", "tie (bothbad)")


@dataclass(frozen=True)
class Base:
    """What is trained.

    Attributes:
        name: "static", a static model's folder, or a text backbone.
        folder: of its token table; None for a text backbone.
        n_weights: of a text backbone; 0 for a static model.
    """

    name: str
    folder: Path | None
    n_weights: int

    @classmethod
    def of(cls, name: str) -> Base:
        """Find a base.

        Raises:
            P2LError: the base is refined with votes, not trained.
            ModelFormatError: the base cannot be loaded.
        """
        from p2l_sdk.training import TrainingConfig
        from p2l_sdk.training.plan import Plan

        plan = Plan.of(TrainingConfig(votes="-", output="-", base=name), resume=False)
        if plan.refined is not None:
            raise P2LError(
                f"base {name!r} is refined with votes, not trained; name static, a static model's folder or a text "
                "backbone"
            )
        if plan.static_base is not None:
            return cls(name, plan.static_base, 0)
        from p2l_sdk.scorers.backbone import BaseModel

        return cls(name, None, sum(weight.numel() for weight in BaseModel(name).load().parameters()))


class Trainings:
    """Trains a cell after the other; cells on the same votes share what is computed of these.

    Args:
        votes, held_out: on the same LLMs.
        feedback: the feedback model.
        epochs: passes over the prompts; None for the base's own choice.
        keep: share of the departure from the averaged leaderboard that is kept.
        bases: what is trained.
    """

    def __init__(
        self,
        votes: Votes,
        held_out: Votes,
        feedback: Feedback,
        *,
        epochs: float | None,
        keep: float,
        bases: Sequence[Base],
    ) -> None:
        self._votes, self._held_out, self._feedback = votes, held_out, feedback
        self._epochs, self._keep, self._bases = epochs, keep, {base.name: base for base in bases}
        self._studies: dict[str, StaticStudy] = {}
        self._last: tuple[Any, Part] | None = None

    def point(self, cell: Cell) -> Point:
        """Train and measure.

        Raises:
            VotesError: the votes drawn are too few for the feedback model.
        """
        try:
            if self._bases[cell.base].folder is None:
                return self._text(cell)
            return self._static(cell)
        except VotesError as error:
            raise VotesError(f"{cell.n_prompts:,} prompts drawn with seed {cell.seed}: {error}") from None

    def _static(self, cell: Cell) -> Point:
        from p2l_sdk.training.static_study import StaticStudy
        from p2l_sdk.training.token_table import table_of

        folder = self._bases[cell.base].folder
        assert folder is not None
        assert cell.width is not None
        if cell.base not in self._studies:
            table = table_of(folder)
            self._studies[cell.base] = StaticStudy(self._votes, self._held_out, table, self._feedback)
        drawn = (cell.base, cell.n_prompts, cell.per_prompt, cell.seed)
        if self._last is None or self._last[0] != drawn:
            self._last = drawn, self._studies[cell.base].part(*draw(self._votes, *drawn[1:]))
        part = self._last[1]
        loss = part.loss(cell.width, epochs=self._epochs, keep=self._keep, seed=cell.seed)
        return Point(
            **vars(cell),
            n_votes=part.n_votes,
            parameters=part.n_parameters(cell.width),
            loss=loss,
            averaged_loss=part.averaged_loss,
        )

    def _text(self, cell: Cell) -> Point:
        from p2l_sdk.evaluation.metrics.pairs import pair_metrics
        from p2l_sdk.evaluation.predictions import Predictions
        from p2l_sdk.training import TrainingConfig, train
        from p2l_sdk.votes.averaged import fit_leaderboard

        votes, _ = draw(self._votes, cell.n_prompts, cell.per_prompt, cell.seed)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", P2LWarning)  # what few votes leave open
            board = fit_leaderboard(votes, self._feedback, intervals=None)
            p2l = train(
                TrainingConfig(
                    votes=str(_write(votes, Path(folder) / "votes.jsonl")),
                    output=str(Path(folder) / "model"),
                    base=cell.base,
                    feedback=str(self._feedback),
                    validation=0.0,
                    epochs=self._epochs,
                    keep=self._keep,
                    seed=cell.seed,
                )
            )
            assert p2l is not None  # there is one process
            if p2l.models != votes.models:
                missing = next(name for name in votes.models if name not in p2l.models)
                raise VotesError(f"no vote is on {missing!r}; study larger sizes")
            found = [Predictions.of(p2l, self._held_out), Predictions.of_leaderboard(board, self._held_out)]
            loss, averaged = (pair_metrics(x.pairs)["cross_entropy"].value for x in found)
        counted = int((vote_targets(self._feedback).sum(1)[votes.winner] > 0).sum())
        return Point(
            **vars(cell),
            n_votes=counted,
            parameters=self._bases[cell.base].n_weights,
            loss=loss,
            averaged_loss=averaged,
        )


def _write(votes: Votes, file: Path) -> Path:
    columns = zip(votes.prompt, votes.a, votes.b, votes.winner, votes.weight, strict=True)
    with file.open("w", encoding="utf-8") as lines:
        for p, a, b, w, weight in columns:
            row = {"prompt": votes.prompts[p], "model_a": votes.models[a], "model_b": votes.models[b]}
            lines.write(json.dumps({**row, "winner": _WINNERS[w], "weight": float(weight)}) + "\n")
    return file
