"""`Task`: what to learn from (votes on pairs, or scores of single answers), split, with its averaged leaderboard."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch

from p2l_sdk.errors import VotesError
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback, Pointwise
from p2l_sdk.modeling.modeling_p2l import P2LOutput
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.tables.columns import PromptIndex
from p2l_sdk.training.checks import check_ground
from p2l_sdk.training.data import ByPrompt
from p2l_sdk.training.objective import PROBIT_TO_LOGIT, Objective, ScoreObjective, VoteObjective
from p2l_sdk.training.teacher import with_lessons
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Scores, Votes


@dataclass(frozen=True)
class Side:
    """One side of the split: prompts, and the feedback on them by index."""

    prompts: list[Prompt]
    feedback: ByPrompt


@dataclass(frozen=True)
class Task:
    """Prompts with feedback, to learn from and for validation.

    Attributes:
        models: names of the LLMs.
        train, validation: the two sides of the split; validation may be None.
        objective: the loss to minimise.
        saved_feedback: the feedback model of the saved model; `bt` after pointwise feedback, see `training.objective`.
        averaged: the averaged leaderboard of the training side, where training starts and the baseline to beat.
        noun: the word for the feedback, "votes" or "scores".
    """

    models: tuple[str, ...]
    train: Side
    validation: Side | None
    objective: Objective
    saved_feedback: Feedback
    averaged: Leaderboard
    noun: str

    def digest(self) -> str:
        """A sha256 of the LLMs, the prompts and the feedback on each side of the split."""
        sha = hashlib.sha256(repr(self.models).encode())
        for side in (self.train, self.validation):
            if side is not None:
                sha.update(repr(side.prompts).encode("utf-8", "surrogatepass"))
                for name, column in side.feedback.of(side.feedback.prompts).items():
                    sha.update(name.encode() + column.numpy().tobytes())
        return sha.hexdigest()

    @torch.no_grad()
    def averaged_loss(self, side: Side) -> float:
        """The mean loss of the averaged leaderboard, the same for every prompt, on one side, in nats."""
        prompts, averaged = side.feedback.prompts, self.averaged
        coefs = torch.as_tensor(averaged.coefs, dtype=torch.float32).expand(len(prompts), -1)
        eta, gamma = (
            None if x is None else torch.full((len(prompts), 1), float(x)) for x in (averaged.eta, averaged.gamma)
        )
        output = P2LOutput(coefs=coefs, eta=eta, gamma=gamma)
        loss, weights = self.objective.measure(output, side.feedback.of(prompts))["loss"]
        return float((loss * weights).sum() / weights.sum())

    @classmethod
    def of_votes(
        cls,
        votes: Votes,
        feedback: Feedback,
        validation: float,
        seed: int,
        smoothing: float = 0.0,
        *,
        averaged: Leaderboard | None = None,
        lessons: Votes | None = None,
    ) -> Task:
        """A task from votes, with a share of the prompts held out for validation.

        Args:
            votes: the votes.
            feedback: the feedback model.
            validation: share of the prompts to hold out; 0 for none.
            seed: of the split.
            smoothing: label smoothing.
            averaged: the averaged leaderboard of all votes, where it is known already; of use if none are held out.
            lessons: what a teacher says on the same prompts, see `training.teacher`; learned on the training side only.

        Raises:
            VotesError: one side of the split would be empty or carry no information, or there are no "both bad" votes
                to learn from (grk, ba).
        """
        _held_out_size(validation, len(votes.prompts))
        train, rest = votes.split(validation, seed) if validation else (votes, None)
        if lessons is not None and validation:
            lessons, _ = lessons.split(validation, seed)  # the same prompts, so the same sides
        check_ground(train, feedback)
        if averaged is None or rest is not None:
            averaged = fit_leaderboard(train, feedback, intervals=None)
        if rest is not None and not len(ByPrompt.of_votes(rest, feedback)):
            raise VotesError(
                f"validation is {validation}, and no vote on those {len(rest.prompts):,} prompts says anything under "
                f"{feedback}; hold out more, or use 0 for none"
            )
        return cls(
            models=votes.models,
            train=Side(train.prompts, ByPrompt.of_votes(with_lessons(train, lessons), feedback)),
            validation=None if rest is None else Side(rest.prompts, ByPrompt.of_votes(rest, feedback)),
            objective=VoteObjective(feedback, smoothing),
            saved_feedback=feedback,
            averaged=averaged,
            noun="votes",
        )

    @classmethod
    def of_scores(cls, scores: Scores, kind: Pointwise, validation: float, seed: int) -> Task:
        """A task from scores of single answers, with a share of the prompts held out for validation.

        Raises:
            VotesError: a score is outside [0, 1] (bernoulli), the scores of every LLM are all equal (gaussian), an LLM
                has no score, or one side of the split would be empty.
        """
        values = scores.scores
        if kind is Pointwise.BERNOULLI and not ((values >= 0) & (values <= 1) | np.isnan(values)).all():
            raise VotesError("a score is not between 0 and 1, as bernoulli feedback needs; use feedback 'gaussian'")
        train, rest = _split(scores, validation, seed)
        coefs, centre, scale = _averages(train, kind)
        return cls(
            models=scores.models,
            train=Side(train.prompts, ByPrompt.of_scores(train)),
            validation=None if rest is None else Side(rest.prompts, ByPrompt.of_scores(rest)),
            objective=ScoreObjective(kind, centre, scale),
            saved_feedback=Feedback.BT,
            averaged=Leaderboard(models=scores.models, coefs=coefs, feedback=Feedback.BT, eta=None, gamma=None),
            noun="scores",
        )


def _split(scores: Scores, share: float, seed: int) -> tuple[Scores, Scores | None]:
    if not share:
        return scores, None
    index = PromptIndex()
    number = np.array([index.number(prompt) for prompt in scores.prompts])  # a prompt may occur in several rows
    n = len(index.prompts)
    size = _held_out_size(share, n)
    part = np.isin(number, np.random.default_rng(seed).permutation(n)[:size])
    rest, held_out = _only(scores, ~part), _only(scores, part)
    if not np.isfinite(held_out.scores).any():
        raise VotesError(f"validation is {share}, and those {size:,} prompts have no score; hold out more, or use 0")
    return rest, held_out


def _held_out_size(share: float, n_prompts: int) -> int:
    size = round(share * n_prompts)
    if share and not 0 < size < n_prompts:
        raise VotesError(f"validation is {share}, which leaves one side of {n_prompts:,} prompts empty; use 0 for none")
    return size


def _only(scores: Scores, rows: np.ndarray) -> Scores:
    chosen = np.flatnonzero(rows)
    return replace(scores, prompts=[scores.prompts[i] for i in chosen], scores=scores.scores[chosen], categories={})


def _averages(scores: Scores, kind: Pointwise) -> tuple[np.ndarray, float, float]:
    """Coefficients of the averaged leaderboard, and centre and scale of the scores."""
    answered = np.isfinite(scores.scores).sum(0)
    if (answered == 0).any():
        raise VotesError(f"{scores.models[int(answered.argmin())]!r} has no score among the training prompts")
    means = np.nanmean(scores.scores, 0)
    if kind is Pointwise.BERNOULLI:
        chance = (means * answered + 0.5) / (answered + 1.0)  # plus half a success and half a failure: finite logits
        return np.log(chance / (1.0 - chance)), 0.0, 1.0
    centre, scale = float(means.mean()), float(np.sqrt(np.nanmean(np.square(scores.scores - means))))
    if not scale > 0:
        raise VotesError("the scores of every LLM are all equal, so there is nothing to learn from them")
    return (means - centre) / scale * PROBIT_TO_LOGIT, centre, scale
