"""The application factory: the P2L API, health, readiness and metrics for the platform, the page, and any routers
passed in. Every setting is a keyword; nothing is read at import."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from importlib import resources
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from pydantic.json_schema import models_json_schema
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import p2l_sdk
from p2l_sdk.serve import schemas
from p2l_sdk.serve.api import create_api_router
from p2l_sdk.serve.bodies import BodyRoom
from p2l_sdk.serve.engine.engine import Engine
from p2l_sdk.serve.errors import SERVER, error_body
from p2l_sdk.serve.http import BareRoute, Gate, Guard, add_error_handlers, json_response
from p2l_sdk.serve.origins import origin_pattern

_BODY_ROOM = 128 * 2**20  # bytes of large bodies at a time, which take four to six times as much
_NO_EXTRAS: dict[str, Any] = {"docs_url": None, "redoc_url": None, "redirect_slashes": False}
_BODIES = (
    schemas.PromptRequest,
    schemas.PromptsRequest,
    schemas.AggregateRequest,
    schemas.RouteRequest,
    schemas.ResearchRequest,
)
# the page is a single file: it may run its own script and talk to its own server, nothing else
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"


class Application(FastAPI):
    """FastAPI with a shortcut past its request handling to every `BareRoute`. The shortcuts are not used once
    middleware, exception handlers or dependency overrides have been added, which they would bypass."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._short_ways: dict[tuple[str, str], ASGIApp] = {}  # method and path -> shell, guards, endpoint
        self._routes: list[BaseRoute] = []
        self._included: list[BaseRoute] = []  # what FastAPI made of them
        self._own = 0

    def include(self, router: APIRouter, guards: Sequence[Guard], shell: Callable[[ASGIApp], ASGIApp]) -> None:
        """Include a router with guards before its endpoints; `shell` wraps shortcuts as FastAPI's middleware would."""
        before = len(self.router.routes)
        self.include_router(router, dependencies=[Depends(guard) for guard in guards])
        self._included += self.router.routes[before:]
        for route in router.routes:
            if isinstance(route, BareRoute):
                for method in route.methods or ():
                    asked = {"type": "http", "method": method, "path": route.path}
                    if all(before.matches(asked)[0] is not Match.FULL for before in self._routes):
                        self._short_ways[method, route.path] = shell(route.application(guards))
            self._routes.append(route)
        self._own = self._added()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI). One with a slash too many at its end is answered as without it, as a redirect would
        come before any guard, and to whatever name `Host` holds; HEAD is answered as GET without a body."""
        path, method = scope.get("path", ""), scope.get("method", "")
        if path.endswith("/") and path != "/" and not self._takes_slash(scope):
            scope["path"] = path = path.rstrip("/") or "/"
        if method == "HEAD" and not self._takes_head(scope):
            scope, send, method = {**scope, "method": "GET"}, _without_body(send), "GET"
        short_way = self._short_ways.get((method, path))
        if short_way is None or self._added() != self._own:
            await super().__call__(scope, receive, send)
        else:
            scope["app"] = self
            await short_way(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI schema, with the bodies that endpoints parse themselves, which FastAPI does not see."""
        schema = super().openapi()
        _, bodies = models_json_schema(
            [(body, "validation") for body in _BODIES], ref_template="#/components/schemas/{model}"
        )
        schema["components"]["schemas"] |= bodies["$defs"]
        return schema

    def _takes_slash(self, scope: Scope) -> bool:
        """Whether a route that somebody added is meant for a path that ends with a slash."""
        matching = (route for route in self._all() if route.matches(scope)[0] is not Match.NONE)
        return any(not isinstance(route, Route) or route.path.endswith("/") for route in matching)

    def _takes_head(self, scope: Scope) -> bool:
        """Whether a route that somebody added is meant for HEAD."""
        return any(route.matches(scope)[0] is Match.FULL for route in self._all())

    def _all(self) -> list[BaseRoute]:
        """The routes of the routers included here, and whatever else somebody added, which may hold further routes."""
        return [*self._routes, *(route for route in self.router.routes if route not in self._included)]

    def _added(self) -> int:
        return len(self.user_middleware) + len(self.exception_handlers) + len(self.dependency_overrides)


def _without_body(send: Send) -> Send:
    async def header_only(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return header_only


def create_app(
    engine: Engine,
    *,
    routers: Iterable[APIRouter] = (),
    guards: Sequence[Guard] = (),
    metrics_guard: Guard | None = None,
    max_body_bytes: int = 4 * 2**20,
    body_seconds: float = 60.0,
    max_prompts: int = 1024,
    local_only: bool = False,
    origins: Sequence[str] = (),
    routed: Sequence[str] | None = None,
    page: bool = True,
    title: str = "Prompt-to-Leaderboard",
) -> Application:
    """The application, for uvicorn. It starts and closes the engine.

    Args:
        engine: scores the prompts.
        routers: further endpoints, under the same limits, error shape and guards.
        guards: async functions called with every request except those to the page, /health, /ready and /openapi.json.
            They raise an exception to reject a request, such as one without an API key.
        metrics_guard: called instead of them with a request to /metrics.
        max_body_bytes: limit per request.
        body_seconds: time within which the body of a request must have arrived.
        max_prompts: limit per request.
        local_only: answer only requests addressed to localhost, 127.x.x.x or [::1]. Needed on a server without guards,
            see `Gate`.
        origins: other sites and applications whose pages may call the server from a browser, e.g.
            "https://app.example.com", "tauri://localhost" (CORS); "moz-extension://*" allows all of a scheme.
        routed: LLMs that /v1/route and the page choose among if the request names none, e.g. those that can be called;
            by default all that the model knows.
        page: whether to serve the page at /.
        title: of the API.

    Raises:
        P2LError: an origin is malformed.
    """
    allowed = origin_pattern(origins)
    gate = functools.partial(
        Gate,
        max_body_bytes=max_body_bytes,
        body_seconds=body_seconds,
        room=BodyRoom(max(_BODY_ROOM, 2 * max_body_bytes)),
        metrics=engine.metrics,
        local_only=local_only,
        origins=origins,
    )

    def shell(inner: ASGIApp) -> ASGIApp:
        """The middleware around everything."""
        if allowed is None:
            return gate(inner)
        every: dict[str, Any] = {"allow_headers": ["*"], "expose_headers": ["*"]}
        methods = ["GET", "HEAD", "POST"]
        return CORSMiddleware(gate(inner), allow_origin_regex=f"(?i:{allowed.pattern})", allow_methods=methods, **every)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        try:
            yield
        finally:
            await engine.close()

    app = Application(title=title, version=p2l_sdk.__version__, lifespan=lifespan, **_NO_EXTRAS)
    app.add_middleware(shell)
    add_error_handlers(app)
    api = create_api_router(engine, max_prompts=max_prompts, max_body_bytes=max_body_bytes, routed=routed)
    for router in (api, *routers):
        app.include(router, guards, shell)
    app.include(_platform(engine), guards if metrics_guard is None else [metrics_guard], shell)
    app.include(_public(engine, page), (), shell)
    return app


def _platform(engine: Engine) -> APIRouter:
    router = APIRouter(tags=["Server"])

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:  # on a thread: what keys have spent is read from their ledger
        """Counters in Prometheus' text format."""
        return Response(engine.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _public(engine: Engine, page: bool) -> APIRouter:
    router = APIRouter(tags=["Server"], route_class=BareRoute)
    unready: dict[int | str, dict[str, Any]] = {503: {"model": schemas.ErrorReply, "description": "Not ready, and why"}}

    @router.get("/health", response_model=schemas.HealthReply)
    async def health(_: Request) -> Response:
        """Whether the server is running."""
        return json_response({"status": "ok"})

    @router.get("/ready", response_model=schemas.HealthReply, responses=unready)
    async def ready(_: Request) -> Response:
        """Whether the model works and requests are accepted; otherwise 503 with the reason."""
        problem = engine.problem
        if problem is None:
            return json_response({"status": "ready"})
        return json_response(error_body(problem, SERVER, code="not_ready"), 503)

    if page:
        content = resources.files("p2l_sdk.serve").joinpath("page.html").read_bytes()
        headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}

        @router.get("/", include_in_schema=False)
        async def index(_: Request) -> Response:
            return Response(content, headers=headers, media_type="text/html; charset=utf-8")

    return router
