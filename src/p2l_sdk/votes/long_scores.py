"""Long tables of scores: a row for each prompt and LLM, with the columns `prompt`, `model` and `score`, as `p2l mpg
measure` writes them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from p2l_sdk.errors import ScoresError
from p2l_sdk.tables.columns import (
    checked,
    checked_prompt,
    is_index,
    is_no_number,
    is_numeric,
    is_own,
    llm_name,
    prompt_column,
    turns_of,
)
from p2l_sdk.tables.grids import column_key
from p2l_sdk.tables.places import RowError
from p2l_sdk.tables.score_cells import spelling
from p2l_sdk.tables.sources import ABSENT, Chunk

_NAMED = ("benchmark", "question_id")  # with the prompt, they identify a question
_OF_ANSWERS = {
    "answer",
    "detail",
    "error",
    "finish_reason",
    "model",
    "question_id",
    "run",
    "score",
    "session",
}  # not of the prompt
_OF_LLM = {"model", "model_name", "model_id", "llm", "llm_name", "modell", "language_model"}
_OF_SCORE = {
    "score", "correct", "is_correct", "accuracy", "acc", "rating", "grade", "points", "result", "passed", "pass",
    "success", "note", "bewertung", "punkte", "exact_match",
}  # fmt: skip
_REMEDY = (
    "measure again (`p2l mpg measure` writes the prompt now), or make scores of these answers: p2l judge FILE --grader "
    "exact --questions QUESTIONS --output scores.jsonl"
)


def wide_table(table: Chunk) -> tuple[Chunk, dict[str, dict[int, int]]]:
    """The same scores with a row for each prompt and a column for each LLM, None where it has no score; and for each
    LLM, by row of the result, the row of the table that holds its score.

    Columns that label the prompt (`benchmark`) are kept: those of strings and bools that are the same in all rows of
    every prompt.

    Raises:
        TableError: a row has no prompt or LLM, or two rows are of the same LLM on the same prompt.
    """
    prompts = _prompts(table)
    models = checked(table["model"], lambda value: llm_name("model", value), 0)
    named = [table[name] for name in _NAMED if name in table]
    numbers: dict[Any, int] = {}
    first: list[int] = []  # the first row of each question
    scores: dict[str, dict[int, int]] = {name: {} for name in models}  # LLM -> question -> row with its score
    place = []
    for row, prompt in enumerate(prompts):
        key = (turns_of(prompt), *(str(column[row]) for column in named))
        question = numbers.setdefault(key, len(first))
        place.append(question)
        if question == len(first):
            first.append(row)
        if table["score"][row] is ABSENT or is_no_number(table["score"][row]):
            continue
        before = scores[models[row]].setdefault(question, row)
        if before != row:
            raise RowError(row, f" both have a score of {models[row]!r} on the same prompt; keep one", before)
    kept = [
        name for name in table if name not in _OF_ANSWERS and name != "prompt" and _labels(table[name], place, first)
    ]
    columns = {
        name: [table["score"][rows[question]] if question in rows else None for question in range(len(first))]
        for name, rows in scores.items()
    }
    labels = {name: [table[name][row] for row in first] for name in kept}
    return {"prompt": [prompts[row] for row in first], **labels, **columns}, scores


def ask_for_long(table: Chunk, untyped: bool, columns: Mapping[str, str]) -> None:
    """Refuse a table of scores whose rows are each of one LLM, but whose columns have other names.

    Args:
        table: all rows.
        untyped: whether all values are strings, even numbers.
        columns: those of the contract's columns that have another name in the file -> that name.

    Raises:
        ScoresError: the message has the options that name LLM and score.
    """
    texts = [name for name in table if column_key(name) in _OF_LLM and not is_numeric(table[name], untyped)]
    scores = [
        n for n, v in table.items() if not is_own(n) and not is_index(n) and (is_numeric(v, untyped) or spelling(v))
    ]
    likely = [name for name in scores if column_key(name) in _OF_SCORE] or (scores if len(scores) == 1 else [])
    if len(texts) != 1 or not likely:
        return
    named = {"model": texts[0], "score": likely[0]}
    options = " ".join(
        f"--column {shlex.quote(f'{ours}={name}')}" for ours, name in {**columns, **named}.items() if ours != name
    )
    raise ScoresError(
        f"each row seems to be of one LLM ({texts[0]!r}), with its score ({likely[0]!r}); if so, add: {options} "
        "(columns={...}); if the columns of numbers are LLMs, name them: --llms A,B (models=[...])"
    )


def _prompts(table: Chunk) -> list[Any]:
    columns = [table[name] for name in ("prompt", "conversation_a") if name in table]
    without = [row for row in range(len(table["model"])) if all(column[row] is ABSENT for column in columns)]
    if without:
        which = "" if columns else f" (the table has: {', '.join(map(str, table))})"
        raise RowError(without[0], f" has a model and a score, but no prompt{which}; {_REMEDY}")
    return checked(prompt_column(table, 0), checked_prompt, 0)


def _labels(column: Sequence[Any], place: Sequence[int], first: Sequence[int]) -> bool:
    """Whether a column holds strings or bools, the same in all rows of a question."""
    same = all(column[row] == column[first[question]] for row, question in enumerate(place))
    return same and all(isinstance(column[row], str | bool) for row in first)
