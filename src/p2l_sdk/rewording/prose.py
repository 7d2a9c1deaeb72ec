"""Which parts of a prompt are prose, so that their letters and spaces may change, and which must stay as they are:
code, formulas, quotations, addresses, and the options of multiple choice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_KEPT = re.compile(
    r"""
      (?s:```.*?(?:```|\Z))                                  # blocks of code
    | `[^`\n]+`
    | (?s:\$\$.*?\$\$ | \\\(.*?\\\) | \\\[.*?\\\]) | \$[^$\n]+\$   # formulas
    | "[^"\n]*" | “[^”\n]*” | «[^»\n]*» | „[^“\n]*“ | 「[^」\n]*」    # quotations
    | \w{1,20}://\S+ | \S{1,80}@\S+ | \S{0,80}[/\\]\S+       # addresses and paths
    | ^(?:\t|[ ]{4,})[^\n]*$                                 # lines of code, as far as they can be told
    | ^[^\n]*(?:[{};]|\*/)[ \t]*$
    | ^[^\n]*(?:==|!=|:=|=>|->|\+=|\(\)|::|</|/>|//|[=^∫∑√≤≥])[^\n]*$
    | ^[ \t]*(?:def|class|import|from|return|elif|print|var|let|const|public|private|using|package)\b[^\n]*$
    | ^[ \t]*(?:[@#<]|>>>)[^\n]*$
    | ^[ \t]*\(?[A-Z0-9ivx]{1,4}[.):][ \t][^\n]*$            # options and numbered parts
    """,
    re.VERBOSE | re.MULTILINE,
)
_ENGLISH = re.compile(
    r"\b(?:the|of|is|are|what|which|who|how|why|when|where|and|with|for|that|this|to|write|if|does|did|can|you)\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    r"\W*(?:what|which|who|whom|whose|how|why|when|where|is|are|does|do|did|can|could)\b", re.IGNORECASE
)


def kept_parts(text: str) -> list[str]:
    """The parts of a prompt that are not prose, in their order."""
    return [part for part, prose in _parts(text) if not prose]


def prose_of(text: str) -> list[str]:
    """The stretches of prose of a prompt, in their order."""
    return [part for part, prose in _parts(text) if prose]


def on_prose(text: str, change: Callable[[str], str]) -> str:
    """The text with `change` applied to each stretch of prose."""
    return "".join(change(part) if prose else part for part, prose in _parts(text))


def ends_as_prose(text: str) -> bool:
    """Whether what ends the text is prose, so that its punctuation may change."""
    last = None
    for part, prose in _parts(text.rstrip()):
        last = prose if part.strip() else last
    return bool(last)


def is_english(text: str) -> bool:
    """Whether English words fit the text; judged by its frequent words and by letters outside of ASCII."""
    letters = [character for character in text[:2000] if character.isalpha()]
    foreign = sum(not character.isascii() for character in letters)
    return foreign <= 0.02 * len(letters) and _ENGLISH.search(text) is not None


def is_question(text: str) -> bool:
    """Whether the text is a question rather than a task."""
    return text.rstrip().endswith("?") or _QUESTION.match(text) is not None


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """The text in stretches, and whether each is prose."""
    end = 0
    for found in _KEPT.finditer(text):
        if found.start() > end:
            yield text[end : found.start()], True
        yield found.group(), False
        end = found.end()
    if end < len(text):
        yield text[end:], True
