"""The P2L API: leaderboards, coefficients, aggregates and routes over HTTP; also the two endpoints of lmarena/p2l."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from p2l_sdk.errors import PromptError
from p2l_sdk.leaderboards.leaderboard import Leaderboard
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
_Handler = Callable[[Any], Awaitable[Any]]


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
    api, p2l = APIRouter(route_class=BareRoute), engine.p2l

    def post(path: str, takes: type[BaseModel], gives: type[BaseModel]) -> Callable[[_Handler], _Handler]:
        """Register an endpoint whose handler gets the validated body and returns plain values."""

        many = "prompts" in takes.model_fields

        def register(handler: _Handler) -> _Handler:
            async def endpoint(request: Request) -> Response:
                asked: Any = await parsed(await request.body(), functools.partial(schemas.parse, kind=takes))
                n_prompts = len(asked.prompts) if many else 1
                if n_prompts > max_prompts:
                    raise BodyTooLarge(f"{n_prompts} prompts in one request; at most {max_prompts}", param="prompts")
                answer = await handler(asked)
                if n_prompts * len(p2l.models) > _ROWS_ON_THE_LOOP:
                    return await asyncio.to_thread(_write, answer)
                return _write(answer)

            schema = {"$ref": f"#/components/schemas/{takes.__name__}"}
            body = {"required": True, "content": {"application/json": {"schema": schema}}}
            api.add_api_route(
                path, endpoint, methods=["POST"], response_model=None, name=handler.__name__,
                description=handler.__doc__, openapi_extra={"requestBody": body}, tags=["P2L"],
                responses={200: {"model": gives, "description": gives.__doc__ or ""}, **_ERRORS},
            )  # fmt: skip
            return handler

        return register

    @post("/v1/leaderboard", schemas.PromptRequest, schemas.LeaderboardReply)
    async def leaderboard(asked: schemas.PromptRequest) -> Leaderboard:
        """The leaderboard of one prompt."""
        return await engine.leaderboard(asked.prompt)

    @post("/v1/leaderboards", schemas.PromptsRequest, schemas.LeaderboardsReply)
    async def leaderboards(asked: schemas.PromptsRequest) -> list[Leaderboard]:
        """One leaderboard per prompt, in the order of the prompts."""
        return await engine.leaderboards(asked.prompts)

    @post("/v1/coefficients", schemas.PromptsRequest, schemas.CoefficientsReply)
    async def coefficients(asked: schemas.PromptsRequest) -> dict[str, Any]:
        """The raw numbers behind the leaderboards of many prompts: the smallest reply, meant for programs."""
        scored = await engine.coefficients(asked.prompts)
        eta, gamma = (None if column is None else column[:, 0].copy() for column in (scored.eta, scored.gamma))
        return {"models": p2l.models, "coefs": scored.coefs.copy(), "eta": eta, "gamma": gamma}

    @post("/v1/aggregate", schemas.AggregateRequest, schemas.LeaderboardReply)
    async def aggregate(asked: schemas.AggregateRequest) -> Leaderboard:
        """One leaderboard for a set of prompts, with 95 % intervals if there are at least two."""
        return await engine.aggregate(asked.prompts, weights=asked.weights, seed=asked.seed)

    @post("/v1/route", schemas.RouteRequest, schemas.RouteReply)
    async def route(asked: schemas.RouteRequest) -> dict[str, Any]:
        """The LLM to call for a prompt within a budget, chosen among `models` or, by default, the `routed` LLMs."""
        options = {name: getattr(asked, name) for name in ("models", "opponents", "policy", "objective")}
        given = {name: value for name, value in options.items() if name in asked.model_fields_set and value is not None}
        if routed is not None:
            given.setdefault("models", routed)
        router = p2l.router(asked.costs, **given)
        chosen = router.route(await engine.leaderboard(asked.prompt), asked.cost, asked.seed)
        engine.metrics.route(chosen.model)
        return chosen.to_dict()

    @post("/predict", schemas.ResearchRequest, schemas.ResearchReply)
    async def predict(asked: schemas.ResearchRequest) -> dict[str, Any]:
        """Compatible with the server of lmarena/p2l: coefficients in the order of /models, and the raw eta."""
        turns: Sequence[str] = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        if not turns:
            raise PromptError("the prompt has no turn; send the user turns as a list of strings")
        board = await engine.leaderboard([{"role": "user", "content": turn} for turn in turns])
        return {"coefs": board.coefs.copy(), "eta": board.eta}

    read: dict[str, Any] = {"response_model": None, "tags": ["P2L"]}

    @api.get("/models", responses={200: {"model": schemas.ResearchModels}, 401: _ERRORS[401]}, **read)
    async def research_models(_: Request) -> Response:
        """Compatible with the server of lmarena/p2l: names of the LLMs."""
        return json_response({"models": p2l.models})

    @api.get("/v1/p2l/models", responses={200: {"model": schemas.ModelsReply}, 401: _ERRORS[401]}, **read)
    async def models(_: Request) -> Response:
        """The LLMs that the model knows with their costs, its feedback model, and the request limits."""
        rows = [
            {"model": name, "cost": p2l.costs.get(name), "routed": routed is None or name in routed}
            for name in p2l.models
        ]
        limits = {"max_prompts": max_prompts, "max_body_bytes": max_body_bytes}
        return json_response({"feedback": str(p2l.spec.feedback), "models": rows, "limits": limits})

    @api.get("/v1/p2l/traffic", responses={200: {"model": schemas.TrafficReply}, 401: _ERRORS[401]}, **read)
    async def traffic(_: Request) -> Response:
        """Routes, calls, spend and failed calls by LLM since the server started."""
        return json_response({"traffic": engine.metrics.traffic()})

    return api


def _write(answer: Any) -> Response:
    if isinstance(answer, Leaderboard):
        answer = answer.to_dict()
    elif isinstance(answer, list):
        answer = {"leaderboards": [board.to_dict() for board in answer]}
    return json_response(answer)
