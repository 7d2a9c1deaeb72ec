"""`BatchScorer`: a batch of rows in, a table of results out. It keeps nothing between batches, and can be pickled, so
that any number of processes or machines may each have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.bulk.arrow import need_pyarrow
from p2l_sdk.bulk.results import best_columns, coefficient_columns
from p2l_sdk.bulk.routes import route_columns
from p2l_sdk.bulk.settings import Settings
from p2l_sdk.bulk.totals import Totals, few, sample_of
from p2l_sdk.errors import P2LError, PromptError, TableError
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.p2l import P2L
from p2l_sdk.scorers.batches import BATCH
from p2l_sdk.scorers.encoder import n_cut
from p2l_sdk.scorers.many import for_many
from p2l_sdk.scorers.scorer import Scorer
from p2l_sdk.tables.columns import checked_prompt, is_missing
from p2l_sdk.tables.plain import plain_values

if TYPE_CHECKING:
    import pyarrow

    from p2l_sdk.routing.router import Router

PROMPT, CATEGORY, ERROR, FAULTS = "prompt", "category", "error", "faults"


@dataclass(frozen=True, eq=False)
class Scored:
    """A batch of rows with its results.

    Attributes:
        errors: place of a faulty row in the batch -> what is wrong with it.
        table: the results of the other rows, in their order.
        sample: the coefficients of the prompts in the sample that the aggregate is made of; None if there are none.
        labels: the category of each row in the table.
        sampled: `(n_prompts,)` booleans: which rows of the table are in the sample.
        n_cut: how many of these rows have a prompt of which the model reads only the end.
    """

    errors: Mapping[int, str]
    table: pyarrow.Table
    sample: Coefficients | None
    labels: Sequence[str | None]
    sampled: np.ndarray
    n_cut: int


class BatchScorer:
    """Scores batches of rows. Called with one, it gives a table of all its rows, in their order: the columns of the
    batch but for the prompt, the results (null in faulty rows), and `error`, what is wrong with a row.

    Args:
        settings: what is computed.
        p2l: the model, if it is loaded already; otherwise it is loaded when the first batch comes.
    """

    def __init__(self, settings: Settings, p2l: P2L | None = None) -> None:
        self.settings = settings
        self._p2l = p2l
        self._scorer: Scorer | None = None
        self._router: Router | None = None
        self._ready = False

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings}  # each process loads the model for itself

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["settings"])  # type: ignore[misc]

    @property
    def p2l(self) -> P2L:
        """The model."""
        if self._p2l is None:
            self._p2l = self.settings.load()
        return self._p2l

    @property
    def scorer(self) -> Scorer:
        """What computes the coefficients."""
        if self._scorer is None:
            self._scorer = for_many(self.p2l._scorer)
        return self._scorer

    @property
    def router(self) -> Router | None:
        """The router; None if nothing is routed."""
        if not self._ready:
            self._router, self._ready = self.settings.router(self.p2l), True
        return self._router

    def __call__(self, batch: Mapping[str, Any] | pyarrow.Table) -> pyarrow.Table:
        """The results of all rows of a batch.

        Args:
            batch: a mapping of columns (lists, arrays) or a pyarrow table, with a column `prompt` (text, or
                conversations); of rows with a column `row`, that is their place in the whole input (it seeds the draws
                from mixtures), and `category` says what an aggregate is made of.
        """
        pa = need_pyarrow()
        rows = columns_of(batch)
        scored, n = self.score(rows), len(rows[PROMPT])
        good = [i for i in range(n) if i not in scored.errors]
        places = np.full(n, -1)
        places[good] = np.arange(len(good))
        index = pa.array(places, mask=places < 0)
        table = scored.table.select([name for name in scored.table.column_names if name not in rows]).take(index)
        carried = {name: _arrow(column) for name, column in rows.items() if name not in (PROMPT, FAULTS)}
        named = dict(zip(table.column_names, table.columns, strict=True))
        errors = pa.array([scored.errors.get(i) for i in range(n)], pa.string())
        return pa.table({**carried, **named, ERROR: errors})

    def score(self, rows: Mapping[str, Any], key: int = 0) -> Scored:
        """Score a batch of rows.

        Args:
            rows: columns of equal length, as in a call; under `faults`, what is wrong with rows already, by their
                places.
            key: names the batch among others, for the sample.
        """
        pa = need_pyarrow()
        prompts, n = rows[PROMPT], len(rows[PROMPT])
        known: Mapping[int, str] = rows.get(FAULTS, {})
        rows = {name: column for name, column in rows.items() if name != FAULTS}
        labels = few([None if label is None else str(label) for label in rows.get(CATEGORY, [None] * n)])
        wanted = sample_of(labels, len(self.p2l.models), self.settings.aggregate, self.settings.seed + key)
        before = n_cut(self.scorer)
        order = plain_values(rows["row"]) if "row" in rows else range(n)
        errors: dict[int, str] = {}
        tables, kept, own, sampled = [], list[Coefficients](), list[str | None](), list[np.ndarray]()
        for start in range(0, n, BATCH):
            places, scored, wrong = self._scored(prompts[start : start + BATCH], start, known)
            errors |= wrong
            if scored is None:
                continue
            tables.append(pa.table(self._columns(scored, [order[i] for i in places])))
            own += [labels[i] for i in places]
            taken = wanted[places]
            sampled.append(taken)
            if taken.any():
                kept.append(scored if taken.all() else scored[taken])
        good = [i for i in range(n) if i not in errors]
        carried = {
            name: _arrow(column).take(pa.array(good, pa.int64())) if errors else _arrow(column)
            for name, column in rows.items()
            if name != PROMPT
        }
        results = pa.concat_tables(tables).combine_chunks() if tables else self._nothing()
        named = dict(zip(results.column_names, results.columns, strict=True))
        if clash := carried.keys() & named.keys():
            raise P2LError(f"the column {min(clash)!r} of the input has the name of a result; leave it out")
        return Scored(
            errors,
            pa.table({**carried, **named}),
            Coefficients.concatenate(kept) if kept else None,
            own,
            np.concatenate(sampled) if sampled else np.zeros(0, dtype=bool),
            n_cut(self.scorer) - before,
        )

    def totals(self, scored: Scored, key: str) -> Totals:
        """The statistics of a batch that has been scored; the key names it among those that will be merged."""
        return Totals.of(self.p2l, scored.sample, scored.labels, scored.sampled, key)

    def _scored(
        self, cells: Sequence[Any], start: int, known: Mapping[int, str]
    ) -> tuple[list[int], Coefficients | None, dict[int, str]]:
        """The coefficients of prompts: their places in the batch, the coefficients, and what is wrong with others."""
        errors: dict[int, str] = {}
        prompts: dict[int, Prompt] = {}
        for i, cell in enumerate(cells, start):
            if i in known:
                errors[i] = known[i]
                continue
            try:
                prompts[i] = checked_prompt(cell)
            except TableError as error:
                errors[i] = str(error)
        while prompts:
            places = list(prompts)
            try:
                return places, self.scorer.score(list(prompts.values())), errors
            except PromptError as error:  # of the tokenizer, which alone knows that it cannot read this prompt
                if error.index is None:
                    raise
                errors[places[error.index]] = str(error)
                del prompts[places[error.index]]
        return [], None, errors

    def _columns(self, scored: Coefficients, rows: Sequence[int]) -> dict[str, pyarrow.Array]:
        found: dict[str, pyarrow.Array] = {}
        if self.router is not None:
            found |= route_columns(self.router, scored.coefs, self.settings, rows)
        if self.settings.top:
            found |= best_columns(scored.coefs, self.p2l.models, self.settings.top)
        if self.settings.coefficients:
            found |= coefficient_columns(scored, self.p2l.models)
        return found

    def _nothing(self) -> pyarrow.Table:
        """The results of no row."""
        n = len(self.p2l.models)
        one, feedback = np.zeros((0, 1), dtype=np.float32), self.p2l.spec.feedback
        extra = one if feedback.has_eta else None, one if feedback.has_gamma else None
        empty = Coefficients(np.zeros((0, n), dtype=np.float32), *extra)
        return need_pyarrow().table(self._columns(empty, []))


def columns_of(batch: Mapping[str, Any] | pyarrow.Table) -> dict[str, Any]:
    """The columns of a batch; those of the prompts and categories are lists.

    Raises:
        P2LError: it is no batch, or has no prompts.
    """
    names = getattr(batch, "column_names", None)
    if names is None and not isinstance(batch, Mapping):
        raise P2LError(f"a batch is a mapping of columns or a pyarrow table, not {type(batch).__name__}")
    found = {name: batch[name] for name in (names or batch)}
    if PROMPT not in found:
        raise P2LError(f"the batch has no column 'prompt' (it has: {', '.join(map(str, found))})")
    for name in (PROMPT, CATEGORY):
        if name in found:
            found[name] = plain_values(found[name])
    if CATEGORY in found:  # pandas has NaN for no category
        found[CATEGORY] = [None if is_missing(label) else label for label in found[CATEGORY]]
    return found


def _arrow(column: Any) -> Any:
    """A column as an Arrow array; one of labels is a column of strings, even if it is empty."""
    pa = need_pyarrow()
    if isinstance(column, pa.Array | pa.ChunkedArray):
        return column
    kinds = set(map(type, column))
    # among strings, NaN is what pandas has for None
    return pa.array(column, pa.string() if kinds <= {str, type(None)} else None, from_pandas=str in kinds or None)
