"""Names of clusters of prompts: the terms that set a cluster apart from the others (class-based tf-idf).

A term's weight in a cluster is its share of the cluster's terms, times log(1 + mean terms of a cluster / how often all
clusters use it); Grootendorst (2022), arXiv 2203.05794.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

_CHARACTERS = 2000  # of a prompt that are read
_NAMED = 3  # terms in a name
_KEPT = 10  # terms of a cluster
_RARE = 3  # prompts of a cluster that a term must be in
_MARKUP = re.compile(  # the names of environments, commands, tags and languages are no words of the prompt
    r"\\(?:begin|end)\s*\{[^{}]*\}(?:\s*\{[lcr|@ ]*\})?"  # LaTeX: \begin{array}{cc}
    r"|\\[a-zA-Z]+\*?"  # \frac
    r"|<!--[^<>]*-->|</?[a-zA-Z][\w:-]*(?:\s+[\w:-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>=]+))*\s*/?>"  # HTML
    r"|&(?:[a-zA-Z]+|#\w+);"
    r"|^[ \t]*(?:```+|~~~+)[^\s`]*",  # ```python
    re.MULTILINE,
)
_WORD = re.compile(r"[^\W\d_](?:[\w'-]*\w)?")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]{2,}")  # no blanks between words


def words(text: str) -> list[str]:
    """The words of a text in lower case, without markup; of scripts without blanks, each two characters."""
    found: list[str] = []
    for word in _WORD.findall(_MARKUP.sub(" ", text[:_CHARACTERS]).lower()):
        if _UNSPACED.fullmatch(word):
            found += [word[i : i + 2] for i in range(len(word) - 1)]
        else:
            found.append(word)
    return found


def terms(texts: Sequence[str]) -> set[str]:
    """The different terms of prompts: words, and two words in a row, without those that every text has."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    found: set[str] = set()
    for text in texts:
        kept = [None if len(word) < 2 or word in ENGLISH_STOP_WORDS else word for word in words(text)]
        found.update(word for word in kept if word)
        found.update(f"{a} {b}" for a, b in itertools.pairwise(kept) if a and b)
    return found


def distinctive(texts: Sequence[str], members: np.ndarray) -> list[tuple[str, ...]]:
    """The most distinctive terms of each cluster, at most 10, the first three being its name.

    A prompt counts a term once, however often it repeats it.

    Args:
        texts: of the prompts.
        members: `(n_clusters, n_prompts)` which prompts are in which cluster; clusters may contain each other.
    """
    of_prompt = [terms([text]) for text in texts]
    everything = Counter(term for found in of_prompt for term in found)
    usual, named = sum(everything.values()) / max(len(members), 1), []
    for inside in members:
        counts = Counter(term for i in np.flatnonzero(inside) for term in of_prompt[i])
        size, rare = max(sum(counts.values()), 1), min(_RARE, int(inside.sum()))
        weights = {
            term: count / size * np.log1p(usual / everything[term]) for term, count in counts.items() if count >= rare
        }
        share = float(inside.mean())
        # what is no more usual inside than outside says nothing, however often it occurs
        special = [t for t, c in counts.items() if t in weights and c > everything[t] * min(1.5 * share, 0.99)]
        ranked = sorted(special or weights, key=lambda term: (-weights[term], term))
        named.append(_without_repetition(ranked))
    return named


def _without_repetition(ranked: list[str]) -> tuple[str, ...]:
    """The first terms of which none is a part of another one."""
    kept: list[str] = []
    for term in ranked:
        parts = set(term.split())
        if not any(parts & set(other.split()) for other in kept):
            kept.append(term)
        if len(kept) == _KEPT:
            break
    return tuple(kept)


def name_of(found: Sequence[str]) -> str:
    """A name from a cluster's terms."""
    return ", ".join(found[:_NAMED]) or "no words in common"
