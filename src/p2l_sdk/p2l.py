"""`P2L`: leaderboards, aggregation and routing with one model; the main class of the SDK.

It holds a scorer, the costs and a router, and delegates to the rooms below. What is not needed to answer a prompt is
imported on first use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Unpack

from p2l_sdk.errors import BudgetError, PromptError
from p2l_sdk.hub.access import SHARD_BYTES, HubAccess, HubOptions, HubTarget
from p2l_sdk.hub.folders import EMBEDDED
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.names import find_model
from p2l_sdk.options import named_options
from p2l_sdk.routing.costs import Costs, CostSource, load_costs, overridden, stored_costs
from p2l_sdk.routing.route import Route
from p2l_sdk.routing.router import DEFAULTS, RouteOptions, Router, RouterOptions
from p2l_sdk.scorers.batches import score_in_batches
from p2l_sdk.scorers.load import open_scorer
from p2l_sdk.scorers.scorer import Scorer, group_error_of, variance_of

if TYPE_CHECKING:
    import numpy as np
    from huggingface_hub import CommitInfo

    from p2l_sdk.editing.edit import AddedModel
    from p2l_sdk.editing.refined import Refined
    from p2l_sdk.routing.frontier import Frontier
    from p2l_sdk.routing.pacing import BudgetPacer
    from p2l_sdk.votes.beside_averaged import BesideAveraged
    from p2l_sdk.votes.votes import Scores, Votes


class P2L:
    """A Prompt-to-Leaderboard model.

    Args:
        scorer: computes the coefficients of prompts.
        costs: USD per response by LLM name, or another source (see `load_costs`); None for those stored with the model.
        folder: folder the model was loaded from, for `save_pretrained`.
    """

    def __init__(self, scorer: Scorer, *, costs: CostSource | None = None, folder: Path | None = None) -> None:
        self._scorer, self._folder = scorer, folder
        self.costs = stored_costs(scorer.spec) if costs is None else costs
        self.additions: Mapping[str, AddedModel] = MappingProxyType({})  # LLMs added since loading
        self.edits: tuple[str, ...] = ()  # descriptions of the edits since loading
        self.refined: Refined | None = None  # what `refine` learned since loading
        self.verdict: BesideAveraged | None = None  # of `train`, on the model just trained

    @classmethod
    @named_options()
    def from_pretrained(
        cls,
        source: str | Path | None = None,
        *,
        costs: CostSource | None = None,
        device: str | None = None,
        runtime: str | None = None,
        revision: str | None = None,
        base: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        untrusted: bool = False,
    ) -> P2L:
        """Load a model.

        Args:
            source: "arena" (the default) or "routing9" for an embedded model, a folder, the id of a Hub repository
                ("org/name"; also of lmarena's checkpoints), or the address of a server ("http://host:port").
            costs: replace those stored with the model: {LLM: USD per response}, a file with such a mapping, or
                "genai-prices"; see `load_costs`.
            device, revision: torch device, e.g. "cuda"; branch, tag or commit of a Hub repository.
            runtime: "torch"; without it, "onnx" or "openvino" for the graph that `p2l export` wrote to the folder, or
                the address of the vLLM server that runs an exported one.
            base: for an adapter, the base model to use instead of the one it names (folder, Hub id or .gguf file).
            token, cache_dir, local_files_only: see `HubAccess`; a server's token is its API key, None: P2L_API_KEY.
            untrusted: let its tokenizer and chat template read trying texts first, in a child process with limits on
                time and memory, and an exported graph compute, as one from the Hub always does. (No model's code is
                run, with or without it: see docs/hub.md.)

        Raises:
            HubError: the repository, or the base of an adapter, cannot be fetched; the message says what to do.
            ModelFormatError: it is not a complete P2L model.
            MissingExtraError: the model needs torch, or another runtime, which is not installed.
            RemoteError: the server cannot be reached or refuses the key.
            P2LError: an option does not apply to a server (revision, device, base, runtime, local_files_only) or to the
                runtime.
        """
        access = HubAccess(token=token, cache_dir=cache_dir, local_files_only=local_files_only)
        scorer, folder = open_scorer(source, device, base, revision, access, untrusted, runtime)
        return cls(scorer, costs=costs, folder=folder)

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
    def variance(self) -> np.ndarray | None:
        """How uncertain a model that recognises kinds of prompt is, `(n_models, n_kinds + 1)` in squared logits, the
        last column for the overall leaderboard; None for other models."""
        return variance_of(self._scorer)

    @property
    def group_error(self) -> np.ndarray | None:
        """`(2,)` variance of the model's error for a group of like prompts, by which `aggregate` widens its intervals,
        and of the coefficients among its training prompts, in squared logits; None if the model does not know."""
        return group_error_of(self._scorer)

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
            prompt: a string, or chat messages [{"role": "user", "content": ...}, ...]; only user turns are read.

        Raises:
            PromptError: the prompt is empty, not valid Unicode, or not a conversation.
        """
        try:
            (board,) = self.leaderboards([prompt])
            return board
        except PromptError as error:
            error.index = None  # a position is meaningless for a single prompt
            raise

    def leaderboards(self, prompts: Sequence[Prompt]) -> list[Leaderboard]:
        """The leaderboards of many prompts, in the same order."""
        parts = score_in_batches(self._scorer, prompts)
        return [board for part in parts for board in part.leaderboards(self.models, self.spec.feedback, self._costs)]

    def coefficients(self, prompts: Sequence[Prompt]) -> Coefficients:
        """The raw arrays behind `leaderboards`: coefs `(n_prompts, n_models)` in logits, eta and gamma."""
        parts = list(score_in_batches(self._scorer, prompts))
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
            seed: of the bootstrap.
            progress: called after each batch with the number of prompts done so far.

        Raises:
            PromptError: there are no prompts, or one is invalid (its position is named).
            P2LError: the weights are not one finite number >= 0 per prompt, or all are 0; or no convergence.
        """
        from p2l_sdk.scorers.aggregate import aggregate_prompts

        return replace(aggregate_prompts(self._scorer, prompts, weights, seed, progress), costs=self._costs)

    @named_options(RouteOptions, DEFAULTS)
    def route(
        self,
        prompt: Prompt,
        cost: float | None = None,
        *,
        seed: int | None = None,
        pacer: BudgetPacer | None = None,
        **options: Unpack[RouteOptions],
    ) -> Route:
        """The LLM to call for a prompt (paper, Theorem 1 and Algorithm 1).

        Args:
            prompt: a string or chat messages.
            cost: the budget: highest mean cost of the mixture, USD per response; None for the best LLM at any cost.
            seed: of the draw from the mixture.
            pacer: chooses the LLM instead of a budget for this prompt; see `pacer`.
            options: `costs` that override the model's; `models` that may be chosen; others of `Router`.

        Raises:
            BudgetError: the budget is below the cost of the cheapest LLM (which the message gives), or not a number.
            CostError: an LLM that may be chosen has no cost.
            UnknownModelError: a name in models or opponents is not one of the model's LLMs, or may be several.
            UnknownOptionError: there is no such option; the message names the nearest one.
        """
        router, board = self.router(**options) if options else self._router, self.leaderboard(prompt)
        if pacer is None:
            return router.route(board, cost, seed)
        if not hasattr(pacer, "choose"):
            raise BudgetError(f"pacer is a {type(pacer).__name__}; make one with pacer(cost)")
        if cost is not None:
            raise BudgetError("give a cost or a pacer, not both: the pacer holds the budget")
        return router.route_paced(board, pacer)

    @named_options(RouteOptions, DEFAULTS)
    def route_many(
        self,
        prompts: Sequence[Prompt],
        cost: float | None = None,
        *,
        seed: int | None = None,
        **options: Unpack[RouteOptions],
    ) -> list[Route]:
        """The LLM to call for each of many prompts, under one mean budget, of which more is spent where it helps most:
        in expected score, this is never worse than the same budget for each prompt.

        Args:
            prompts, options: as in `route`.
            cost: mean USD per response over all prompts; None for the best LLM at any cost.
            seed: of the draw for the one prompt that may mix two LLMs.
        """
        router, parts = self.router(**options), list(score_in_batches(self._scorer, prompts))
        return router.route_many(Coefficients.concatenate(parts), cost, seed) if parts else []

    @named_options(RouteOptions, DEFAULTS)
    def frontier(
        self,
        prompts: Sequence[Prompt],
        *,
        budgets: Sequence[float] | None = None,
        outcomes: Any = None,
        **options: Unpack[RouteOptions],
    ) -> Frontier:
        """What each budget buys on a set of prompts, with the router and with single LLMs; `.plot()` draws it.

        Args:
            prompts, options: as in `route`.
            budgets: USD per response; by default 41, from the cheapest LLM to the most expensive.
            outcomes: true scores, a row for each prompt; None for what the model expects. `Scores`, a frame or a file
                has columns by the names of the LLMs; an array `(n_prompts, n_models)` has them in the model's order.
        """
        router, coefs = self.router(**options), self.coefficients(prompts).coefs
        return router.frontier(coefs, budgets, outcomes, prompts=prompts if hasattr(prompts, "__len__") else None)

    @named_options(RouteOptions, DEFAULTS)
    def pacer(self, cost: float, *, sample: Sequence[Prompt] = (), **options: Unpack[RouteOptions]) -> BudgetPacer:
        """A pacer that holds a mean budget over a stream of unknown prompts: for each, call `route(prompt,
        pacer=pacer)`, then `pacer.record(cost)` with the actual cost.

        Args:
            cost: mean USD per response over the stream.
            sample: prompts like those to come; the pacer starts at the price of money (lambda) for them.
            options: as in `route`.
        """
        return self.router(**options).pacer(cost, sample=self.coefficients(sample).coefs if sample else None)

    @named_options(RouterOptions, DEFAULTS)
    def router(self, costs: Mapping[str, float] | None = None, **options: Unpack[RouterOptions]) -> Router:
        """A `Router` with the options of `route`: they are validated once, for many calls."""
        if costs is None and not options:
            return self._router
        known = self.costs if costs is None else overridden(self.costs, costs, options.get("models"), self.models)
        return Router(self.models, self.spec.feedback, known, **options)

    def add_model(
        self,
        name: str,
        votes: Votes | str | Path | None = None,
        scores: Scores | str | Path | None = None,
        *,
        ratings: Mapping[str, Any] | None = None,
        cost: float | None = None,
        prior: str | Leaderboard = "similar",
    ) -> P2L:
        """A new P2L with one more LLM, learned in seconds; see `additions[name]` and `editing.edit.add_row`.

        Args:
            name, cost: of the new LLM; the cost in USD per response.
            votes, scores: what to learn from; `Votes`, `Scores` or files of them.
            ratings: instead, for a model built from ratings: {kind: rating, or (rating, lower, upper)}.
            prior: "similar", "mean" or a leaderboard: what is assumed about the new LLM before its votes.
        """
        from p2l_sdk.editing.edit import add_rated_row, add_row, checked_cost

        costs = {**self.costs, **({} if cost is None else checked_cost(name, cost))}
        if ratings is not None:
            rated = add_rated_row(self._scorer, self._folder, name, ratings, votes, scores)
            return self._edited(rated, costs, self.additions, f"{name} added from ratings in {', '.join(ratings)}")
        scorer, added = add_row(self._scorer, name, votes, scores, prior)
        return self._edited(scorer, costs, {**self.additions, name: added}, f"{name} added from {added.source}")

    def refine(self, votes: Votes | str | Path, *, feedback: str | None = None) -> P2L:
        """A new P2L: this one as what is known from elsewhere, refined in seconds with your own votes, which may name
        new LLMs; its `refined` says what was learned. See `editing.refine`, also for `feedback`, errors, warnings."""
        from p2l_sdk.editing.refine import refine_rows

        scorer, refined = refine_rows(self._scorer, votes, feedback)
        new = self._edited(scorer, self.costs, self.additions, f"refined with {refined.source}")
        new.refined = refined
        return new

    def remove_model(self, name: str) -> P2L:
        """This model without one LLM. Raises UnknownModelError, or P2LError if fewer than two would remain."""
        from p2l_sdk.editing.edit import remove_row, without

        name = find_model(name, self.models, "remove_model")
        costs, additions = without(self.costs, name), without(self.additions, name)
        return self._edited(remove_row(self._scorer, name), costs, additions, f"{name} removed")

    def rename_model(self, name: str, new_name: str) -> P2L:
        """This model with one LLM renamed. Raises UnknownModelError, or P2LError if the new name is taken."""
        from p2l_sdk.editing.edit import rename_row, renamed

        name = find_model(name, self.models, "rename_model")
        scorer = rename_row(self._scorer, name, new_name)  # it checks the new name
        costs, additions = (renamed(table, name, new_name) for table in (self.costs, self.additions))
        return self._edited(scorer, costs, additions, f"{name} renamed {new_name}")

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model to a folder that `P2L.from_pretrained(folder)` can load and, without p2l_sdk,
        `AutoModel.from_pretrained(folder, trust_remote_code=True)`. It is written completely or not at all; P2LError if
        it exists and is not empty, or cannot be written."""
        from p2l_sdk.scorers.save import save_model

        save_model(self._scorer, self._folder, folder, self.costs, self.edits)

    @named_options(HubOptions, {"create_pr": False})
    def push_to_hub(
        self, repo_id: str, *, max_shard_bytes: int = SHARD_BYTES, handler: bool = True, **options: Unpack[HubOptions]
    ) -> CommitInfo:
        """Push what `save_pretrained` writes to the Hub, in one commit, with a complete card. Returns the client's
        `CommitInfo`: the commit's address (a `str`), with `oid`, `pr_url` and `pr_revision`.

        Args:
            repo_id: "org/name"; created if it does not exist.
            max_shard_bytes: larger weights are split into files of at most this size.
            handler: also push `handler.py` and `requirements.txt`, which Inference Endpoints use.
            options: `private`, `revision`, `create_pr`, `token`, `commit_message`; see `HubTarget`.

        Raises:
            HubError: the Hub refused or cannot be reached, or an adapter's base is on this machine; nothing was pushed.
        """
        from p2l_sdk.hub.cards import EXAMPLE_PROMPTS
        from p2l_sdk.hub.publish import push_model
        from p2l_sdk.outputs.leftovers import scratch_folder

        target, board = HubTarget(repo_id=repo_id, **options), self.leaderboard(EXAMPLE_PROMPTS[0])
        with scratch_folder() as place:
            self.save_pretrained(folder := place / "model")
            return push_model(folder, target, max_shard_bytes=max_shard_bytes, handler=handler, board=board)

    def merge(self, folder: str | Path) -> None:
        """Write an adapter, merged into its base, as a plain model; P2LError if it is none, or the folder is taken."""
        from p2l_sdk.scorers.save import merge_model

        merge_model(self._scorer, self._folder, folder, self.costs, self.edits)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "additions": dict(self.additions)}  # a view of a mapping is not pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= {**state, "additions": MappingProxyType(state["additions"])}

    def __repr__(self) -> str:
        embedded = next((name for name, folder in EMBEDDED.items() if folder == self._folder), None)
        source = str(self._folder or self._scorer) if embedded is None else f"embedded {embedded}"
        return f"P2L({source}: {len(self.models)} LLMs, feedback {self.spec.feedback})"

    def _edited(self, scorer: Scorer, costs: Mapping[str, float], additions: Mapping[str, Any], text: str) -> P2L:
        new = P2L(scorer, costs=costs, folder=self._folder)
        new.additions, new.edits = MappingProxyType(dict(additions)), (*self.edits, text)
        new.refined = self.refined
        return new
