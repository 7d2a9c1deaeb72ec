"""`collect`: asks the LLMs of a gateway's config prompts, and writes their answers to a file from which an interrupted
run resumes.

Each LLM is reached as the gateway reaches it (address, key, headers, name, system message, sampling), streaming. An
answer is written in full before it counts. A query that fails is sent again (see `Limits`), and then recorded as
failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from p2l_sdk.errors import P2LError, VotesError, require_known
from p2l_sdk.judging.answers import LAYOUT, fingerprint, id_of, key_of
from p2l_sdk.judging.asking import LLM, Asker, Outcome, Query, Stopped, require_prices
from p2l_sdk.judging.limits import Limits, require_spend
from p2l_sdk.judging.pairs import Pairs
from p2l_sdk.judging.spending import Ledger
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.mpg.measure.journal import Journal, Row
from p2l_sdk.options import named_options
from p2l_sdk.serve.gateway.address import read_key
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.tables.columns import PromptIndex
from p2l_sdk.tabular import Tabular

if TYPE_CHECKING:
    import matplotlib.axes

Progress = Callable[[int, int, float], None]
_SHOWN = 6  # decimals of seconds


@dataclass(frozen=True)
class LLMAnswers:
    """What came of one LLM. Attributes: name; n_answered, n_failed; failures, kind -> number; input_tokens,
    output_tokens, sums of those counted; seconds, the mean per answer (None without one); cost, USD (None without a
    price)."""

    name: str
    n_answered: int
    n_failed: int
    failures: Mapping[str, int]
    input_tokens: int
    output_tokens: int
    seconds: float | None
    cost: float | None

    @classmethod
    def of(cls, name: str, rows: Sequence[Row], last: Sequence[Row]) -> LLMAnswers:
        """Of all rows of an LLM, and of the last one for each prompt."""
        answered = [row for row in last if not row.get("error")]
        failures: dict[str, int] = {}
        for row in last:
            if row.get("error"):
                failures[row["error"]] = failures.get(row["error"], 0) + 1
        costs = [row["cost"] for row in rows if row.get("cost") is not None]
        tokens = {side: sum(row.get(side) or 0 for row in answered) for side in ("input_tokens", "output_tokens")}
        seconds = sum(row.get("seconds") or 0.0 for row in answered) / len(answered) if answered else None
        total = sum(costs) if costs else None
        return cls(name, len(answered), len(last) - len(answered), failures, **tokens, seconds=seconds, cost=total)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "failures": dict(self.failures)}


@dataclass(frozen=True)
class Collection(Tabular):
    """The answers in a file.

    Attributes:
        output: path of the file.
        n_prompts: number of prompts.
        llms: what came of each LLM.
        spent: USD of the whole run, with what was assumed.
        assumed: USD of it for queries that may have been billed, but whose cost nobody told (they broke off, or the run
            was killed while they were in flight): the most that they can have cost.
        stopped: why queries were not asked.
    """

    output: Path
    n_prompts: int
    llms: tuple[LLMAnswers, ...]
    spent: float
    assumed: float
    stopped: Stopped

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"Answers of {len(self.llms)} LLMs to {self.n_prompts:,} prompts, ${self.spent:,.4g}"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each LLM: model, n_answered, n_failed, input_tokens, output_tokens, seconds and cost."""
        parts = ("n_answered", "n_failed", "input_tokens", "output_tokens", "seconds", "cost")
        return [{"model": llm.name, **{part: getattr(llm, part) for part in parts}} for llm in self.llms]

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw how many prompts each LLM has answered.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        return pictures.draw_bars(self.rows(), "model", "n_answered", meaning="answers", title=self.caption, ax=ax)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "output": str(self.output),
            "n_prompts": self.n_prompts,
            "llms": [llm.to_dict() for llm in self.llms],
            "spent": self.spent,
            "assumed": self.assumed,
            "spend_limit_reached": self.stopped.limit_reached,
            "n_not_asked": self.stopped.n_left,
        }


class CollectOptions(TypedDict, total=False):
    """The keywords of `collecting`, for functions that pass them on."""

    models: Sequence[str] | None
    pairs: Pairs
    limits: Limits
    max_tokens: int
    retry_failed: bool
    progress: Progress | None
    source: str


@named_options(CollectOptions)
def collect(
    prompts: Iterable[Prompt], config: GatewayConfig, output: str | Path, **options: Unpack[CollectOptions]
) -> Collection:
    """`collecting` for callers without an event loop."""
    return asyncio.run(collecting(prompts, config, output, **options))


async def collecting(
    prompts: Iterable[Prompt],
    config: GatewayConfig,
    output: str | Path,
    *,
    models: Sequence[str] | None = None,
    pairs: Pairs = Pairs(),  # noqa: B008 - frozen
    limits: Limits = Limits(),  # noqa: B008
    max_tokens: int = 1024,
    retry_failed: bool = False,
    progress: Progress | None = None,
    source: str = "the config",
) -> Collection:
    """Ask the LLMs the prompts whose answers the file does not hold yet.

    Args:
        prompts: the prompts; of several with the same user turns, the first is asked.
        config: the LLMs.
        output: the file of answers, created or resumed. The costs stand beside it, in a file that ends in .spending.
        models: the LLMs to ask; None for all of the config.
        pairs: the pairs that will be compared: only LLMs of a prompt's pairs are asked it. By default all.
        limits: how fast, how often, for how much.
        max_tokens: longest answer, for LLMs whose entry in the config does not say.
        retry_failed: also ask again what failed before.
        progress: called after each answer with the number of answers in the file, of all that there will be, and USD.
        source: of the config, for messages.

    Returns:
        The answers so far: if the spend limit was reached, or an LLM did not answer, not all
        (`Collection.stopped.require_all` raises that).

    Raises:
        P2LError: a setting is illegal, a key is not set, or an LLM without a price has a spend limit.
        ResultsError: the file belongs to another run.
        VotesError: there is no prompt, or one cannot be asked.
    """
    asked = _distinct(prompts)
    llms = _llms(config, models, max_tokens, source)
    require_spend(limits.spend)
    require_prices(llms, limits, source)
    pairs.require_known(asked, list(llms))
    shared = {"prompts": fingerprint(sorted(map(id_of, asked)))}
    runs = {name: {**shared, **llm.settings} for name, llm in llms.items()}
    wanted = [(id_of(p), p, name) for p in asked for name in pairs.models(p, list(llms))]
    with Journal(output, LAYOUT, lambda row: runs.get(row["model"], shared)) as journal:
        recorded = sum(row.get("cost") or 0.0 for row in journal.rows)
        finished = {key for key, row in journal.last.items() if not (retry_failed and row.get("error"))}
        with Ledger(journal.path, recorded, limits.spend) as ledger:
            queries = [Query(key, llms[name], p) for key, p, name in wanted if (key, name) not in finished]
            left = len(queries)

            def done(query: Query, outcome: Outcome) -> None:
                nonlocal left
                journal.write(_row(query, outcome, runs[query.llm.name]))
                left -= 1
                tell(len(wanted) - left, len(wanted), ledger.spent)

            tell = progress or (lambda *_: None)
            tell(len(wanted) - left, len(wanted), ledger.spent)
            stopped = await Asker(llms.values(), limits, ledger, done).ask(queries)
            return _collection(journal, len(asked), list(llms), ledger, stopped)


def _distinct(prompts: Iterable[Prompt]) -> list[Prompt]:
    index = PromptIndex()
    for number, prompt in enumerate(prompts, 1):
        last = prompt if isinstance(prompt, str) else prompt[-1]
        if not isinstance(last, str) and last.get("role") == "assistant":
            raise VotesError(f"prompt {number} ends with an answer (role assistant); end it with what the user asks")
        index(list(prompt) if not isinstance(prompt, str) else prompt)
    if not index.prompts:
        raise VotesError("there is no prompt to ask")
    return index.prompts


def _llms(config: GatewayConfig, models: Sequence[str] | None, max_tokens: int, source: str) -> dict[str, LLM]:
    names = list(dict.fromkeys(config.models if models is None else models))
    require_known(names, list(config.models), "--models", f"which is not in {source}")
    if not names:
        raise P2LError("no LLM is named; name some of the config's, or none to ask all")
    chosen = [config.models[name] for name in names]
    variables = dict.fromkeys(llm.api_key_env for llm in chosen if llm.api_key_env is not None)
    missing = [variable for variable in variables if not read_key(variable)]
    if missing:
        raise P2LError(f"{source}: these environment variables are not set: {', '.join(missing)}")
    common: dict[str, Any] = {"max_tokens": max_tokens, "deadline": config.deadline, "env": config.trust_env}
    return {llm.name: LLM.of(llm, temperature=None, **common) for llm in chosen}


def _row(query: Query, outcome: Outcome, run: Mapping[str, Any]) -> Row:
    answer, error = outcome.answer, outcome.error
    row: Row = {
        "prompt": query.prompt if isinstance(query.prompt, str) else [dict(message) for message in query.prompt],
        "model": query.llm.name,
        "answer": None if answer is None else answer.text,
        "finish_reason": None if answer is None else answer.finish_reason,
        "seconds": round(outcome.seconds, _SHOWN),
        "input_tokens": None if answer is None else answer.input_tokens,
        "output_tokens": None if answer is None else answer.output_tokens,
        "cost": outcome.cost,
        "attempts": outcome.attempts,
    }
    if error is not None:
        row |= {"error": error.kind, "detail": error.detail}
    return {**row, "run": dict(run)}


def _collection(journal: Journal, n_prompts: int, names: Sequence[str], ledger: Ledger, stopped: Stopped) -> Collection:
    rows: dict[str, list[Row]] = {name: [] for name in names}
    for row in journal.rows:
        rows.setdefault(row["model"], []).append(row)
    last: dict[str, list[Row]] = {name: [] for name in rows}
    for row in {key_of(row): row for row in journal.rows}.values():
        last[row["model"]].append(row)
    llms = tuple(LLMAnswers.of(name, rows[name], last[name]) for name in rows)
    return Collection(journal.path, n_prompts, llms, ledger.spent, ledger.assumed, stopped)
