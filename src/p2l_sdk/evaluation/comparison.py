"""Two models on the same votes and scores: which is better, and how surely.

Hard votes are hard for both models, so the standard error of the mean difference, vote by vote or prompt by prompt, is
much smaller than that of either mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.evaluation.metrics.estimates import Estimate
from p2l_sdk.evaluation.metrics.pairs import pair_metrics, paired_differences
from p2l_sdk.evaluation.predictions import Predictions
from p2l_sdk.evaluation.routed import mean_of
from p2l_sdk.evaluation.scores import Routing
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import vote_targets
from p2l_sdk.names import places
from p2l_sdk.p2l import P2L
from p2l_sdk.tabular import Tabular
from p2l_sdk.votes.votes import Scores, Votes

if TYPE_CHECKING:
    import matplotlib.axes

_OF_OUTCOMES = ("cross_entropy", "brier_score", "outcome_accuracy")  # compare only where the outcomes are the same


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison(Tabular):
    """Two models measured on the same votes and scores.

    Attributes:
        models: the LLMs that both models know, on which they are compared.
        feedback: the feedback models of the two.
        sizes: `n_votes`, `n_prompts`, `n_scored_prompts`.
        first, second: the metrics of each model, on these LLMs.
        difference: first minus second, vote by vote or prompt by prompt, with standard errors clustered by prompt; for
            losses and costs, negative means that the first is better. `same_llm`: share of the prompts of the scores
            that both route to the same LLM.
        notes: remarks for the reader, such as what was left out.
    """

    models: tuple[str, ...]
    feedback: tuple[str, str]
    sizes: dict[str, int] = field(default_factory=dict)
    first: dict[str, Estimate] = field(default_factory=dict)
    second: dict[str, Estimate] = field(default_factory=dict)
    difference: dict[str, Estimate] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"Two models on the {len(self.models)} LLMs that both know"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each metric: metric, first, second, difference, low and high (its 95 % limits), n."""
        found = []
        for name in dict.fromkeys((*self.first, *self.second, *self.difference)):
            sides = {"first": self.first, "second": self.second, "difference": self.difference}
            row: dict[str, Any] = {"metric": name}
            row |= {side: values[name].value for side, values in sides.items() if name in values}
            if (known := self.difference.get(name)) is not None:
                if known.interval is not None:
                    row |= dict(zip(("low", "high"), known.interval, strict=True))
                row["n"] = known.n
            found.append(row)
        return found

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw the differences, first minus second.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        return pictures.draw_bars(
            self.rows(),
            "metric",
            "difference",
            meaning="first minus second; of losses and costs, less is better",
            title=self.caption,
            ax=ax,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the differences have their 95 % interval as `interval`, None without a standard error."""
        difference = {name: {**e.to_dict(), "interval": e.interval} for name, e in self.difference.items()}
        both = {side: {name: e.to_dict() for name, e in getattr(self, side).items()} for side in ("first", "second")}
        plain = {"models": list(self.models), "feedback": list(self.feedback), **self.sizes}
        return {**plain, **both, "difference": difference, **({"notes": self.notes} if self.notes else {})}


def compare(
    first: P2L, second: P2L, votes: Votes | Any | None = None, scores: Scores | Any | None = None
) -> Comparison:
    """Compare two models, paired, on votes, on scores, or on both.

    They are compared on the LLMs that both know: votes on others are left out, and routing chooses among these.

    Args:
        first, second: the models; their feedback models may differ, and metrics of outcomes that only one of them has
            are then left out of the difference.
        votes: votes on LLMs of at least one of the models.
        scores: scores with a column for each LLM that both know; scores may be missing. Votes and scores may also be
            anything that `Votes.read` and `Scores.read` accept.

    Raises:
        P2LError: fewer than two LLMs are common, the scores lack one of them, or there is nothing to compare on.
        VotesError: no vote is between two of the common LLMs, or one names an LLM that neither model knows.
    """
    common = tuple(name for name in first.models if name in second.models)
    if len(common) < 2:
        raise P2LError(
            f"the two models have {'no LLM' if not common else f'only the LLM {common[0]!r}'} in common, so there is "
            f"nothing to compare: the first knows {_shown(first.models)}; the second {_shown(second.models)}"
        )
    if votes is None and scores is None:
        raise P2LError("there is nothing to compare on; give votes, scores or both")
    if votes is not None and not isinstance(votes, Votes):
        votes = Votes.read(votes)
    if scores is not None and not isinstance(scores, Scores):
        scores = Scores.read(scores, common, allow_missing=True)
    result = Comparison(models=common, feedback=(str(first.spec.feedback), str(second.spec.feedback)))
    if votes is not None:
        _compare_votes(result, first, second, votes)
    if scores is not None:
        _compare_scores(result, first, second, scores)
    return result


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _compare_votes(result: Comparison, first: P2L, second: P2L, votes: Votes) -> None:
    known = {*first.models, *second.models}
    used = np.unique(np.concatenate([votes.a, votes.b]))
    if strangers := [votes.models[i] for i in used if votes.models[i] not in known]:
        raise VotesError(f"the votes name {_shown(tuple(strangers))}, which neither model knows")
    kept, left_out = _on(votes, result.models)
    if left_out:
        result.notes.append(f"votes left out, on an LLM that only one of the models knows: {left_out:,}")
    one, two = _predictions(first, kept), _predictions(second, kept)
    result.sizes.update(n_votes=len(kept), n_prompts=len(kept.prompts))
    result.first.update(pair_metrics(one.pairs))
    result.second.update(pair_metrics(two.pairs))
    difference = paired_differences(one.pairs, two.pairs)
    if not np.array_equal(vote_targets(one.feedback), vote_targets(two.feedback)):
        difference = {name: estimate for name, estimate in difference.items() if name not in _OF_OUTCOMES}
        result.notes.append(
            f"{one.feedback} and {two.feedback} have different outcomes: {', '.join(_OF_OUTCOMES)} do not compare"
        )
    result.difference.update(difference)


def _on(votes: Votes, models: tuple[str, ...]) -> tuple[Votes, int]:
    """The votes between these LLMs, with them in this order, and the number of other votes."""
    place_of = {name: place for place, name in enumerate(models)}
    place = np.array([place_of.get(name, -1) for name in votes.models], dtype=votes.a.dtype)
    a, b = place[votes.a], place[votes.b]
    keep = (a >= 0) & (b >= 0)
    if not keep.any():
        raise VotesError(f"no vote is between two of the LLMs that both models know: {_shown(models)}")
    labels = {name: column[keep] for name, column in votes.categories.items()}
    rows = (votes.prompt[keep], a[keep], b[keep], votes.winner[keep], votes.weight[keep])
    kept = Votes(votes.prompts, models, *rows, labels)
    return kept.subset(np.unique(kept.prompt)), int((~keep).sum())


def _predictions(p2l: P2L, votes: Votes) -> Predictions:
    scored = p2l.coefficients(votes.prompts)
    columns = [places(p2l.models)[name] for name in votes.models]
    return Predictions(p2l.spec.feedback, votes, Coefficients(scored.coefs[:, columns], scored.eta, scored.gamma))


def _compare_scores(result: Comparison, first: P2L, second: P2L, scores: Scores) -> None:
    if absent := [name for name in result.models if name not in scores.models]:
        raise P2LError(f"the scores have no column for {_shown(tuple(absent))}, which both models know")
    one, two = (Routing.among(p2l, result.models, scores) for p2l in (first, second))
    result.sizes["n_scored_prompts"] = len(scores.prompts)
    for side, routing, other in ((result.first, one, two), (result.second, two, one)):
        side.update({name: value for name, value in routing.metrics.items() if isinstance(value, Estimate)})
        side.update(routing.routed.where_known(other.routed).metrics)
    result.difference.update(one.routed.less(two.routed))
    same = mean_of((one.choice == two.choice).astype(np.float64))
    if same is not None:
        result.difference["same_llm"] = same
    if missing := int((~np.isfinite(one.scores)).sum()):
        result.notes.append(f"{missing:,} of {one.scores.size:,} scores are missing; n says how many prompts are left")
