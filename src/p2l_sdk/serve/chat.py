"""The router: POST /v1/chat/completions and GET /v1/models, as OpenAI's clients expect them.

A request is scored, an LLM is chosen within its budget, the upstream is called, and what it sends goes back as it came.
The body of a reply is not touched: its `model` is what the upstream calls the LLM; the headers tell the rest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from p2l_sdk.errors import P2LError, PromptError
from p2l_sdk.results import Leaderboard
from p2l_sdk.serve.auth import Key
from p2l_sdk.serve.chat_request import COST_HEADER, BadRequest, ChatRequest
from p2l_sdk.serve.choice import Choice, Chooser
from p2l_sdk.serve.config import BEST, ROUTED, RouterConfig
from p2l_sdk.serve.errors import ApiError, ScoringTimeout, as_reply
from p2l_sdk.serve.failover import Failover
from p2l_sdk.serve.http import BareRoute
from p2l_sdk.serve.metrics import ServerMetrics
from p2l_sdk.serve.relay import Disconnected, StreamedAnswer, while_connected
from p2l_sdk.serve.spend import Charge
from p2l_sdk.serve.upstream import Answer, Upstream

if TYPE_CHECKING:
    from p2l_sdk.facade import P2L

log = logging.getLogger("p2l_sdk.serve.chat")


class Scoring(Protocol):
    """What the router needs of the engine."""

    @property
    def p2l(self) -> P2L:
        """The model."""

    def leaderboards(self, prompts: Sequence[Any]) -> Awaitable[list[Leaderboard]]:
        """The leaderboard of each prompt."""


class UnknownModel(ApiError):  # noqa: N818  named for what happened, as all errors of the server
    """A request for an LLM that is not in the config."""

    status, code = 404, "model_not_found"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"there is no model {name[:100]!r} here; known: {', '.join(known)}", param="model")


def create_chat_router(
    engine: Scoring, config: RouterConfig, metrics: ServerMetrics, client: httpx.AsyncClient
) -> APIRouter:
    """The endpoints of the router.

    Args:
        engine: scores the prompts.
        config: the LLMs and how one is chosen.
        metrics: counts choices, spend and failures.
        client: see `create_client`; the caller closes it.

    Raises:
        BudgetError: the config's budget lies under its cheapest LLM.
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
    def __init__(
        self, engine: Scoring, config: RouterConfig, metrics: ServerMetrics, client: httpx.AsyncClient
    ) -> None:
        self._engine, self._config, self._metrics = engine, config, metrics
        self._chooser = Chooser(config, engine.p2l)
        upstreams = {name: Upstream(llm, config, client, metrics) for name, llm in config.models.items()}
        self._failover = Failover(upstreams, config.attempts, config.backoff)
        self._names = (ROUTED, BEST, *config.models)
        self._created = int(time.time())

    async def models(self) -> dict[str, Any]:
        """What a request may name: "p2l", "p2l-best", and each LLM."""
        return {"object": "list", "data": [self._entry(name) for name in self._names]}

    async def model(self, name: str) -> Any:
        """One of them."""
        return self._entry(name) if name in self._names else _reply(UnknownModel(name, self._names))

    async def complete(self, request: Request) -> Response:
        """Answer a conversation by the LLM that it deserves within the budget."""
        record = _Record(self._metrics)
        try:
            asked = ChatRequest.parse(await request.body(), request.headers.get(COST_HEADER), self._config.max_messages)
            return await while_connected(request.receive, self._answer(asked, _key(request), record))
        except (Disconnected, ClientDisconnect):
            record.finish("disconnected")
            return Response(status_code=499)  # which nobody reads
        except P2LError as error:
            reply = _reply(error)
            record.finish(str(reply.status_code))
            return reply
        except BaseException:
            record.finish("error")
            raise

    async def _answer(self, asked: ChatRequest, key: Key | None, record: _Record) -> Response:
        ends = time.monotonic() + self._config.deadline
        record.asked, record.stream = asked.model if asked.model in (ROUTED, BEST) else "name", asked.stream
        try:
            async with asyncio.timeout(self._config.deadline):
                choice = await self._choose(asked)
        except TimeoutError:
            raise ScoringTimeout("the prompt was not scored in time; try again, or name an LLM") from None
        reserved = self._chooser.costs[choice.ranking[0]]
        if key is not None:
            key.require(reserved)
        record.charge = Charge(reserved, *(account for account in (choice.pacer, key) if account is not None))
        answer, record.attempts = await self._failover.answer(asked, choice.ranking, ends)
        record.answered(answer, self._chooser.costs[answer.llm.name])
        headers = {**answer.headers, **_headers(choice, answer)}
        if answer.stream is not None:
            return StreamedAnswer(answer, headers, ends, record.finish)
        record.finish("done" if answer.status == 200 else str(answer.status))
        return Response(answer.content, answer.status, headers)

    async def _choose(self, asked: ChatRequest) -> Choice:
        if asked.model in self._config.models:
            return self._chooser.straight(asked.model, asked.budget)
        if asked.model not in (ROUTED, BEST):
            raise UnknownModel(asked.model, self._names)
        start = time.perf_counter()
        try:
            [board] = await self._engine.leaderboards([asked.user_turns])
        except PromptError as error:
            error.index = None  # there is but one
            raise BadRequest(
                f"{error}; or name an LLM instead of {asked.model!r} to go straight to it", param="messages"
            ) from None
        choice = self._chooser.routed(board, asked.model, asked.budget)
        self._metrics.stage("choose", time.perf_counter() - start)
        return choice

    def _entry(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "p2l"}


class _Record:
    """One request: its charge is settled and its line logged once, however it ends. The line holds no text of it."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics
        self._start = time.perf_counter()
        self._answer: Answer | None = None
        self._flat = 0.0
        self.asked, self.stream, self.attempts = "?", False, 0
        self.charge: Charge | None = None

    def answered(self, answer: Answer, cost: float) -> None:
        """An LLM answers, which costs so much unless its tokens are counted."""
        self._answer, self._flat = answer, cost

    def finish(self, end: str) -> None:
        """The request is over."""
        answer, cost = self._answer, None
        if answer is not None and answer.status == 200:
            cost = self._flat if answer.cost is None else answer.cost
            self._metrics.choice(answer.llm.name, cost)
        if self.charge is not None:
            self.charge.settle(cost)
        seconds = time.perf_counter() - self._start
        self._metrics.stage("chat", seconds)
        log.info(
            "chat asked=%s llm=%s end=%s ms=%.1f cost=%s stream=%s attempts=%d",
            self.asked, "-" if answer is None else answer.llm.name, end, 1000 * seconds,
            "-" if cost is None else f"{cost:.8f}", self.stream, self.attempts,
        )  # fmt: skip


def _headers(choice: Choice, answer: Answer) -> dict[str, str]:
    """Which LLM answered, and what was expected of the choice."""
    name = answer.llm.name
    headers = {
        "x-p2l-model": name if name.isascii() and name.isprintable() else quote(name),
        "x-p2l-probability": f"{choice.mixture.get(name, 0.0):.6g}",
        "x-p2l-expected-cost": f"{choice.expected_cost:.6g}",
    }
    if choice.expected_score is not None:
        headers["x-p2l-expected-score"] = f"{choice.expected_score:.6g}"
    return headers


def _key(request: Request) -> Key | None:
    return getattr(request.state, "key", None)


def _reply(error: P2LError) -> JSONResponse:
    status, body, headers = as_reply(error)
    return JSONResponse(body, status, headers)


_REPLIES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The LLM's answer, as it sent it.", "content": {"text/event-stream": {}}},
    400: {"description": "The request, or its budget, which no LLM fits."},
    404: {"description": "No model of that name is here."},
    413: {"description": "The request is too large."},
    429: {"description": "Too many requests, or the key has spent its budget."},
    502: {"description": "No LLM answered."},
    503: {"description": "All LLMs are left alone for a while after failures."},
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
