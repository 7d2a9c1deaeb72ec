"""The columns of votes and scores by the names that files have for them.

Read without asking: the contract's names in any letter case and with blanks, hyphens or underscores ("Model A"); pairs
of sides ("Left Model", "Right Model"); a single column of texts that is named as prompts are ("Question"); and Kaggle's
one column for each outcome. Everything else is asked for, with a guess (`guess`).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from p2l_sdk.errors import TableError
from p2l_sdk.tables.columns import is_missing, is_no_number, is_numeric, number_of
from p2l_sdk.tables.grids import column_key
from p2l_sdk.tables.sources import ABSENT, Chunk
from p2l_sdk.tables.winners import is_text, number_in, side_or_tie, words_of

VOTES = ("prompt", "model_a", "model_b", "winner")
_CONTRACT = (*VOTES, "weight", "timestamp", "conversation_a", "conversation_b", "model", "score")
_PAIRS = (
    ("model_1", "model_2"), ("model1", "model2"), ("modela", "modelb"), ("left_model", "right_model"),
    ("model_left", "model_right"), ("llm_a", "llm_b"), ("llm_1", "llm_2"), ("llm1", "llm2"), ("llm_left", "llm_right"),
    ("left_llm", "right_llm"),
)  # fmt: skip
_BEATEN = (
    ("winner", "loser"), ("winner_model", "loser_model"), ("model_winner", "model_loser"),
    ("winning_model", "losing_model"), ("winner_llm", "loser_llm"), ("winning_llm", "losing_llm"),
    ("winner_name", "loser_name"), ("chosen_model", "rejected_model"), ("model_chosen", "model_rejected"),
    ("preferred_model", "rejected_model"), ("better_model", "worse_model"),
)  # fmt: skip
_OF_TIES = {"tie", "is_tie", "tied", "draw", "is_draw", "outcome", "result", "label", "vote", "verdict"}
_CONVERSATIONS = ("conversation", "conversations", "messages", "full_conversation")
_PROMPTS = ("question", "instruction", "text", "query", "user_prompt", "input", *_CONVERSATIONS)
_ONE_HOT = {
    "winner_model_a": "model_a", "winner_model_b": "model_b", "winner_tie": "tie", "winner_both_bad": "both_bad",
    "winner_bothbad": "both_bad", "winner_tie_bothbad": "both_bad",
}  # fmt: skip
_LIKE_PROMPT = {
    "question",
    "questions",
    "prompt",
    "prompts",
    "instruction",
    "query",
    "input",
    "text",
    "task",
    "request",
}
_NOT_PROMPT = {
    "id", "type", "category", "language", "lang", "source", "hash", "url", "comment", "comments", "note", "notes",
    "remark", "reason", "rationale", "explanation", "answer", "answers", "response", "responses", "completion",
    "chosen", "rejected", "judge", "judgment", "judgement", "feedback", "critique", "kommentar", "user", "rater",
    "annotator", "winner", "date", "time", "timestamp",
}  # fmt: skip
_LIKE_WINNER = {"winner", "better", "best", "preferred", "preference", "vote", "choice", "result", "outcome", "verdict",
                "label", "judgment", "judgement", "chosen"}  # fmt: skip
_SIDES = (("a", "b"), ("1", "2"), ("left", "right"), ("first", "second"), ("x", "y"))
_SENTENCE = 12  # characters of a text that may be a sentence without blanks between its words
_SHORT = 120  # characters; a longer text is no name of an LLM


def names_prompt(name: object) -> bool:
    """Whether a column is named as prompts are."""
    return column_key(name) in ("prompt", "conversation_a", *_PROMPTS)


def is_json_row(line: str, columns: Collection[str] = ()) -> bool:
    """Whether a line is a JSON object with a prompt; one that is damaged counts by what it holds.

    Args:
        line: the text.
        columns: other names of columns of prompts.
    """
    if not line.lstrip().startswith("{"):
        return False
    try:
        keys = json.loads(line).keys()
    except ValueError:
        return any(f'"{name}"' in line for name in ("prompt", "conversation_a"))
    return any(names_prompt(key) or key in columns for key in keys)


def lines_of_prompts(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The lines of a text, each a prompt, as they are; TableError if the first is a row of JSON lines."""
    for place, (number, line) in enumerate(lines):
        if place == 0 and is_json_row(line.removeprefix("\ufeff")):
            raise TableError(
                f"line {number} is a JSON object with a prompt, in a text of one prompt per line; let the name of the "
                "file end with .jsonl"
            )
        yield number, line


def known_columns(chunk: Chunk, untyped: bool, taken: Mapping[str, str]) -> dict[str, str]:
    """The columns that are certain: the contract's name -> name in the table, where the two differ.

    Args:
        chunk: the first columns of the table.
        untyped: whether all values are strings, even numbers.
        taken: what is known already, likewise.
    """
    free = [name for name in chunk if name not in taken.values() and isinstance(name, str)]
    by_plain: dict[str, list[str]] = {}
    for name in free:
        by_plain.setdefault(column_key(name), []).append(name)

    def single(key: str) -> str | None:
        names = by_plain.get(key, [])
        return names[0] if len(names) == 1 else None

    found = dict(taken)
    for ours in _CONTRACT:
        if ours not in chunk and ours not in found and ours not in ("model_a", "model_b") and (column := single(ours)):
            found[ours] = column
    there = chunk.keys() | found.keys()
    for ours, other in (("model_a", "model_b"), ("model_b", "model_a")):
        if ours in there and other not in there and (side := single(other)) and not is_numeric(chunk[side], untyped):
            found[other] = side
    if not {"model_a", "model_b"} & there:
        pairs = [(a, b) for a, b in (("model_a", "model_b"), *_PAIRS) if single(a) and single(b)]
        named = [(str(single(a)), str(single(b))) for a, b in pairs]
        named = [pair for pair in named if not any(is_numeric(chunk[name], untyped) for name in pair)]
        if len(named) == 1 or (named and pairs[0] == ("model_a", "model_b")):
            found |= dict(zip(("model_a", "model_b"), named[0], strict=True))
    if not {"prompt", "conversation_a"} & (chunk.keys() | found.keys()):
        texts = [name for key in _PROMPTS for name in by_plain.get(key, []) if not is_numeric(chunk[name], untyped)]
        if len(texts) == 1:
            found["conversation_a" if column_key(texts[0]) in _CONVERSATIONS else "prompt"] = texts[0]
    return found


def beaten(chunk: Chunk, untyped: bool, taken: Mapping[str, str]) -> tuple[str, str] | None:
    """Two columns that name the LLM that won and the one that lost, in every row; None if there are none for certain.

    Args:
        chunk, untyped, taken: as in `known_columns`.
    """
    if "winner" in taken or {"model_a", "model_b"} & chunk.keys():
        return None
    given = [taken[side] for side in ("model_a", "model_b") if side in taken]
    by_plain = {column_key(name): name for name in chunk if isinstance(name, str)}
    pairs = [(by_plain[a], by_plain[b]) for a, b in _BEATEN if a in by_plain and b in by_plain]
    pairs = [pair for pair in pairs if not given or list(pair) == given]
    if len(pairs) != 1 or _OF_TIES & by_plain.keys() or any(a in by_plain and b in by_plain for a, b in _PAIRS):
        return None
    values = [value for name in pairs[0] for value in chunk[name] if not is_missing(value)]
    names = all(isinstance(value, str) and len(value) < _SHORT for value in values)
    sides = all(isinstance(value, str) and side_or_tie(value) is not None for value in values)
    numeric = any(is_numeric(chunk[name], untyped) for name in pairs[0])
    return pairs[0] if names and not sides and not numeric else None


def answers_of_pairs(chunk: Chunk) -> tuple[str, str] | None:
    """Two columns of texts, the answer that was preferred and the other one, as files for DPO have them."""
    by_plain = {column_key(name): name for name in chunk if isinstance(name, str)}
    return (by_plain["chosen"], by_plain["rejected"]) if {"chosen", "rejected"} <= by_plain.keys() else None


def numeric_sides(chunk: Chunk) -> tuple[str, str] | None:
    """Two columns of a table of scores that are named as the sides of votes are ("Model A", "Model B")."""
    by_plain = {column_key(name): name for name in chunk}
    pairs = (("model_a", "model_b"), *_PAIRS)
    return next(((by_plain[a], by_plain[b]) for a, b in pairs if a in by_plain and b in by_plain), None)


def names_of_sides(chunk: Chunk) -> tuple[str, str] | None:
    """Two columns named as two sides are, in which the same short texts stand ("Modell A", "Modell B"): the LLMs of
    votes, whatever numbers stand beside them."""
    cells = {name: [v for v in values if not is_missing(v)] for name, values in chunk.items() if isinstance(name, str)}
    texts = {name: set(vs) for name, vs in cells.items() if vs and _are_texts(vs) and max(map(len, vs)) < _SHORT}
    words = {name for name in texts if len(words_of(name).split()) > 1 and not is_numeric(cells[name], True)}
    return next((pair for pair in _named_sides(words) if texts[pair[0]] & texts[pair[1]]), None)


def pair_of_sides(names: Iterable[str]) -> tuple[str, str] | None:
    """Two columns whose names differ as those of two sides do ("rating_a", "rating_b")."""
    return next(_named_sides(names), None)


def one_hot(chunk: Chunk, found: Mapping[str, str]) -> dict[str, str]:
    """The columns that say by 0 and 1 who won: name in the table -> outcome; empty if there are none."""
    if "winner" in chunk or "winner" in found:
        return {}
    names = {name: _ONE_HOT[column_key(name)] for name in chunk if column_key(name) in _ONE_HOT}
    return names if {"model_a", "model_b"} <= set(names.values()) else {}


def winner_of(row: Sequence[Any], words: Sequence[str]) -> Any:
    """The winner in a row of `one_hot` columns; None if none is marked, several words if not exactly one is."""
    numbers = [0.0 if is_no_number(value) or value is ABSENT else _flag(value) for value in row]
    if all(number in (0.0, 1.0) for number in numbers):
        marked = [word for word, number in zip(words, numbers, strict=True) if number]
        return marked[0] if len(marked) == 1 else " and ".join(marked) or None
    return ", ".join(f"{word} {value}" for word, value in zip(words, row, strict=True))


def _flag(value: Any) -> float:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return float(value.strip().lower() == "true")
    return number_of(value)


# --- guesses ---------------------------------------------------------------------------------------------------------


def guess(table: Chunk, missing: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """For columns that are missing, the columns of a table that they probably are, by name and by content.

    Args:
        table: all rows.
        missing: some of `VOTES`.
        taken: columns of the table whose meaning is known.
    """
    found: dict[str, str] = {}
    free = {name: [v for v in column if not is_missing(v)] for name, column in table.items() if name not in taken}
    free = {name: values for name, values in free.items() if values and isinstance(name, str) and name.strip()}
    if {"model_a", "model_b"} & set(missing):
        sides = next(_side_pairs(free), None) if {"model_a", "model_b"} <= set(missing) else None
        if sides:
            found |= dict(zip(("model_a", "model_b"), sides, strict=True))
    if "winner" in missing:
        known = [found.get(side, side) for side in ("model_a", "model_b")]
        llms = {words_of(str(v)) for side in known for v in (side, *table.get(side, [])) if not is_missing(v)}
        short = {name: values for name, values in free.items() if not any(map(is_text, map(str, values)))}
        scored = [(_winner_share(values, llms), _like(name, _LIKE_WINNER), name) for name, values in short.items()]
        scored = [(share + 0.5 * like, like, name) for share, like, name in scored if name not in found.values()]
        best = max(scored, default=(0.0, False, ""))
        few = [name for name in short if name not in found.values() and _few(free[name])]
        if best[0] >= 0.5 and [score for score, *_ in scored].count(best[0]) > 1:
            pass  # two columns are as good: the user has to say which
        elif best[0] >= 0.5 or len(few) == 1:
            found["winner"] = best[2] if best[0] >= 0.5 else few[0]
    if "prompt" in missing:
        left = [name for name in free if name not in found.values() and _are_texts(free[name])]
        left = [name for name in left if not is_numeric(free[name], True)]  # tokens_prompt
        left = [name for name in left if not _like(name, _NOT_PROMPT)]
        named = [name for name in left if _like(name, _LIKE_PROMPT)]
        longest = sorted(
            named or [name for name in left if _are_prompts(free[name])],
            key=lambda name: -sum(len(v) for v in free[name]) / len(free[name]),
        )
        if longest:
            found["prompt"] = longest[0]
    return found


def _like(name: str, words: set[str]) -> bool:
    return bool(words & set(words_of(name).split()))


def _few(values: Sequence[Any]) -> bool:
    """Whether a column has two to six different values that repeat."""
    distinct = set(map(str, values))
    return 2 <= len(distinct) <= 6 and len(values) >= 3 * len(distinct)


def _are_texts(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _are_prompts(values: Sequence[str]) -> bool:
    """Whether texts may be prompts: not a few labels, names or numbers again and again."""
    letters = sum(sum(map(str.isalpha, value)) for value in values)
    words = sum(len(value.split()) >= 2 or len(value) >= _SENTENCE for value in values)
    most = 2 * words > len(values) and 2 * letters > sum(map(len, values))
    return most and not _few(values) and len(set(values)) > 1


def _side_pairs(free: Mapping[str, list[Any]]) -> Iterator[tuple[str, str]]:
    """Pairs of columns that may name the two LLMs: first those named as two sides are, then those that share names."""
    short = {
        name: {v.strip() for v in vs} for name, vs in free.items() if _are_texts(vs) and max(map(len, vs)) < _SHORT
    }
    short = {name: values for name, values in short.items() if len(values) <= max(3, len(free[name]) / 3)}
    short = {
        name: values
        for name, values in short.items()
        if not all(side_or_tie(v) is not None or number_in(v) is not None for v in values)
    }
    yield from _named_sides(short)
    for first, second in itertools.combinations(short, 2):
        if len(short[first] & short[second]) >= 1 and len(short[first] | short[second]) > 1:
            yield first, second


def _named_sides(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of columns whose names differ in the word for one of two sides ("Left model", "Right model")."""
    for first, second in itertools.permutations(names, 2):
        a, b = words_of(first).split(), words_of(second).split()
        swaps = [(x, y) for x, y in zip(a, b, strict=False) if x != y]
        if len(a) == len(b) and len(swaps) == 1 and swaps[0] in _SIDES:
            yield first, second


def _winner_share(values: Sequence[Any], llms: set[str]) -> float:
    """The share of values that read as a winner."""
    read = [
        isinstance(v, str | bool | int | float)
        and (
            (isinstance(v, str) and (side_or_tie(v) is not None or words_of(v) in llms))
            or number_in(v) in ("0", "0.5", "1", "2", "true", "false")
        )
        for v in values
    ]
    return sum(read) / len(read)
