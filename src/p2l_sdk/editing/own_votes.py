"""Votes between one new LLM and those a model knows: selected from votes, or derived from scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from p2l_sdk.errors import VotesError, require_known
from p2l_sdk.leaderboards.weights import require_evidence
from p2l_sdk.modeling.feedback_p2l import vote_targets
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.names import own_names, places
from p2l_sdk.tables.columns import PromptIndex
from p2l_sdk.votes.counts import SWAPPED
from p2l_sdk.votes.votes import Scores, Votes


@dataclass(frozen=True, eq=False)
class OwnVotes:
    """Votes between the new LLM (side A of `winner`) and known LLMs (`opponent`, indices into the model's LLMs)."""

    prompts: list[Prompt]
    prompt: np.ndarray
    opponent: np.ndarray
    winner: np.ndarray
    weight: np.ndarray
    n_ignored: int

    @classmethod
    def of_votes(cls, name: str, votes: Votes | str | Path, spec: ModelSpec) -> OwnVotes:
        """The votes that name the new LLM."""
        if not isinstance(votes, Votes):
            votes = Votes.read(votes)
        if name not in votes.models:
            raise VotesError(f"no vote names {name!r}; the votes name {', '.join(votes.models)}")
        new = votes.models.index(name)
        first = votes.a == new
        own = first | (votes.b == new)
        other, winner = np.where(first, votes.b, votes.a)[own], votes.winner[own]
        met = [votes.models[i] for i in np.unique(other)]
        what = f"a vote on {name!r}"
        known = dict(zip(met, own_names(met, spec.models, what), strict=True))
        require_known(known.values(), spec.models, what)
        place = np.array([places(spec.models)[known[m]] if m in known else -1 for m in votes.models])
        return cls(
            votes.prompts,
            votes.prompt[own],
            place[other],
            np.where(first[own], winner, np.array(SWAPPED)[winner]),
            votes.weight[own],
            int((~own).sum()),
        )

    @classmethod
    def of_scores(cls, name: str, scores: Scores | str | Path, spec: ModelSpec) -> OwnVotes:
        """Votes from scores: one for each prompt and known LLM with a score beside the new LLM's."""
        if not isinstance(scores, Scores):
            scores = Scores.read(scores, among=(name, *spec.models), allow_missing=True)
        known = [m for m in scores.models if m in spec.models]
        if name not in scores.models or not known:
            raise VotesError(f"the scores need a column {name!r} and one of a known LLM: {', '.join(spec.models)}")
        columns = [places(scores.models)[m] for m in (name, *known)]
        chosen = replace(scores, models=(name, *known), scores=scores.scores[:, columns])
        pairs = np.zeros(len(known), dtype=np.intp), np.arange(1, len(known) + 1)
        own = cls.of_votes(name, Votes.from_scores(chosen, pairs), spec)
        return replace(own, n_ignored=0)  # pairs of known LLMs were not given as votes

    @classmethod
    def joined(cls, pieces: list[OwnVotes]) -> OwnVotes:
        """All pieces as one, each prompt once."""
        index = PromptIndex()
        places = []
        for piece in pieces:
            place = np.empty(len(piece.prompts), dtype=np.int64)
            for i in np.unique(piece.prompt):
                place[i] = index.number(piece.prompts[i])
            places.append(place[piece.prompt])
        return cls(
            index.prompts,
            np.concatenate(places),
            opponent=np.concatenate([piece.opponent for piece in pieces]),
            winner=np.concatenate([piece.winner for piece in pieces]),
            weight=np.concatenate([piece.weight for piece in pieces]),
            n_ignored=sum(piece.n_ignored for piece in pieces),
        )

    def that_count(self, name: str, spec: ModelSpec) -> OwnVotes:
        """Only the votes with a positive weight and an outcome that counts in the feedback model."""
        counts = (vote_targets(spec.feedback)[self.winner].sum(1) > 0) & (self.weight > 0)
        if not counts.any():
            raise VotesError(
                f"no vote on {name!r} counts: all weights are 0, or all are ties, which say nothing in {spec.feedback}"
            )
        require_evidence(self.weight)
        used, prompt = np.unique(self.prompt[counts], return_inverse=True)
        return OwnVotes(
            [self.prompts[i] for i in used],
            prompt,
            opponent=self.opponent[counts],
            winner=self.winner[counts],
            weight=self.weight[counts],
            n_ignored=self.n_ignored + int((~counts).sum()),
        )
