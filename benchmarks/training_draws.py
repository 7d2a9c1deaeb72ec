"""Votes of the data sets in a folder, small training sets drawn from them, and measures by held-out prompt."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from p2l_sdk import Scores, Votes
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, log_probabilities, vote_targets
from p2l_sdk.tables.files import read_rows

_HELD_OUT = 0x1A  # prompts whose hash is below, as in the other data sets; see `held_out_by_hash`


@dataclass(frozen=True)
class VoteSet:
    """A data set.

    Attributes:
        name: its name.
        train, held_out: all votes; the LLMs are the same.
        train_scores, scores: `(n_prompts, n_models)`, for the prompts of `train` and `held_out` in their order; None
            where there are only votes.
    """

    name: str
    train: Votes
    held_out: Votes
    train_scores: np.ndarray | None
    scores: np.ndarray | None


def held_out_by_hash(prompt: str) -> bool:
    """The rule by which the data sets with a validation file were split: about a tenth of the prompts."""
    return int(hashlib.sha256(prompt.encode("utf-8")).hexdigest()[2:4], 16) < _HELD_OUT


def read_set(name: str, data: Path) -> VoteSet:
    """One of "mmlu_pro", "routing9", "routellm_mmlu", "alpaca58" in its subfolder of `data`."""
    folder = data / name
    if name == "alpaca58":
        train = Votes.read(folder / "votes_train.parquet")
        return VoteSet(name, train, Votes.read(folder / "votes_val.parquet", train.models), None, None)
    if name == "routellm_mmlu":
        rows = [row for row in read_rows(folder / "mmlu.parquet") if not row["contaminated"]]
        names = sorted(column for column in rows[0] if column not in ("prompt", "subject", "contaminated"))
        values = np.array([[float(row[column]) for column in names] for row in rows])
        held = np.array([held_out_by_hash(row["prompt"]) for row in rows])
        prompts = np.array([row["prompt"] for row in rows], dtype=object)
        parts = [Scores(prompts[x].tolist(), tuple(names), values[x]) for x in (~held, held)]
    else:
        scores = Scores.read(folder / "scores_train.parquet")
        parts = [scores, Scores.read(folder / "scores_val.parquet", scores.models)]
    parts = [_distinct(part) for part in parts]
    train, held_out = (Votes.from_scores(part) for part in parts)
    return VoteSet(name, train, held_out, parts[0].scores, parts[1].scores)


def _distinct(scores: Scores) -> Scores:
    """Each prompt once, with its first scores, so that the rows are those of the votes' prompts."""
    first = {prompt: row for row, prompt in reversed(list(enumerate(scores.prompts)))}
    rows = sorted(first.values())
    return Scores([scores.prompts[i] for i in rows], scores.models, scores.scores[rows])


def pool_of(train: Votes, size: int) -> Votes:
    """A fixed random choice of so many of the prompts (all, if there are no more)."""
    order = np.random.default_rng(0).permutation(len(train.prompts))
    return train.subset(np.sort(order[:size]))


def draw(train: Votes, n_prompts: int, per_prompt: int | None, random: np.random.Generator) -> tuple[Votes, np.ndarray]:
    """A training set, and its prompts' places in `train`: random prompts, with so many random votes each (None: all).

    Its LLMs are those that occur, as in a file of these votes.
    """
    chosen = np.sort(random.choice(len(train.prompts), n_prompts, replace=False))
    votes = train.subset(chosen)
    if per_prompt is not None:
        order = random.permutation(len(votes))
        order = order[np.argsort(votes.prompt[order], kind="stable")]
        prompt = votes.prompt[order]
        place = np.arange(len(prompt)) - np.searchsorted(prompt, prompt)
        votes = rows_of(votes, np.sort(order[place < per_prompt]))
    return of_models(votes, np.unique([votes.a, votes.b])), chosen


def rows_of(votes: Votes, rows: np.ndarray) -> Votes:
    """Some of the votes, by index; each prompt keeps at least one."""
    columns = {name: getattr(votes, name)[rows] for name in ("prompt", "a", "b", "winner", "weight")}
    return replace(votes, **columns, categories={})


def of_models(votes: Votes, models: np.ndarray) -> Votes:
    """The votes between some of the LLMs, by index, and their prompts."""
    place = np.full(len(votes.models), -1)
    place[models] = np.arange(len(models))
    used = np.flatnonzero((place[votes.a] >= 0) & (place[votes.b] >= 0))
    kept = rows_of(votes, used)
    kept = replace(kept, models=tuple(votes.models[i] for i in models), a=place[kept.a], b=place[kept.b])
    return kept.subset(np.unique(kept.prompt))


def feedback_for(votes: Votes) -> Feedback:
    """The feedback model that `p2l train` takes or, where it refuses the votes, the one that it names."""
    if (votes.winner == Winner.BOTH_BAD).any():
        return Feedback.GRK
    return Feedback.RK if (votes.winner == Winner.TIE).any() else Feedback.BT


def rows_to_write(votes: Votes) -> list[dict[str, object]]:
    """The votes as rows of a file."""
    names = ("model_a", "model_b", "tie", "tie (bothbad)")
    columns = zip(votes.prompt, votes.a, votes.b, votes.winner, strict=True)
    return [
        {"prompt": votes.prompts[p], "model_a": votes.models[a], "model_b": votes.models[b], "winner": names[w]}
        for p, a, b, w in columns
    ]


@dataclass(frozen=True)
class Losses:
    """Sums over the votes of each held-out prompt, `(n_prompts,)` each.

    Attributes:
        entropy, n: -log P(outcome) of the votes that the feedback model counts, and their number.
        winner, bt, decisive: of the decisive votes, the log-loss of the winner, ties aside, in the feedback model and
            by sigmoid(coef_a - coef_b), and their number.
        routed: the score of the LLM with the highest coefficient; NaN without scores.
    """

    entropy: np.ndarray
    n: np.ndarray
    winner: np.ndarray
    bt: np.ndarray
    decisive: np.ndarray
    routed: np.ndarray


def losses(
    scored: Coefficients,
    feedback: Feedback,
    held_out: Votes,
    scores: np.ndarray | None,
    route: np.ndarray | None = None,
) -> Losses:
    """Measure coefficients of the held-out prompts; `route` are the values to route by, if others than these."""
    row, n = held_out.prompt, len(held_out.prompts)
    a, b = scored.coefs[row, held_out.a], scored.coefs[row, held_out.b]
    eta, gamma = (None if x is None else x[row, 0] for x in (scored.eta, scored.gamma))
    law = log_probabilities(feedback, a, b, eta, gamma)
    targets = vote_targets(feedback)[held_out.winner]
    decisive = held_out.winner < Winner.TIE
    first = np.where(held_out.winner == Winner.A, 1.0, -1.0)
    places = [feedback.outcomes.index(x) for x in (Winner.A, Winner.B)]
    counted = targets.sum(1) > 0

    def by_prompt(values: np.ndarray) -> np.ndarray:
        return np.bincount(row, values, n)

    best = scored.coefs.argmax(1)
    return Losses(
        by_prompt(-(targets * law).sum(1)),
        by_prompt(counted.astype(float)),
        by_prompt(np.logaddexp(0.0, -first * (law[:, places[0]] - law[:, places[1]])) * decisive),
        by_prompt(np.logaddexp(0.0, -first * (a - b)) * decisive),
        by_prompt(decisive.astype(float)),
        np.full(n, np.nan) if scores is None else scores[np.arange(n), best],
    )


def mean_and_error(values: np.ndarray, counts: np.ndarray | None = None) -> tuple[float, float]:
    """The mean of all votes and its standard error, clustered by prompt: `values` are sums over the `counts` votes of
    each prompt (by default, one each)."""
    n = np.ones(len(values)) if counts is None else counts
    mean = values.sum() / n.sum()
    spread = values - mean * n
    return float(mean), float(np.sqrt((spread**2).sum() * len(n) / max(1, len(n) - 1)) / n.sum())
