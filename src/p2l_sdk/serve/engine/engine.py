"""One model, many callers: requests wait in a bounded queue, and worker threads score them in batches.

A single request starts at once. While the workers are busy, requests queue up and are then batched: the one that has
waited longest, and those closest to it in length, which keeps padding low and starves nobody. Right after a batch its
callers are likely to come back, so the next batch waits for them, half as long as the batch took and at most
`max_wait_ms`.

Everything except `batching.score` and the solve of an aggregate runs on the event loop, so there are no locks. Short
prompts are scored there too if the model takes less time for one than handing it to a thread would (`P2L.quick`).
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np

from p2l_sdk.errors import P2LError, PromptError
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.modeling.prompt_p2l import CheckedPrompt, Prompt
from p2l_sdk.p2l import P2L
from p2l_sdk.scorers.aggregate import aggregate_scored
from p2l_sdk.scorers.many import word_by_word
from p2l_sdk.serve.engine.batching import Job, JobQueue, Outcome, failed, score
from p2l_sdk.serve.engine.cache import CoefficientCache, key
from p2l_sdk.serve.engine.rows import from_rows
from p2l_sdk.serve.engine.threads import DaemonThreads
from p2l_sdk.serve.errors import Closing, QueueFull, ScoringFailed, ScoringTimeout
from p2l_sdk.serve.metrics import ServerMetrics

_PROBE = "Is this model well?"
_PROBE_SECONDS = 1.0
_SOLVES_WAITING = 8
_QUICK_CHARACTERS = 1024  # most that a quick model reads on the event loop; takes less than a millisecond


class Engine:
    """Scores prompts for many concurrent callers.

    Args:
        p2l: the model.
        workers: threads that score; more than one helps only if one does not keep the device busy.
        max_batch: maximum number of prompts in a batch.
        max_wait_ms: how long a batch may wait for callers to come back; an idle engine never waits.
        queue_size: prompts that may wait; further callers get `QueueFull`.
        cache_mb: memory for the coefficients of prompts seen before; 0 turns the cache off.
        timeout_s: seconds after which a caller gets `ScoringTimeout`.
        metrics: the counters to use; new ones by default.

    Raises:
        P2LError: a limit is out of range.
    """

    def __init__(
        self,
        p2l: P2L,
        *,
        workers: int = 1,
        max_batch: int = 64,
        max_wait_ms: float = 10.0,
        queue_size: int = 2048,
        cache_mb: float = 64.0,
        timeout_s: float = 30.0,
        metrics: ServerMetrics | None = None,
    ) -> None:
        limits = {"workers": workers, "max_batch": max_batch, "queue_size": queue_size, "timeout_s": timeout_s}
        for name, value in limits.items():
            if not value > 0:
                raise P2LError(f"{name} is {value!r}; it must be above 0")
        for name, value in {"max_wait_ms": max_wait_ms, "cache_mb": cache_mb}.items():
            if not value >= 0:
                raise P2LError(f"{name} is {value!r}; it must be 0 or more")
        self.p2l = p2l
        self.metrics = metrics or ServerMetrics()
        self.metrics.queue_depth(lambda: self._queue.prompts)
        self.timeout_s, self._queue_size = timeout_s, queue_size
        self._workers, self._max_batch, self._max_wait = workers, max_batch, max_wait_ms / 1000
        self._quick, self._variance = p2l.quick, p2l.variance
        self._scorer = P2L(word_by_word(p2l._scorer))  # scores alike, and a prompt of usual words in half the time
        self._cache = CoefficientCache(cache_mb)
        self._queue = JobQueue(max_batch)
        self._running: dict[int, float] = {}  # batch -> when it started
        self._numbers = itertools.count()
        self._finished, self._patience, self._expected, self._seconds_per_prompt = 0.0, 0.0, 1, 0.01
        self._solves = 0
        self._closing = self._woken = False
        self._failure: str | None = "it has not started"
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Start the workers and score one prompt, to see whether the model works."""
        self._loop = asyncio.get_running_loop()
        self._pool = DaemonThreads(self._workers, "p2l-engine")
        self._solver = DaemonThreads(1, "p2l-solver")
        await self._probe()

    async def close(self) -> None:
        """Accept no more requests, finish the accepted ones within `timeout_s` and end the workers. A worker that hangs
        is abandoned; being a daemon thread, it does not keep the process alive."""
        self._closing = True
        if self._loop is None:
            return
        give_up = perf_counter() + self.timeout_s
        while (self._queue or self._running or self._solves) and perf_counter() < give_up:
            await asyncio.sleep(0.005)
        self._queue.fail_all(Closing)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._solver.shutdown(wait=False, cancel_futures=True)

    @property
    def ready(self) -> bool:
        """Whether requests are accepted and answered."""
        return self.problem is None

    @property
    def problem(self) -> str | None:
        """Why the engine is not ready, in words; None if it is."""
        if self._closing:
            return "it is closing"
        longest = perf_counter() - min(self._running.values(), default=perf_counter())
        if longest > self.timeout_s:
            return f"the model has not answered for {longest:.0f} s"
        return self._failure

    async def leaderboard(self, prompt: Prompt) -> Leaderboard:
        """Like `P2L.leaderboard`, for many concurrent callers; raises as `coefficients` does."""
        try:
            return (await self.leaderboards([prompt]))[0]
        except PromptError as error:
            error.index = None  # there is only one prompt
            raise

    async def leaderboards(self, prompts: Sequence[Prompt]) -> list[Leaderboard]:
        """Like `P2L.leaderboards`, for many concurrent callers; raises as `coefficients` does."""
        scored = await self.coefficients(prompts)
        return scored.leaderboards(self.p2l.models, self.p2l.spec.feedback)

    async def aggregate(
        self, prompts: Sequence[Prompt], *, weights: Sequence[float] | None = None, seed: int = 0
    ) -> Leaderboard:
        """Like `P2L.aggregate`, for many concurrent callers; the solve runs on a thread of its own."""
        if self._solves >= _SOLVES_WAITING:
            raise QueueFull(self._solves, 1.0, what="aggregates")
        self._solves += 1
        try:
            scored = await self.coefficients(prompts)
            loop = asyncio.get_running_loop()
            solve = loop.run_in_executor(self._solver, self._solve, scored, weights, seed)
            return await asyncio.wait_for(solve, self.timeout_s)
        except TimeoutError:
            raise ScoringTimeout(f"the aggregate took more than {self.timeout_s:g} s; ask for fewer prompts") from None
        finally:
            self._solves -= 1

    async def coefficients(self, prompts: Sequence[Prompt], seconds: float = math.inf) -> Coefficients:
        """Coefficients of the prompts, in their order; within so many seconds, if they are fewer than `timeout_s`.

        Raises:
            PromptError: a prompt is invalid; `index` says which.
            QueueFull, ScoringTimeout, ScoringFailed, Closing: see `serve.errors`.
        """
        if self._closing or self._loop is None:
            raise Closing
        if not prompts:
            raise PromptError("there are no prompts; give at least one")
        if len(prompts) > self._max_batch:
            asked = await asyncio.to_thread(_check, prompts)
        else:
            asked = _check(prompts)
        rows: list[np.ndarray | None] = [self._cache.get(one.key) for one in asked]
        missing = [i for i, row in enumerate(rows) if row is None]
        self.metrics.cache(len(rows) - len(missing), len(missing))
        if missing:
            missing.sort(key=lambda i: asked[i].length)
            parts = [missing[i : i + self._max_batch] for i in range(0, len(missing), self._max_batch)]
            scored = await self._score_parts(asked, parts, min(seconds, self.timeout_s))
            for i, row in zip(missing, itertools.chain.from_iterable(scored), strict=True):
                rows[i] = row
                self._cache.put(asked[i].key, row)
        return from_rows(np.array(rows), self.p2l.spec, self._variance)

    async def _score_parts(self, asked: list[_Asked], parts: list[list[int]], seconds: float) -> list[np.ndarray]:
        """The rows of each part, a list of places in `asked`, the longest prompt last."""
        n_prompts = sum(map(len, parts))
        waiting = self._queue.prompts
        if waiting and waiting + n_prompts > self._queue_size:
            raise QueueFull(waiting, waiting * self._seconds_per_prompt)
        jobs = [self._submit([asked[i].prompt for i in part], asked[part[-1]].length) for part in parts]
        try:
            if all(job.future.done() for job in jobs):  # a timer would take as long as this
                return [job.future.result() for job in jobs]
            async with asyncio.timeout(seconds):
                if len(jobs) == 1:
                    return [await jobs[0].future]
                return await asyncio.gather(*(job.future for job in jobs))
        except TimeoutError:
            raise ScoringTimeout(f"the model did not answer within {seconds:g} s; try again later") from None
        except PromptError as error:
            part = next(part for part, job in zip(parts, jobs, strict=True) if _raised(job) is error)
            error.index = part[error.index or 0]
            raise
        finally:
            for job in jobs:
                self._queue.forget(job)

    # --- the queue ---

    def _submit(self, prompts: Sequence[Prompt], length: int) -> Job:
        assert self._loop is not None
        job = Job(prompts, length, self._loop.create_future())
        self._queue.put(job)
        if self._quick and not self._woken:  # in less time than another turn of the event loop takes
            self._wake()
        elif not self._woken:  # once per turn of the event loop, so that all requests of a turn are batched
            self._woken = True
            self._loop.call_soon(self._wake)
        return job

    def _wake(self) -> None:
        assert self._loop is not None
        self._woken = False
        if self._quick and self._queue and not self._running:
            batch = self._queue.take(_QUICK_CHARACTERS)
            if len(batch) * max(job.length for job in batch) <= _QUICK_CHARACTERS and len(batch[0].prompts) == 1:
                self._end(self._begin(batch), batch, score(self._scorer, batch))
                if self._queue and not self._woken:  # after the other callbacks of the event loop
                    self._woken = True
                    self._loop.call_soon(self._wake)
            else:
                self._start(batch)
            return
        while self._queue and len(self._running) < self._workers:
            patience = self._finished + self._patience - perf_counter()
            if self._queue.prompts < min(self._expected, self._max_batch) and patience > 0:
                if self._timer is None:
                    self._timer = self._loop.call_later(patience, self._patience_ends)
                return
            self._start(self._queue.take())

    def _patience_ends(self) -> None:
        self._timer = None
        self._wake()

    def _begin(self, batch: list[Job]) -> int:
        number, now = next(self._numbers), perf_counter()
        self._running[number] = now
        self.metrics.stage("queue", now - batch[0].arrived)
        return number

    def _start(self, batch: list[Job]) -> None:
        assert self._loop is not None
        number = self._begin(batch)
        scoring = self._loop.run_in_executor(self._pool, score, self._scorer, batch)
        scoring.add_done_callback(partial(self._finish, number, batch))

    def _finish(self, number: int, batch: list[Job], scoring: asyncio.Future[list[Outcome]]) -> None:
        if scoring.cancelled() or scoring.exception() is not None:  # the worker itself failed
            outcomes: list[Outcome] = failed(batch, None if scoring.cancelled() else scoring.exception())
        else:
            outcomes = scoring.result()
        self._end(number, batch, outcomes)
        self._wake()

    def _end(self, number: int, batch: list[Job], outcomes: list[Outcome]) -> None:
        started, now = self._running.pop(number), perf_counter()
        for job, outcome in zip(batch, outcomes, strict=True):
            job.resolve(outcome)
        size = sum(len(job.prompts) for job in batch)
        self._finished, self._patience = now, min(self._max_wait, (now - started) / 2)
        self._expected = size + self._queue.prompts
        self._seconds_per_prompt += 0.1 * ((now - started) / size - self._seconds_per_prompt)
        self.metrics.batch(size)
        self.metrics.stage("score", now - started)
        broken = next((outcome for outcome in outcomes if isinstance(outcome, ScoringFailed)), None)
        if broken is not None:
            if self._failure is None and self._loop is not None:
                self._loop.call_later(_PROBE_SECONDS, lambda: asyncio.ensure_future(self._probe()))
            self._failure = str(broken)
        else:
            self._failure = None

    async def _probe(self) -> None:
        """Score a test prompt every second until it succeeds: a server that is not ready gets no requests to try on."""
        if self._closing:
            return
        try:
            await self._submit([_PROBE], len(_PROBE)).future
        except P2LError:
            asyncio.get_running_loop().call_later(_PROBE_SECONDS, lambda: asyncio.ensure_future(self._probe()))

    def _solve(self, scored: Coefficients, weights: Sequence[float] | None, seed: int) -> Leaderboard:
        return aggregate_scored(
            [scored], self.p2l.spec, self._variance, self.p2l.group_error, weights=weights, seed=seed
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A prompt that has been checked, the only time on its way through the server; its cache key; its length in
    characters."""

    prompt: CheckedPrompt
    key: bytes
    length: int


def _check(prompts: Sequence[Prompt]) -> list[_Asked]:
    """Check each prompt; PromptError for an invalid one."""
    asked = []
    for i, prompt in enumerate(prompts):
        try:
            checked = CheckedPrompt(prompt)
        except PromptError as error:
            error.index = i
            raise
        asked.append(_Asked(checked, key(checked.turns), sum(map(len, checked.turns))))
    return asked


def _raised(job: Job) -> BaseException | None:
    return job.future.exception() if job.future.done() and not job.future.cancelled() else None
