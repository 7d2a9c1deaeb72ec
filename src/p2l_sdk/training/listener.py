"""`Listener`: what a training run tells while it goes on. Training itself prints nothing.

`p2l_sdk.cli.training_progress.Terminal` is the one that `p2l train` uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from p2l_sdk.editing.refined import Refined
from p2l_sdk.evaluation import Report
from p2l_sdk.training.categories import Categories
from p2l_sdk.training.choice import Choice
from p2l_sdk.training.score_summary import ScoreSummary
from p2l_sdk.training.verdict import Verdict
from p2l_sdk.votes.summary import VoteSummary

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far the optimizer has come in a text backbone.

    Attributes:
        done, total: number of steps.
        items: votes or scores per step, on average.
        noun: "votes" or "scores".
        loss: the latest training loss in nats; None before the first.
    """

    done: int
    total: int
    items: float
    noun: str
    loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Validation:
    """A measurement on the prompts that were held out for validation.

    Attributes:
        epoch: passes over the training prompts so far.
        loss: mean loss in nats.
        bt_log_loss: log-loss of the decisive votes in nats; None if there are none.
    """

    epoch: float
    loss: float
    bt_log_loss: float | None = None


class Listener:
    """Is told what happens in a run. Every method does nothing here; override those of interest.

    Of several processes, only the first tells.
    """

    def data_read(self, name: str, summary: VoteSummary | ScoreSummary) -> None:
        """The data to train on, called `name`, were read and checked."""

    def categories_read(self, categories: Categories) -> None:
        """The categories of the prompts, which teach or are recognised, were read."""

    def too_few_prompts(self) -> None:
        """There were too few prompts to leave some out: the model returns the averaged leaderboard for all."""

    def nothing_to_resume(self, folder: Path) -> None:
        """A run was to be resumed, but the folder holds no checkpoints; a new run begins."""

    def progress(self, doing: str, done: int, total: int) -> None:
        """So much of a part of the work is done; first told with 0, last with `done == total`."""

    def validation_baseline(self, loss: float) -> None:
        """The loss of the averaged leaderboard on the validation prompts, which the model has to beat."""

    def step(self, step: Step) -> None:
        """A step was taken, or its loss became known; first told before the first step."""

    def validated(self, validation: Validation) -> None:
        """The model was measured on the validation prompts."""

    def trained(self, kept: Validation | None) -> None:
        """No more steps follow; `kept` belongs to the checkpoint that is kept, None without validation prompts."""

    def calibrated(self, keep: float) -> None:
        """This share of the departure from the averaged leaderboard is kept."""

    def cross_validated(self, choice: Choice) -> None:
        """Cross-validation chose how long a static model is trained and how much it keeps."""

    def verdict(self, verdict: Verdict) -> None:
        """The model is trained, and so it compares with the averaged leaderboard on votes that it was not fitted to."""

    def refined(self, refined: Refined) -> None:
        """The votes refined a model; so much was learned."""

    def measured(self, reports: Mapping[str, Report]) -> None:
        """The model is written, and measured on each file of held-out data."""

    def pushed(self, n_models: int, address: str) -> None:
        """The model of so many LLMs was pushed to the Hub, in the commit or pull request at this address."""

    def close(self) -> None:
        """The run is over, finished or not; always told last."""


def tracked(items: Sequence[Item], doing: str, listener: Listener) -> Iterator[Item]:
    """The items one after the other, while the listener is told how many are done."""
    for done, item in enumerate(items):
        listener.progress(doing, done, len(items))
        yield item
    listener.progress(doing, len(items), len(items))
