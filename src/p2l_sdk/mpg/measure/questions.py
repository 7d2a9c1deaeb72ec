"""Questions for an endpoint: a table with question_id, prompt, answer and, optionally, benchmark and choices."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2l_sdk.errors import ResultsError
from p2l_sdk.tables.columns import is_missing
from p2l_sdk.tables.files import read_rows
from p2l_sdk.tables.sources import table_errors

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ASK = "Answer with the letter of the right choice."


@dataclass(frozen=True)
class Question:
    """A question. Attributes: question_id and benchmark, which together identify it; prompt; answers, any of which is
    right; choices, the options of a multiple-choice question (lettered A, B, ... in order)."""

    question_id: str
    prompt: str
    answers: tuple[str, ...]
    benchmark: str = "questions"
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Benchmark and id, which identify the question."""
        return self.benchmark, self.question_id

    @property
    def text(self) -> str:
        """The text sent to the LLM: the prompt and, if there are any, the lettered choices."""
        if not self.choices:
            return self.prompt
        options = [f"{letter}. {option}" for letter, option in zip(LETTERS, self.choices, strict=False)]
        return "\n".join([self.prompt, *options, _ASK])


@table_errors(ResultsError)
def read_questions(path: str | Path) -> tuple[Question, ...]:
    """Questions from a table (`p2l_sdk.tables.files.KINDS`).

    `answer` may be a list of right answers; with choices, an answer is a letter or the text of a choice. `choices` is a
    list (in CSV a JSON list). Without a benchmark column, the benchmark is the file's name.

    Raises:
        ResultsError: the file cannot be read, or a question lacks its id, prompt or answer, occurs twice, or its answer
            is not among its choices; names the row.
    """
    questions: dict[tuple[str, str], Question] = {}
    rows = read_rows(path)
    for at, row in enumerate(rows):
        place = f"{str(path)!r}, {rows.place(at)}"
        question = _question(row, place, Path(path).stem)
        if question.key in questions:
            raise ResultsError(f"{place}: question {question.question_id!r} of {question.benchmark!r} stands twice")
        questions[question.key] = question
    if not questions:
        raise ResultsError(f"{str(path)!r} holds no question")
    return tuple(questions.values())


def fingerprint(questions: Sequence[Question]) -> str:
    """Fingerprint of a set of questions, independent of its file format: 16 hexadecimal digits."""
    content = [[q.benchmark, q.question_id, q.prompt, q.answers, q.choices] for q in questions]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _question(row: Mapping[str, Any], where: str, benchmark: str) -> Question:
    for name in ("question_id", "prompt", "answer"):
        if name not in row or is_missing(row[name]):
            raise ResultsError(f"{where} has no {name}; questions have question_id, prompt and answer")
    if not isinstance(row["prompt"], str):
        raise ResultsError(f"{where}: the prompt must be a text")
    choices = row.get("choices")
    choices = () if is_missing(choices) else _texts(choices, where, "choices")
    given = row["answer"]
    answers = _texts(given, where, "answer") if isinstance(given, list | tuple) else (str(given),)
    named = row.get("benchmark")
    question = Question(
        str(row["question_id"]), row["prompt"], answers, benchmark if is_missing(named) else str(named), choices
    )
    letters = LETTERS[: len(choices)]
    wrong = [a for a in answers if a not in choices and (len(a.strip()) != 1 or a.strip().upper() not in letters)]
    if choices and wrong:
        raise ResultsError(f"{where}: the answer {wrong[0]!r} is none of the choices (a letter, or the text of one)")
    return question


def _texts(value: Any, where: str, name: str) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, list | tuple) or not 0 < len(value) <= len(LETTERS):
        raise ResultsError(f"{where}: {name} must be a list of 1 to {len(LETTERS)} (in CSV a JSON list)")
    return tuple(map(str, value))
