"""Own votes on top of public knowledge: the rows of all LLMs in the votes, refined at once in closed form.

The model is what is known from elsewhere; the votes say how the user's own prompts differ. With f the features of a
prompt (of a model of kinds: the recognised kinds) minus their mean over the votes' prompts, an LLM's row is a level,
its coefficient at the mean prompt, and weights, its departure from there. The prior of the rows is

    level_i   = common level + s (base level_i - common level)      +- tau_level
    weights_i = common weights + c (base weights_i - common weights)  +- tau_kinds

where `common` is the mean of the base's rows of these LLMs, and each variance also has the base's own
(`scorer.variance`), if it knows them. Strangers' votes and one's own may differ in scale, so the votes choose four
numbers: s and c (1 is the base, 0 is "of no use here"), and how far the rows may depart, tau_level and tau_kinds in
logits (and a fifth, see below). The best ones predict each prompt's votes best from the votes on all other prompts
(`editing.joint`), with a mild preference for the base. The averaged leaderboard of the votes (c = 0, tau_kinds = 0, a
wide level) and the base are among the choices. The result is the mean over all choices that were tried, weighted by
exp(- their loss), so that few votes decide nothing at random.

What an LLM without votes is, the votes do not say: its row stays. Where a common shift of all coefficients has a
meaning (grk, ba, rk_reparam: how often answers are usable), it is one more row, learned from the votes and added to all
LLMs alike, so that they stay comparable; the votes choose how much it may differ from prompt to prompt, too. Where a
shift has no meaning, the prior keeps the mean level.

Feedback: the refined model keeps the base's feedback model. A base without an outcome for ties (`bt`, as those built
from Elo ratings) learns from decisive votes alone; `feedback="grk"` (or "rk") gives it ties and "both bad", with one
tie threshold for all prompts, and predicts decisive votes a little worse.
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np

from p2l_sdk.editing.joint import JointFit, JointPrior, JointProblem, JointVotes
from p2l_sdk.editing.refined import Basis, Choice, Refined, features_of
from p2l_sdk.errors import P2LError, P2LWarning, VotesError
from p2l_sdk.leaderboards.pairs import natural_parameters
from p2l_sdk.leaderboards.weights import require_evidence
from p2l_sdk.modeling.feedback_p2l import Feedback, eta_of_threshold, vote_targets
from p2l_sdk.names import matched, own_names
from p2l_sdk.scorers.scorer import EditableScorer, editable
from p2l_sdk.votes.votes import Votes

SCALES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)  # of s and of c
LEVELS = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0)  # tau_level, logits
KINDS = (0.0, 0.125, 0.25, 0.5, 1.0)  # tau_kinds, logits over the votes' prompts
SHARED = (0.0, 0.25, 0.5, 1.0)  # of the common row, likewise
GRIDS = {"level_scale": SCALES, "kinds_scale": SCALES, "level": LEVELS, "kinds": KINDS, "shared": SHARED}
_AVERAGED = Choice(kinds_scale=0.0, level=1.0, kinds=0.0, shared=0.0)
_WIDE = 10.0  # logits, of the averaged leaderboard's levels
_NEW_LEVEL = 1.0  # logits, least standard deviation of the level of an LLM that the base does not know
_WITHOUT_TIES = (Feedback.BT, Feedback.BT_TIE)
_REACHED = (*_WITHOUT_TIES, Feedback.RK, Feedback.GRK)  # from a base without ties
_THRESHOLD = 1.5  # standard deviation of log(t - 1) where the base has no ties


def refine_rows(scorer: Any, votes: Votes | str | Path, feedback: Feedback | str | None = None) -> tuple[Any, Refined]:
    """The model refined with votes, and LLMs that it did not know added; see the module docstring.

    Args:
        scorer: the model.
        votes: `Votes` or a file of votes; LLMs may be named as people write them (see `names`).
        feedback: feedback model of the result; by default the base's.

    Returns:
        The refined scorer, and what was learned.

    Raises:
        P2LError: the model's weights are on a server, or the base cannot be given this feedback model.
        VotesError: no vote counts, or none names an LLM that the model knows.
        UnknownModelError: a name may be several LLMs, or two are read as the same one.

    Warns:
        P2LWarning: an LLM that the model does not know has too few votes.
    """
    old = editable(scorer)
    votes = votes if isinstance(votes, Votes) else Votes.read(votes)
    chosen = old.spec.feedback if feedback is None else Feedback.parse(feedback)
    own = own_names(votes.models, old.spec.models, "a vote")
    read = matched(dict(zip(votes.models, own, strict=True)))
    votes = dataclasses.replace(votes, models=own)
    able = hasattr(old, "with_feedback")
    if chosen is not old.spec.feedback and not (able and old.spec.feedback in _WITHOUT_TIES and chosen in _REACHED):
        raise P2LError(
            f"this model has feedback {old.spec.feedback} and cannot be refined to {chosen}; only a static model of bt "
            "or bt_tie can change, to bt, bt_tie, rk or grk"
        )
    search = _Search(old, votes, chosen)
    choice, fit = search.best()
    refined = dataclasses.replace(search.summary(choice, fit), matched=read)
    _warn_of_few(refined, search)
    return search.scorer(choice), refined


class _Search:
    """The base and the votes, prepared for fits with different choices."""

    def __init__(self, scorer: EditableScorer, votes: Votes, feedback: Feedback) -> None:
        self.base, self.feedback = scorer, feedback
        self.converted = feedback.has_eta and not scorer.spec.feedback.has_eta
        require_evidence(votes.weight)
        targets = vote_targets(feedback)[votes.winner] * votes.weight[:, None]
        counts = targets.sum(1) > 0
        if not counts.any():
            raise VotesError(f"no vote counts: all weights are 0, or all are ties, which say nothing in {feedback}")
        self.n_votes, self.n_ignored = int(counts.sum()), int((~counts).sum())
        used, prompt = np.unique(votes.prompt[counts], return_inverse=True)
        met = np.unique(np.concatenate([votes.a, votes.b]))
        self.models = tuple(votes.models[i] for i in met)
        known = list(scorer.spec.models)
        self.place = np.array([known.index(name) if name in known else -1 for name in self.models])
        if (self.place < 0).all():
            raise VotesError(
                f"none of the LLMs in the votes ({', '.join(self.models)}) is known to the model; the votes must "
                f"name at least one of {', '.join(known[:10])}{', ...' if len(known) > 10 else ''}"
            )
        features = features_of(scorer, [votes.prompts[i] for i in used])
        self.basis = Basis.fitted(features)
        self.features = self.basis.of(features)
        log_s, self.shift = np.zeros(len(used)), np.zeros(len(used))
        if not self.converted:
            scored = scorer.score_features(features.astype(np.float32))
            log_s = natural_parameters(feedback, scored, len(known))[1]
            if feedback.has_gamma and scored.gamma is not None:
                self.shift = scored.gamma[:, 0].astype(np.float64)
        self.old = scorer.rows.astype(np.float64)
        if self.converted:  # a shift of the base's coefficients has no meaning, but will have one
            self.old -= self.old[self.place[self.place >= 0]].mean(0)
        self.rows = self.basis.fitted_row(self.old)
        # what the fit leaves out of wide features stays in the coefficients
        self.rest = features @ self.old[:, :-1].T + self.old[:, -1] - self.features @ self.rows.T
        variances = scorer.variance
        self.variances = (
            np.zeros_like(self.rows) if variances is None else self.basis.variances(variances.astype(np.float64))
        )
        a, b = (np.searchsorted(met, side[counts]) for side in (votes.a, votes.b))
        self.problem = JointProblem(
            JointVotes.of(
                feedback,
                len(self.models),
                self.features,
                prompt,
                a,
                b,
                targets[counts],
                log_s,
                _THRESHOLD if self.converted else 0.0,
            )
        )
        self._fits: dict[Choice, JointFit] = {}

    # --- the prior --------------------------------------------------------------------------------------------------

    def means(self, choice: Choice) -> np.ndarray:
        """`(n_models of the base, n + 1)` the base's rows, with departure and level of those in the votes scaled."""
        inside = self.place[self.place >= 0]
        common = self.rows[inside].mean(0)
        scale = np.append(np.full(self.rows.shape[1] - 1, choice.kinds_scale), choice.level_scale)
        return common + scale * (self.rows - common)

    def prior(self, choice: Choice) -> JointPrior:
        """The prior of the rows of the LLMs in the votes."""
        width, means = self.rows.shape[1], self.means(choice)
        mean, differences = means.mean(0), (means - means.mean(0)) / np.sqrt(max(len(means) - 1, 1))
        per_weight = choice.kinds / self.basis.spread if self.basis.spread > 1e-9 else 0.0
        depart = np.append(np.full(width - 1, per_weight), choice.level)
        offset = np.empty((len(self.features), len(self.models)))
        scale = np.zeros((len(self.models), width, width))
        for i, place in enumerate(self.place):
            if place >= 0:
                offset[:, i] = self.features @ means[place] + choice.kinds_scale * self.rest[:, place]
                scale[i] = np.diag(np.sqrt(self.variances[place] + depart**2))
            else:  # it may differ from the mean as the known ones do
                own = np.append(depart[:-1], max(choice.level, _NEW_LEVEL))
                offset[:, i] = self.features @ mean + choice.kinds_scale * self.rest.mean(1)
                scale[i] = _root(differences.T @ differences + np.diag(own**2))
        return JointPrior(offset - self.shift[:, None], scale, self._common(choice))

    def _common(self, choice: Choice) -> np.ndarray | None:
        """Standard deviations of the common row; of a base without ties, the level says nothing."""
        if self.feedback.floating:
            return None
        per_weight = choice.shared / self.basis.spread if self.basis.spread > 1e-9 else 0.0
        return np.append(np.full(self.rows.shape[1] - 1, per_weight), 2.0 if self.converted else 1.0)

    # --- the search ---------------------------------------------------------------------------------------------------

    def fit(self, choice: Choice) -> JointFit:
        """The rows for a choice; computed once."""
        if choice not in self._fits:
            self._fits[choice] = self.problem.fit(self.prior(choice))
        return self._fits[choice]

    def value(self, choice: Choice) -> float:
        """What the best choice minimises, in nats."""
        return float(self.fit(choice).held_out.sum()) + choice.doubt

    def best(self) -> tuple[Choice, JointFit]:
        """Coordinate descent over the grids, from the base and from the averaged leaderboard."""
        best = min((self._descended(start) for start in (Choice(), _AVERAGED)), key=self.value)
        return best, self.fit(best)

    def _descended(self, choice: Choice) -> Choice:
        for _ in range(3):
            before = choice
            for name, grid in GRIDS.items():
                if name == "shared" and self.feedback.floating:
                    continue
                others = [dataclasses.replace(choice, **{name: value}) for value in grid]
                choice = min((choice, *others), key=self.value)
            if choice == before:
                break
        return choice

    # --- the result ---------------------------------------------------------------------------------------------------

    def summary(self, choice: Choice, fit: JointFit) -> Refined:
        """What was learned."""
        total = self.problem.votes.total
        return Refined(
            models=self.models,
            added=tuple(name for name, place in zip(self.models, self.place, strict=True) if place < 0),
            feedback=self.feedback,
            n_votes=self.n_votes,
            n_prompts=len(self.features),
            n_ignored=self.n_ignored,
            choice=choice,
            held_out_loss={
                "base": float(self._of_base().sum()) / total,
                "averaged": float(self._of_averaged().sum()) / total,
                "refined": float(fit.held_out.sum()) / total,
            },
            covariance=fit.covariance,
            basis=self.basis,
            _scorer=self.base,
        )

    def _of_base(self) -> np.ndarray:
        prior = self.prior(Choice())
        if not self.converted and (self.place >= 0).all():
            return self.problem.fixed(prior.offset)
        fixed = prior.scale * (self.place < 0)[:, None, None]  # only what the base does not say is fitted
        return self.problem.fit(JointPrior(prior.offset, fixed, prior.common if self.converted else None)).held_out

    def _of_averaged(self) -> np.ndarray:
        level = np.zeros(self.rows.shape[1])
        level[-1] = _WIDE
        offset = np.zeros((len(self.features), len(self.models))) - self.shift[:, None]
        common = None if self.feedback.floating else level
        scale = np.broadcast_to(np.diag(level), (len(self.models), len(level), len(level)))
        return self.problem.fit(JointPrior(offset, scale, common)).held_out

    def scorer(self, choice: Choice) -> EditableScorer:
        """The base with the refined rows, and one row more for each LLM that it did not know: the mean over all choices
        that were tried, weighted by how well they predict."""
        values = {other: self.value(other) for other in self._fits}
        weights = {other: np.exp(values[choice] - value) for other, value in values.items()}
        total = sum(weights.values())
        start = np.vstack([self.old, np.zeros(((self.place < 0).sum(), self.old.shape[1]))])
        rows = start + sum(weight / total * (self._rows(other) - start) for other, weight in weights.items())
        spec, base = self.base.spec, cast(Any, self.base)
        if self.feedback is not spec.feedback:
            log_s = sum(weight / total * self._fits[other].threshold for other, weight in weights.items())
            eta = float(eta_of_threshold(self.feedback, log_s)) if self.feedback.has_eta else None
            base = base.with_feedback(self.feedback, eta)
        new = tuple(name for name, place in zip(self.models, self.place, strict=True) if place < 0)
        new_spec = base.spec.replace(models=(*spec.models, *new))
        return cast(EditableScorer, base.with_rows(new_spec, rows, self._variance(choice)))

    def _variance(self, choice: Choice) -> np.ndarray | None:
        """Variances of all rows after the votes, those of new LLMs last; None if the base has none."""
        if self.base.variance is None:
            return None
        variance, added, covariance = self.base.variance.astype(np.float64), [], self.fit(choice).covariance
        for i, place in enumerate(self.place):
            half = self.basis.row(covariance[i, i])
            own = np.maximum(np.diag(self.basis.row(half.T)), 0.0)
            if place >= 0:
                variance[place] = own
            else:
                added.append(own)
        return np.vstack([variance, *added])

    def _rows(self, choice: Choice) -> np.ndarray:
        """All rows of the last layer for a choice, those of new LLMs last."""
        old, fit, means = self.old, self.fit(choice), self.means(choice)
        outside = old - self.basis.row(self.rows)
        rows, added = old.copy(), []
        for i, place in enumerate(self.place):
            if place >= 0:
                rows[place] = self.basis.row(means[place] + fit.rows[i]) + choice.kinds_scale * outside[place]
            else:
                added.append(self.basis.row(means.mean(0) + fit.rows[i]) + choice.kinds_scale * outside.mean(0))
        return np.vstack([rows, *added]) + self.basis.row(fit.common)


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def _warn_of_few(refined: Refined, search: _Search) -> None:
    for i, name in enumerate(refined.models):
        own = refined.covariance[i, i]
        error = float(np.sqrt(np.einsum("pk,kl,pl->p", search.features, own, search.features).mean()))
        if name in refined.added and error > 0.5:
            warnings.warn(
                f"too few votes for {name!r}, which the model did not know: its coefficient is known to ± {error:.2f} "
                "logits (standard error) only. Give more votes on it, on more prompts",
                P2LWarning,
                stacklevel=4,
            )
