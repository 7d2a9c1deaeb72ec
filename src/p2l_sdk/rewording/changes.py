"""Changes that measure: each takes a prompt's text and a random generator, and returns the text changed, or None where
the change does not fit (it would alter the question, or leave the text as it was).

Code, formulas, quotations and the options of multiple choice keep every character; words are added only to English
prompts.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable

from p2l_sdk.rewording.prose import ends_as_prose, is_english, is_question, on_prose, prose_of

# word -> another that asks for the same; a word that is also something else ("show", "list") is left out
_SYNONYMS = {
    "write": "compose",
    "create": "make",
    "explain": "describe",
    "describe": "explain",
    "find": "determine",
    "calculate": "work out",
    "compute": "work out",
    "determine": "find",
    "provide": "give",
    "give": "provide",
    "what's": "what is",
    "how do i": "how can I",
    "how can i": "how do I",
    "how to": "how does one",
    "how many": "what number of",
    "how much": "what amount of",
    "which of the following": "which of these",
    "large": "big",
    "big": "large",
    "also": "in addition",
    "using": "with the help of",
    "each": "every",
    "every": "each",
}

Change = Callable[[str, random.Random], str | None]

_TYPOS = 0.02  # of the letters of prose
_LONGEST_REQUEST = 300  # characters of a paragraph that says what to do with the other ones
_WORD = re.compile(r"[a-zß-öø-ÿа-я]{5,}")
_COMMON = re.compile(rf"\b(?:{'|'.join(sorted(_SYNONYMS, key=len, reverse=True))})\b", re.IGNORECASE)
_CAPITALISED = re.compile(r"\b[A-Z][a-z]+\b")
_POINTS = re.compile(r"\b(?:following|above|below|next|previous|this|these|here)\b", re.IGNORECASE)
_POLITE = (
    "Could you please help me? {}",
    "Hi there! {}",
    "{} Thank you in advance.",
    "{} Thanks for your help!",
)
_INSTRUCTIONS = (
    "Think carefully before you answer.",
    "Give the best answer you can.",
    "You are a knowledgeable assistant.",
)
_QUESTIONS = (
    "Answer the following question: {}",
    "Here is my question: {}",
    "Can you answer this for me? {}",
    "I would like to know the following. {}",
)
_TASKS = (
    "Do the following: {}",
    "Here is my request: {}",
    "Can you do this for me? {}",
    "I would like you to do the following. {}",
)


def case(text: str, draw: random.Random) -> str | None:
    """Words that begin with a capital are written small, as many people type; single letters and abbreviations stay."""
    return changed(text, on_prose(text, lambda part: _CAPITALISED.sub(lambda word: word.group().lower(), part)))


def white_space(text: str, draw: random.Random) -> str | None:
    """Doubled spaces after sentences, and white space around the text."""
    spaced = on_prose(text, lambda part: re.sub(r"(?<=[.?!,]) (?=\S)", "  ", part))
    return draw.choice((f"{spaced}\n", f"\n{spaced}", f" {spaced} \n\n"))


def politeness(text: str, draw: random.Random) -> str | None:
    """A greeting, a plea or thanks."""
    return framed(text, draw.choice(_POLITE))


def instruction(text: str, draw: random.Random) -> str | None:
    """A sentence that goes without saying, before or after the text."""
    return framed(text, draw.choice(("{0} {{}}", "{{}} {0}")).format(draw.choice(_INSTRUCTIONS)))


def order(text: str, draw: random.Random) -> str | None:
    """Of several paragraphs, the one that says what to do: from the first place to the last, or from the last to the
    first. One that points at the others ("the following") stays."""
    paragraphs = [part for part in re.split(r"\n[ \t]*\n", text.strip()) if part.strip()]
    if len(paragraphs) < 2:
        return None
    *before, last = paragraphs
    first, *after = paragraphs
    if _is_request(last) and not _is_request(first):
        return "\n\n".join((last, *before))
    if _is_request(first) and not _is_request(last):
        return "\n\n".join((*after, first))
    return None


def typos(text: str, draw: random.Random) -> str | None:
    """Of every fifty letters of prose one mistyped, at least one: two letters swapped, one left out or doubled. Words
    of fewer than five letters and names stay."""
    words = sum(len(_WORD.findall(part)) for part in prose_of(text))
    letters = sum(len(word) for part in prose_of(text) for word in _WORD.findall(part))
    hit = set(draw.sample(range(words), min(words, max(1, round(_TYPOS * letters)))))
    number = itertools.count()
    return changed(
        text,
        on_prose(
            text,
            lambda part: _WORD.sub(
                lambda word: _mistyped(word.group(), draw) if next(number) in hit else word.group(), part
            ),
        ),
    )


def paraphrase(text: str, draw: random.Random) -> str | None:
    """The prompt announced by words of its own: a question as one, a task as one."""
    return framed(text, draw.choice(_QUESTIONS if is_question(text) else _TASKS))


def synonyms(text: str, draw: random.Random) -> str | None:
    """Common words replaced by others that ask for the same."""

    def other(word: re.Match[str]) -> str:
        new = _SYNONYMS[word.group().lower()]
        return new[0].upper() + new[1:] if word.group()[0].isupper() else new

    return changed(text, on_prose(text, lambda part: _COMMON.sub(other, part))) if is_english(text) else None


def punctuation(text: str, draw: random.Random) -> str | None:
    """A mark at the end more, fewer, or doubled."""
    bare = text.rstrip()
    if not bare or not ends_as_prose(bare):
        return None
    if bare[-1] in "?!":
        return draw.choice((bare[:-1].rstrip() or bare, bare + bare[-1]))
    if bare[-1] == "." and not bare.endswith(".."):
        return bare[:-1]
    if bare[-1].isalpha():
        return bare + ("?" if is_question(bare) else ".")
    return None


def several(text: str, draw: random.Random) -> str | None:
    """Synonyms, typos, a paraphrase and politeness at once, as far as they fit."""
    new = text
    for change in (synonyms, typos, paraphrase, politeness):
        new = change(new, draw) or new
    return changed(text, new)


CHANGES: dict[str, Change] = {
    change.__name__: change
    for change in (case, white_space, politeness, instruction, order, typos, synonyms, paraphrase, punctuation, several)
}
"""All of them by name."""


def changed(old: str, new: str) -> str | None:
    """The new text, if it is another one."""
    return new if new != old else None


def framed(text: str, frame: str) -> str | None:
    """A prompt in a frame of words, in which `{}` is its place: on the same line where the prompt is of one line that
    ends as a sentence does, else in paragraphs. None if the prompt is not English."""
    if not is_english(text):
        return None
    before, after = (part.strip() for part in frame.split("{}"))
    bare = text.strip()
    gap = "\n\n" if "\n" in bare else " "
    below = gap if bare[-1] in ".?!" else "\n\n"
    return (f"{before}{gap}" if before else "") + bare + (f"{below}{after}" if after else "")


def _is_request(paragraph: str) -> bool:
    short = len(paragraph) <= _LONGEST_REQUEST and "\n" not in paragraph and ends_as_prose(paragraph)
    return short and paragraph.rstrip()[-1:] in (".", "?") and not _POINTS.search(paragraph)


def _mistyped(word: str, draw: random.Random) -> str:
    i = draw.randrange(1, len(word) - 1)
    return draw.choice(
        (
            word[:i] + word[i + 1] + word[i] + word[i + 2 :],
            word[:i] + word[i + 1 :],
            word[:i] + word[i] + word[i:],
        )
    )
