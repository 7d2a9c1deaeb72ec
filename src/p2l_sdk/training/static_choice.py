"""How long a static model is trained and how much it keeps of what it learned, chosen by cross-validation over prompts.

The prompts are split into five folds. For each, a head is trained on the other prompts, starting at the averaged
leaderboard of *their* votes, and measured on the fold: no vote is predicted by a head or a leaderboard that saw it. The
heads of all folds are trained at once. Of the departure from the averaged leaderboard two shares are kept: `level` of
what is common to all LLMs on a prompt, and `keep` of what tells them apart. Those with the largest *sure* gain over the
averaged leaderboard are taken: the gain less two standard errors (more where prompts are few: then the standard error
is itself a guess, and the best of many shares is picked by luck) and less two nats, since a handful of votes may all
have gone one way. Categories of prompts are read from words (`word_features.py`) and recognised (`recognised.py`; by
how much of the model, is chosen too), since the user named them, unless heads that know none have a loss that is lower
by more than a standard error and by more than a hundredth of the gain. What a category says is the same for all of its
prompts, which steadies the routes: as much of what tells LLMs apart is recognised as costs no more than another
hundredth of the gain. And `keep` has to pay for itself, or `level`
would pay for routes that are noise: it is the share with the largest sure gain over none beside the same `level`, if
that gain is sure by three standard errors. Where the first LLMs are nearly equal, a departure that the loss hardly
shows changes the routes of many prompts.

The model is the mean of the folds' heads, which is better than one head trained on all prompts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from p2l_sdk.evaluation import Estimate
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.training.choice import CategoryGain, Choice
from p2l_sdk.training.recognised import STEPS
from p2l_sdk.training.static_folds import FOLDS, Folds, LossSums, Tick, vote_losses
from p2l_sdk.training.static_heads import Heads, Scales, Steps, n_models_of
from p2l_sdk.training.verdict import Verdict

SHARES = (0.25, 0.5)  # of the prompts, for the learning curve
_LEAST_FOR_CURVE = 60
_RECOGNISED = (  # shares of the heads that recognise categories: of what tells LLMs apart, of what is common to all
    *((0.25, 0.0), (0.25, 0.25), (0.5, 0.0), (0.5, 0.5), (0.75, 0.0), (0.75, 0.75)),
)
_SPARE = 0.01  # of what is gained over the averaged leaderboard, that may be lost with categories
_KEEPS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
_SURE = 2.0, 60.0  # standard errors: 2 + 60 / (number of prompts)
_SURE_ROUTES = 3.0, 150.0  # likewise, for what decides the routes to be kept at all
_LEAST = 2.0  # nats, of all votes together


@dataclass(frozen=True, eq=False)
class _Candidate:
    folds: Folds
    how: Steps
    heads: Heads
    recognised: Scales | None  # shares of those among them that recognise categories; None without
    table: np.ndarray  # (len(grid), n_prompts) loss sums; its outputs, which are large, can be computed again


def cross_validate(
    options: Sequence[Folds],
    lengths: Sequence[Steps],
    hidden_size: int,
    keep: float | None,
    averaged: torch.Tensor,
    tick: Tick,
) -> tuple[Choice, Folds, Heads] | None:
    """Choose, and return the choice with the folds that it is made on and the model, one head.

    Args:
        options: the prompts and votes; or, twice, to choose between: without their categories, and with them.
        lengths: the trainings to choose from, shortest first.
        hidden_size: of each fold's head.
        keep: both shares, if they are given.
        averaged: `(1, 1, n_outputs)` averaged leaderboard of all votes.
        tick: is called after every step, see `n_steps`.

    Returns:
        None if there are too few votes to leave some of them out.
    """
    members = options[0].members()
    if (base := options[0].averaged(members)) is None:
        return None
    sums = LossSums(options[0])
    grid = shares_to_try(keep, options[0].feedback, n_models_of(averaged, options[0].feedback))

    def measured(folds: Folds, how: Steps, heads: Heads, recognised: Scales | None = None) -> _Candidate:
        return _Candidate(folds, how, heads, recognised, sums.of(folds.left_out(heads), base, grid))

    candidates, gain = [], None
    for how in lengths:
        candidates.append(measured(options[0], how, options[0].train(base, members, how, hidden_size, tick)))
    plain = candidates
    if (told := options[-1]).category is not None:
        ways = _telling(told, base, members, lengths, hidden_size, tick)
        telling = [measured(told, how, heads, shares) for how, heads, shares in ways]
        averaged_loss = sums.of(None, base, grid[:1])[0]
        gain = _category_gain(candidates, telling, averaged_loss, sums.weights)
        candidates = _steadiest(telling, averaged_loss) if gain.used else candidates
    best, scales = _choose([candidate.table for candidate in candidates], grid, sums.weights)
    chosen = candidates[best]
    if gain is not None and not (scales.keep or scales.level):
        chosen, gain = plain[0], replace(gain, kept=False)
    folds, how, heads = chosen.folds, chosen.how, chosen.heads
    losses, weights, prompt = vote_losses(folds, folds.left_out(heads), base, scales)
    verdict = Verdict.of_losses(
        losses,
        vote_losses(folds, None, base, scales)[0],
        prompt,
        weights,
        measured=f"{FOLDS}-fold cross-validation over prompts",
        keep=max(scales.keep, scales.level),
    )
    choice = Choice(
        steps=how.steps,
        epochs=how.steps / batches(len(members[0]), how),
        keep=scales.keep,
        level=scales.level,
        verdict=verdict,
        curve=_curve(chosen, hidden_size, grid, sums, verdict, tick),
        recognised=chosen.recognised.keep if chosen.recognised else 0.0,
        recognised_level=chosen.recognised.level if chosen.recognised else 0.0,
        categories=gain,
    )
    return choice, folds, heads.mean(base, averaged).shrunk(averaged, scales)


def batches(n_prompts: int, how: Steps) -> int:
    """The number of steps in which all prompts are passed over once."""
    return -(-n_prompts // min(how.batch_size, n_prompts))


def n_steps(lengths: Sequence[Steps], options: Sequence[Folds]) -> int:
    """The most steps that `cross_validate` takes."""
    curve = sum(max(_steps_of_share(how, share) for how in lengths) for share in SHARES)
    alike = 0 if options[-1].category is None else STEPS
    curve = 0 if len(options[0].fold) < _LEAST_FOR_CURVE else curve + len(SHARES) * alike
    return len(options) * sum(how.steps for how in lengths) + alike + curve


def _telling(
    folds: Folds,
    base: torch.Tensor,
    members: list[np.ndarray],
    lengths: Sequence[Steps],
    hidden_size: int,
    tick: Tick,
) -> Iterator[tuple[Steps, Heads, Scales | None]]:
    """Heads of each length that read which words tell the categories, and each beside some that recognise them."""
    recognise = folds.recognise(base, members, lengths[0].seed, tick)
    for how in lengths:
        heads = folds.train(base, members, how, hidden_size, tick)
        yield how, heads, None
        for keep, level in _RECOGNISED:
            shares = Scales(keep, level, n_models_of(base, folds.feedback))
            yield how, heads.beside(recognise, shares), shares


def _steadiest(telling: Sequence[_Candidate], averaged: np.ndarray) -> list[_Candidate]:
    """Those that recognise the most of what tells LLMs apart, of all that lose no more by it than there is to spare."""
    losses = [float(candidate.table.sum(1).min()) for candidate in telling]
    most_lost = min(losses) + _SPARE * max(0.0, float(averaged.sum()) - min(losses))
    kept = [0.0 if candidate.recognised is None else candidate.recognised.keep for candidate in telling]
    most = max(share for share, loss in zip(kept, losses, strict=True) if loss <= most_lost)
    return [candidate for candidate, share in zip(telling, kept, strict=True) if share == most]


def recognised_of(choice: Choice, n_models: int) -> Scales | None:
    """The shares of the heads that recognise categories in what was chosen; None without."""
    if not choice.recognised:
        return None
    return Scales(choice.recognised, choice.recognised_level, n_models)


def _category_gain(
    plain: Sequence[_Candidate], told: Sequence[_Candidate], averaged: np.ndarray, weights: np.ndarray
) -> CategoryGain:
    """What the categories bring: the best of each side compared, by `(n_prompts,)` loss sums of the averaged
    leaderboard too."""
    without, with_them = (
        min((candidate.table[candidate.table.sum(1).argmin()] for candidate in side), key=np.sum)
        for side in (plain, told)
    )
    (loss, _), (gain, error) = _mean(without, weights), _mean(with_them - without, weights)
    difference = Estimate(gain, error, int((weights > 0).sum()))
    return CategoryGain(without=loss, difference=difference, spare=_SPARE * (_mean(averaged, weights)[0] - loss))


def shares_to_try(keep: float | None, feedback: Feedback, n_models: int) -> list[Scales]:
    """The shares to choose from, in ascending order."""
    if keep is not None:
        return [Scales(keep, keep, n_models)]
    if not (feedback.grounded or feedback.has_eta):  # nothing is common to all LLMs
        return [Scales(share, share, n_models) for share in _KEEPS]
    return [Scales(keep, level, n_models) for keep, level in itertools.product(_KEEPS, _KEEPS)]


def _choose(tables: Sequence[np.ndarray], grid: Sequence[Scales], weights: np.ndarray) -> tuple[int, Scales]:
    """The candidate and the shares, with the caution that the module's docstring describes.

    Args:
        tables: for each candidate, `(len(grid), n_prompts)` loss sums.
        grid: the shares, in ascending order; the first keep nothing, unless they are given.
        weights: `(n_prompts,)`.
    """
    best = min(range(len(tables)), key=lambda i: tables[i].sum(1).min())
    if len(grid) == 1:
        return best, grid[0]
    table = tables[best]
    scales = grid[_surest(table, range(len(grid)), weights, _LEAST)]
    beside = [i for i, other in enumerate(grid) if other.level == scales.level]
    pays = _surest(table, beside, weights, errors=_SURE_ROUTES) != beside[0]
    return best, grid[_surest(table, beside, weights) if pays else beside[0]]


def _surest(
    table: np.ndarray,
    rows: Sequence[int],
    weights: np.ndarray,
    least: float = 0.0,
    errors: tuple[float, float] = _SURE,
) -> int:
    """The row whose gain over the first row is surest, or the first row if none is sure.

    Args:
        table: `(n_rows, n_prompts)` loss sums.
        rows: the rows to choose from; the first is the one to compare with.
        weights: `(n_prompts,)`.
        least: nats that a gain must exceed.
        errors: the standard errors that are taken off: x + y / (number of prompts).
    """
    times = errors[0] + errors[1] / max(int((weights > 0).sum()), 1)

    def sure(i: int) -> float:
        mean, error = _mean(table[i] - table[rows[0]], weights)
        return (-mean - times * error) * weights.sum() - least

    best = max(rows, key=sure)
    return best if sure(best) > 0.0 else rows[0]


def _mean(sums: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """A weighted mean over votes from sums over the votes of each prompt, and its standard error."""
    mean = sums.sum() / weights.sum()
    n = int((weights > 0).sum())
    spread = np.square(sums - mean * weights).sum() * n / max(n - 1, 1)
    return float(mean), float(np.sqrt(spread) / weights.sum())


def _curve(
    chosen: _Candidate, hidden_size: int, grid: Sequence[Scales], sums: LossSums, verdict: Verdict, tick: Tick
) -> tuple[tuple[int, float], ...]:
    """The losses of models that learn from shares of the prompts, measured on all of them as left out."""
    how = chosen.how
    n = len(chosen.folds.fold)
    if n < _LEAST_FOR_CURVE:
        return ()
    points = []
    for share in SHARES:
        members = chosen.folds.members(share)
        rows = np.unique(np.concatenate(members))
        if chosen.folds.category is not None and (chosen.folds.category[rows] < 0).all():
            return ()
        folds = chosen.folds.knowing(rows)
        if (base := folds.averaged(members)) is None:
            return ()
        shorter = replace(how, steps=_steps_of_share(how, share))
        shorter = replace(shorter, warmup_steps=max(1, min(how.warmup_steps, shorter.steps // 10)))
        heads = folds.train(base, members, shorter, hidden_size, tick, chosen.recognised)
        table = sums.of(folds.left_out(heads), base, grid)
        _, scales = _choose([table], grid, sums.weights)
        points.append((round(share * n), float(table[grid.index(scales)].sum() / sums.weights.sum())))
    return (*points, (n, verdict.model.value))


def _steps_of_share(how: Steps, share: float) -> int:
    return max(1, round(how.steps * share), min(how.steps, 20))
