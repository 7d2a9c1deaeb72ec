"""Trainer callbacks: the order of each epoch, what the listener is told, trackers."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_reporting_integration_callbacks

from p2l_sdk.errors import P2LError
from p2l_sdk.training.data import LengthGroupedBatches
from p2l_sdk.training.listener import Listener, Step, Validation


class SetEpoch(TrainerCallback):
    """Tells the sampler which epoch begins, also when a run is resumed."""

    def __init__(self, order: LengthGroupedBatches) -> None:
        self._order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell the order its epoch."""
        self._order.set_epoch(state.global_step // self._order.steps)


class TellListener(TrainerCallback):
    """Tells a listener of steps, losses and validations.

    Args:
        listener: the listener.
        items: votes or scores per step, on average.
        noun: "votes" or "scores".
        steps_per_epoch: steps in one pass over the prompts.
    """

    def __init__(self, listener: Listener, *, items: float, noun: str, steps_per_epoch: int) -> None:
        self._listener, self._items, self._noun, self._steps_per_epoch = listener, items, noun, steps_per_epoch
        self._loss: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell where the run stands."""
        self._tell_step(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell that a step was taken."""
        self._tell_step(state)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Tell the losses in the log."""
        if not logs:
            return
        if "loss" in logs:
            self._loss = logs["loss"]
            self._tell_step(state)
        if "eval_loss" in logs:
            self._listener.validated(validation_of({**logs, "step": state.global_step}, self._steps_per_epoch))

    def _tell_step(self, state: Any) -> None:
        done, total = state.global_step, state.max_steps
        self._listener.step(Step(done=done, total=total, items=self._items, noun=self._noun, loss=self._loss))


def validation_of(log: dict[str, float], steps_per_epoch: int) -> Validation:
    """The validation in an entry of the Trainer's logs."""
    epoch = log["step"] / steps_per_epoch
    return Validation(epoch=epoch, loss=log["eval_loss"], bt_log_loss=log.get("eval_bt_log_loss"))


def check_trackers(report_to: str | None) -> None:
    """Raise P2LError for a tracker that the Trainer does not know, or whose package is not installed."""
    try:
        for tracker in get_reporting_integration_callbacks(report_to):
            tracker()
    except ValueError:
        known = ", ".join(INTEGRATION_TO_CALLBACK)
        raise P2LError(f"report_to is {report_to!r}, which is no tracker of the Trainer; known: {known}") from None
    except (ImportError, RuntimeError) as error:
        raise P2LError(
            f"report_to {report_to!r} needs a package that is not installed: pip install {report_to}"
        ) from error
