"""LLMs that are probably one, written in two ways: `GPT-4o-mini` once among many `gpt-4o-mini`.

Two names are near if they differ in nothing but letter case, punctuation and blanks (a mark between two digits counts:
`gpt-3.5` is not `gpt-35`), or but for a maker in front (`openai/gpt-4o`). Names that differ in a date too are near only
if one of them has less than a twentieth of the other's votes, since two dated releases may both be meant.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

_RARE = 0.05
_MOST = 10  # in a message
_DATE = re.compile(r"-(?:20\d\d-?[01]\d-?[0-3]\d|[01]\d-20\d\d|[01]\d-?[0-3]\d|2\d[01]\d|latest)$")


@dataclass(frozen=True)
class NearNames:
    """Two names that are probably one LLM: the rarer one, the other, and the votes (or scores) of each."""

    rare: str
    common: str
    n_rare: int
    n_common: int

    def __str__(self) -> str:
        """Both, with their numbers."""
        return f"{self.rare!r} ({self.n_rare:,}) beside {self.common!r} ({self.n_common:,})"


def near_names(counts: Mapping[str, int]) -> tuple[NearNames, ...]:
    """The near names among LLMs, each rarer one once.

    Args:
        counts: the LLMs, with how often each occurs.
    """
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    same: dict[str, str] = {}  # form -> the most frequent LLM of this form
    without_maker: dict[str, str] = {}
    dateless: dict[str, str] = {}
    found = []
    for name in ordered:
        form = _form(name)
        bare = _form(name.rpartition("/")[2])
        common = same.get(form) or (without_maker if bare == form else same).get(bare)
        if common is None:
            undated = dateless.get(_DATE.sub("", _hyphened(name)))
            if undated is not None and counts[name] < _RARE * counts[undated]:
                common = undated
        if common is not None:
            found.append(NearNames(name, common, counts[name], counts[common]))
            continue
        same[form] = name
        dateless.setdefault(_DATE.sub("", _hyphened(name)), name)
        if bare != form:
            without_maker.setdefault(bare, name)
    return tuple(found)


def warning_of(near: tuple[NearNames, ...], what: str) -> str:
    """What to say of near names: each pair, and how to join them; `what` is counted."""
    pairs = "; ".join(map(str, near[:_MOST])) + (f"; and {len(near) - _MOST} more" if len(near) > _MOST else "")
    options = " ".join(f"--rename {shlex.quote(f'{pair.rare}={pair.common}')}" for pair in near[:_MOST])
    return (
        f"LLMs whose names are nearly the same count as different ones ({what} of each): {pairs}. If they are one, "
        f"join them: {options} (rename={{...}})"
    )


def _hyphened(name: str) -> str:
    small = unicodedata.normalize("NFKC", name).casefold().replace("+", "-plus")
    return re.sub(r"[\W_]+", "-", small).strip("-")


def _form(name: str) -> str:
    """The name in small letters, without marks but between digits."""
    return re.sub(r"(?<!\d)-|-(?!\d)", "", _hyphened(name))
