"""`P2L`: leaderboards, aggregation and routing over one model. The public face of the SDK."""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.aggregation import PairStatistics
from p2l_sdk.costs import Costs, CostSource, checked_costs, load_costs, stored_costs
from p2l_sdk.errors import BudgetError, P2LError, PromptError
from p2l_sdk.frontier import Frontier
from p2l_sdk.hub import HubAccess
from p2l_sdk.hub_metadata import EXAMPLE_PROMPTS, merged_card
from p2l_sdk.hub_model import SHARD_BYTES, push_model
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import ADAPTER_CONFIG, ModelSpec
from p2l_sdk.pacing import BudgetPacer
from p2l_sdk.results import Coefficients, Leaderboard, Route
from p2l_sdk.router import Router
from p2l_sdk.scorers import Scorer, is_published, load_scorer, read_config
from p2l_sdk.storage import CARDS, DEFAULT_MODEL, EditedHead, locate, save_copy

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

    from p2l_sdk.model_editing import AddedModel
    from p2l_sdk.votes import Scores, Votes


class P2L:
    """A Prompt-to-Leaderboard model.

    Args:
        scorer: where coefficients come from.
        costs: USD per response by LLM name, or another source (see `load_costs`); what the model stores, if not given.
        folder: where the model was loaded from, for `save_pretrained`.
    """

    def __init__(self, scorer: Scorer, *, costs: CostSource | None = None, folder: Path | None = None) -> None:
        self._scorer = scorer
        self._folder = folder
        self.costs = stored_costs(scorer.spec) if costs is None else costs
        self.additions: Mapping[str, AddedModel] = MappingProxyType({})  # LLMs added since it was loaded
        self.edits: tuple[str, ...] = ()  # what was changed since, in words

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
            source: None for the embedded default, a folder, the id of a Hub repository ("org/name"; models in
                lmarena's layout too, "lmarena-ai/p2l-..."), or the address of a server ("http://host:port").
            costs: in place of those stored with the model: {LLM: USD per response}, a file of them, or "genai-prices";
                see `load_costs`.
            device: where torch runs, e.g. "cuda".
            revision: branch, tag or commit of a Hub repository.
            base: of an adapter: its base model in place of the one it names (folder, Hub id or .gguf file).
            token: of the Hub; None takes that of `hf auth login` or HF_TOKEN, False none. Of a server: its API key;
                None takes P2L_API_KEY.
            cache_dir: the folder of downloads, in place of the Hub client's own.
            local_files_only: ask no network, as with HF_HUB_OFFLINE=1; what is not in the cache is an error.

        Raises:
            HubError: the repository, or the base of an adapter, cannot be had: it does not exist, is gated, is not in
                the cache offline, or the Hub cannot be reached. Its text says which, and what to do.
            ModelFormatError: it is no whole P2L model.
            MissingExtraError: it needs torch, which is not installed.
            RemoteError: the server cannot be reached, or refuses the key.
            P2LError: an option that a server cannot have: revision, device, base, local_files_only.
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
        """What the model is: LLMs, feedback model, input rules."""
        return self._scorer.spec

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the LLMs, in the order of every coefficient array."""
        return self._scorer.spec.models

    @property
    def quick(self) -> bool:
        """Whether it scores a short prompt in well under a millisecond: a static model on numpy."""
        return getattr(self._scorer, "quick", False)

    @property
    def costs(self) -> Costs:
        """USD per response by LLM name, a mapping; assign one, or another source of costs, to change them."""
        return self._costs

    @costs.setter
    def costs(self, costs: CostSource) -> None:
        self._costs = load_costs(costs, self.models)
        self._router = Router(self.models, self.spec.feedback, self._costs)

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
            cost: the budget: mean USD per response that the mixture may reach; None for the best LLM at any cost.
            costs: USD per response that override the model's, for this call.
            seed: of the draw from the mixture.
            pacer: chooses in place of a budget for this prompt; see `pacer`.
            options: `models` that may be chosen, `opponents` and their weights, `policy`, `objective`: see `Router`.

        Raises:
            BudgetError: the budget is under the cheapest LLM (it names that cost) or is no number.
            CostError: an LLM that may be chosen has no cost.
            UnknownModelError: a name in models or opponents that this model does not know.
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

        Prompts where money buys much get more of it: never worse than the same budget for each prompt.

        Args:
            prompts: strings or conversations.
            cost: mean USD per response over all prompts; None for the best LLM at any cost.
            costs, options: as in `route`.
            seed: of the draw for the one prompt that may mix two LLMs.
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
        """What every budget buys on a set of prompts, the router beside the single LLMs; `.plot()` draws it.

        Args:
            prompts: strings or conversations.
            budgets: USD per response; 41 from the cheapest to the dearest LLM if not given.
            outcomes: `(n_prompts, n_models)` true scores of all LLMs of the model, to measure; without them, what the
                model expects.
            costs, options: as in `route`.
        """
        return self.router(costs, **options).frontier(self.coefficients(prompts).coefs, budgets, outcomes)

    def pacer(self, cost: float, *, sample: Sequence[Prompt] = (), **options: Any) -> BudgetPacer:
        """Holds a mean budget over an unknown stream: `route(prompt, pacer=...)`, then `pacer.record(actual cost)`.

        Args:
            cost: mean USD per response over the stream.
            sample: prompts like those to come; the pacer starts at their price of money.
            options: as in `route`.
        """
        return self.router(**options).pacer(cost, sample=self.coefficients(sample).coefs if sample else None)

    def router(self, costs: Mapping[str, float] | None = None, **options: Any) -> Router:
        """The choices of routing, checked once, for many calls: a `Router` with the keywords of `route`."""
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
        """This model with one LLM more, learned from votes in seconds: one new row of the last layer, nothing else.

        Args:
            name: of the new LLM.
            votes: `Votes` or a file of them. Those on the new LLM and a known one are used, all others ignored.
            scores: `Scores` or a file: a column of this name and of at least one known LLM; each pair is a vote:
                the higher wins, equal ones are a tie, or "both bad" below 0.5.
            cost: USD per response of the new LLM.
            prior: "similar" (it differs from the mean LLM as the known ones do) or "mean"; see `new_row`. Or a
                leaderboard with it and three known LLMs, from benchmarks say: its level is then expected there.

        Returns:
            A new P2L; `additions[name]` of it holds what is known of the new LLM and how well.

        Raises:
            P2LError: the name is taken, the prior is unknown, or the model's weights are elsewhere.
            VotesError: no vote on the new LLM counts.
            UnknownModelError: it met an LLM that this model does not know.

        Warns:
            P2LWarning: the votes are too few; it says how uncertain the new coefficient is.
        """
        from p2l_sdk.model_editing import add_row, checked_cost

        costs = {**self.costs, **({} if cost is None else checked_cost(name, cost))}
        scorer, added = add_row(self._scorer, name, votes, scores, prior)
        return self._edited(scorer, costs, {**self.additions, name: added}, f"{name} added from {added.source}")

    def remove_model(self, name: str) -> P2L:
        """This model without an LLM. Raises UnknownModelError for an unknown name, P2LError if two would not remain."""
        from p2l_sdk.model_editing import remove_row

        scorer = remove_row(self._scorer, name)
        costs = {model: cost for model, cost in self.costs.items() if model != name}
        additions = {model: added for model, added in self.additions.items() if model != name}
        return self._edited(scorer, costs, additions, f"{name} removed")

    def rename_model(self, name: str, new_name: str) -> P2L:
        """This model with an LLM under another name. Raises UnknownModelError for an unknown name, P2LError if the new
        one is taken."""
        from p2l_sdk.model_editing import rename_row, renamed

        scorer = rename_row(self._scorer, name, new_name)
        costs, additions = renamed(self.costs, name, new_name), renamed(self.additions, name, new_name)
        return self._edited(scorer, costs, additions, f"{name} renamed {new_name}")

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model as a folder that `P2L.from_pretrained(folder)` loads, and
        `AutoModel.from_pretrained(folder, trust_remote_code=True)` where p2l_sdk is not installed.

        The folder appears whole or not at all. Raises P2LError if it exists and is not empty.
        """
        if self._folder is None:
            raise P2LError("this P2L was not loaded from a folder, so there is nothing to copy")
        edited = self._edited_head()
        if is_published(read_config(self._folder)):  # what is saved is of the native layout
            write, carried = self._scorer.save, CARDS  # type: ignore[attr-defined]  # such models run on torch
            save_copy(self._folder, Path(folder), self.costs, edited, weights=write, carried=carried)
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
            repo_id: "org/name"; made if there is none.
            private: of a new repository; None for what its owner's settings say.
            revision: branch (made if there is none), or "refs/pr/N" to add to an open pull request.
            create_pr: open a pull request instead of writing to the main branch.
            token: of the Hub, with the right to write; None takes that of `hf auth login` or HF_TOKEN.
            commit_message: what the commit is called.
            max_shard_bytes: weights that are larger are split into files of at most this size.
            handler: push `handler.py` and `requirements.txt` too, which Inference Endpoints run.

        Returns:
            The client's `CommitInfo`: the commit's address (a `str`), with `oid`, `pr_url` and `pr_revision`.

        Raises:
            HubError: the Hub refused or cannot be reached, or an adapter's base is on this machine only; nothing was
                committed.
        """
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "model"
            self.save_pretrained(folder)
            return push_model(
                folder,
                repo_id,
                private=private,
                revision=revision,
                create_pr=create_pr,
                token=token,
                commit_message=commit_message,
                max_shard_bytes=max_shard_bytes,
                handler=handler,
                board=self.leaderboard(EXAMPLE_PROMPTS[0]),
            )

    def merge(self, folder: str | Path) -> None:
        """Write an adapter and its base as one plain model, with equal outputs, that needs no base any more.

        Raises P2LError if this is no adapter, or the folder exists and is not empty.
        """
        if self._folder is None or not (self._folder / ADAPTER_CONFIG).is_file():
            raise P2LError("this model is no adapter, so there is nothing to merge; save_pretrained copies it")
        write = self._scorer.model.save_pretrained  # type: ignore[attr-defined]  # adapters run on torch
        target = Path(folder)
        card = functools.partial(merged_card, name=target.resolve().name)
        save_copy(self._folder, target, self.costs, self._edited_head(), weights=write, card=card)

    def __repr__(self) -> str:
        source = "embedded default" if self._folder == DEFAULT_MODEL else str(self._folder or self._scorer)
        return f"P2L({source}: {len(self.models)} LLMs, feedback {self.spec.feedback})"

    # --- inside ---

    def _edited_head(self) -> EditedHead | None:
        if not self.edits:
            return None
        from p2l_sdk.model_editing import editable

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
    """Weights of a batch as floats; P2LError if there are fewer than prompts, or one is no number."""
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
