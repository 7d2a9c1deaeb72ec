"""The gateway: POST /v1/chat/completions and GET /v1/models, as OpenAI's clients expect them.

The prompt is scored, an LLM is chosen within the budget, its upstream is called and the answer is returned. The body of
the reply is not modified: its `model` is the upstream's name of the LLM; everything else is in the headers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from p2l_sdk.errors import P2LError, PromptError
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.serve.auth import Key, OutOfBudget
from p2l_sdk.serve.engine.engine import Engine
from p2l_sdk.serve.errors import ApiError
from p2l_sdk.serve.gateway.affinity import Sessions
from p2l_sdk.serve.gateway.capabilities import Capabilities
from p2l_sdk.serve.gateway.charges import check_charges
from p2l_sdk.serve.gateway.choice import Choice, Chooser
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.failover import Failover, Failure, NoAnswer
from p2l_sdk.serve.gateway.known import completed
from p2l_sdk.serve.gateway.llm import BEST, ROUTED, LLMConfig
from p2l_sdk.serve.gateway.overcharges import Overcharges
from p2l_sdk.serve.gateway.pool import UpstreamClient
from p2l_sdk.serve.gateway.quote import Quote, quotes
from p2l_sdk.serve.gateway.record import Record, Records
from p2l_sdk.serve.gateway.relay import Begun, Disconnected, StreamedAnswer, while_connected, within
from p2l_sdk.serve.gateway.request import COST_HEADER, SESSION_HEADER, BadRequest, ChatRequest
from p2l_sdk.serve.gateway.spend import Charge
from p2l_sdk.serve.gateway.upstream import Answer, Upstream
from p2l_sdk.serve.http import READ_ON_THE_LOOP, BareRoute, error_response, parsed
from p2l_sdk.serve.metrics import ServerMetrics

log = logging.getLogger("p2l_sdk.serve.gateway.chat")
_ENDING_SECONDS = 60.0  # after the deadline of a request, until it has surely ended


class UnknownModel(ApiError):  # noqa: N818  named for what happened, like all errors of the server
    """A request for an LLM that is not in the config."""

    status, code = 404, "model_not_found"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"there is no model {name[:100]!r} here; known: {', '.join(known)}", param="model")


def create_gateway(engine: Engine, config: GatewayConfig, metrics: ServerMetrics, client: UpstreamClient) -> APIRouter:
    """The endpoints of the gateway.

    Args:
        engine: scores the prompts.
        config: the LLMs, and how one is chosen.
        metrics: counts choices, spend and failures.
        client: the caller closes it.

    Raises:
        BudgetError: the config's budget is below its cheapest LLM.
        CostError: the cost of an LLM is not known.
    """
    chat = _Chat(engine, config, metrics, client)
    router = APIRouter(tags=["router"])
    router.add_api_route(
        "/v1/chat/completions", chat.complete, methods=["POST"], responses=_REPLIES, openapi_extra=_REQUEST,
        route_class_override=BareRoute,
    )  # fmt: skip
    router.add_api_route("/v1/models", chat.models, methods=["GET"])
    router.add_api_route("/v1/models/{name:path}", chat.model, methods=["GET"], responses={404: _REPLIES[404]})
    return router


class _Chat:
    def __init__(self, engine: Engine, config: GatewayConfig, metrics: ServerMetrics, client: UpstreamClient) -> None:
        self._engine, self._config, self._metrics = engine, config, metrics
        self._records = Records(metrics)
        self._chooser = Chooser(config, engine.p2l)
        self._overcharges = Overcharges(metrics)
        llms = {name: completed(llm) for name, llm in config.models.items()}
        self._capabilities = Capabilities(llms, self._overcharges)
        upstreams = {name: Upstream.of(llm, config, client, metrics) for name, llm in config.models.items()}
        self._failover = Failover(upstreams, config.attempts, config.backoff)
        self._sessions = Sessions(config.affinity_minutes) if config.affinity else None
        self._names = (ROUTED, BEST, *config.models)
        self._created = int(time.time())

    async def models(self) -> dict[str, Any]:
        """The names that a request may use: "p2l", "p2l-best" and every LLM of the config."""
        return {"object": "list", "data": [self._entry(name) for name in self._names]}

    async def model(self, name: str) -> Any:
        """One entry of the list of models, by name."""
        return self._entry(name) if name in self._names else error_response(UnknownModel(name, self._names))

    async def complete(self, request: Request) -> Response:
        """Answer a conversation with the LLM that is chosen for it within the budget."""
        record = self._records.begin(_key(request))
        try:
            record.request = asked = await self._read(request, record.key)
            return await while_connected(request.receive, self._answer(asked, record), record.patience)
        except (Disconnected, ClientDisconnect):
            record.finish("disconnected")
            return Response(status_code=499)  # for the metrics only; nobody reads it
        except P2LError as error:
            reply = error_response(error)
            record.finish(str(reply.status_code))
            return reply
        except BaseException:
            record.finish("error")
            raise

    async def _read(self, request: Request, key: Key | None) -> ChatRequest:
        body = b"".join([part async for part in request.stream()])  # request.body() would keep it until the end
        cost, session = request.headers.get(COST_HEADER), request.headers.get(SESSION_HEADER)
        most, allow = self._config.max_messages, self._config.allow
        owner = key.digest if key is not None else request.client.host.encode() if request.client is not None else b""
        limited = key is not None and key.limited

        def read(body: bytes) -> ChatRequest:
            asked = ChatRequest.parse(
                body, cost_header=cost, max_messages=most, allow=allow, session=session, owner=owner
            )
            if limited:
                check_charges(asked, allow)
            _ = asked.size  # here, as a large body is read on a thread
            return asked

        if key is not None and limited and len(body) > READ_ON_THE_LOOP:
            with self._counted(key):
                await key.require_any()  # before a second of work for nothing
        return await parsed(body, read)

    async def _answer(self, asked: ChatRequest, record: Record) -> Response:
        ends = time.monotonic() + self._config.deadline
        offers = quotes(asked, self._config.models, self._chooser.costs)
        choice = await self._choose(asked, {name: quote.expected for name, quote in offers.items()}, record.key)
        seconds = self._config.deadline + _ENDING_SECONDS
        charge = Charge(
            asked, offers, choice.ranking[0], pacer=choice.pacer, key=record.key, seconds=seconds,
            overcharges=self._overcharges,
        )  # fmt: skip
        record.charge = charge
        with self._counted(record.key):
            await charge.require(choice.ranking)  # while an error can still be a status
        work = self._call(asked, choice, ends, record, charge)
        if not asked.stream:
            answer, headers = await work
            record.finish("done")
            return Response(answer.content, headers=headers)
        task = asyncio.ensure_future(work)
        begun = await within(self._config.ping_seconds, task)
        return StreamedAnswer(
            begun or task, _expected(choice), ends=ends, done=record.finish, ping=self._config.ping_seconds,
            patience=record.patience,
        )  # fmt: skip

    async def _call(self, asked: ChatRequest, choice: Choice, ends: float, record: Record, charge: Charge) -> Begun:
        """The answer, or its beginning, and the headers of the reply."""

        async def admit(llm: LLMConfig, failures: Sequence[Failure]) -> ChatRequest:
            if record.left is not None:
                raise NoAnswer(failures, choice.ranking, None)  # only what is under way is read on
            return await charge.admit(llm, failures)

        try:
            with self._counted(record.key):
                answer, record.failures = await self._failover.answer(asked, choice.ranking, ends, admit)
        except NoAnswer as error:
            record.failures = error.failures
            raise
        record.answer = answer
        if self._sessions is not None and choice.session is not None and answer.llm.name != choice.ranking[0]:
            self._sessions.remember(choice.session, answer.llm.name)
        return answer, {**answer.headers, **_headers(choice, answer, charge.quote)}

    @contextlib.contextmanager
    def _counted(self, key: Key | None) -> Iterator[None]:
        """Count a request that its key cannot pay."""
        try:
            yield
        except OutOfBudget as error:
            if key is not None:
                self._metrics.key_refused(key.name, error.code)
            raise

    async def _choose(self, asked: ChatRequest, expected: Mapping[str, float], key: Key | None) -> Choice:
        payer = key if key is not None and key.limited else None
        if asked.model in self._config.models:
            self._capabilities.require(asked, (asked.model,), payer)
            return self._chooser.by_name(asked.model, asked.budget, expected)
        if not asked.routed:
            raise UnknownModel(asked.model, self._names)
        without = self._capabilities.require(asked, self._chooser.candidates, payer)
        start = time.perf_counter()
        try:
            scored = await self._engine.coefficients([asked.prompt], self._config.deadline)
        except PromptError as error:
            error.index = None  # there is only one prompt
            raise BadRequest(
                f"{error}; or name an LLM instead of {asked.model!r} to go straight to it", param="messages"
            ) from None
        session = None if self._sessions is None else self._sessions.of(asked, b"" if key is None else key.digest)
        p2l = self._engine.p2l
        board = Leaderboard(models=p2l.models, coefs=scored.coefs[0], feedback=p2l.spec.feedback)  # all that counts
        choice = self._chooser.routed(board, asked.model, asked.budget, without, expected, session)
        if self._sessions is not None and session is not None:
            self._sessions.remember(session, choice.ranking[0])
        self._metrics.stage("choose", time.perf_counter() - start)
        return choice

    def _entry(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "p2l"}


def _headers(choice: Choice, answer: Answer, quote: Quote | None) -> dict[str, str]:
    """The x-p2l headers: which LLM answered, what was expected of the choice, and to what the answer was limited."""
    name = answer.llm.name
    return {
        "x-p2l-model": name if name.isascii() and name.isprintable() else urllib.parse.quote(name),
        "x-p2l-probability": f"{choice.mixture.get(name, 0.0):.6g}",
        **({"x-p2l-max-tokens": str(quote.limit)} if quote is not None and quote.held else {}),
        **({} if choice.session is None else {"x-p2l-session": choice.session.state(name)}),
        **_expected(choice),
    }


def _expected(choice: Choice) -> dict[str, str]:
    """Those of the x-p2l headers that are known before an LLM answers."""
    headers = {"x-p2l-expected-cost": f"{choice.expected_cost:.6g}"}
    if choice.expected_score is not None:
        headers["x-p2l-expected-score"] = f"{choice.expected_score:.6g}"
    return headers


def _key(request: Request) -> Key | None:
    key = request.scope.get("state", {}).get("key")
    return key if isinstance(key, Key) else None  # somebody else's guard may put anything there


_REPLIES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The LLM's answer, as it sent it.", "content": {"text/event-stream": {}}},
    400: {"description": "The request, or its budget, which no LLM fits; or all LLMs refused it."},
    403: {"description": "A page of another site, or another name of this machine."},
    404: {"description": "No model of that name is here."},
    408: {"description": "The body did not come in time."},
    413: {"description": "The request is too large."},
    429: {"description": "Too many requests, or the key has spent its budget."},
    502: {"description": "No LLM answered."},
    503: {"description": "All LLMs are left alone for a while after failures; or keys and spend cannot be read."},
    504: {"description": "No LLM answered in time."},
}
_REQUEST = {
    "requestBody": {
        "required": True,
        "description": "A request as OpenAI's API takes it, with an optional `cost`: the budget, USD per response.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model", "messages"],
                    "properties": {
                        "model": {"type": "string", "examples": [ROUTED, BEST]},
                        "messages": {"type": "array", "minItems": 1, "items": {"type": "object"}},
                        "stream": {"type": "boolean"},
                        "cost": {"type": "number", "minimum": 0, "examples": [0.0005]},
                    },
                    "additionalProperties": True,
                },
                "example": {"model": ROUTED, "messages": [{"role": "user", "content": "What is 17 * 23?"}]},
            }
        },
    }
}
