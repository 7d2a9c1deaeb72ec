"""`create_app` in other applications: their endpoints, guards, middleware and handlers alongside the fast path."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse
from p2l_server import FakeScorer, Running

from p2l_sdk import P2L
from p2l_sdk.errors import P2LError, PromptError
from p2l_sdk.serve import Engine, create_app

HOT, COLD = ("/v1/leaderboard", {"prompt": "a"}), ("/own", None)  # on the fast path, and through FastAPI


def own_router() -> APIRouter:
    router = APIRouter()

    @router.get("/own")
    async def own(request: Request) -> dict[str, str]:
        return {"title": request.app.title}

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "better"}

    @router.get("/tenants/{name}")
    async def tenant(name: str) -> None:
        raise HTTPException(int(name), f"no tenant {name}" if name != "499" else "gone")

    return router


@pytest.fixture
def app():
    return create_app(Engine(P2L(FakeScorer())), routers=[own_router()], title="ours")


def test_an_endpoint_of_ones_own_stands_before_ours(app):
    with Running(app) as server:
        assert server.ask("/health")[1] == {"status": "better"}
        assert server.ask("/ready")[1] == {"status": "ready"}


@pytest.mark.parametrize(
    ("status", "code"), [(404, "not_found"), (419, "error"), (499, "error"), (405, "method_not_allowed")]
)
def test_an_error_of_ones_own_keeps_its_words(app, status, code):
    with Running(app) as server:
        got, answer, _ = server.ask(f"/tenants/{status}")
        assert got == status
        assert answer["error"]["code"] == code
        assert answer["error"]["message"] == ("gone" if status == 499 else f"no tenant {status}")
        assert server.ask("/nowhere")[1]["error"]["message"] == "there is no such endpoint; /openapi.json lists them"


def test_middleware_that_is_added_sees_every_request(app):
    @app.middleware("http")
    async def mark(request: Request, call_next):
        response = await call_next(request)
        response.headers["x-seen"] = request.url.path
        return response

    with Running(app) as server:
        for path, body in (HOT, COLD, ("/ready", None)):
            status, _, headers = server.ask(path, body)
            assert (status, headers["x-seen"]) == (200, path)


def test_a_handler_that_is_added_answers(app):
    @app.exception_handler(PromptError)
    async def handle(_: Request, error: PromptError) -> JSONResponse:
        return JSONResponse({"mine": str(error)}, 418)

    with Running(app) as server:
        status, answer, _ = server.ask("/v1/leaderboard", {"prompt": ""})
        assert status == 418
        assert "empty" in answer["mine"]


def test_a_guard_sees_the_application_wherever_it_stands():
    async def guard(request: Request) -> None:
        if request.headers.get("x-title") != request.app.title:
            raise HTTPException(403, "say our name")

    app = create_app(Engine(P2L(FakeScorer())), routers=[own_router()], guards=[guard], title="ours")
    with Running(app) as server:
        for path, body in (HOT, COLD):
            status, answer, _ = server.ask(path, body)
            assert (status, answer["error"]["message"]) == (403, "say our name")
            assert server.ask(path, body, x_title="ours")[0] == 200


def test_requests_are_counted_by_endpoint_on_both_ways(app):
    with Running(app) as server:
        for path, body in (HOT, HOT, COLD, ("/nowhere", None)):
            server.ask(path, body)
        text = server.ask("/metrics")[1]
    for endpoint, status, n in (("/v1/leaderboard", 200, 2), ("/own", 200, 1), ("other", 404, 1)):
        assert f'p2l_requests_total{{endpoint="{endpoint}",status="{status}"}} {n:.1f}' in text


def test_pages_of_a_site_that_is_allowed_may_ask():
    ours, other = "https://app.example.com", "https://evil.example.com"
    app = create_app(Engine(P2L(FakeScorer())), routers=[own_router()], origins=[ours], local_only=True)
    with Running(app) as server:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        status, _, headers = server.ask(HOT[0], method="OPTIONS", Origin=ours, **asked)
        assert (status, headers["access-control-allow-origin"]) == (200, ours)
        assert "authorization" in headers["access-control-allow-headers"].lower()
        for path, body, expected in ((*HOT, 200), (*COLD, 200), (HOT[0], {"prompt": ""}, 400), ("/nowhere", None, 404)):
            status, _, headers = server.ask(path, body, Origin=ours)
            assert (status, headers["access-control-allow-origin"]) == (expected, ours)
            assert server.ask(path, body, Origin=other)[0] == 403
    with pytest.raises(P2LError, match=r"'app\.example\.com' is no origin; write scheme and host alone"):
        create_app(Engine(P2L(FakeScorer())), origins=["app.example.com"])
