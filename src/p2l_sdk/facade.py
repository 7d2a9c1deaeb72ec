"""`P2L`: leaderboards, aggregation and routing over one model. The public face of the SDK."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk import routing
from p2l_sdk.aggregation import PairStatistics
from p2l_sdk.errors import BudgetError, CostError, P2LError, PromptError, require_known
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import ModelSpec, validate_costs
from p2l_sdk.results import Coefficients, Leaderboard, Route
from p2l_sdk.scorers import Scorer, load_scorer
from p2l_sdk.storage import DEFAULT_MODEL, locate, save_copy


class P2L:
    """A Prompt-to-Leaderboard model.

    Args:
        scorer: where coefficients come from.
        costs: USD per response by LLM name; what the model knows, if not given.
        folder: where the model was loaded from, for `save_pretrained`.
    """

    def __init__(self, scorer: Scorer, *, costs: Mapping[str, float] | None = None, folder: Path | None = None) -> None:
        self._scorer = scorer
        self._folder = folder
        self.costs: dict[str, float] = dict(scorer.spec.costs) if costs is None else self._checked(costs)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | None = None,
        *,
        costs: Mapping[str, float] | None = None,
        device: str | None = None,
        revision: str | None = None,
    ) -> P2L:
        """Load a model.

        Args:
            source: None for the embedded default, a folder, or the id of a Hub repository ("org/name").
            costs: USD per response by LLM name, in place of those stored with the model.
            device: where torch runs, e.g. "cuda".
            revision: branch, tag or commit of a Hub repository.

        Raises:
            ModelFormatError: it is no whole P2L model.
            MissingExtraError: it needs torch, which is not installed.
        """
        folder = DEFAULT_MODEL if source is None else locate(source, revision)
        return cls(load_scorer(folder, device), costs=costs, folder=folder)

    @property
    def spec(self) -> ModelSpec:
        """What the model is: LLMs, feedback model, input rules."""
        return self._scorer.spec

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the LLMs, in the order of every coefficient array."""
        return self._scorer.spec.models

    def leaderboard(self, prompt: Prompt) -> Leaderboard:
        """The leaderboard of one prompt.

        Args:
            prompt: a string, or chat messages [{"role": "user", "content": ...}, ...]; only user turns are read.

        Raises:
            PromptError: the prompt is empty, no Unicode text, or no conversation.
        """
        try:
            return self._boards(self._scorer.score([prompt]))[0]
        except PromptError as error:
            error.index = None  # there is but one
            raise

    def leaderboards(self, prompts: Sequence[Prompt]) -> list[Leaderboard]:
        """The leaderboard of each of many prompts, in their order."""
        return [board for part in self._scored(_batch(prompts)) for board in self._boards(part)]

    def coefficients(self, prompts: Sequence[Prompt]) -> Coefficients:
        """The raw arrays behind `leaderboards`: coefs `(n_prompts, n_models)`, eta and gamma."""
        parts = list(self._scored(_batch(prompts)))
        if not parts:
            raise PromptError("there are no prompts; give at least one")
        return Coefficients.concatenate(parts)

    def aggregate(
        self,
        prompts: Iterable[Prompt],
        *,
        weights: Iterable[float] | None = None,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Leaderboard:
        """One leaderboard for a set of prompts, with 95 % bootstrap intervals over the prompts (paper, 2.1.1).

        Args:
            prompts: any iterable; it is read once, in constant memory.
            weights: a finite number >= 0 for each prompt, 1 if not given.
            seed: of the bootstrap.
            progress: called with the number of prompts done, after each batch.

        Raises:
            PromptError: there is no prompt, or a bad one (named by its place).
            ConvergenceError: the solve did not reach its optimum.
        """
        statistics = PairStatistics(self.spec.feedback, len(self.models), seed=seed)
        weight = None if weights is None else iter(weights)
        for part in self._scored(_batch(prompts)):
            batch_weights = None
            if weight is not None:
                batch_weights = np.array(list(itertools.islice(weight, len(part.coefs))), dtype=np.float64)
            statistics.add(part, batch_weights)
            if progress is not None:
                progress(statistics.n_prompts)
        if weight is not None and next(weight, None) is not None:
            raise P2LError(f"there are more weights than prompts ({statistics.n_prompts})")
        if statistics.n_prompts == 0:
            raise PromptError("there are no prompts to aggregate; give at least one")
        return statistics.solve(self.models)

    def route(
        self,
        prompt: Prompt,
        cost: float | None = None,
        *,
        models: Sequence[str] | None = None,
        opponents: Mapping[str, float] | None = None,
        costs: Mapping[str, float] | None = None,
        seed: int | None = None,
    ) -> Route:
        """The LLM to call for a prompt (paper, Theorem 1 and Algorithm 1).

        Args:
            prompt: a string or chat messages.
            cost: the budget: mean USD per response that the mixture may reach; None for the best LLM at any cost.
            models: the LLMs that may be chosen, all if not given.
            opponents: LLM name -> weight, uniform over all LLMs if not given.
            costs: USD per response that override the model's, for this call.
            seed: of the draw from the mixture.

        Raises:
            BudgetError: the budget is under the cheapest LLM (it names that cost) or is no number.
            CostError: an LLM that may be chosen has no cost.
            UnknownModelError: a name in models or opponents that this model does not know.
        """
        board = self.leaderboard(prompt)
        names, candidates = self._candidates(models)
        theta = board.coefs.astype(np.float64)
        rivals, rival_weights = self._opponents(theta, opponents)
        scores = routing.win_rates(theta if models is None else theta[candidates], rivals, rival_weights)
        known = self.costs if costs is None else self.costs | self._checked(costs)
        missing = [name for name in names if name not in known]
        if cost is None:
            support = {int(scores.argmax()): 1.0}
        elif missing:
            raise CostError(
                f"no cost is known for {', '.join(missing)}; pass costs={{name: USD}} or leave it out of models="
            )
        else:
            support = routing.optimal_support(scores, np.array([known[name] for name in names]), _budget(cost))
        chosen = _draw(support, seed)
        score = sum(probability * float(scores[i]) for i, probability in support.items())
        others = [names[i] for i in (-scores).argsort(kind="stable").tolist() if i != chosen]
        return Route(
            model=names[chosen],
            mixture={names[i]: probability for i, probability in support.items()},
            expected_cost=None if missing else sum(p * known[names[i]] for i, p in support.items()),
            expected_score=score,
            rating=float(theta[candidates[chosen]])
            if len(support) == 1
            else routing.router_coefficient(score, rivals, rival_weights),
            ranking=[names[chosen], *(name for name in others if cost is None or known[name] <= cost)],
            budget=None if cost is None else float(cost),
            leaderboard=board,
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model as a folder that `P2L.from_pretrained(folder)` loads, and
        `AutoModel.from_pretrained(folder, trust_remote_code=True)` where p2l_sdk is not installed.

        The folder appears whole or not at all. Raises P2LError if it exists and is not empty.
        """
        if self._folder is None:
            raise P2LError("this P2L was not loaded from a folder, so there is nothing to copy")
        save_copy(self._folder, Path(folder), self.costs)

    def __repr__(self) -> str:
        source = "embedded default" if self._folder == DEFAULT_MODEL else str(self._folder)
        return f"P2L({source}: {len(self.models)} LLMs, feedback {self.spec.feedback})"

    # --- inside ---

    def _scored(self, batches: Iterable[list[Prompt]]) -> Iterator[Coefficients]:
        done = 0
        for batch in batches:
            try:
                yield self._scorer.score(batch)
            except PromptError as error:
                error.index = done + (error.index or 0)
                raise
            done += len(batch)

    def _boards(self, scored: Coefficients) -> list[Leaderboard]:
        spec = self._scorer.spec
        eta = [None] * len(scored.coefs) if scored.eta is None else scored.eta[:, 0].tolist()
        gamma = [None] * len(scored.coefs) if scored.gamma is None else scored.gamma[:, 0].tolist()
        return [
            Leaderboard(models=spec.models, coefs=row, feedback=spec.feedback, eta=eta[i], gamma=gamma[i])
            for i, row in enumerate(scored.coefs)
        ]

    def _checked(self, costs: Mapping[str, Any]) -> dict[str, float]:
        require_known(costs, self.models, "the table of costs")
        return validate_costs(costs, self.models)

    def _candidates(self, models: Sequence[str] | None) -> tuple[tuple[str, ...], np.ndarray]:
        if models is None:
            return self.models, self._all
        require_known(models, self.models, "the list of LLMs that may be chosen")
        names = tuple(dict.fromkeys(models))
        if not names:
            raise P2LError("the list of LLMs that may be chosen is empty")
        return names, np.array([self.models.index(name) for name in names])

    def _opponents(self, theta: np.ndarray, opponents: Mapping[str, float] | None) -> tuple[np.ndarray, np.ndarray]:
        if opponents is None:
            return theta, self._uniform
        require_known(opponents, self.models, "the table of opponents")
        weights = np.array(list(opponents.values()), dtype=np.float64)
        if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
            raise P2LError("the weights of the opponents must be finite numbers >= 0, at least one of them above 0")
        return theta[[self.models.index(name) for name in opponents]], weights / weights.sum()

    @functools.cached_property
    def _all(self) -> np.ndarray:
        return np.arange(len(self.models))

    @functools.cached_property
    def _uniform(self) -> np.ndarray:
        return np.full(len(self.models), 1.0 / len(self.models))


def _batch(prompts: Iterable[Prompt], size: int = 256) -> Iterator[list[Prompt]]:
    if isinstance(prompts, str):
        raise PromptError("this takes a list of prompts, not one string; wrap it: [prompt]")
    remaining = iter(prompts)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def _budget(cost: Any) -> float:
    try:
        return float(cost)
    except (TypeError, ValueError):
        raise BudgetError(f"the budget is {cost!r}; it must be a number, USD per response") from None


def _draw(support: dict[int, float], seed: int | None) -> int:
    if len(support) == 1:
        return next(iter(support))
    return random.Random(seed).choices(list(support), list(support.values()))[0]
