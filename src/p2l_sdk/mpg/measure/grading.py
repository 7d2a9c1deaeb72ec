r"""Graders: functions of (answer, question) that return a score in [0, 1].

Both graders here ignore thinking (<think>...</think>) and Markdown, and prefer what the answer itself declares to be
its result ("the answer is", "Answer:", "####", \boxed{}), the last one if there are several.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from fractions import Fraction
from typing import TypeAlias

from p2l_sdk.errors import ResultsError, member
from p2l_sdk.mpg.measure.questions import LETTERS, Question

Grader: TypeAlias = Callable[[str, Question], float]

_THINKING = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_MARKUP = re.compile(r"\*\*|__|`|\\\(|\\\)|\$(?!\d)|\\text(?=\{)")
_NAMED = re.compile(r"\banswers?\s*(?:(?:is|are)\b\s*:?|:)\s*|####\s*|\\boxed\s*(?=\{)", re.IGNORECASE)
_WORDS = re.compile(
    r"(?:(?:the|most|likely|probably|correct|right|option|choice|letter|answer|is)\b[\s:]*)*", re.IGNORECASE
)
# a letter given as the answer: in brackets, or alone; a lower-case one only before punctuation or the end of the line
_LETTER = re.compile(r"[(\[{]\s*([A-Za-z])\s*[)\]}]|([A-Z])(?![A-Za-z'])|([a-z])(?=\s*(?:[).:,;\]]|$))", re.MULTILINE)
_SECOND = re.compile(
    r"\s*[)\]}.]?\s*(?:,|/|&|\bor\b|\band\b)\s*[(\[]?([A-HJ-Z])(?![A-Za-z'])"
)  # no I: ", I think" does not name a letter
_ALONE = re.compile(  # "A" and "I" are also words
    r"(?<!not )(?:[(\[]([A-Z])[)\]]|(?<![\w'])([B-HJ-Z])(?![\w'])|(?<![\w'])([AI])(?=[).:,;]|\s+(?:and|or)\b|\s*$))",
    re.MULTILINE,
)
_NUMBER = re.compile(
    r"[-+]?\s?[$€£]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?:\s?/\s?\d+)?|[-+]?\.\d+"
)
_TYPOGRAPHY = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2212: "-", 0xA0: " "}  # quotes, minus, space
_EDGES = " \t\r\n.,;:!?\"'()[]{}"


class GraderName(StrEnum):
    """The built-in graders."""

    EXACT = "exact"
    CHOICE = "choice"


def grader_of(name: GraderName | str | None) -> Grader:
    """The grader with this name; None selects `choice` for questions with choices and `exact` for others."""
    if name is None:
        return lambda answer, question: (choice if question.choices else exact)(answer, question)
    return {GraderName.EXACT: exact, GraderName.CHOICE: choice}[member(GraderName, "grader", name, ", or a function")]


def choice(answer: str, question: Question) -> float:
    """1 if the answer chooses the letter of a right option; 0 if it chooses another, none or several.

    Raises:
        ResultsError: the question has no right letter.
    """
    n = len(question.choices) or len(LETTERS)
    right = {letter for wanted in question.answers if (letter := letter_of(wanted, question))}
    if not right:
        raise ResultsError(
            f"question {question.question_id!r} has no choices, and its answer {question.answers[0]!r} is no letter; "
            "give its choices, or grade it with exact"
        )
    return float(chosen(answer, question.choices, LETTERS[:n]) in right)


def letter_of(wanted: str, question: Question) -> str | None:
    """The letter of a right answer, which may be given as a letter or as the text of the option; None if neither."""
    if wanted in question.choices:
        return LETTERS[question.choices.index(wanted)]
    letter = wanted.strip(_EDGES).upper()
    return letter if len(letter) == 1 and letter in LETTERS[: len(question.choices) or len(LETTERS)] else None


def chosen(answer: str, choices: tuple[str, ...] = (), letters: str = LETTERS) -> str | None:
    """The letter that an answer to a multiple-choice question chooses; None if it chooses none or several."""
    text = _plain(answer)
    named = [_first_letter(text, match.end(), letters) for match in _NAMED.finditer(text)]
    if any(named):
        letter = [letter for letter in named if letter][-1]
        return letter if len(letter) == 1 else None
    texts = [_key(option) for option in choices]
    if texts.count(_key(text)) == 1:
        return letters[texts.index(_key(text))]
    if (letter := _first_letter(text, 0, letters)) and len(letter) > 1:
        return None
    if letter and re.fullmatch(r"\W*[A-Za-z]\W*|\W*[A-Za-z](?:\s*[).:\]}]|\s+-).*", text, re.DOTALL):
        return letter
    found = {"".join(groups) for groups in _ALONE.findall(text)} & set(letters)
    if len(found) == 1:
        return found.pop()
    spoken = [
        letters[i]
        for i, option in enumerate(texts)
        if option and re.search(rf"(?<!\w){re.escape(option)}(?!\w)", _key(text))
    ]
    return spoken[0] if not found and len(spoken) == 1 else None


def exact(answer: str, question: Question) -> float:
    """1 if the answer is right, else 0. Numbers are compared by value: the one after "the answer is", or else the last.
    Otherwise the text, or the line after "the answer is", must match, ignoring case, spacing and outer punctuation."""
    text = _plain(answer)
    ends = [match.end() for match in _NAMED.finditer(text)]
    tails = [text[ends[-1] :].splitlines()[0] if text[ends[-1] :].strip() else text] if ends else []
    for wanted in question.answers:
        number = _whole_number(wanted)
        if number is None:
            if _key(wanted) in {_key(text), *map(_key, tails)}:
                return 1.0
        else:
            numbers = [_value(found) for found in _NUMBER.findall(tails[0])][:1] if tails else []
            numbers = numbers or [_value(found) for found in _NUMBER.findall(text)][-1:]
            if number in numbers:
                return 1.0
    return 0.0


def _plain(answer: str) -> str:
    return _MARKUP.sub("", _THINKING.sub("", answer.translate(_TYPOGRAPHY))).strip()


def _first_letter(text: str, start: int, letters: str) -> str:
    """The letter at this position, after words such as "option"; two if a second follows ("A or B"), "" if none."""
    words = _WORDS.match(text, start)
    start = words.end() if words else start
    match = _LETTER.match(text, start)
    if match is None:
        return ""
    letter = "".join(filter(None, match.groups())).upper()
    second = _SECOND.match(text, match.end())
    if letter not in letters:
        return ""
    return letter + second[1] if second and second[1] in letters and second[1] != letter else letter


def _key(text: str) -> str:
    return " ".join(text.translate(_TYPOGRAPHY).casefold().split()).strip(_EDGES)


def _whole_number(text: str) -> Fraction | None:
    stripped = text.strip().rstrip("%.").strip()
    return _value(stripped) if _NUMBER.fullmatch(stripped) else None


def _value(text: str) -> Fraction | None:
    plain = re.sub(r"[,$€£\s]", "", text)
    try:
        return Fraction(plain)
    except (ValueError, ZeroDivisionError):
        return None
