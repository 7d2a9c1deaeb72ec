"""Summary of an endpoint's answers: accuracy, speed and cost.

Queries per second are answers over measured time. A run that was interrupted and resumed consists of several parts; its
time is the sum of theirs, each from when its first query was due to its last row, without the time between the parts
and the warm-up. Queries in flight when a part was killed are not answers of that part, so its count can be low by fewer
than `concurrency` answers. Failed queries take time but are not answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import ResultsError
from p2l_sdk.mpg.fastness import Fastness, Measure, Run
from p2l_sdk.mpg.goodness import goodness
from p2l_sdk.mpg.measure.answers import key_of, read_answers
from p2l_sdk.mpg.results import Results
from p2l_sdk.tabular import Tabular

if TYPE_CHECKING:
    import matplotlib.axes

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, eq=False, kw_only=True)
class Measurement(Tabular):
    """One LLM at one endpoint.

    Attributes:
        model: name of the LLM.
        n_questions: number of questions.
        n_answered: number of answered questions.
        failures: kind of failure -> number of queries.
        accuracy: mean score of the answered questions with its 95 % interval (Jeffreys' prior), under "all" and, if
            there are several benchmarks, under each. Failures do not count as wrong.
        fastness: the measures that are known, with intervals.
        latency: seconds and seconds_to_first_token -> p50, p95, p99 of the answered queries.
        tokens: mean input_tokens and output_tokens of a query, where the server counts them.
        elapsed: measured seconds, see the module.
        sessions: number of parts.
        load: the load in words.
        results: scores and samples, as `p2l mpg report` reads them; None without answers.
    """

    model: str
    n_questions: int
    n_answered: int
    failures: Mapping[str, int]
    accuracy: Mapping[str, Measure]
    fastness: Fastness
    latency: Mapping[str, Mapping[str, float]]
    tokens: Mapping[str, float]
    elapsed: float
    sessions: int
    load: str
    results: Results | None

    @classmethod
    def read(cls, path: str | Path, *, replicates: int = 1000) -> Measurement:
        """The measurement in an answers file. Raises `ResultsError` if it is not one."""
        return cls.of_rows(read_answers(path), replicates=replicates)

    @classmethod
    def of_rows(
        cls, rows: Sequence[Mapping[str, Any]], *, n_questions: int | None = None, replicates: int = 1000
    ) -> Measurement:
        """The measurement in the rows of an answers file; the last row of each question counts."""
        if not rows:
            raise ResultsError("there is no answer yet")
        model, run = rows[0]["model"], rows[0]["run"]
        last = list({key_of(row): row for row in rows}.values())
        answered = [row for row in last if not row.get("error")]
        columns = {
            name: np.array([np.nan if row.get(name) is None else row[name] for row in answered], dtype=np.float64)
            for name in ("seconds", "first_token_seconds", "input_tokens", "output_tokens", "cost")
        }
        parts = _parts(rows)
        results = Results.read(answered) if answered else None
        return cls(
            model=model,
            n_questions=len(last) if n_questions is None else n_questions,
            n_answered=len(answered),
            failures=Counter(row["error"] for row in last if row.get("error")),
            accuracy={} if results is None else _accuracy(results),
            fastness=_fastness(model, columns, sum(parts.values()), run["rate"] is not None, replicates),
            latency=_latency(columns),
            tokens={
                name: float(np.nanmean(columns[name]))
                for name in ("input_tokens", "output_tokens")
                if np.isfinite(columns[name]).any()
            },
            elapsed=sum(parts.values()),
            sessions=len(parts),
            load=f"open loop, {run['rate']:g} queries per second due"
            if run["rate"] is not None
            else f"closed loop, {run['concurrency']} at once",
            results=results,
        )

    @property
    def n_failed(self) -> int:
        """Number of failed queries."""
        return sum(self.failures.values())

    @property
    def notes(self) -> list[str]:
        """Caveats about the numbers, one sentence each."""
        notes = []
        if self.n_answered and "output_tokens" not in self.tokens:
            notes.append("the server counts no tokens: neither tokens per second nor USD per query")
        if self.n_failed:
            notes.append("failed queries have neither a time nor a score")
        if self.sessions > 1:
            notes.append(f"measured in {self.sessions} parts; queries per second are of their times together")
        return notes

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"{self.model}: {self.n_answered:,} of {self.n_questions:,} questions answered, {self.load}"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each figure: figure ("accuracy", a measure of Fastness), of (a benchmark, or "all"),
        value, low, high and n."""
        found = [{"figure": "accuracy", "of": name, **measure.to_dict()} for name, measure in self.accuracy.items()]
        for name, table in self.fastness.measures.items():
            if self.model in table:
                found.append({"figure": name, "of": "all", **table[self.model].to_dict()})
        return found

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw the accuracy by benchmark.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        rows = [row for row in self.rows() if row["figure"] == "accuracy"]
        return pictures.draw_bars(
            rows, "of", "value", meaning="accuracy of the answered questions", title=self.caption, ax=ax
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "model": self.model,
            "load": self.load,
            "n_questions": self.n_questions,
            "n_answered": self.n_answered,
            "n_failed": self.n_failed,
            "failures": dict(self.failures),
            "accuracy": {name: measure.to_dict() for name, measure in self.accuracy.items()},
            "fastness": {
                name: table[self.model].to_dict()
                for name, table in self.fastness.measures.items()
                if self.model in table
            },
            "latency": {name: dict(table) for name, table in self.latency.items()},
            "mean_tokens": dict(self.tokens),
            "elapsed": self.elapsed,
            "sessions": self.sessions,
            "notes": self.notes,
        }


def _parts(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Session -> seconds from when its first query was due to its last row."""
    spans: dict[str, list[float]] = {}
    for row in rows:
        took = row["failed_after"] if row.get("error") else row["seconds"]
        spans.setdefault(row["session"], []).extend((row["due"], row["due"] + took))
    return {session: max(times) - min(times) for session, times in spans.items()}


def _accuracy(results: Results) -> dict[str, Measure]:
    """Mean and interval over all questions, and over each benchmark if there are several."""
    together = np.concatenate(list(results.questions.values()), axis=1)
    tables = {"all": together}
    if len(results.questions) > 1:
        tables.update(results.questions)
    found = {}
    for name, scores in tables.items():
        row = goodness(Results.of_questions(results.models, {name: scores}), prior="jeffreys").rows()[0]
        asked = scores[~np.isnan(scores)]
        found[name] = Measure(float(asked.mean()), row["low"], row["high"], len(asked))
    return found


def _fastness(
    model: str, columns: Mapping[str, np.ndarray], elapsed: float, open_loop: bool, replicates: int
) -> Fastness:
    n = len(columns["seconds"])
    if not n or elapsed <= 0:
        return Fastness({}, "nothing was answered")
    run = Run(
        columns["seconds"],
        columns["first_token_seconds"],
        columns["output_tokens"],
        columns["cost"],
        elapsed=elapsed,
    )
    fastness = Fastness.measured({model: run}, replicates=replicates)
    if open_loop:  # no interval: the arrivals determine the rate, not the seconds of the answers
        fastness.measures["queries_per_second"] = {model: Measure(n / elapsed, n=n)}
    return fastness


def _latency(columns: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    found = {}
    for name, column in (("seconds", "seconds"), ("seconds_to_first_token", "first_token_seconds")):
        values = columns[column][~np.isnan(columns[column])]
        if len(values):
            found[name] = {label: float(np.quantile(values, q)) for label, q in QUANTILES.items()}
    return found
