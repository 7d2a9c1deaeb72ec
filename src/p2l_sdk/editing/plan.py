"""Which votes to gather next: the prompts and pairs of LLMs that teach most about all others.

The rows of the last layer have a normal distribution with covariance S: after votes that of `editing.refine`, before
any the base's own variances and the departures that are usual. A vote on the difference d of two coefficients, with the
expectation m and the variance v = x' S x, tells w = p (1 - p), p = sigmoid(m / sqrt(1 + pi v / 8)): little where the
winner is certain. (x is the features of the prompt for one LLM, and minus these for the other.) Whatever its outcome,
it leaves S - k S x (S x)', k = w / (1 + w v). What the votes are for is to predict the preferences on all prompts,
where an error of variance v costs w v / 2 nats. So the gain of a vote is what it takes from the mean of that,

    gain = k / 2 x' S M S x,      M the mean of w x x' over all prompts and pairs

and votes are picked one after another, each by the largest gain given those before: what would say the same again
comes later. After each, all variances and gains follow from products with S x and S M S x, without a new decomposition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.editing.refine import refine_rows
from p2l_sdk.editing.refined import Basis, Choice, features_of
from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.names import find_models
from p2l_sdk.scorers.scorer import editable
from p2l_sdk.votes.votes import Votes

_MOST_BYTES = 2 << 30
MOST_PER_PROMPT = 1  # pairs, by default: votes on one prompt tell least about others


@dataclass(frozen=True)
class Question:
    """A vote to ask for.

    Attributes:
        prompt: the prompt; `index` its position among those given.
        model_a, model_b: the LLMs whose answers are to be compared.
        gain: what the vote is expected to take from the mean loss of a vote, given those picked before, in nats.
    """

    prompt: Prompt
    index: int
    model_a: str
    model_b: str
    gain: float

    def to_dict(self) -> dict[str, Any]:
        """The columns of a plan; the gain to four digits."""
        gain = float(f"{self.gain:.4g}")
        return {"prompt": self.prompt, "model_a": self.model_a, "model_b": self.model_b, "gain": gain}


def plan_votes(
    scorer: Any,
    prompts: Sequence[Prompt],
    models: Sequence[str],
    n: int,
    *,
    votes: Votes | str | Path | None = None,
    per_prompt: int = MOST_PER_PROMPT,
) -> list[Question]:
    """The votes to ask for next, the most telling first.

    Args:
        scorer: the model.
        prompts: prompts that may be asked.
        models: the LLMs to compare; at least two.
        n: number of votes.
        votes: the votes so far; they may name LLMs that the model does not know.
        per_prompt: largest number of pairs for each prompt.

    Returns:
        At most `n` questions; fewer if the prompts have fewer pairs.

    Raises:
        P2LError: n or per_prompt is below 1, or the model's weights are on a server.
        VotesError: there are no prompts, fewer than two LLMs, or one twice.
        UnknownModelError: an LLM is known neither to the model nor from the votes.
    """
    for name, value in (("n", n), ("per_prompt", per_prompt)):
        if value < 1:
            raise P2LError(f"{name} is {value}; a plan needs at least 1")
    if len(models) < 2 or len(set(models)) < len(models):
        raise VotesError(f"a plan needs two or more LLMs, none of them twice; got {', '.join(models) or 'none'}")
    if not len(prompts):
        raise VotesError("there are no prompts to plan with")
    belief = Belief.of(scorer, prompts, models, votes)
    picks = belief.picks(n, per_prompt)
    return [Question(prompts[p], p, models[a], models[b], gain) for p, a, b, gain in picks]


@dataclass(frozen=True, eq=False)
class Belief:
    """What is known of some LLMs on some prompts.

    Attributes:
        features: `(n_prompts, width)`, the last column is 1.
        coefs: `(n_prompts, n_models)` expected coefficients.
        covariance: `(n_models, width, n_models, width)` of the rows.
    """

    features: np.ndarray
    coefs: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(
        cls, scorer: Any, prompts: Sequence[Prompt], models: Sequence[str], votes: Votes | str | Path | None
    ) -> Belief:
        """What a model knows, refined with votes if there are any; arguments and errors as in `plan_votes`."""
        base = model = editable(scorer)
        raw, refined, choice = features_of(base, prompts), None, Choice()
        basis = Basis.fitted(raw)
        if votes is not None:
            model, refined = refine_rows(base, votes)
            basis, choice = refined.basis, refined.choice
        own = list(find_models(models, model.spec.models, "the plan").values())
        if len(set(own)) < len(own):
            raise VotesError(f"two names of the plan are read as the same LLM: {', '.join(own)}")
        places = [model.spec.models.index(name) for name in own]
        features = basis.of(raw)
        width = features.shape[1]
        _require_room(len(models), width, len(features))
        covariance = np.zeros((len(models), width, len(models), width))
        for i, place in enumerate(places):
            covariance[i, :, i] = np.diag(_usual(choice, basis, base.variance, place))
        if refined is not None:
            inside = [i for i, name in enumerate(own) if name in refined.models]
            there = [refined.models.index(own[i]) for i in inside]
            for i, x in zip(inside, there, strict=True):
                for j, y in zip(inside, there, strict=True):
                    covariance[i, :, j] = refined.covariance[x, y]
        coefs = model.score_features(raw.astype(np.float32)).coefs[:, places]
        return cls(features, coefs.astype(np.float64), covariance)

    def picks(self, n: int, per_prompt: int) -> list[tuple[int, int, int, float]]:
        """Greedy choice of `n` (prompt, a, b, gain)."""
        f, (n_models, width) = self.features, self.covariance.shape[:2]
        a, b = np.triu_indices(n_models, 1)
        s = self.covariance.reshape(n_models * width, -1).copy()
        variance = self._quadratic(s)
        away = np.abs(self.coefs[:, a] - self.coefs[:, b]) / np.sqrt(1.0 + np.pi / 8 * variance)
        weight = np.exp(-away) / np.square(1.0 + np.exp(-away))
        t = s @ self._mean_information(weight) @ s
        told = self._quadratic(t)
        free, left, picks = np.ones(weight.shape), np.full(len(f), min(per_prompt, len(a))), []
        for _ in range(min(n, int(left.sum()))):
            share = weight / (1.0 + weight * variance)
            gains = free * share * told
            p, i = np.unravel_index(int(gains.argmax()), gains.shape)
            picks.append((int(p), int(a[i]), int(b[i]), 0.5 * float(gains[p, i])))
            x = np.zeros((n_models, width))
            x[a[i]], x[b[i]] = f[p], -f[p]
            k, u, v = share[p, i], s @ x.ravel(), t @ x.ravel()
            square = float(x.ravel() @ v)
            s -= k * np.outer(u, u)
            t += k * (k * square * np.outer(u, u) - np.outer(u, v) - np.outer(v, u))
            of_u, of_v = (f @ y.reshape(n_models, width).T for y in (u, v))
            by_u, by_v = (y[:, a] - y[:, b] for y in (of_u, of_v))
            variance = np.maximum(variance - k * by_u**2, 0.0)
            told = np.maximum(told + k * by_u * (k * square * by_u - 2.0 * by_v), 0.0)
            free[p, i] = -1.0
            left[p] -= 1
            if not left[p]:
                free[p] = -1.0
        return picks

    def _quadratic(self, matrix: np.ndarray) -> np.ndarray:
        """The quadratic form of x for every prompt and pair, `(n_prompts, n_pairs)`."""
        f, (n_models, width) = self.features, self.covariance.shape[:2]
        c = matrix.reshape(n_models, width, n_models, width)
        columns = []
        for a, b in zip(*np.triu_indices(n_models, 1), strict=True):
            columns.append(((f @ (c[a, :, a] + c[b, :, b] - c[a, :, b] - c[b, :, a])) * f).sum(1))
        return np.stack(columns, 1)

    def _mean_information(self, weight: np.ndarray) -> np.ndarray:
        """M: the mean of w x x' over all prompts and pairs."""
        f, (n_models, width) = self.features, self.covariance.shape[:2]
        m = np.zeros((n_models, width, n_models, width))
        for i, (a, b) in enumerate(zip(*np.triu_indices(n_models, 1), strict=True)):
            block = f.T @ (f * weight[:, i : i + 1]) / weight.size
            m[a, :, a] += block
            m[b, :, b] += block
            m[a, :, b] -= block
            m[b, :, a] -= block
        return m.reshape(n_models * width, -1)


def _require_room(n_models: int, width: int, n_prompts: int) -> None:
    """Refuse a plan that would not fit into memory, before anything is allocated."""
    needed = 8 * (4 * (n_models * width) ** 2 + 8 * n_prompts * (n_models * (n_models - 1) // 2))
    if needed > _MOST_BYTES:
        raise P2LError(
            f"a plan for {n_models:,} LLMs and {n_prompts:,} prompts would take {needed / 1e9:,.1f} GB of memory; name "
            "fewer LLMs, those that votes shall tell apart, or give fewer prompts"
        )


def _usual(choice: Choice, basis: Basis, variance: np.ndarray | None, place: int) -> np.ndarray:
    """`(width,)` variances of a row without votes: the base's own, and the usual departures from it."""
    per_weight = choice.kinds / basis.spread if basis.spread > 1e-9 else 0.0
    depart = np.append(np.full(basis.axes.shape[1], per_weight), choice.level) ** 2
    if variance is None or place >= len(variance):
        return depart
    return depart + basis.variances(variance[place : place + 1].astype(np.float64))[0]
