"""Leaderboards by kind of prompt, from tables of ratings or of scores per benchmark.

Ratings (Elo or logits) of one kind are known up to a shift: what counts is how an LLM differs from the others there.
The level of a kind, the mean difference between its ratings and the overall ones, is therefore taken out. Shares of
right answers have no shift, and say how often both LLMs are right, or neither; a model made of them is grounded.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2l_sdk.editing.rated import OVERALL, Scale, departure_errors
from p2l_sdk.errors import P2LError, P2LWarning, TableError, did_you_mean, member
from p2l_sdk.kinds.difficulty import SPREAD, grounded_leaderboard, outcome_shares, questions_of
from p2l_sdk.kinds.scale import warn_of_scale
from p2l_sdk.leaderboards.leaderboard import Z_95
from p2l_sdk.modeling.feedback_p2l import Feedback, eta_of_threshold
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.mpg.node_estimates import NodeEstimates
from p2l_sdk.mpg.result_columns import refuse_figures, warn_of_near_names
from p2l_sdk.mpg.results import Results
from p2l_sdk.tables.columns import checked, is_index, is_no_number, is_numeric, llm_name, number_of, required
from p2l_sdk.tables.grids import column_key
from p2l_sdk.tables.notation import require_one_notation
from p2l_sdk.tables.places import RowError, placed
from p2l_sdk.tables.shapes import other_shape, turned
from p2l_sdk.tables.sources import Chunk, Source, open_source, table_errors, whole_table

MEAN = "overall"  # its name if the table has none, and the mean of the kinds stands in
_COLUMNS = ("category", "rating")
_SAME = {"kategorie": "category", "kind": "category", "elo": "rating", "elo_rating": "rating"}  # other words for them
_OR_WIDE = "or model and a column of ratings for each category"
_MODEL = ("model", "model_name", "llm", "llm_name", "modell")
_LOW, _HIGH = ("lower", "rating_lower", "rating_q025"), ("upper", "rating_upper", "rating_q975")
_ALTERNATIONS = 2000  # at most


@dataclass(frozen=True, eq=False)
class KindRatings:
    """Leaderboards by kind.

    Attributes:
        models: names of the LLMs.
        kinds: names of the kinds.
        overall_name: name of the overall leaderboard.
        scale: of the ratings.
        feedback: the feedback model in which the coefficients are.
        overall: `(n_models, 2)` overall coefficients and their standard errors, in logits.
        coefs, errors: `(n_models, n_kinds)` coefficients by kind, NaN where an LLM has no rating, and the standard
            errors of their departures from the overall ones.
        curves: `(n_kinds + 1, 2)` intercept and slope from a rating in logits to a coefficient, the overall one last.
        eta: `(n_kinds + 1,)` raw tie threshold of each leaderboard, the overall one last; None if there is none.
    """

    models: tuple[str, ...]
    kinds: tuple[str, ...]
    overall_name: str
    scale: Scale
    feedback: Feedback
    overall: np.ndarray
    coefs: np.ndarray
    errors: np.ndarray
    curves: np.ndarray
    eta: np.ndarray | None = None

    @classmethod
    def read(
        cls, source: Any, scale: Scale | str | None, *, overall: str | None = None, kinds: Sequence[str] | None = None
    ) -> KindRatings:
        """Read a table of ratings, in any form that `Votes.read` accepts.

        Args:
            source: rows `model`, `category`, `rating` and, optionally, the 95 % limits `lower` and `upper` (also as
                `rating_q025` and `rating_q975`, or `rating_lower` and `rating_upper`); or rows of `model` and a column
                of ratings for each category, without limits.
            scale: "elo" (400 points are odds of 10 to 1) or "logit".
            overall: the category of all prompts; by default one called overall, full or all. If there is none, the mean
                over the kinds stands in.
            kinds: the categories to use; all by default.

        Raises:
            P2LError: the scale is missing or unknown.
            TableError: the table cannot be read, a row is invalid, an LLM has two ratings in one category, or a
                category is not in the table.
        """
        if scale is None:
            raise P2LError('the ratings have no scale: say "elo" (400 points are odds of 10 to 1) or "logit" (--scale)')
        kind_of_scale = member(Scale, "scale", scale)
        if kind_of_scale is Scale.SHARE:
            raise P2LError("shares of right answers are scores, not ratings: give them as scores (--scores)")
        with table_errors(TableError, source):
            opened = open_source(source)
            with placed(opened.place):
                models, categories, rating, error = _cells(opened)
            name = _overall_name(categories, overall)
            chosen = _chosen(categories, name, kinds)
            columns = [categories.index(kind) for kind in chosen]
            r, e = kind_of_scale.logits(rating[:, columns]), kind_of_scale.logits(error[:, columns])
            if name is None:
                whole = np.full((len(models), 2), np.nan)
            else:
                at = categories.index(name)
                whole = np.stack([kind_of_scale.logits(x[:, at]) for x in (rating, error)], 1)
            return cls._of_logits(models, chosen, name or MEAN, kind_of_scale, whole, r, e)

    @classmethod
    def _of_logits(
        cls,
        models: tuple[str, ...],
        kinds: tuple[str, ...],
        overall_name: str,
        scale: Scale,
        overall: np.ndarray,
        ratings: np.ndarray,
        errors: np.ndarray,
    ) -> KindRatings:
        warn_of_scale(scale, ratings)
        rated = ~np.isnan(ratings)
        seen = rated.any(1) | ~np.isnan(overall[:, 0])
        models = tuple(model for model, one in zip(models, seen, strict=True) if one)
        overall, ratings, errors, rated = overall[seen], ratings[seen], errors[seen], rated[seen]
        if len(models) < 2:
            raise TableError("the kinds that are used have ratings of one LLM; a leaderboard needs two")
        base, derived = overall[:, 0], bool(np.isnan(overall[:, 0]).all())
        if derived:
            base = _means(ratings)
        for kind, column in zip(kinds, rated.T, strict=True):
            if np.isnan(base[column]).all():
                raise TableError(
                    f"no LLM with a rating in {kind!r} has one in {overall_name!r}; give it, or leave the kind out: "
                    "kinds=[...] (--kinds)"
                )
        level = np.nanmean(ratings - base[:, None], 0)
        unknown = np.isnan(base)
        if unknown.any():
            base = np.where(unknown, np.nanmean(ratings - level, 1), base)
        own = np.where(np.isnan(overall[:, 1]), _mean_error(errors, rated), overall[:, 1])
        centre = base.mean()
        curves = np.stack([np.append(-level - centre, -centre), np.ones(len(kinds) + 1)], 1)
        return cls(
            models,
            kinds,
            overall_name,
            scale,
            Feedback.BT,
            np.stack([base - centre, own], 1),
            ratings - level - centre,
            np.where(rated, errors if derived else departure_errors(errors, own[:, None]), 0.0),
            curves,
        )

    @classmethod
    def of_results(
        cls, results: Results, *, kinds: Sequence[str] | None = None, overall: str | None = None
    ) -> KindRatings:
        """Leaderboards from scores per benchmark, each benchmark being a kind.

        Args:
            results: shares of right answers, with the number of questions where known.
            kinds: the benchmarks to use; all by default.
            overall: a benchmark that stands for all prompts; by default the mean of the kinds does.

        Raises:
            TableError: a benchmark is not in the results, or has results of fewer than two LLMs.

        Warns:
            P2LWarning: 100 questions are assumed where the number is not known, or all shares are next to 0.
        """
        chosen = _chosen(results.benchmarks, overall, kinds)
        columns = [results.benchmarks.index(kind) for kind in chosen]
        n, means = len(results.models), results.means[:, columns]
        counts = questions_of(results.counts[:, columns])
        for kind, column in zip(chosen, means.T, strict=True):
            if (~np.isnan(column)).sum() < 2:
                raise TableError(f"{kind!r} has results of fewer than two LLMs; leave it out: kinds=[...] (--kinds)")
        if np.nanmax(means) <= 0.01:
            problem = "no LLM has more than 1 % right: are the scores in [0, 1]? then leave out percent"
            warnings.warn(problem, P2LWarning, stacklevel=2)
        full = _imputed(means)
        outcomes = np.stack([outcome_shares(column, SPREAD) for column in full.T])
        if overall is None:
            whole_share, whole = full.mean(1), outcomes.mean(0)
        else:
            whole_share = _imputed(results.means[:, [results.benchmarks.index(overall)]])[:, 0]
            whole = outcome_shares(whole_share, SPREAD)
        boards = np.stack([grounded_leaderboard(shares, n) for shares in (*outcomes, whole)])
        shares = np.column_stack([full, whole_share])
        curves = np.stack([_line(Scale.SHARE.logits(s), board[:n]) for s, board in zip(shares.T, boards, strict=True)])
        # the error of a share s of n questions, sqrt(s (1 - s) / n), in logits; half a question keeps it finite
        inner = (full * counts + 0.5) / (counts + 1.0)
        errors = curves[:-1, 1] / np.sqrt(np.maximum(inner * (1.0 - inner) * np.maximum(counts, 1.0), 1e-9))
        rated = ~np.isnan(means)
        return cls(
            results.models,
            chosen,
            overall or MEAN,
            Scale.SHARE,
            Feedback.GRK,
            np.stack([boards[-1, :n], _mean_error(errors, rated)], 1),
            np.where(rated, boards[:-1, :n].T, np.nan),
            np.where(rated, errors, 0.0),
            curves,
            eta_of_threshold(Feedback.GRK, boards[:, n]),
        )

    @classmethod
    def of_goodness(cls, estimates: NodeEstimates, *, kinds: Sequence[str] | None = None) -> KindRatings:
        """Leaderboards from Goodness (`p2l_sdk.mpg`): a node of its tree is a kind, and the root is the overall one.

        Args:
            estimates: Goodness by node, 1 for every question right and 0 for chance.
            kinds: the nodes to use; by default all below the root.

        Raises:
            TableError: there is no such node, none below the root, or one with results of fewer than two LLMs.
        """
        share = np.clip(estimates.means, 0.0, 1.0)
        variance = np.maximum(estimates.draws.var(0), 1e-9)
        questions = np.where(np.isnan(share), 0.0, np.maximum(share * (1.0 - share) / variance, 1.0))
        results = Results(estimates.models, estimates.nodes, share, questions)
        return cls.of_results(results, kinds=kinds, overall=estimates.root)


def _cells(source: Source) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray, np.ndarray]:
    """Names of LLMs and categories, and `(n_models, n_categories)` ratings (NaN where there is none) and errors."""
    table = whole_table(source.chunks)
    if not table:
        raise TableError("the table of ratings is empty")
    table = long_ratings(table)
    model_column = next((name for name in _MODEL if name in table), "model")
    names = _names(table, model_column)
    labels = checked(required(table, "category", 0), lambda value: llm_name("category", value).strip(), 0)
    refuse_figures(names)
    warn_of_near_names(names)
    rating = _numbers(table, "rating")
    low_name, high_name = (next((name for name in names if name in table), None) for names in (_LOW, _HIGH))
    if (low_name is None) != (high_name is None):
        raise TableError(f"the ratings have {low_name or high_name} alone; limits need lower and upper")
    error = np.zeros(len(rating))
    if low_name is not None and high_name is not None:
        low, high = _numbers(table, low_name, optional=True), _numbers(table, high_name, optional=True)
        wrong = np.flatnonzero((low > rating) | (rating > high))
        if len(wrong):
            row = int(wrong[0])
            raise RowError(row, f": the rating {rating[row]:g} is not within {low[row]:g} to {high[row]:g}")
        error = np.nan_to_num((high - low) / (2.0 * Z_95))
    models, categories = tuple(dict.fromkeys(names)), tuple(dict.fromkeys(labels))
    place = {name: i for i, name in enumerate(models)}
    column = {name: i for i, name in enumerate(categories)}
    ratings = np.full((len(models), len(categories)), np.nan)
    errors = np.full_like(ratings, np.nan)
    for row, (name, label) in enumerate(zip(names, labels, strict=True)):
        cell = place[name], column[label]
        if not np.isnan(ratings[cell]):
            raise RowError(row, f" is the second rating of {name!r} in {label!r}; keep one")
        ratings[cell], errors[cell] = rating[row], error[row]
    if len(models) < 2:
        raise TableError(f"the ratings are of one LLM, {models[0]!r}; a leaderboard needs two")
    return models, categories, ratings, errors


def long_ratings(table: Chunk) -> Chunk:
    """The table with the contract's names, and a row for each LLM and category.

    Names may differ in letter case, blanks or hyphens, or be another word for the same. A table with a row for each LLM
    and a column of ratings for each category becomes a long one; it has no limits, and empty cells are no ratings.

    Raises:
        TableError: it is neither.
    """
    times = Counter(column_key(name) for name in table)
    keys = {name: _SAME.get(column_key(name), column_key(name)) for name in table}
    known = {*_MODEL, *_COLUMNS, *_LOW, *_HIGH}
    single = {name: key in known and times[column_key(name)] == 1 for name, key in keys.items()}
    named = {keys[name] if single[name] else name: values for name, values in table.items()}
    if len(named) < len(table):  # two words for the same
        named = dict(table)
    model = next((name for name in _MODEL if name in named), None)
    if model is None:
        said = other_shape(named) or turned(named, rows="categories", columns="LLMs", first="model")
        if said:
            raise TableError(f"the ratings have no column model (they have: {', '.join(map(str, named))}); {said}")
    if model is None or {*_COLUMNS, *_LOW, *_HIGH} & named.keys():
        return named
    return _of_wide(named, model)


def _of_wide(table: Chunk, model: str) -> Chunk:
    columns = [n for n, v in table.items() if n != model and not is_index(n) and is_numeric(v, True)]
    if not columns:
        has, shape = ", ".join(map(str, table)), other_shape(table)
        needs = f"the ratings need the columns model, category and rating, {_OR_WIDE}"
        raise TableError(f"{needs} (they have: {has}){shape and '; '}{shape}")
    names = _names(table, model)
    refuse_figures(names)
    for row, name in enumerate(names):
        if name in names[:row]:
            raise RowError(row, f" is a second row of {name!r}; keep one")
    found: Chunk = {"model": [], "category": [], "rating": []}
    for column in columns:
        for name, rating in zip(names, _numbers(table, column, optional=True), strict=True):
            if not np.isnan(rating):
                for key, value in zip(found, (name, str(column).strip(), float(rating)), strict=True):
                    found[key].append(value)
    return found


def _names(table: Chunk, column: str) -> list[str]:
    return checked(required(table, column, 0), lambda value: llm_name(column, value).strip(), 0)


_MOST_RATING = 1e9  # of any scale


def _numbers(table: dict[str, list[Any]], column: str, *, optional: bool = False) -> np.ndarray:
    values = required(table, column, 0)
    require_one_notation(column, values)
    numbers = np.array([number_of(value) for value in values])
    for row in np.flatnonzero(~(np.abs(numbers) <= _MOST_RATING)):
        if not (optional and is_no_number(values[row])):
            rule = f"a finite number from -{_MOST_RATING:g} to {_MOST_RATING:g}"
            raise RowError(int(row), f": {column} is {shown(values[row])}; it must be {rule}")
    return numbers


def categories_of(source: Any) -> tuple[str, ...]:
    """Names of all categories in a table of ratings."""
    table = long_ratings(whole_table(open_source(source).chunks))
    return tuple(dict.fromkeys(str(name).strip() for name in table.get("category", ())))


def _overall_name(categories: Sequence[str], overall: str | None) -> str | None:
    if overall is not None:
        if overall not in categories:
            raise TableError(f"no rating is of the category {overall!r}; {did_you_mean(overall, categories)}")
        return overall
    return next((name for name in categories if name.lower() in OVERALL), None)


def _chosen(categories: Sequence[str], overall: str | None, kinds: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(kinds, str):
        raise P2LError(f"kinds must be a list of names, not a string: [{kinds!r}]")
    for kind in kinds or ():
        if kind not in categories or kind == overall:
            others = [name for name in categories if name != overall]
            reason = "is the overall leaderboard" if kind == overall else "is in no rating"
            raise TableError(f"the kind {kind!r} {reason}; {did_you_mean(kind, others)}")
    chosen = tuple(dict.fromkeys(kinds)) if kinds else tuple(name for name in categories if name != overall)
    if not chosen:
        raise TableError("the ratings are of one category only; a leaderboard by kind needs another")
    return chosen


def _means(ratings: np.ndarray) -> np.ndarray:
    """`(n_models,)` the LLMs' part of ratings `(n_models, n_kinds)` as a sum of one number per LLM and one per kind, by
    least squares over the ratings that there are: a kind in which strong LLMs alone are rated does not seem hard."""
    means = np.zeros(len(ratings))
    for _ in range(_ALTERNATIONS):
        level = np.nanmean(ratings - means[:, None], 0)
        new = np.nanmean(ratings - level, 1)
        new, change = new - new.mean(), np.abs(new - new.mean() - means).max()
        means = new
        if change < 1e-9:
            break
    return means


def _mean_error(errors: np.ndarray, rated: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the kinds that are rated."""
    n = np.maximum(rated.sum(1), 1)
    return np.sqrt(np.square(np.where(rated, errors, 0.0)).sum(1)) / n


def _imputed(shares: np.ndarray) -> np.ndarray:
    """Shares `(n_models, n_kinds)` in which a missing one is what the LLM's and the benchmark's other results say, as a
    sum of the two in logits; only the overall leaderboard and the other LLMs' opponents rest on these."""
    logits = Scale.SHARE.logits(shares)
    column = np.nanmean(logits, 0)
    row = np.nan_to_num(np.nanmean(np.where(np.isnan(logits), np.nan, logits - column), 1))
    guess = 1.0 / (1.0 + np.exp(-(row[:, None] + column)))
    return np.where(np.isnan(shares), guess, shares)


def _line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Intercept and slope of the least-squares line; slope 1 if all x are alike."""
    centred = x - x.mean()
    square = float(centred @ centred)
    slope = float(centred @ y) / square if square > 1e-12 else 1.0
    return np.array([y.mean() - slope * x.mean(), slope])
