"""Measures an OpenAI-compatible endpoint: asks questions, grades and times the answers, and writes them to a file from
which an interrupted run resumes.

    closed loop   `concurrency` callers; each asks its next question when it has an answer. Times start when it asks.
    open loop     `rate` queries per second are due, whether or not earlier ones are answered. Times start when a query
                  is *due*, so a server that stalls is charged for everyone who had to wait (no coordinated omission).

A query without an answer is recorded as a failure, without seconds and score, and is asked again only with
`retry_failed`. Nothing is retried within a measurement. Warm-up queries have their own prompt, so that no question is
in the server's cache, and are not counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, TypedDict, Unpack

from p2l_sdk.errors import EndpointError, ResultsError
from p2l_sdk.mpg.measure.answers import AnswersFile
from p2l_sdk.mpg.measure.endpoint import Answer, Endpoint, QueryError, ask, connect
from p2l_sdk.mpg.measure.grading import Grader, GraderName, grader_of
from p2l_sdk.mpg.measure.measurement import Measurement
from p2l_sdk.mpg.measure.questions import Question, fingerprint
from p2l_sdk.routing.costs import response_cost

CONCURRENCY = 4
WARM_UP = "Count from one to ten in words."
_HOPELESS = ("connection", "status 401", "status 403", "status 404")
_GIVE_UP = 10  # stop after this many hopeless failures in a row


class MeasureOptions(TypedDict, total=False):
    """The keywords of `measuring`, for functions that pass them on."""

    concurrency: int | None
    rate: float | None
    warm_up: int
    grader: Grader | GraderName | str | None
    prices: tuple[float, float] | None
    retry_failed: bool
    progress: Callable[[int, float], None] | None
    replicates: int


@dataclass(frozen=True, kw_only=True)
class _Load:
    """How the questions are asked: `concurrency` of a closed loop, or `rate` of an open one, and the warm-up.

    Raises:
        EndpointError: both are given, or a number is out of range.
    """

    concurrency: int | None
    rate: float | None
    warm_up: int

    def __post_init__(self) -> None:
        concurrency, rate = self.concurrency, self.rate
        if concurrency is not None and rate is not None:
            raise EndpointError("concurrency is of a closed loop, rate of an open one; give one of them")
        if concurrency is None and rate is None:
            object.__setattr__(self, "concurrency", CONCURRENCY)
        in_range = (concurrency is None or concurrency >= 1) and (rate is None or 0 < rate < float("inf"))
        if not in_range or self.warm_up < 0:
            raise EndpointError("concurrency must be at least 1, rate above 0 and warm-up at least 0")


def measure(
    endpoint: Endpoint, questions: Sequence[Question], output: str | Path, **options: Unpack[MeasureOptions]
) -> Measurement:
    """`measuring` for callers without an event loop."""
    return asyncio.run(measuring(endpoint, questions, output, **options))


async def measuring(
    endpoint: Endpoint,
    questions: Sequence[Question],
    output: str | Path,
    *,
    concurrency: int | None = None,
    rate: float | None = None,
    warm_up: int = 3,
    grader: Grader | GraderName | str | None = None,
    prices: tuple[float, float] | None = None,
    retry_failed: bool = False,
    progress: Callable[[int, float], None] | None = None,
    replicates: int = 1000,
) -> Measurement:
    """Ask the questions that the answers file does not hold yet, and summarise all its answers.

    Args:
        endpoint: the endpoint to measure.
        questions: see `read_questions`.
        output: the answers file, created or resumed.
        concurrency: callers of a closed loop; 4 if neither this nor `rate` is given.
        rate: queries per second of an open loop, instead of a closed one.
        warm_up: number of queries before the first that counts.
        grader: "exact", "choice", or a fast function of (answer, question) to [0, 1]; None is "choice" for questions
            with choices and "exact" for others.
        prices: USD per million (input, output) tokens.
        retry_failed: also ask questions again whose queries failed.
        progress: called after each query with the number of questions in the file and this part's answers per second.
        replicates: of the bootstrap.

    Raises:
        EndpointError: an invalid load, the warm-up failed, or the endpoint stopped answering.
        ResultsError: the file belongs to another run, or a grader returns a number outside [0, 1].
    """
    load = _Load(concurrency=concurrency, rate=rate, warm_up=warm_up)
    if callable(grader):
        grade, grader_name = grader, getattr(grader, "__qualname__", type(grader).__name__)
    else:
        grade, grader_name = grader_of(grader), "by question" if grader is None else str(grader).lower()
    run = {
        "questions": fingerprint(questions),
        "grader": grader_name,
        "max_tokens": endpoint.max_tokens,
        "temperature": endpoint.temperature,
        "concurrency": load.concurrency,
        "rate": load.rate,
    }
    with AnswersFile(output, endpoint.model, run) as answers:
        finished = {key for key, row in answers.last.items() if not (retry_failed and row.get("error"))}
        todo = [question for question in questions if question.key not in finished]
        if todo:
            await _Part(endpoint, answers, grade, prices, progress).ask_all(todo, load)
        return Measurement.of_rows(answers.rows, n_questions=len(questions), replicates=replicates)


class _Part:
    """One part of a run: the queries of this process."""

    def __init__(
        self,
        endpoint: Endpoint,
        answers: AnswersFile,
        grader: Grader,
        prices: tuple[float, float] | None,
        progress: Callable[[int, float], None] | None,
    ) -> None:
        self.endpoint, self.answers, self.prices = endpoint, answers, prices
        self.grader, self.progress = grader, progress
        self.n_answered = self.n_hopeless = 0

    async def ask_all(self, todo: Sequence[Question], load: _Load) -> None:
        async with connect(self.endpoint) as self.client:
            await self._warm_up(load.warm_up)
            self.session, self.start = datetime.now(UTC).isoformat(timespec="milliseconds"), perf_counter()
            if load.rate is not None:
                await _together(self._arrival(q, self.start + i / load.rate) for i, q in enumerate(todo))
            elif load.concurrency is not None:
                following = iter(todo)
                await _together(self._caller(following) for _ in range(load.concurrency))

    async def _arrival(self, question: Question, due: float) -> None:
        await asyncio.sleep(due - perf_counter())
        await self._one(question, due)

    async def _caller(self, following: Iterable[Question]) -> None:
        for question in following:
            await self._one(question, perf_counter())

    async def _one(self, question: Question, due: float) -> None:
        row: dict[str, Any] = {"benchmark": question.benchmark, "question_id": question.question_id}
        row["prompt"] = question.text
        try:
            row |= self._answered(question, await ask(self.client, self.endpoint, question.text), due)
            self.n_answered, self.n_hopeless = self.n_answered + 1, 0
        except QueryError as error:
            row |= {"score": None, "seconds": None, "error": error.kind, "detail": error.detail}
            row["failed_after"] = _rounded(perf_counter() - due)
            self.n_hopeless = self.n_hopeless + 1 if error.kind in _HOPELESS else 0
        self.answers.append({**row, "session": self.session, "due": _rounded(due - self.start)})
        if self.progress is not None:
            self.progress(len(self.answers.last), self.n_answered / (perf_counter() - self.start))
        if self.n_hopeless >= _GIVE_UP:
            raise EndpointError(
                f"{_GIVE_UP} queries in a row failed ({row['error']}: {row['detail']}); the answers so far are in "
                f"{str(self.answers.path)!r}; the same command with --retry-failed goes on"
            )

    def _answered(self, question: Question, answer: Answer, due: float) -> dict[str, Any]:
        score = float(self.grader(answer.text, question))
        if not 0.0 <= score <= 1.0:
            raise ResultsError(f"the grader gives {score} for question {question.question_id!r}; it must be in [0, 1]")
        return {
            "score": score,
            "seconds": _rounded(answer.end - due),
            "first_token_seconds": None if answer.first_token is None else _rounded(answer.first_token - due),
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens,
            "cost": self._cost(answer.input_tokens, answer.output_tokens),
            "answer": answer.text,
            "finish_reason": answer.finish_reason,
        }

    def _cost(self, input_tokens: int | None, output_tokens: int | None) -> float | None:
        if self.prices is None or input_tokens is None or output_tokens is None:
            return None
        return response_cost(*self.prices, input_tokens, output_tokens)

    async def _warm_up(self, n: int) -> None:
        """Warm-up queries, one after another: the first opens the connection and may have to load the model."""
        failures = []
        for _ in range(n):
            try:
                await ask(self.client, self.endpoint, WARM_UP)
            except QueryError as error:
                failures.append(error)
                if error.kind in _HOPELESS:
                    break
        if failures and (len(failures) == n or failures[-1].kind in _HOPELESS):
            hint = {"connection": "is it running?", "status 401": "--api-key-env names the variable that holds the key"}
            hint["status 404"] = "does the base URL lack a /v1, or has the LLM another name?"
            kind = failures[-1].kind
            raise EndpointError(
                f"{self.endpoint.base_url} did not answer as an OpenAI-compatible endpoint ({failures[-1]})"
                + (f"; {hint[kind]}" if kind in hint else "")
            )


async def _together(tasks: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all tasks concurrently; the first error cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _rounded(seconds: float) -> float:
    return round(max(seconds, 0.0), 6)
