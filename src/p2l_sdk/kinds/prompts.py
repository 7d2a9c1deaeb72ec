"""Prompts of known kind: a table with the columns `prompt` and `category`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2l_sdk.errors import TableError, did_you_mean
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.tables.columns import PromptIndex, checked, checked_prompt, is_missing, prompt_column, weight_of
from p2l_sdk.tables.places import placed
from p2l_sdk.tables.prompt_cells import PromptCells
from p2l_sdk.tables.sources import ABSENT, Chunk, open_source, table_errors


@dataclass(frozen=True, eq=False)
class KindPrompts:
    """Prompts and their kinds.

    Attributes:
        prompts: the prompts, each once.
        kinds: names of the kinds.
        member: `(n_prompts, n_kinds)` whether a prompt is of a kind; it may be of several, or of none.
        unsure: `(n_prompts, n_kinds)` whether that is left open.
        weight: `(n_prompts,)` how much a prompt counts where the prompts of a kind are averaged.
    """

    prompts: list[Prompt]
    kinds: tuple[str, ...]
    member: np.ndarray
    unsure: np.ndarray
    weight: np.ndarray

    @classmethod
    def read(cls, source: Any, kinds: Sequence[str], ignored: Collection[str] = ()) -> KindPrompts:
        """Read a table, in any form that `Votes.read` accepts.

        Args:
            source: rows `prompt` (text or chat messages) and `category` (or `categories`): a name, a list of names, or
                nothing for a prompt of no known kind. A prompt may have several rows: it is of all their kinds. An
                optional column `unsure` lists kinds of which it is not known whether the prompt is of them, and
                `weight` says how typical a prompt is of what is asked (a number >= 0; 1 where there is none).
            kinds: names of the kinds that count.
            ignored: names of further categories, which do not count.

        Raises:
            TableError: the table cannot be read, a prompt is invalid, a category is in neither list, or a kind has no
                prompt.
        """
        with table_errors(TableError, source):
            return cls._of_rows(*_rows(source, tuple(kinds), ignored), tuple(kinds))

    @classmethod
    def _of_rows(cls, rows: list[_Row], prompts: list[Prompt], kinds: tuple[str, ...]) -> KindPrompts:
        member = np.zeros((len(prompts), len(kinds)), dtype=bool)
        unsure = np.zeros_like(member)
        weight = np.zeros(len(prompts))
        for number, named, left_open, counts in rows:
            member[number, [kinds.index(name) for name in named]] = True
            unsure[number, [kinds.index(name) for name in left_open]] = True
            weight[number] = max(weight[number], counts)
        for name, column in zip(kinds, member.T, strict=True):
            if not weight @ column:
                raise TableError(
                    f"no prompt is of the kind {name!r}, so it cannot be recognised; give prompts of it, or leave it "
                    "out: kinds=[...] (--kinds) names those to use"
                )
        return cls(prompts, kinds, member, unsure & ~member, weight)


_Row = tuple[int, list[str], list[str], float]  # a prompt's number, its kinds, those that are left open, its weight


def _rows(source: Any, kinds: Sequence[str], ignored: Collection[str]) -> tuple[list[_Row], list[Prompt]]:
    """The rows of a table, and the prompts, each once."""
    rows: list[_Row] = []
    index, cells, start = PromptIndex(), PromptCells(), 0
    opened = open_source(source)
    for chunk in opened.chunks:
        with placed(opened.place):
            prompts = checked(prompt_column(chunk, start, cells), checked_prompt, start)
            weight = checked(chunk.get("weight", [1.0] * len(prompts)), weight_of, start)
        column = _category_column(chunk)
        unsure = chunk.get("unsure", [None] * len(prompts))
        for i, prompt in enumerate(prompts):
            place = opened.place(start + i)
            named, left_open = (_names(cell, place, kinds, ignored) for cell in (column[i], unsure[i]))
            rows.append((index.number(prompt), named, left_open, weight[i]))
        start += len(prompts)
    if not rows:
        raise TableError("there are no prompts; give rows with the columns prompt and category")
    return rows, index.prompts


def _category_column(chunk: Chunk) -> list[Any]:
    for name in ("category", "categories"):
        if name in chunk:
            return chunk[name]
    raise TableError(f"the prompts have the columns {', '.join(chunk)}; they need prompt and category")


def _names(cell: Any, place: str, kinds: Sequence[str], ignored: Collection[str]) -> list[str]:
    if cell is ABSENT or is_missing(cell):
        return []
    named = [cell] if isinstance(cell, str) else cell
    if not isinstance(named, list | tuple | np.ndarray) or not all(isinstance(name, str) for name in named):
        raise TableError(f"{place}: the category is {cell!r}; it must be a name, a list of names, or empty")
    for name in named:
        if name not in kinds and name not in ignored:
            known = (*kinds, *ignored)
            raise TableError(f"{place} is of the category {name!r}, which has no ratings; {did_you_mean(name, known)}")
    return [name for name in named if name in kinds]
