"""The walk of a prompt through the server: it is checked once, wherever it comes in; its coefficients are
stored as a row."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from conftest import MODELS
from fastapi import FastAPI
from gateway_llms import DEAR, HELLO, LLM, MIDDLE, PROMPT
from httpx import ASGITransport, AsyncClient
from p2l_server import FakeScorer

from p2l_sdk import P2L
from p2l_sdk.errors import PromptError
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling import prompt_p2l
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.prompt_p2l import CheckedPrompt, Prompt, user_turns
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.serve import Engine, create_app
from p2l_sdk.serve.engine.rows import from_rows, to_rows
from p2l_sdk.serve.gateway.chat import create_gateway
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.pool import UpstreamClient

CHAT = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hi"},
    {"role": "user", "content": "so?"},
]


@pytest.fixture
def checks(monkeypatch) -> list[list[str]]:
    """The user turns of each prompt that is checked, in order."""
    seen: list[list[str]] = []

    def noted(prompt: Prompt) -> list[str]:
        turns = user_turns(prompt)
        if not isinstance(prompt, CheckedPrompt):
            seen.append(turns)
        return turns

    monkeypatch.setattr(prompt_p2l, "user_turns", noted)
    return seen


def statuses(app: FastAPI, checks: list[list[str]], *requests: tuple[str, dict]) -> list[int]:
    """The statuses of requests, one after the other."""

    async def ask() -> list[int]:
        async with app.router.lifespan_context(app), AsyncClient(transport=ASGITransport(app)) as client:
            checks.clear()  # the engine's own prompt
            return [(await client.post(f"http://localhost{path}", json=body)).status_code for path, body in requests]

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("path", "body", "turns", "status"),
    [
        ("/v1/leaderboard", {"prompt": PROMPT}, [[PROMPT]], 200),
        ("/v1/leaderboard", {"prompt": CHAT}, [["hi", "so?"]], 200),
        ("/v1/leaderboards", {"prompts": ["a", CHAT, "a"]}, [["a"], ["hi", "so?"], ["a"]], 200),
        ("/v1/coefficients", {"prompts": ["a", "b"]}, [["a"], ["b"]], 200),
        ("/v1/aggregate", {"prompts": ["a", "b"]}, [["a"], ["b"]], 200),
        ("/v1/route", {"prompt": PROMPT}, [[PROMPT]], 200),  # as the page asks
        ("/predict", {"prompt": ["a", "b"]}, [["a", "b"]], 200),
        ("/v1/chat/completions", {"model": "p2l", "messages": HELLO}, [[PROMPT]], 502),
        ("/v1/chat/completions", {"model": DEAR, "messages": HELLO}, [], 502),  # nothing is scored
    ],
)
def test_a_prompt_is_checked_once(routing9, checks, path, body, turns, status):
    engine = Engine(routing9)
    config = GatewayConfig.from_dict({"models": dict.fromkeys((MIDDLE, DEAR), LLM), "attempts": 1})
    app = create_app(engine, routers=[create_gateway(engine, config, engine.metrics, UpstreamClient())])
    assert statuses(app, checks, (path, body)) == [status]
    assert checks == turns


def test_a_prompt_of_a_large_request_or_of_a_torch_model_is_checked_once_too(saved, checks):
    prompts = [f"write code {i}" for i in range(70)]  # more than a batch
    app = create_app(Engine(P2L.from_pretrained(saved("llama"))))
    assert statuses(app, checks, ("/v1/coefficients", {"prompts": prompts})) == [200]
    assert checks == [[prompt] for prompt in prompts]


def test_a_prompt_in_the_cache_is_checked_once_and_not_scored_again(checks):
    scorer = FakeScorer()
    asked = ("/v1/leaderboard", {"prompt": "a"})
    assert statuses(create_app(Engine(P2L(scorer))), checks, asked, asked) == [200, 200]
    assert checks == [["a"], ["a"]]
    assert scorer.batches[1:] == [["a"]]


def test_a_checked_prompt_is_a_conversation_with_the_same_user_turns():
    for prompt in ("What is 17 * 23?", CHAT):
        checked = CheckedPrompt(prompt)
        assert checked.turns == user_turns(prompt) == user_turns(checked) == user_turns(list(checked))
        assert checked[-1] == {"role": "user", "content": checked.turns[-1]}
        assert checked[:1] == [{"role": "user", "content": checked.turns[0]}]
    with pytest.raises(PromptError, match="the prompt is empty"):
        CheckedPrompt(" ")


def test_checked_prompts_have_the_coefficients_of_the_prompts(routing9):
    prompts = ["What is 17 * 23?", CHAT]
    expected = routing9.coefficients(prompts)
    np.testing.assert_array_equal(routing9.coefficients([CheckedPrompt(p) for p in prompts]).coefs, expected.coefs)


@pytest.mark.parametrize("feedback", list(Feedback))
def test_rows_hold_all_coefficients(feedback):
    spec = ModelSpec(models=MODELS, feedback=feedback)
    rng = np.random.default_rng(0)
    eta, gamma = (rng.normal(size=(3, 1)) if has else None for has in (feedback.has_eta, feedback.has_gamma))
    scored = Coefficients(rng.normal(size=(3, len(MODELS))), eta, gamma)
    found = from_rows(to_rows(scored), spec)
    np.testing.assert_array_equal(found.coefs, scored.coefs)
    for got, expected in ((found.eta, eta), (found.gamma, gamma)):
        assert (got is None) == (expected is None)
        if expected is not None:
            np.testing.assert_array_equal(got, expected)
