"""The file of a judge's verdicts, beside the votes that are made of them.

A line has `prompt_id`, `model_a` and `model_b` (the LLMs whose answers were shown first and second), `answers` (a
fingerprint of what was shown), `attempt` (2 if the first reply could not be read), `verdict` (null if it cannot be
read), `reply`, `finish_reason`, `input_tokens`, `output_tokens`, `seconds`, `cost`, and `run`; for a failed query also
`error` and `detail`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2l_sdk.errors import ResultsError
from p2l_sdk.judging.answers import Answers, fingerprint, id_of
from p2l_sdk.judging.asking import Outcome, Query
from p2l_sdk.judging.pairs import Pairs
from p2l_sdk.judging.rubric import Verdict, verdict_of
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.mpg.measure.journal import Layout, Row
from p2l_sdk.outputs.faults import real_path, write_faults

ATTEMPTS = 2  # replies that a question may have until one can be read
_SUFFIX = ".verdicts"
Key = tuple[str, str, str, str]


def key_of(row: Mapping[str, Any]) -> Key:
    """What identifies a question to the judge: the prompt, the LLMs in order, and their answers."""
    return row["prompt_id"], row["model_a"], row["model_b"], row["answers"]


LAYOUT = Layout(
    "verdict of `p2l judge`",
    "verdicts of `p2l judge`",
    "prompt_id",
    frozenset({"prompt_id", "model_a", "model_b", "answers", "attempt", "verdict"}),
    key_of,
)


def verdicts_path(output: str | Path) -> Path:
    """The file of the verdicts that belongs to a file of votes.

    Raises:
        ResultsError: the votes exist without verdicts, so they are not ours to replace.
        P2LError: the file cannot be written.
    """
    path = real_path(output)
    verdicts = path.with_name(path.name + _SUFFIX)
    with write_faults(output):
        foreign = path.exists() and not verdicts.exists()
    if foreign:
        raise ResultsError(f"{str(path)!r} exists, and `p2l judge` has not written it; name another file")
    return verdicts


@dataclass(frozen=True)
class Comparison:
    """Two answers to one prompt; model_a and model_b are the sides of the vote."""

    prompt: Prompt
    model_a: str
    model_b: str
    text_a: str
    text_b: str

    def shown(self, swapped: bool) -> tuple[str, str, str, str]:
        """The LLMs and answers in the order of a question: model, model, answer, answer."""
        a, b = (self.model_a, self.text_a), (self.model_b, self.text_b)
        first, second = (b, a) if swapped else (a, b)
        return first[0], second[0], first[1], second[1]

    def key(self, swapped: bool) -> Key:
        """The key of a question; see `key_of`."""
        first, second, *texts = self.shown(swapped)
        return id_of(self.prompt), first, second, fingerprint(texts)

    def vote(self, winner: Verdict, judge: str) -> dict[str, Any]:
        """The row of a vote."""
        prompt = self.prompt if isinstance(self.prompt, str) else [dict(message) for message in self.prompt]
        sides = {"model_a": self.model_a, "model_b": self.model_b}
        return {"prompt": prompt, **sides, "winner": str(winner), "judge": judge}


def comparisons(answers: Answers, pairs: Pairs) -> tuple[list[Comparison], int]:
    """The comparisons of all pairs with two answers, and the number of pairs that lack one.

    Without a plan, the pairs of a prompt are among the LLMs that were asked it.
    """
    found, skipped = [], 0
    for prompt, texts, asked in zip(answers.prompts, answers.texts, answers.asked, strict=True):
        for a, b in pairs.of(prompt, asked if pairs.plan is None else answers.models):
            if texts.get(a) and texts.get(b):
                found.append(Comparison(prompt, a, b, texts[a], texts[b]))
            else:
                skipped += 1
    return found, skipped


def verdict_row(query: Query, key: Key, outcome: Outcome, run: Mapping[str, Any]) -> Row:
    """The line of a question and its outcome."""
    answer, error = outcome.answer, outcome.error
    found = None if answer is None else verdict_of(answer.text, answer.finish_reason)
    row: Row = {
        "prompt_id": key[0],
        "model_a": key[1],
        "model_b": key[2],
        "answers": key[3],
        "attempt": query.attempt,
        "verdict": None if found is None else str(found),
        "reply": None if answer is None else answer.text,
        "finish_reason": None if answer is None else answer.finish_reason,
        "seconds": round(outcome.seconds, 6),
        "input_tokens": None if answer is None else answer.input_tokens,
        "output_tokens": None if answer is None else answer.output_tokens,
        "cost": outcome.cost,
    }
    if error is not None:
        row |= {"error": error.kind, "detail": error.detail}
    return {**row, "run": dict(run)}


def is_final(row: Row, retry_failed: bool) -> bool:
    """Whether a question needs not be asked again."""
    if row.get("error"):
        return not retry_failed
    return row["verdict"] is not None or row["attempt"] >= ATTEMPTS
