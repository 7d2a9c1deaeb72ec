"""Jobs, the queue they wait in, and the scoring of a batch of them on a worker thread."""

from __future__ import annotations

import asyncio
import itertools
import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from p2l_sdk.errors import P2LError, PromptError
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.p2l import P2L
from p2l_sdk.serve.engine.rows import to_rows
from p2l_sdk.serve.errors import ScoringFailed

_log = logging.getLogger("p2l_sdk.serve")
_MAX_CHARACTERS = 65_536  # of a batch including padding: about the 16,384 tokens that a scorer reads in one pass

Outcome = np.ndarray | P2LError


@dataclass(eq=False, slots=True)
class Job:
    """Prompts of one caller that are scored together.

    Attributes:
        prompts: the prompts.
        length: of the longest prompt, in characters.
        future: the rows of the prompts, see `to_rows`, or the error.
        arrived: time of arrival, by `perf_counter`.
    """

    prompts: Sequence[Prompt]
    length: int
    future: asyncio.Future[np.ndarray]
    arrived: float = field(default_factory=perf_counter)

    def resolve(self, outcome: Outcome) -> None:
        """Hand the outcome to the caller, unless the future is already done (the caller gave up)."""
        if self.future.done():
            return
        if isinstance(outcome, P2LError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class JobQueue:
    """Jobs in order of arrival.

    Args:
        max_batch: prompts in one batch.

    Attributes:
        prompts: number of prompts waiting.
    """

    def __init__(self, max_batch: int) -> None:
        self.prompts, self._max_batch = 0, max_batch
        self._jobs: dict[Job, None] = {}

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def put(self, job: Job) -> None:
        """Append a job."""
        self._jobs[job] = None
        self.prompts += len(job.prompts)

    def forget(self, job: Job) -> None:
        """Remove a job, if it is still in the queue."""
        if job in self._jobs:
            del self._jobs[job]
            self.prompts -= len(job.prompts)

    def take(self, max_characters: int = _MAX_CHARACTERS) -> list[Job]:
        """Remove and return the next batch: the oldest job, and those closest to it in length that fit."""
        near = itertools.islice(self._jobs, 4 * self._max_batch)
        oldest = next(near)
        batch, n, longest = [oldest], len(oldest.prompts), oldest.length
        for job in sorted(near, key=lambda job: abs(job.length - oldest.length)):
            total, padded = n + len(job.prompts), max(longest, job.length)
            if total <= self._max_batch and total * padded <= max_characters:
                batch.append(job)
                n, longest = total, padded
        for job in batch:
            self.forget(job)
        return batch

    def fail_all(self, error: type[P2LError]) -> None:
        """Fail all waiting jobs with this error."""
        for job in list(self._jobs):
            self.forget(job)
            job.resolve(error())


def score(p2l: P2L, batch: Sequence[Job]) -> list[Outcome]:
    """The rows of each job, or its error."""
    try:
        rows = to_rows(p2l.coefficients([prompt for job in batch for prompt in job.prompts]))
        if not np.isfinite(rows).all():
            raise FloatingPointError("coefficients are not finite")
    except PromptError as error:
        if len(batch) == 1:
            return [error]
        return [score(p2l, [job])[0] for job in batch]  # a bad prompt must fail its own caller only
    except Exception as error:  # whatever the model raises fails this batch and nothing else
        return failed(batch, error)
    ends = itertools.accumulate(len(job.prompts) for job in batch)
    return [rows[end - len(job.prompts) : end] for job, end in zip(batch, ends, strict=True)]


def failed(batch: Sequence[Job], error: BaseException | None) -> list[Outcome]:
    """Log the type and place of an error and return a `ScoringFailed` for each job. The error's text is not logged, as
    it may contain a prompt. `None` means that the worker was cancelled."""
    kind = "cancelled" if error is None else type(error).__name__
    frames = traceback.extract_tb(None if error is None else error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    _log.error("the model failed on %d prompts: %s%s", sum(len(job.prompts) for job in batch), kind, place)
    return [ScoringFailed(f"the model failed ({kind}); the server's log says where") for _ in batch]
