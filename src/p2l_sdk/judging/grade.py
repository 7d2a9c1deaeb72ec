"""`grade`: answers -> scores, where there is a right answer: a table that `Scores.read` takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2l_sdk.errors import ResultsError, VotesError
from p2l_sdk.judging.answers import Answers
from p2l_sdk.judging.judge import write_rows
from p2l_sdk.mpg.measure.grading import Grader, GraderName, grader_of
from p2l_sdk.mpg.measure.questions import Question
from p2l_sdk.outputs.faults import real_path, write_faults
from p2l_sdk.outputs.folders import require_writable
from p2l_sdk.tables.columns import turns_of


@dataclass(frozen=True)
class Grades:
    """The scores of answers.

    Attributes:
        output: path of the scores.
        means: LLM -> its mean score.
        counts: LLM -> the number of its scores.
        n_prompts: number of prompts with a score.
        n_unknown: number of prompts that are none of the questions.
    """

    output: Path
    means: dict[str, float]
    counts: dict[str, int]
    n_prompts: int
    n_unknown: int


def grade(
    answers: Answers,
    questions: Sequence[Question],
    output: str | Path,
    grader: Grader | GraderName | str | None = None,
) -> Grades:
    """Grade answers, and write one row per prompt: prompt, benchmark, and the score of each LLM (null if its query
    failed; an empty answer is graded like any other).

    Args:
        answers: see `read_answers`; a prompt is the text of a question, with or without its choices.
        questions: see `read_questions`.
        output: the new file.
        grader: "exact", "choice", or a function of (answer, question) to [0, 1]; None is "choice" for questions with
            choices and "exact" for others.

    Raises:
        ResultsError: the file exists, or a score is outside [0, 1].
        VotesError: no prompt is one of the questions.
    """
    path = real_path(output)
    with write_faults(output):
        there = os.path.lexists(path)
    if there:
        raise ResultsError(f"{str(output)!r} exists; name another file")
    function = grader if callable(grader) else grader_of(grader)
    known = {text.strip(): question for question in questions for text in (question.prompt, question.text)}
    rows: list[dict[str, Any]] = []
    scores: dict[str, list[float]] = {name: [] for name in answers.models}
    for prompt, texts in zip(answers.prompts, answers.texts, strict=True):
        question = known.get("\n".join(turns_of(prompt)).strip())
        if question is None:
            continue
        found = {name: float(function(text, question)) for name, text in texts.items()}
        for name, score in found.items():
            if not 0.0 <= score <= 1.0:
                where = f"for question {question.question_id!r}"
                raise ResultsError(f"the grader gives {score} {where}; it must be in [0, 1]")
            scores[name].append(score)
        shown = prompt if isinstance(prompt, str) else [dict(message) for message in prompt]
        rows.append({"prompt": shown, "benchmark": question.benchmark, **{n: found.get(n) for n in answers.models}})
    if not rows:
        raise VotesError("none of the prompts is one of the questions; were other questions asked?")
    with write_faults(output):
        require_writable(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(path, rows)
    means = {name: sum(of) / len(of) for name, of in scores.items() if of}
    counts = {name: len(of) for name, of in scores.items()}
    return Grades(Path(output), means, counts, len(rows), len(answers.prompts) - len(rows))
