"""Static models trained on many parts of the same votes, and measured on the same held-out votes, without writing any.

Each prompt becomes tokens once, and each part vectors once, whatever number of heads is trained. With a hidden layer of
256 units, a part gives the model that `p2l train --epochs N --keep K` makes of it, but for the table's 8 bits and the
damping of unfamiliar prompts. Wider layers learn at a rate that falls with the root of their width (and decay as much a
step), so that all need about as many steps. Unless epochs are given, there are 2.5 steps for each root of the number of
prompts: near those with the lowest loss on routing9 at every width and number of prompts, where a fixed number, or so
many passes over the prompts, has too many for few prompts or too few for many.
"""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from tokenizers import Tokenizer

from p2l_sdk.errors import P2LWarning
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.prompt_p2l import PromptEncoder
from p2l_sdk.training.checks import check_ground, check_prompts
from p2l_sdk.training.data import ByPrompt
from p2l_sdk.training.static_backbone import new_model, spec_of, standardise, vectors_of
from p2l_sdk.training.static_heads import Heads, as_outputs, log_likelihoods, one_head
from p2l_sdk.training.static_recipe import StaticRecipe
from p2l_sdk.training.token_table import TokenTable
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Votes

_STEPS = 2.5  # for each root of the number of prompts


class StaticStudy:
    """Votes to learn parts of, and votes to measure on.

    Args:
        votes, held_out: on the same LLMs.
        table: token vectors and their tokenizer.
        feedback: the feedback model.
    """

    def __init__(self, votes: Votes, held_out: Votes, table: TokenTable, feedback: Feedback) -> None:
        self.recipe = StaticRecipe(feedback=feedback)
        spec = spec_of(votes, self.recipe, 1, {})
        encode = PromptEncoder(spec, Tokenizer.from_str(table.tokenizer.to_str()))
        self._tokens, self._held_out_tokens = encode(votes.prompts), encode(held_out.prompts)
        self._model = new_model(spec, table, self.recipe)
        self._measured = _Measured.of(held_out, feedback)

    def part(self, votes: Votes, prompts: np.ndarray) -> Part:
        """Votes to learn from.

        Args:
            votes: the votes of the part, on the LLMs of all votes.
            prompts: `(n_prompts,)` places of its prompts among those of all votes, in the order of the part.

        Raises:
            VotesError: there is only one prompt, or the feedback model needs "both bad" votes and there are none.
        """
        feedback = self.recipe.feedback
        check_prompts(votes)
        check_ground(votes, feedback)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", P2LWarning)  # what few votes leave open
            board = fit_leaderboard(votes, feedback, intervals=None)
        model = copy.deepcopy(self._model)
        vectors = standardise(model, [self._tokens[i] for i in prompts], self.recipe)
        held_out = vectors_of(model, self._held_out_tokens)
        lessons = ByPrompt.of_votes(votes, feedback)
        return Part(self.recipe, vectors, lessons, as_outputs([board], feedback), held_out, self._measured)


@dataclass(frozen=True, eq=False)
class _Measured:
    """The held-out votes: labels [prompt, a, b, winner], and weights."""

    feedback: Feedback
    labels: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def of(cls, votes: Votes, feedback: Feedback) -> _Measured:
        columns = ByPrompt.of_votes(votes, feedback).of(np.arange(len(votes.prompts)))
        return cls(feedback, columns["labels"], columns["weights"])

    def loss(self, outputs: torch.Tensor) -> float:
        losses = -log_likelihoods(outputs, self.labels, self.feedback) * self.weights
        return float(losses.double().sum() / self.weights.double().sum())


@dataclass(frozen=True, eq=False)
class Part:
    """A part of the votes, ready to be learned from by heads of any width; made by `StaticStudy.part`."""

    recipe: StaticRecipe
    vectors: torch.Tensor
    lessons: ByPrompt
    averaged: torch.Tensor
    held_out: torch.Tensor
    measured: _Measured

    @property
    def n_votes(self) -> int:
        """The number of votes that count in the feedback model."""
        return len(self.lessons)

    @property
    def averaged_loss(self) -> float:
        """The loss of the part's averaged leaderboard on the held-out votes, in nats per vote."""
        return self.measured.loss(self.averaged[0].expand(len(self.held_out), -1))

    def loss(self, hidden_size: int, *, epochs: float | None, keep: float, seed: int) -> float:
        """The loss of a model on the held-out votes, in nats per vote.

        Args:
            hidden_size: width of its hidden layer.
            epochs: passes over the prompts; None for as many as suits their number.
            keep: share of the departure from the averaged leaderboard that is kept.
            seed: of initial weights, dropout and order.
        """
        n, usual = len(self.vectors), self.recipe
        faster = math.sqrt(usual.hidden_size / hidden_size)
        recipe = replace(
            usual,
            learning_rate=usual.learning_rate * faster,
            weight_decay=usual.weight_decay / faster,
            steps=max(1, round(_STEPS * math.sqrt(n))),
            seed=seed,
        )
        (how,) = recipe.for_prompts(n, epochs).lengths(n)
        feedback = recipe.feedback
        head = one_head(self.vectors, self.lessons, self.averaged, feedback, how, hidden_size, keep, lambda: None)
        return self.measured.loss(head.of(0, self.held_out))

    def n_parameters(self, hidden_size: int) -> int:
        """The number of weights that are trained in a head of this width."""
        head = Heads.new(self.averaged, self.vectors.shape[1], hidden_size, 0)
        return sum(weight.numel() for weight in head.weights)
