"""The P2L API: leaderboards, coefficients, aggregates and routes over HTTP; also the two endpoints of lmarena/p2l."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from p2l_sdk.errors import PromptError
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.names import find_models
from p2l_sdk.serve import schemas
from p2l_sdk.serve.engine.engine import Engine
from p2l_sdk.serve.errors import BodyTooLarge
from p2l_sdk.serve.http import BareRoute, json_response, parsed

_ROWS_ON_THE_LOOP = 512  # replies with more rows are encoded on a thread
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.ErrorReply, "description": text}
    for status, text in {
        400: "No JSON, a bad prompt, an unknown LLM, a budget that nothing fits",
        401: "No valid key",
        403: "A page of another site, or another name of this machine",
        408: "The body did not come in time",
        413: "Too much for one request",
        422: "JSON that breaks the schema",
        429: "Too many prompts wait; the header Retry-After says how long to wait",
        500: "The model failed",
        503: "The server is closing",
        504: "The model did not answer in time",
    }.items()
}


def create_api_router(
    engine: Engine, *, max_prompts: int, max_body_bytes: int, routed: Sequence[str] | None = None
) -> APIRouter:
    """The endpoints of the P2L API.

    Args:
        engine: scores the prompts.
        max_prompts: limit per request.
        max_body_bytes: limit per request; here it is only reported to clients.
        routed: LLMs that /v1/route chooses among if the request names none; by default all that the model knows.
    """
    posts, gets = _Posts(engine, max_prompts, routed), _Gets(engine, max_prompts, max_body_bytes, routed)
    api = APIRouter(route_class=BareRoute, tags=["P2L"])
    for path, takes, gives, handler in (
        ("/v1/leaderboard", schemas.PromptRequest, schemas.LeaderboardReply, posts.leaderboard),
        ("/v1/leaderboards", schemas.PromptsRequest, schemas.LeaderboardsReply, posts.leaderboards),
        ("/v1/coefficients", schemas.PromptsRequest, schemas.CoefficientsReply, posts.coefficients),
        ("/v1/aggregate", schemas.AggregateRequest, schemas.LeaderboardReply, posts.aggregate),
        ("/v1/route", schemas.RouteRequest, schemas.RouteReply, posts.route),
        ("/predict", schemas.ResearchRequest, schemas.ResearchReply, posts.predict),
    ):
        schema = {"$ref": f"#/components/schemas/{takes.__name__}"}
        body = {"required": True, "content": {"application/json": {"schema": schema}}}
        replies: dict[int | str, dict[str, Any]] = {200: {"model": gives, "description": gives.__doc__ or ""}}
        api.add_api_route(
            path, posts.endpoint(takes, handler), methods=["POST"], response_model=None, name=handler.__name__,
            description=handler.__doc__, openapi_extra={"requestBody": body}, responses=replies | _ERRORS,
        )  # fmt: skip
    for path, reply, answer in (
        ("/models", schemas.ResearchModels, gets.research_models),
        ("/v1/p2l/models", schemas.ModelsReply, gets.models),
        ("/v1/p2l/kinds", schemas.KindsReply, gets.kinds),
        ("/v1/p2l/traffic", schemas.TrafficReply, gets.traffic),
    ):
        replies = {200: {"model": reply}, 401: _ERRORS[401]}
        api.add_api_route(path, answer, methods=["GET"], response_model=None, responses=replies)
    return api


class _Posts:
    """The endpoints that score prompts. Each handler gets a validated body and returns plain values."""

    def __init__(self, engine: Engine, max_prompts: int, routed: Sequence[str] | None) -> None:
        self._engine, self._p2l = engine, engine.p2l
        self._max_prompts, self._routed = max_prompts, routed

    def endpoint(
        self, takes: type[BaseModel], handler: Callable[[Any], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A handler as an endpoint that parses the body, limits the number of prompts and writes the answer."""
        parse = functools.partial(schemas.parse, kind=takes)
        many = "prompts" in takes.model_fields

        async def answer(request: Request) -> Response:
            asked: Any = await parsed(await request.body(), parse)
            n_prompts = len(asked.prompts) if many else 1
            if n_prompts > self._max_prompts:
                text = f"{n_prompts} prompts in one request; at most {self._max_prompts}"
                raise BodyTooLarge(text, param="prompts")
            values = await handler(asked)
            if n_prompts * len(self._p2l.models) > _ROWS_ON_THE_LOOP:
                return await asyncio.to_thread(_write, values)
            return _write(values)

        return answer

    async def leaderboard(self, asked: schemas.PromptRequest) -> Leaderboard:
        """The leaderboard of one prompt."""
        return await self._engine.leaderboard(asked.prompt)

    async def leaderboards(self, asked: schemas.PromptsRequest) -> list[Leaderboard]:
        """One leaderboard per prompt, in the order of the prompts."""
        return await self._engine.leaderboards(asked.prompts)

    async def coefficients(self, asked: schemas.PromptsRequest) -> dict[str, Any]:
        """The raw numbers behind the leaderboards of many prompts: the smallest reply, meant for programs."""
        scored = await self._engine.coefficients(asked.prompts)
        eta, gamma = (None if column is None else column[:, 0].copy() for column in (scored.eta, scored.gamma))
        kinds = None if scored.kinds is None else scored.kinds.shares.copy()
        familiar = None if scored.familiarity is None else scored.familiarity.copy()
        return {
            "models": self._p2l.models,
            "coefs": scored.coefs.copy(),
            "eta": eta,
            "gamma": gamma,
            "kinds": kinds,
            "familiarity": familiar,
        }

    async def aggregate(self, asked: schemas.AggregateRequest) -> Leaderboard:
        """One leaderboard for a set of prompts, with 95 % intervals if there are at least two or the model has them."""
        return await self._engine.aggregate(asked.prompts, weights=asked.weights, seed=asked.seed)

    async def route(self, asked: schemas.RouteRequest) -> dict[str, Any]:
        """The LLM to call for a prompt within a budget, chosen among `models` or, by default, the `routed` LLMs."""
        options = {name: getattr(asked, name) for name in ("models", "opponents", "policy", "objective")}
        given = {name: value for name, value in options.items() if name in asked.model_fields_set and value is not None}
        if self._routed is not None:
            given.setdefault("models", self._routed)
        router = self._p2l.router(asked.costs, **given)
        chosen = router.route(await self._engine.leaderboard(asked.prompt), asked.cost, asked.seed)
        called = chosen.model  # clients may make up many names of one LLM, and metrics are kept for each name
        self._engine.metrics.route(called if called in (self._routed or ()) else chosen.matched.get(called, called))
        return chosen.to_dict()

    async def predict(self, asked: schemas.ResearchRequest) -> dict[str, Any]:
        """Compatible with the server of lmarena/p2l: coefficients in the order of /models, and the raw eta."""
        turns: Sequence[str] = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        if not turns:
            raise PromptError("the prompt has no turn; send the user turns as a list of strings")
        board = await self._engine.leaderboard([{"role": "user", "content": turn} for turn in turns])
        return {"coefs": board.coefs.copy(), "eta": board.eta}


class _Gets:
    """The endpoints that say what the server knows, and what it has done."""

    def __init__(self, engine: Engine, max_prompts: int, max_body_bytes: int, routed: Sequence[str] | None) -> None:
        self._engine, self._p2l = engine, engine.p2l
        self._routed = None if routed is None else set(find_models(routed, engine.p2l.models, "the config").values())
        self._limits = {"max_prompts": max_prompts, "max_body_bytes": max_body_bytes}

    async def research_models(self, _: Request) -> Response:
        """Compatible with the server of lmarena/p2l: names of the LLMs."""
        return json_response({"models": self._p2l.models})

    async def models(self, _: Request) -> Response:
        """The LLMs that the model knows with their costs, its feedback model, the kinds of prompt that it recognises,
        the request limits, and its error for a group of prompts."""
        rows = [
            {"model": name, "cost": self._p2l.costs.get(name), "routed": self._routed is None or name in self._routed}
            for name in self._p2l.models
        ]
        spec = self._p2l.spec
        error = self._p2l.group_error
        known = {"feedback": str(spec.feedback), "models": rows, "kinds": spec.kinds, "limits": self._limits}
        return json_response({**known, "group_error": None if error is None else error.tolist()})

    async def kinds(self, _: Request) -> Response:
        """The kinds of prompt that the model recognises, and how uncertain its coefficients are for that."""
        variance = self._p2l.variance
        variance = None if variance is None else np.ascontiguousarray(variance)
        return json_response({"kinds": self._p2l.spec.kinds, "variance": variance})

    async def traffic(self, _: Request) -> Response:
        """Routes, calls, spend and failed calls by LLM since the server started."""
        return json_response({"traffic": self._engine.metrics.traffic()})


def _write(answer: Any) -> Response:
    if isinstance(answer, Leaderboard):
        answer = answer.to_dict()
    elif isinstance(answer, list):
        answer = {"leaderboards": [board.to_dict() for board in answer]}
    return json_response(answer)
