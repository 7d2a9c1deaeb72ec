"""What a cell of the prompts holds: a prompt as it stands, or a list of turns that a file of plain text can only spell.

CSV files have no lists, so a conversation is written there as text, often with the answers of the LLM. Whether a text
is a list of turns is decided by its whole column, as a user may also ask about a piece of JSON:

- `conversation_a` holds conversations: each of its texts has to be a JSON list of messages.
- The texts of `prompt` are read as JSON if most of them are JSON lists of turns (messages or strings), or all are
  lists however they are spelled; the others are refused then. Otherwise they are prompts as they stand.
- A list of strings that Python printed is read where it prints as exactly this text again. Whatever else Python or
  numpy print of a conversation is refused in any column: it cannot be read back with certainty.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from p2l_sdk.errors import TableError
from p2l_sdk.modeling.prompt_p2l import ROLES
from p2l_sdk.tables.sources import ABSENT, Chunk
from p2l_sdk.tables.warn import warn_caller

REMEDY = (
    "write the column as JSON (json.dumps of each list), or the table as JSON lines or Parquet, which keep lists as "
    "they are"
)

# how a list of turns begins, and what holds one
_LIST = re.compile(r"""\s*(?:(?:array\()?[\[(]\s*(?:[\[{'"\])]|null\b|None\b)|\{\s*"|"\s*\[)""")
# how Python prints a message: as a dictionary, or an object with these fields
_PRINTED = re.compile(
    r"""[\s\[(]*(?:array\([\s\[]*)?\{\s*'(?:role|content)'\s*:|\s*\[\s*\w+\([\[(]*'?(?:role|content)['=]"""
)
_SHARED = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant"}
_TRANSCRIPT = re.compile(  # what stands before a name stays in its line: else a text of blanks would take seconds
    r"\W*(user|human)[ \t]*:.*^[^\w\n]*(assistant|ai|bot|chatgpt|claude|gpt)[ \t]*:", re.I | re.S | re.M
)
_LOOKED_AT = 10_000  # characters of a text in which a transcript shows
_ASKED = "user"  # the key of the question in a turn that two LLMs answered
HOLDERS = ("messages", "conversation", "conversations", "turns")  # keys of objects around a list of messages


@dataclass(frozen=True)
class Refused:
    """A cell that is no prompt; `checked_prompt` raises the reason, so that every faulty row is found."""

    reason: str


class _Kind(Enum):
    TEXT = auto()
    STRINGS = auto()  # a list of strings, in JSON with nulls
    MESSAGES = auto()  # a JSON list of messages
    UNREADABLE = auto()  # another spelling of a list of turns, or one that was cut off


def prompt_of_cell(value: Any) -> Any:
    """The prompt in a cell: strings are user turns, of which a null is none; everything else is as it is.

    Raises:
        TableError: the cell was refused with its column, or is a conversation as Python or numpy prints it.
    """
    if isinstance(value, Refused):
        raise TableError(value.reason)
    if isinstance(value, str):
        if _is_printed(value):
            raise TableError(f"the prompt is a list of turns as Python prints it ({_start(value)}); {REMEDY}")
    elif isinstance(value, list) and all(turn is None or isinstance(turn, str) for turn in value):
        return [{"role": "user", "content": turn} for turn in value if turn is not None]
    value = _held(value)
    if _is_of_pairs(value):
        return [turn[_ASKED] for turn in value]
    return _of_sharegpt(value) if is_sharegpt(value) else value


def _held(value: Any) -> Any:
    """The list of messages in an object around it, such as the body of a request; any other value as it is."""
    if not isinstance(value, Mapping) or "role" in value:
        return value
    return next((value[name] for name in HOLDERS if isinstance(value.get(name), list)), value)


def _is_of_pairs(value: Any) -> bool:
    """Whether a value is a list of turns that two LLMs answered, as newer data of the Arena have it
    (`full_conversation`)."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(turn, Mapping) and isinstance(turn.get(_ASKED), Mapping) and "role" not in turn for turn in value
        )
    )


def is_sharegpt(value: Any) -> bool:
    """Whether a value is a conversation as ShareGPT has it: a list of turns with `from` and `value`."""
    return isinstance(value, list) and bool(value) and all(map(_is_shared_turn, value))


def _is_shared_turn(turn: Any) -> bool:
    return isinstance(turn, Mapping) and {"from", "value"} <= turn.keys() and "role" not in turn


def _of_sharegpt(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"role": _SHARED.get(turn["from"], turn["from"]), "content": turn["value"]} for turn in turns]


class PromptCells:
    """Reads the cells of a column of prompts, chunk by chunk. What the texts of `prompt` are is decided by the first
    chunk that has some; later ones have to agree."""

    def __init__(self) -> None:
        self._are_lists: bool | None = None

    def __call__(self, chunk: Chunk, values: Sequence[Any]) -> list[Any]:
        """The prompts of a chunk: texts that are JSON are parsed, what cannot be one is `Refused`.

        Args:
            chunk: the columns.
            values: its prompts: the cells of `prompt`, or of `conversation_a` in rows without one.
        """
        column = chunk.get("prompt", [ABSENT] * len(values))
        if self._are_lists is None:
            self._are_lists = _are_lists([value for value in column if value is not ABSENT])
            _warn_of_transcripts(column)
        of_list = functools.cache(_of_list)  # a prompt often has many votes
        made = []
        for name, value in zip(column, values, strict=True):
            if name is ABSENT:
                value = _conversation(value)
            elif self._are_lists and isinstance(value, str) and value.strip():
                value = of_list(value)
            made.append(value)
        return made


def _warn_of_transcripts(values: Sequence[Any]) -> None:
    """Warn if most texts of a column `prompt` are conversations, whose answers would be read as the user's words."""
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    if texts and 2 * sum(_TRANSCRIPT.match(text[:_LOOKED_AT]) is not None for text in texts) > len(texts):
        warn_caller(
            'most prompts are transcripts ("User: ... Assistant: ..."), and are read as they stand, answers too; for '
            'the user\'s turns alone, write messages: [{"role": "user", "content": "..."}, ...]'
        )


def _of_list(text: str) -> Any:
    """A text of a column `prompt` that holds lists of turns."""
    kind, read = _read(text)
    if kind in (_Kind.STRINGS, _Kind.MESSAGES):
        return read
    if _is_printed(text):
        return text  # `prompt_of_cell` says what it is
    return Refused(
        f"prompt is no JSON list of messages or strings ({_start(text)}), and the column holds such lists; {REMEDY}"
    )


def _conversation(value: Any) -> Any:
    """A cell of `conversation_a`."""
    if isinstance(value, list) and any(isinstance(turn, str) for turn in value):
        return Refused(
            "the conversation is a list of strings, which does not say who wrote which; write messages with role and "
            "content, or name a column of user turns prompt"
        )
    if not isinstance(value, str) or not value.strip():
        return value
    kind, read = _read(value)
    if kind is _Kind.MESSAGES:
        return read
    return Refused(
        f"the conversation is text that is no JSON list of messages ({_start(value)}); {REMEDY}, or name a column of "
        "plain prompts prompt"
    )


def _are_lists(values: Sequence[Any]) -> bool | None:
    """Whether the texts of a column `prompt` are lists of turns; None if it has no texts."""
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    if not texts or any(isinstance(value, list) for value in values):  # where lists are lists, text is text
        return None if not texts else False
    kinds = [_read(text)[0] if _LIST.match(text) else _Kind.TEXT for text in texts]
    return _Kind.TEXT not in kinds or 2 * (kinds.count(_Kind.MESSAGES) + kinds.count(_Kind.STRINGS)) > len(kinds)


def _read(text: str) -> tuple[_Kind, Any]:
    """The kind of a text, and the list if it is one in JSON."""
    if not _LIST.match(text):
        return _Kind.TEXT, None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # a list and more: a question about it
            return _Kind.TEXT, None
        if (strings := _strings_of_python(text.strip())) is not None:
            return _Kind.STRINGS, strings
        return _Kind.UNREADABLE if _is_list(text, error) else _Kind.TEXT, None
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets
        return _Kind.TEXT, None
    value = _held(value)
    if not isinstance(value, list):
        return _Kind.UNREADABLE if _holds_list(value) else _Kind.TEXT, None
    if all(turn is None or isinstance(turn, str) for turn in value):
        return _Kind.STRINGS, value
    if all(isinstance(turn, Mapping) for turn in value):
        if all("role" in turn and ("content" in turn or turn["role"] in ROLES) for turn in value):
            return _Kind.MESSAGES, value
        return _Kind.UNREADABLE if all({"from", "value"} <= turn.keys() for turn in value) else _Kind.TEXT, None
    pairs = all(isinstance(turn, list) and all(isinstance(text, str | None) for text in turn) for turn in value)
    return _Kind.UNREADABLE if pairs else _Kind.TEXT, None


def _strings_of_python(text: str) -> list[str] | None:
    """The list of strings that Python prints as exactly this text; None if there is none: numpy leaves out commas."""
    if not text.startswith(("['", '["')):
        return None
    with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's, of escapes that it does not know
        value = ast.literal_eval(text)
        if isinstance(value, list) and all(isinstance(turn, str) for turn in value) and repr(value) == text:
            return value
    return None


def _holds_list(value: Any) -> bool:
    """Whether a JSON value that is no list is a single message, or something around a list of turns."""
    if isinstance(value, str):
        return _LIST.match(value) is not None
    return isinstance(value, dict) and {"role", "content"} <= value.keys()


def _is_list(text: str, error: json.JSONDecodeError) -> bool:
    """Whether a text that is no JSON is a list of turns nevertheless: cut off, or as Python prints it."""
    of_objects = (_LIST.match(text) or "[")[0].endswith("{")
    if of_objects and not ('"role"' in text or _is_printed(text)):
        return False  # of other things
    cut_off = error.msg.startswith("Unterminated") or error.pos >= len(text.rstrip())
    return cut_off or text.rstrip().endswith(("]", ")"))


def _is_printed(text: str) -> bool:
    if _PRINTED.match(text):
        return "role" in text and "content" in text
    return text.lstrip().startswith("array([") and text.rstrip().endswith("dtype=object)")


def _start(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
