"""Many queries to several LLMs, within the limits of a run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import perf_counter

import httpx

from p2l_sdk.errors import P2LError
from p2l_sdk.judging.limits import Limits, Pace, may_be_billed
from p2l_sdk.judging.spending import Ledger, SpendLimitError
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.mpg.measure.endpoint import Answer, Endpoint, QueryError, ask, connect
from p2l_sdk.serve.gateway.address import read_key
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.prices import Prices

_HOPELESS = ("connection", "status 401", "status 403", "status 404")  # the next query will fail alike
_GIVE_UP = 3  # hopeless failures in a row, after which an LLM is left alone
_TOKENS_BESIDES = 16  # that a chat template adds to each message at most, and to the whole


@dataclass(frozen=True)
class LLM:
    """An LLM that is asked.

    Attributes:
        name: its name.
        endpoint: its address and settings.
        cost: USD per response; None if it is not paid by the response.
        prices: by the token; None if it is not paid by the token.
        bills_errors: as in `LLMConfig`.
    """

    name: str
    endpoint: Endpoint
    cost: float | None = None
    prices: Prices | None = None
    bills_errors: bool = False

    @classmethod
    def of(cls, config: LLMConfig, *, max_tokens: int, temperature: float | None, deadline: float, env: bool) -> LLM:
        """The LLM of a gateway's config.

        Args:
            config: its entry.
            max_tokens, temperature: where the entry has none.
            deadline: seconds for a whole answer.
            env: whether proxies of the environment are used.

        Raises:
            P2LError: its key cannot be sent.
        """
        config = config.places[0]  # of several addresses the first: answers are compared, so all come from one
        endpoint = Endpoint(
            base_url=config.base_url,
            model=config.model,
            api_key=read_key(config.api_key_env) or None,
            api_key_header=config.api_key_header,
            headers=config.headers,
            max_tokens=config.max_tokens or max_tokens,
            temperature=temperature if config.temperature is None else config.temperature,
            top_p=config.top_p,
            system=config.system,
            timeout=max(deadline, config.timeout),
            pause=config.timeout,
            trust_env=env,
        )
        return cls(config.name, endpoint, config.cost, config.prices, config.bills_errors)

    @property
    def settings(self) -> dict[str, object]:
        """What all parts of a run must have in common, since answers depend on it."""
        names = ("system", "temperature", "top_p", "max_tokens")
        return {"upstream_model": self.endpoint.model, **{name: getattr(self.endpoint, name) for name in names}}

    @property
    def has_price(self) -> bool:
        """Whether its cost is known."""
        return self.cost is not None or self.prices is not None

    def most(self, prompt: Prompt) -> float | None:
        """The most that a query can cost, USD; None without a price.

        A token is at least one byte of text, and the answer ends at `max_tokens`.
        """
        if self.prices is None:
            return self.cost
        messages = self.endpoint.messages(prompt)
        size = sum(len(str(m.get("content")).encode("utf-8", "surrogatepass")) + _TOKENS_BESIDES for m in messages)
        read = self.prices.most_read(size + _TOKENS_BESIDES, 0, marked=False)
        return self.prices.fee + read + self.prices.of(0, self.endpoint.max_tokens)

    def cost_of(self, answer: Answer) -> float | None:
        """What an answer cost, USD; None if nobody knows."""
        if self.prices is None:
            return self.cost
        if answer.input_tokens is None or answer.output_tokens is None:
            return None
        return self.prices.fee + self.prices.of(answer.input_tokens, answer.output_tokens)


@dataclass(frozen=True)
class Query:
    """A prompt for an LLM; `key` identifies it for the caller, `attempt` counts queries with the same key from 1."""

    key: Hashable
    llm: LLM
    prompt: Prompt
    attempt: int = 1


@dataclass(frozen=True)
class Outcome:
    """What came of a query.

    Attributes:
        answer: the answer; None if the query failed.
        error: why it failed; None if it did not.
        seconds: from sending it to the whole answer, or to the last failure.
        cost: USD of all attempts; None if the LLM has no price.
        attempts: how often it was sent.
    """

    answer: Answer | None
    error: QueryError | None
    seconds: float
    cost: float | None
    attempts: int


@dataclass
class Stopped:
    """Why queries were not asked.

    Attributes:
        given_up: LLM -> its last failure, for those that did not answer at all.
        limit_reached: whether the spend limit was reached.
        n_left: number of queries that were not asked.
    """

    given_up: dict[str, QueryError] = field(default_factory=dict)
    limit_reached: bool = False
    n_left: int = 0

    def require_all(self, limit: float | None, output: object) -> None:
        """Raise `P2LError` if queries were left, or an LLM did not answer at all, with the remedy."""
        left = f"{self.n_left:,} quer{'y was' if self.n_left == 1 else 'ies were'} not asked"
        kept = f"what was answered is in {str(output)!r}"
        if self.limit_reached:
            raise P2LError(
                f"the spend limit of {limit:g} USD is reached, {left}; {kept}; the same command with a higher limit "
                "goes on"
            )
        if self.given_up:
            failures = "; ".join(f"{name} did not answer ({error})" for name, error in self.given_up.items())
            raise P2LError(
                f"{failures}; {left}; {kept}; mend the address, the key or the name and run the same command with "
                "--retry-failed"
            )


class Asker:
    """Asks many queries.

    Args:
        llms: the LLMs that are asked.
        limits: of the run.
        ledger: of the run.
        done: is told each query and its outcome; it may return another query to the same LLM, which is asked next.
    """

    def __init__(
        self, llms: Iterable[LLM], limits: Limits, ledger: Ledger, done: Callable[[Query, Outcome], Query | None]
    ) -> None:
        self._limits, self._ledger, self._done = limits, ledger, done
        self._llms = {llm.name: llm for llm in llms}
        self._paces = {name: Pace(limits.requests_per_minute) for name in self._llms}
        self._hopeless = dict.fromkeys(self._llms, 0)
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._stopped = Stopped()

    async def ask(self, queries: Iterable[Query]) -> Stopped:
        """Ask them, those of each LLM in order; says what was not asked."""
        queues: dict[str, deque[Query]] = {name: deque() for name in self._llms}
        for query in queries:
            queues[query.llm.name].append(query)
        async with AsyncExitStack() as stack:
            clients = {
                name: await stack.enter_async_context(connect(self._llms[name].endpoint))
                for name, queue in queues.items()
                if queue
            }
            try:
                async with asyncio.TaskGroup() as group:
                    for i in range(self._limits.concurrency):  # by turns, so that all LLMs answer the same prompts
                        for name, client in clients.items():
                            if i < len(queues[name]):
                                group.create_task(self._caller(client, queues[name]))
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
        self._stopped.n_left += sum(map(len, queues.values()))
        return self._stopped

    async def _caller(self, client: httpx.AsyncClient, queue: deque[Query]) -> None:
        while queue and not self._stopped.limit_reached and queue[0].llm.name not in self._stopped.given_up:
            query: Query | None = queue.popleft()
            while query is not None:
                try:
                    outcome = await self._outcome(client, query)
                except SpendLimitError:
                    self._stopped.limit_reached = True
                    self._stopped.n_left += 1
                    return
                if outcome is None:  # given up meanwhile
                    self._stopped.n_left += 1
                    return
                query = self._done(query, outcome)

    async def _outcome(self, client: httpx.AsyncClient, query: Query) -> Outcome | None:
        """Send a query until it is answered or has failed; None if its LLM was given up meanwhile."""
        llm, attempt, cost, start = query.llm, 0, 0.0, perf_counter()
        while True:
            attempt += 1
            await self._paces[llm.name].turn()
            if llm.name in self._stopped.given_up:
                return None
            async with self._slots:
                reserved = await self._ledger.reserve(llm.most(query.prompt))
                start = start if attempt > 1 else perf_counter()
                try:
                    answer = await ask(client, llm.endpoint, query.prompt)
                except QueryError as error:
                    failure, usd = error, self._ledger.most(reserved) if may_be_billed(error, llm.bills_errors) else 0.0
                    self._ledger.settle(reserved, usd, assumed=usd > 0)
                    cost += usd
                else:
                    self._hopeless[llm.name] = 0
                    known = llm.cost_of(answer)
                    usd = self._ledger.most(reserved) if known is None else known
                    self._ledger.settle(reserved, usd, assumed=known is None and usd > 0)
                    total = cost + usd if llm.has_price else None
                    return Outcome(answer, None, answer.end - start, total, attempt)
            wait = self._limits.wait(failure, attempt)
            if wait is None:
                self._failed(llm, failure)
                seconds = perf_counter() - start
                return Outcome(None, failure, seconds, cost if llm.has_price else None, attempt)
            if failure.kind == "status 429":
                self._paces[llm.name].rest(wait)
            else:
                await asyncio.sleep(wait)

    def _failed(self, llm: LLM, failure: QueryError) -> None:
        self._hopeless[llm.name] = self._hopeless[llm.name] + 1 if failure.kind in _HOPELESS else 0
        if self._hopeless[llm.name] >= _GIVE_UP:
            self._stopped.given_up[llm.name] = failure


def require_prices(llms: Mapping[str, LLM], limits: Limits, source: str) -> None:
    """Raise `P2LError` if there is a spend limit, and an LLM without a price."""
    without = [name for name, llm in llms.items() if not llm.has_price]
    if limits.spend is not None and without:
        raise P2LError(
            f"a spend limit needs the price of every LLM, and {source} has none of {', '.join(without)}; give it a "
            "cost or prices"
        )
