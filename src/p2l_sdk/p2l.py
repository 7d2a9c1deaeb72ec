"""`P2L`: leaderboards, aggregation and routing with one model; the main class of the SDK."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import BudgetError, P2LError, PromptError
from p2l_sdk.hub.access import HubAccess, HubTarget
from p2l_sdk.hub.cards import EXAMPLE_PROMPTS, merged_card
from p2l_sdk.hub.config import is_published, read_config
from p2l_sdk.hub.folders import CARDS, DEFAULT_MODEL, EditedHead, locate, save_copy
from p2l_sdk.hub.publish import SHARD_BYTES, push_model
from p2l_sdk.leaderboards.aggregate import PairStatistics
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import ADAPTER_CONFIG, ModelSpec
from p2l_sdk.routing.costs import Costs, CostSource, checked_costs, load_costs, stored_costs
from p2l_sdk.routing.frontier import Frontier
from p2l_sdk.routing.pacing import BudgetPacer
from p2l_sdk.routing.route import Route
from p2l_sdk.routing.router import Router
from p2l_sdk.scorers.load import load_scorer
from p2l_sdk.scorers.scorer import SavableScorer, Scorer

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

    from p2l_sdk.editing.edit import AddedModel
    from p2l_sdk.votes.votes import Scores, Votes


class P2L:
    """A Prompt-to-Leaderboard model.

    Args:
        scorer: computes the coefficients of prompts.
        costs: USD per response by LLM name, or another source (see `load_costs`); by default, those stored with the
            model.
        folder: folder the model was loaded from, for `save_pretrained`.
    """

    def __init__(self, scorer: Scorer, *, costs: CostSource | None = None, folder: Path | None = None) -> None:
        self._scorer = scorer
        self._folder = folder
        self.costs = stored_costs(scorer.spec) if costs is None else costs
        self.additions: Mapping[str, AddedModel] = MappingProxyType({})  # LLMs added since loading
        self.edits: tuple[str, ...] = ()  # descriptions of the edits since loading

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | None = None,
        *,
        costs: CostSource | None = None,
        device: str | None = None,
        revision: str | None = None,
        base: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> P2L:
        """Load a model.

        Args:
            source: None for the embedded default model, a folder, the id of a Hub repository ("org/name"; also
                checkpoints in lmarena's layout, "lmarena-ai/p2l-..."), or the address of a server
                ("http://host:port").
            costs: replace those stored with the model: {LLM: USD per response}, a file with such a mapping, or
                "genai-prices"; see `load_costs`.
            device: torch device, e.g. "cuda".
            revision: branch, tag or commit of a Hub repository.
            base: for an adapter, the base model to use instead of the one it names (folder, Hub id or .gguf file).
            token: Hub token; None uses the one from `hf auth login` or HF_TOKEN, False uses none. For a server, its
                API key; None uses P2L_API_KEY.
            cache_dir: folder for downloads, instead of the Hub client's own.
            local_files_only: make no network requests, as with HF_HUB_OFFLINE=1; a file missing from the cache is an
                error.

        Raises:
            HubError: the repository, or the base of an adapter, cannot be fetched: it does not exist, is gated, is not
                in the cache while offline, or the Hub cannot be reached. The message says which, and what to do.
            ModelFormatError: it is not a complete P2L model.
            MissingExtraError: the model needs torch, which is not installed.
            RemoteError: the server cannot be reached or refuses the key.
            P2LError: an option that does not apply to a server: revision, device, base, local_files_only.
        """
        if isinstance(source, str) and source.startswith(("http://", "https://")):
            from p2l_sdk.scorers.remote import RemoteScorer

            of_files = {"revision": revision, "device": device, "base": base, "local_files_only": local_files_only}
            if given := [name for name, value in of_files.items() if value]:
                raise P2LError(f"a server takes no {given[0]} (it has its model already); leave it out")
            key = token if isinstance(token, str) else "" if token is False else None
            return cls(RemoteScorer(source, key=key), costs=costs)
        access = HubAccess(token=token, cache_dir=cache_dir, local_files_only=local_files_only)
        folder = DEFAULT_MODEL if source is None else locate(source, revision, access)
        return cls(load_scorer(folder, device, base, access), costs=costs, folder=folder)

    @property
    def spec(self) -> ModelSpec:
        """What defines the model: LLMs, feedback model, input rules."""
        return self._scorer.spec

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the LLMs, in the order of all coefficient arrays."""
        return self._scorer.spec.models

    @property
    def quick(self) -> bool:
        """Whether scoring a short prompt takes well under a millisecond, as for a static model on numpy."""
        return getattr(self._scorer, "quick", False)

    @property
    def costs(self) -> Costs:
        """USD per response by LLM name; assign a mapping or another source (see `load_costs`) to change the costs."""
        return self._costs

    @costs.setter
    def costs(self, costs: CostSource) -> None:
        self._costs = load_costs(costs, self.models)
        self._router = Router(self.models, self.spec.feedback, self._costs)

    def leaderboard(self, prompt: Prompt) -> Leaderboard:
        """The leaderboard of one prompt.

        Args:
            prompt: a string, or chat messages [{"role": "user", "content": ...}, ...], of which only user turns are
                read.

        Raises:
            PromptError: the prompt is empty, not valid Unicode, or not a conversation.
        """
        try:
            return self._boards(self._scorer.score([prompt]))[0]
        except PromptError as error:
            error.index = None  # a position is meaningless for a single prompt
            raise

    def leaderboards(self, prompts: Sequence[Prompt]) -> list[Leaderboard]:
        """The leaderboards of many prompts, in the same order."""
        return [board for part in self._scored(_batch(prompts)) for board in self._boards(part)]

    def coefficients(self, prompts: Sequence[Prompt]) -> Coefficients:
        """The raw arrays behind `leaderboards`: coefs `(n_prompts, n_models)` in logits, eta and gamma."""
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
            weights: a finite number >= 0 for each prompt; 1 if not given.
            seed: seed of the bootstrap.
            progress: called after each batch with the number of prompts done so far.

        Raises:
            PromptError: there are no prompts, or one is invalid (its position is named).
            P2LError: the weights are not one finite number >= 0 per prompt, or all are 0.
            ConvergenceError: the solver did not reach the optimum.
        """
        statistics = PairStatistics(self.spec.feedback, len(self.models), seed=seed)
        if weights is not None and not isinstance(weights, Iterable):
            raise P2LError(f"weights must be numbers, one for each prompt, not {weights!r}")
        weight = None if weights is None else iter(weights)
        for part in self._scored(_batch(prompts)):
            batch_weights = None
            if weight is not None:
                batch_weights = as_weights(list(itertools.islice(weight, len(part))), len(part))
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
        costs: Mapping[str, float] | None = None,
        seed: int | None = None,
        pacer: BudgetPacer | None = None,
        **options: Any,
    ) -> Route:
        """The LLM to call for a prompt (paper, Theorem 1 and Algorithm 1).

        Args:
            prompt: a string or chat messages.
            cost: the budget, i.e. the highest allowed mean cost of the mixture in USD per response; None for the best
                LLM at any cost.
            costs: USD per response that override the model's costs for this call.
            seed: seed of the draw from the mixture.
            pacer: chooses the LLM instead of a budget for this prompt; see `pacer`.
            options: `models` that may be chosen, `opponents` and their weights, `policy`, `objective`; see `Router`.

        Raises:
            BudgetError: the budget is below the cost of the cheapest LLM (which the message gives), or not a number.
            CostError: an LLM that may be chosen has no cost.
            UnknownModelError: a name in models or opponents is not one of the model's LLMs.
        """
        router, board = self.router(costs, **options), self.leaderboard(prompt)
        if pacer is None:
            return router.route(board, cost, seed)
        if cost is not None:
            raise BudgetError("give a cost or a pacer, not both: the pacer holds the budget")
        return router.route_paced(board, pacer)

    def route_many(
        self,
        prompts: Sequence[Prompt],
        cost: float | None = None,
        *,
        costs: Mapping[str, float] | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> list[Route]:
        """The LLM to call for each of many prompts, under one mean budget for all of them.

        More is spent on the prompts where it helps most. In expected score, this is never worse than the same budget
        for each prompt.

        Args:
            prompts: strings or conversations.
            cost: mean USD per response over all prompts; None for the best LLM at any cost.
            costs, options: as in `route`.
            seed: seed of the draw for the one prompt that may mix two LLMs.
        """
        return self.router(costs, **options).route_many(self.leaderboards(prompts), cost, seed)

    def frontier(
        self,
        prompts: Sequence[Prompt],
        *,
        budgets: Sequence[float] | None = None,
        outcomes: np.ndarray | None = None,
        costs: Mapping[str, float] | None = None,
        **options: Any,
    ) -> Frontier:
        """What each budget buys on a set of prompts, with the router and with single LLMs; `.plot()` draws it.

        Args:
            prompts: strings or conversations.
            budgets: USD per response; by default 41, from the cheapest LLM to the most expensive.
            outcomes: `(n_prompts, n_models)` true scores of all LLMs of the model, for measured scores; without them,
                the scores are those the model expects.
            costs, options: as in `route`.
        """
        return self.router(costs, **options).frontier(self.coefficients(prompts).coefs, budgets, outcomes)

    def pacer(self, cost: float, *, sample: Sequence[Prompt] = (), **options: Any) -> BudgetPacer:
        """A pacer that holds a mean budget over a stream of prompts that is not known in advance.

        For each prompt, call `route(prompt, pacer=pacer)`, then `pacer.record(cost)` with the actual cost.

        Args:
            cost: mean USD per response over the stream.
            sample: prompts like those to come; the pacer starts at the price of money (lambda) for them.
            options: as in `route`.
        """
        return self.router(**options).pacer(cost, sample=self.coefficients(sample).coefs if sample else None)

    def router(self, costs: Mapping[str, float] | None = None, **options: Any) -> Router:
        """A `Router` with the keywords of `route`: its settings are validated once, for many calls."""
        if costs is None and not options:
            return self._router
        known = self.costs if costs is None else {**self.costs, **checked_costs(costs, self.models)}
        return Router(self.models, self.spec.feedback, known, **options)

    def add_model(
        self,
        name: str,
        votes: Votes | str | Path | None = None,
        scores: Scores | str | Path | None = None,
        *,
        cost: float | None = None,
        prior: str | Leaderboard = "similar",
    ) -> P2L:
        """This model with one more LLM, learned from votes in seconds: the last layer gets one new row, and nothing
        else changes.

        Args:
            name: name of the new LLM.
            votes: `Votes` or a file of votes. Only those between the new LLM and a known one are used.
            scores: `Scores` or a file with a column for the new LLM and for at least one known LLM. Each pair counts
                as a vote: the higher score wins; equal scores are a tie, or "both bad" below 0.5.
            cost: USD per response of the new LLM.
            prior: "similar" (the new LLM differs from the mean LLM as the known ones do) or "mean"; see `new_row`. Or a
                leaderboard, e.g. from benchmarks, with the new LLM and at least three known ones, which gives the
                level expected of the new LLM.

        Returns:
            A new P2L; its `additions[name]` describes the new LLM and how precisely its coefficient is known.

        Raises:
            P2LError: the name is taken, the prior is invalid, or the model's weights are on a server.
            VotesError: no vote on the new LLM counts.
            UnknownModelError: an opponent of the new LLM is unknown to this model.

        Warns:
            P2LWarning: there are too few votes; the message says how uncertain the new coefficient is.
        """
        from p2l_sdk.editing.edit import add_row, checked_cost

        costs = {**self.costs, **({} if cost is None else checked_cost(name, cost))}
        scorer, added = add_row(self._scorer, name, votes, scores, prior)
        return self._edited(scorer, costs, {**self.additions, name: added}, f"{name} added from {added.source}")

    def remove_model(self, name: str) -> P2L:
        """This model without one LLM. Raises UnknownModelError for an unknown name, and P2LError if fewer than two
        would remain."""
        from p2l_sdk.editing.edit import remove_row

        scorer = remove_row(self._scorer, name)
        costs = {model: cost for model, cost in self.costs.items() if model != name}
        additions = {model: added for model, added in self.additions.items() if model != name}
        return self._edited(scorer, costs, additions, f"{name} removed")

    def rename_model(self, name: str, new_name: str) -> P2L:
        """This model with one LLM renamed. Raises UnknownModelError for an unknown name, and P2LError if the new name
        is taken."""
        from p2l_sdk.editing.edit import rename_row, renamed

        scorer = rename_row(self._scorer, name, new_name)
        costs, additions = renamed(self.costs, name, new_name), renamed(self.additions, name, new_name)
        return self._edited(scorer, costs, additions, f"{name} renamed {new_name}")

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model to a folder that `P2L.from_pretrained(folder)` can load and, without p2l_sdk,
        `AutoModel.from_pretrained(folder, trust_remote_code=True)`.

        The folder is written completely or not at all. Raises P2LError if it exists and is not empty.
        """
        if self._folder is None:
            raise P2LError("this P2L was not loaded from a folder, so there is nothing to copy")
        edited = self._edited_head()
        if is_published(read_config(self._folder)):  # saved in the native layout
            write = self._savable().save
            save_copy(self._folder, Path(folder), self.costs, edited, weights=write, patterns=CARDS)
        else:
            save_copy(self._folder, Path(folder), self.costs, edited)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        token: str | bool | None = None,
        commit_message: str | None = None,
        max_shard_bytes: int = SHARD_BYTES,
        handler: bool = True,
    ) -> CommitInfo:
        """Push what `save_pretrained` writes to the Hub, in one commit, with a complete card.

        Args:
            repo_id: "org/name"; created if it does not exist.
            private: visibility of a new repository; None for the default in its owner's settings.
            revision: branch (created if it does not exist), or "refs/pr/N" to add to an open pull request.
            create_pr: open a pull request instead of writing to the main branch.
            token: Hub token with write access; None uses the one from `hf auth login` or HF_TOKEN.
            commit_message: message of the commit.
            max_shard_bytes: larger weights are split into files of at most this size.
            handler: also push `handler.py` and `requirements.txt`, which Inference Endpoints use.

        Returns:
            The client's `CommitInfo`: the commit's address (a `str`), with `oid`, `pr_url` and `pr_revision`.

        Raises:
            HubError: the Hub refused or cannot be reached, or an adapter's base is only on this machine; nothing was
                committed.
        """
        target = HubTarget(
            repo_id=repo_id, private=private, revision=revision, create_pr=create_pr, token=token,
            commit_message=commit_message,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "model"
            self.save_pretrained(folder)
            board = self.leaderboard(EXAMPLE_PROMPTS[0])
            return push_model(folder, target, max_shard_bytes=max_shard_bytes, handler=handler, board=board)

    def merge(self, folder: str | Path) -> None:
        """Merge an adapter into its base and write the result as a plain model with the same outputs.

        Raises P2LError if this is not an adapter, or if the folder exists and is not empty.
        """
        if self._folder is None or not (self._folder / ADAPTER_CONFIG).is_file():
            raise P2LError("this model is no adapter, so there is nothing to merge; save_pretrained copies it")
        write = self._savable().save_weights
        target = Path(folder)
        card = functools.partial(merged_card, name=target.resolve().name)
        save_copy(self._folder, target, self.costs, self._edited_head(), weights=write, card=card)

    def __repr__(self) -> str:
        source = "embedded default" if self._folder == DEFAULT_MODEL else str(self._folder or self._scorer)
        return f"P2L({source}: {len(self.models)} LLMs, feedback {self.spec.feedback})"

    def _savable(self) -> SavableScorer:
        if not isinstance(self._scorer, SavableScorer):
            raise P2LError(f"{type(self._scorer).__name__} cannot be saved: it has no weights of its own")
        return self._scorer

    def _edited_head(self) -> EditedHead | None:
        if not self.edits:
            return None
        from p2l_sdk.editing.edit import editable

        return EditedHead(self.models, editable(self._scorer).rows, self.edits)

    def _edited(self, scorer: Scorer, costs: Mapping[str, float], additions: Mapping[str, Any], text: str) -> P2L:
        new = P2L(scorer, costs=costs, folder=self._folder)
        new.additions, new.edits = MappingProxyType(dict(additions)), (*self.edits, text)
        return new

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
        return scored.leaderboards(self.models, self.spec.feedback)


def as_weights(values: list[Any], n: int) -> np.ndarray:
    """Weights of a batch as floats; P2LError if there are fewer weights than prompts, or one is not a number."""
    try:
        weights = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise P2LError("weights must be numbers, one for each prompt") from None
    if len(weights) < n:
        raise P2LError("there are fewer weights than prompts; give one for each")
    return weights


def _batch(prompts: Iterable[Prompt], size: int = 256) -> Iterator[list[Prompt]]:
    if isinstance(prompts, str):
        raise PromptError("this takes a list of prompts, not one string; wrap it: [prompt]")
    if isinstance(prompts, Mapping) or hasattr(prompts, "columns") or not isinstance(prompts, Iterable):
        hint = "; pass its column of prompts, table['prompt']" if hasattr(prompts, "keys") else ""
        raise PromptError(f"this takes a list of prompts, not {type(prompts).__name__}{hint}")
    remaining = iter(prompts)
    while batch := list(itertools.islice(remaining, size)):
        yield batch
