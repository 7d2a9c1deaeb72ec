"""Tokens of many prompts, word by word: what BERT's tokenizer gives, several times faster.

It reads a text in words: blanks divide it, every mark of punctuation is a word of its own, and what comes of a word
does not depend on its neighbours. So a word needs to be read only once. The first time, the tokenizer itself reads it;
after that, its tokens are looked up. A text that is not all ASCII is divided at blanks alone, and the tokenizer reads
what lies between them.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

from tokenizers import Regex
from tokenizers.normalizers import Replace

from p2l_sdk.modeling.prompt_p2l import PromptEncoder

_MOST_CHARACTERS = 1_000_000  # of the words that are remembered, some 150,000
_LONGEST = 24  # characters of one: what is longer is rare, and may be a password
_PLAIN = re.compile(r"[\t\n\r -~]*")
_WORDS = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]")
_CLASSES = re.compile(r"\[[^\[\]^&]+\](?:\+|\{\d+,\})(?:\|\[[^\[\]^&]+\](?:\+|\{\d+,\}))*")  # of a regular expression
_ASCII = bytes(range(128)).decode()
_BETWEEN_BLANKS = re.compile(r"[^ \t\n\r]+")


class WordEncoder(PromptEncoder):
    """A `PromptEncoder` that remembers the tokens of words.

    Args:
        encoder: the encoder whose ids it gives; see `reads_words`.
    """

    def __init__(self, encoder: PromptEncoder) -> None:
        self.__dict__.update(encoder.__dict__)
        self._known: dict[str, list[int]] = {}
        self._size = 0  # characters of the words

    def _read(self, texts: Sequence[str], characters: int) -> list[tuple[list[int], bool]]:
        if self._size > _MOST_CHARACTERS:
            self._known, self._size = {}, 0
        known = self._known  # another thread may begin anew meanwhile
        words = [_words_of(text[-characters * self._limit :]) for text in texts]
        every = list(itertools.chain.from_iterable(words))
        tokens: list[Any] = list(map(known.get, every))
        if None in tokens:
            new = list(dict.fromkeys(word for word, own in zip(every, tokens, strict=True) if own is None))
            found = dict(zip(new, (row for row, _ in super()._read(new, characters)), strict=True))
            tokens = [found[word] if own is None else own for word, own in zip(every, tokens, strict=True)]
            kept = {word: row for word, row in found.items() if len(word) <= _LONGEST}
            known.update(kept)
            self._size += sum(map(len, kept))
        ends = itertools.accumulate(map(len, words), initial=0)
        ids = (list(itertools.chain.from_iterable(tokens[a:b])) for a, b in itertools.pairwise(ends))
        read = [(row[-self._limit :], len(row) > self._limit) for row in ids]
        for i, (row, cut) in enumerate(read):
            if len(row) == self._limit and not cut:  # maybe one word, of which there is more
                read[i] = super()._read([texts[i]], characters)[0]
        return read


def _words_of(text: str) -> list[str]:
    plain = text.isascii() and _PLAIN.fullmatch(text)
    return (_WORDS if plain else _BETWEEN_BLANKS).findall(text)


def reads_words(encoder: PromptEncoder) -> bool:
    """Whether an encoder's tokenizer is BERT's: its normalizer, its rules of words, and nothing around them but marks
    for what it cannot spell (`training/unread_scripts.py`)."""
    state = json.loads(encoder.tokenizer.to_str())
    normalizer = state["normalizer"] or {}
    steps = normalizer.get("normalizers", [normalizer])
    normalizer = steps[-1] if steps and all(map(_marks, steps[:-1])) else {}
    rules = normalizer.get("type"), (state["pre_tokenizer"] or {}).get("type"), state["model"]["type"]
    special = all(token["special"] for token in state["added_tokens"])
    plain = encoder.tokenizer.encode_special_tokens and not encoder.spec.add_special_tokens
    return rules == ("BertNormalizer", "BertPreTokenizer", "WordPiece") and special and plain


def _marks(rule: dict[str, Any]) -> bool:
    """Whether a rule replaces runs of characters, none of them ASCII, so that it reads each word by itself."""
    pattern = str((rule.get("pattern") or {}).get("Regex"))
    plain = rule.get("type") == "Replace" and str(rule.get("content")).isascii() and _CLASSES.fullmatch(pattern)
    return bool(plain) and Replace(Regex(pattern), "").normalize_str(_ASCII) == _ASCII
