"""One leaderboard for each category of prompts, how they differ, and which LLMs a router calls in each.

The prompts are read once, in constant memory: each category keeps its pair statistics (`PromptAggregate`), and a
uniform sample of all prompts is kept for the router. All other prompts than a category's are the merged statistics of
the other categories.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from p2l_sdk.analysis.category_report import SEEDS, Categories
from p2l_sdk.analysis.choices import SampledPrompts
from p2l_sdk.errors import P2LError, PromptError
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.p2l import P2L
from p2l_sdk.scorers.aggregate import PromptAggregate
from p2l_sdk.scorers.batches import BATCH, in_batches
from p2l_sdk.tables.columns import LONGEST_LABEL, is_missing

MOST = 100  # categories, fewer than SEEDS
_SHOWN = 3  # labels in a message


def by_category(
    p2l: P2L,
    prompts: Iterable[Prompt],
    categories: Iterable[Any],
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Categories:
    """One leaderboard for each category of prompts.

    Args:
        p2l: the model.
        prompts: any iterable; it is read once.
        categories: a label for each prompt, of 2 to 100 different ones: a string, a whole number or a truth value. A
            prompt without one (None, "", NaN) is left out, and counted.
        seed: of the bootstrap, and of the sample of prompts that a router is tried on.
        progress: called after each batch with the number of prompts done so far.

    Raises:
        P2LError: there are more or fewer labels than prompts; one is no label; they are all the same, or more than 100.
        PromptError: there are no prompts, or one is invalid (its position is named).
    """
    if isinstance(categories, str):
        raise P2LError(f"categories must be one label for each prompt, not one string ({categories!r})")
    labels, done = iter(categories), 0
    found: dict[str, PromptAggregate] = {}
    waiting = defaultdict[str, list[Coefficients]](list)
    n_prompts, sampled, left_out = Counter[str](), SampledPrompts(len(p2l.models), seed), 0
    for batch in in_batches(prompts):
        names = [label_of(label) for label in itertools.islice(labels, len(batch))]
        if len(names) < len(batch):
            raise P2LError(f"there are fewer categories ({done + len(names):,}) than prompts; give one for each")
        try:
            scored = p2l.coefficients(batch)
        except PromptError as error:
            error.index = done + (error.index or 0)
            raise
        for name in dict.fromkeys(names):
            if name is None:
                continue
            if name not in found:
                _require_few(found, name)
                found[name] = PromptAggregate(p2l.spec, p2l.variance, p2l.group_error, SEEDS * seed + len(found))
            rows = np.flatnonzero([other == name for other in names])
            n_prompts[name] += len(rows)
            waiting[name].append(scored[rows])
            if sum(map(len, waiting[name])) >= BATCH:  # some prompts at a time would take many times as long
                found[name].add(Coefficients.concatenate(waiting.pop(name)))
        sampled.add(scored.coefs, names)
        left_out += names.count(None)
        done += len(batch)
        if progress is not None:
            progress(done)
    if next(labels, None) is not None:
        raise P2LError(f"there are more categories than prompts ({done:,}); give one for each")
    _require_two(found, done)
    for name, parts in waiting.items():
        found[name].add(Coefficients.concatenate(parts))
    kept = {name: found[name] for name, _ in n_prompts.most_common()}
    boards = {name: prompts.board() for name, prompts in kept.items()}
    overall = PromptAggregate.merged(list(kept.values()), SEEDS - 1).board()
    return Categories(p2l.models, boards, overall, dict(p2l.costs), left_out, kept, p2l.variance, sampled)


def label_of(value: Any) -> str | None:
    """The label in a cell, without blanks around it; None if it is empty.

    Raises:
        P2LError: it is a list, a long text or anything else that is no label.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, float) and value.is_integer():  # whole numbers in a column with empty cells
        value = int(value)
    if not isinstance(value, str | bool | int | float):
        raise P2LError(f"a category is a label (a string or a number), not a {type(value).__name__}")
    name = str(value).strip()
    if len(name) > LONGEST_LABEL:
        raise P2LError(f"the category {name[:40]!r}... has {len(name):,} characters, which is a text and no label")
    return name


def _require_few(found: dict[str, PromptAggregate], name: str) -> None:
    if len(found) >= MOST:
        shown = ", ".join(map(repr, list(found)[:_SHOWN]))
        raise P2LError(
            f"there are more than {MOST} categories ({shown}, ..., {name!r}); name a column of few labels, or join some"
        )


def _require_two(found: dict[str, PromptAggregate], n_prompts: int) -> None:
    if n_prompts == 0:
        raise PromptError("there are no prompts; give at least one of each category")
    if not found:
        raise P2LError(f"none of the {n_prompts:,} prompts has a category: all cells are empty")
    if len(found) == 1:
        (name,) = found
        raise P2LError(f"all prompts are of one category, {name!r}; to compare, there must be two or more")
