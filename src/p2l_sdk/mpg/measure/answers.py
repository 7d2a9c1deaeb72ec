"""The answers file of a measurement: JSON lines, each written in full before it counts, so that an interrupted run can
be resumed.

A line is one question: `model, benchmark, question_id, prompt, score`, `seconds`, `first_token_seconds`,
`input_tokens`, `output_tokens`, `cost` (null where unknown), `answer`, `finish_reason`; `session` (when this part of
the run began) and `due` (seconds from then until the query was due); `run` (the settings that all parts of a run must
share). A failed query has `error` (its kind), `detail` and `failed_after`, and null for score and seconds. So the file
is a table of scores, too: `p2l_sdk.Scores` reads prompt, model and score.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2l_sdk.mpg.measure.journal import Journal, Layout, Row


def key_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """The key of a question: its benchmark and id."""
    return row["benchmark"], row["question_id"]


LAYOUT = Layout(
    "answer of a measurement",
    "answers of a measurement",
    "model",
    frozenset({"model", "benchmark", "question_id", "session", "due"}),
    key_of,
)


class AnswersFile(Journal):
    """Appends rows to an answers file; a context manager, see `Journal`."""

    def __init__(self, path: str | Path, model: str, run: Mapping[str, Any]) -> None:
        """Open or create the file for this process alone; a half-written last line is removed.

        Args:
            path: path of the file.
            model: name of the LLM.
            run: the settings that all parts of a run must share.

        Raises:
            ResultsError: the file holds something else or another run, or another process is writing to it.
        """
        self._model, self._run = model, dict(run)
        super().__init__(path, LAYOUT, lambda _: {"model": model, **run})

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one line; see `Journal.write`."""
        self.write({"model": self._model, **row, "run": self._run})


def read_answers(path: str | Path) -> list[Row]:
    """The rows of an answers file. Raises `ResultsError` if it is not one."""
    return LAYOUT.rows(path, Path(path).read_bytes())
