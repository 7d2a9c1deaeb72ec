"""The file of answers: JSON lines, one for each prompt and LLM.

A line has `prompt, model, answer` (null if the query failed), `finish_reason`, `seconds`, `input_tokens`,
`output_tokens`, `cost` (USD of all attempts, null if unknown), `attempts`, and `run` (the settings that all parts of a
run must share); for a failed query also `error` (its kind) and `detail`.

`read_answers` also reads what `p2l mpg measure` wrote, and any table with these three columns.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.mpg.measure.journal import Layout
from p2l_sdk.tables.columns import checked_prompt, is_missing, llm_name, turns_of
from p2l_sdk.tables.files import read_rows
from p2l_sdk.tables.sources import table_errors

_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)


def key_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """What identifies an answer: its prompt, as `id_of` writes it, and its LLM."""
    return id_of(checked_prompt(row["prompt"])), row["model"]


def id_of(prompt: Prompt) -> str:
    """A text that identifies a prompt: 16 hexadecimal digits of the hash of its user turns."""
    return fingerprint([turns_of(prompt)])


def fingerprint(content: Iterable[Any]) -> str:
    """16 hexadecimal digits of the hash of JSON values."""
    text = json.dumps(list(content), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


LAYOUT = Layout(
    "answer of `p2l collect`", "answers of `p2l collect`", "prompt", frozenset({"prompt", "model", "answer"}), key_of
)


def without_thinking(text: str) -> str:
    """A reply without <think>...</think>, and without white space around it.

    Of some LLMs the opening tag is part of the prompt: then everything before the closing one is thinking.
    """
    return _THINKING.sub("", text).rpartition("</think>")[2].strip()


@dataclass(frozen=True)
class Answers:
    """Answers by prompt.

    Attributes:
        prompts: the distinct prompts, in order.
        models: names of the LLMs, in order of appearance.
        texts: for each prompt, LLM -> its answer without thinking, which may be empty; LLMs whose query failed are left
            out.
        asked: for each prompt, the LLMs that were asked it, whether or not they answered.
        n_failed, n_empty: number of failed queries, and of empty answers.
    """

    prompts: list[Prompt]
    models: tuple[str, ...]
    texts: list[dict[str, str]]
    asked: list[tuple[str, ...]]
    n_failed: int
    n_empty: int

    @property
    def fingerprint(self) -> str:
        """Identifies the answers, whatever their order: 16 hexadecimal digits."""
        both = zip(self.prompts, self.texts, strict=True)
        return fingerprint(sorted([id_of(prompt), sorted(texts.items())] for prompt, texts in both))


@table_errors(VotesError)
def read_answers(path: str | Path, texts: Mapping[tuple[str, str], str] | None = None) -> Answers:
    """The answers in a table (`p2l_sdk.tables.files.KINDS`); of several rows for one prompt and LLM the last counts.

    Args:
        path: path of the file.
        texts: (benchmark, question_id) -> prompt, for rows of `p2l mpg measure` that have no prompt.

    Raises:
        VotesError: it cannot be read, or a row has no prompt, model or answer.
    """
    last: dict[tuple[str, str], tuple[Prompt, str, Any, Any]] = {}
    rows = read_rows(path)
    for at, row in enumerate(rows):
        try:
            prompt = checked_prompt(_prompt(row, texts or {}))
            model = llm_name("model", row.get("model"))
        except P2LError as error:
            raise VotesError(f"{str(path)!r}, {rows.place(at)}: {error}") from None
        if "answer" not in row:
            has = ", ".join(map(str, row))
            raise VotesError(f"{str(path)!r}, {rows.place(at)} has no column 'answer'; it has: {has}")
        last[id_of(prompt), model] = (prompt, model, row["answer"], row.get("error"))
    if not last:
        raise VotesError(f"{str(path)!r} holds no answer")
    return _answers(list(last.items()))


def _prompt(row: Mapping[str, Any], texts: Mapping[tuple[str, str], str]) -> Any:
    if not is_missing(row.get("prompt")):
        return row["prompt"]
    if not {"benchmark", "question_id"} <= set(row):
        raise VotesError(f"there is no column 'prompt'; it has: {', '.join(map(str, row))}")
    key = str(row["benchmark"]), str(row["question_id"])
    if key not in texts:
        raise VotesError(
            f"there is no prompt, and the questions have no {key[1]!r} of {key[0]!r}; name the questions that were "
            "asked with --questions"
        )
    return texts[key]


def _answers(last: Sequence[tuple[tuple[str, str], tuple[Prompt, str, Any, Any]]]) -> Answers:
    place: dict[str, int] = {}
    prompts: list[Prompt] = []
    texts: list[dict[str, str]] = []
    asked: list[list[str]] = []
    models: dict[str, None] = {}
    failed = empty = 0
    for (identity, _), (prompt, model, answer, error) in last:
        models[model] = None
        at = place.setdefault(identity, len(prompts))
        if at == len(prompts):
            prompts.append(prompt)
            texts.append({})
            asked.append([])
        asked[at].append(model)
        if not is_missing(error) or (answer is None and is_missing(error)):
            failed += 1
        else:
            texts[at][model] = without_thinking(str(answer))
            empty += not texts[at][model]
    return Answers(prompts, tuple(models), texts, [tuple(names) for names in asked], failed, empty)
