"""The gateway in front of a real LLM, and called by OpenAI's JavaScript client."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from client_smoke import CLIENTS
from conftest import ROOT
from gateway_llms import CHEAP, DEAR
from gateway_server import eventually, running, serving
from llm_server import NAME, create_llm_app, smollm2
from upstreams import Upstreams, closed_port

from p2l_sdk import P2L
from p2l_sdk.serve.gateway.config import GatewayConfig


@pytest.fixture(scope="module")
def upstreams():
    with Upstreams() as started:
        yield started


@pytest.mark.slow
def test_a_real_llm(routing9):
    with running(create_llm_app(smollm2())) as url:
        real = {"base_url": url, "upstream_model": NAME, "temperature": 0, "max_tokens": 24, "timeout": 300}
        dead = {"base_url": f"http://127.0.0.1:{closed_port()}/v1"}
        config = GatewayConfig.from_dict({"models": {CHEAP: real, DEAR: dead}, "backoff": 0.01})
        with serving(routing9, config) as router, openai.OpenAI(base_url=router.url, api_key="none") as client:
            messages = [{"role": "user", "content": "What is the capital of France?"}]
            reply = client.chat.completions.with_raw_response.create(model="p2l", messages=messages)
            answer = reply.parse()
            print(answer.choices[0].message.content)
            assert reply.headers["x-p2l-model"] == CHEAP
            assert "Paris" in answer.choices[0].message.content
            assert answer.model == NAME
            assert 0 < answer.usage.completion_tokens <= 24
            stream = client.chat.completions.create(model="p2l", messages=messages, stream=True)
            pieces = [c.delta.content for event in stream for c in event.choices if c.delta.content]
            assert len(pieces) > 2
            assert "".join(pieces) == answer.choices[0].message.content


def node_modules() -> Path:
    """A folder with the npm package `openai`: P2L_NODE_MODULES, or next to the tests."""
    for place in (os.environ.get("P2L_NODE_MODULES"), ROOT / "tests" / "node_modules"):
        if place and (Path(place) / "openai").is_dir() and shutil.which("node"):
            return Path(place)
    pytest.skip("needs node and `npm install openai` (P2L_NODE_MODULES=.../node_modules): no JavaScript client here")


def test_the_javascript_client(routing9, upstreams, tmp_path):
    (tmp_path / "node_modules").symlink_to(node_modules())
    shutil.copy(ROOT / "tests" / "support" / "openai_smoke.mjs", tmp_path)
    llms = {name: {"base_url": upstreams.url(name), "upstream_model": f"up/{name}"} for name in (CHEAP, DEAR)}
    llms |= {name: {"base_url": upstreams.url(name), "cost": 0.1} for name in ("broken", "endless")}
    upstreams.always |= {"broken": "drop", "endless": "endless"}
    with serving(routing9, GatewayConfig.from_dict({"models": llms, "budget": 0.0001})) as router:
        script = ["node", "openai_smoke.mjs", router.url]
        result = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr
        eventually(lambda: "endless" in upstreams.hung_up)
    said = json.loads(result.stdout)
    assert said["models"] == ["p2l", "p2l-best", *llms]
    assert (said["model"], said["n"], said["routed"]) == (f"up/{CHEAP}", 2, CHEAP)
    assert said["text"].strip() == f"{CHEAP} answers at temperature None and sees 0 images"
    assert said["usage"]["total_tokens"] == 15
    assert said["refused"]["status"] == 400
    assert "the cheapest feasible budget is $0.0001" in said["refused"]["message"]
    assert said["refused"]["param"] == "cost"
    assert said["broken"]["events"] > 0
    called = {"name": "weather", "arguments": '{"city": "Paris"}'}
    assert said["tool"] == {"call": called, "again": "weather", "session": "kept", "streamed": ["weather"]}
    assert "broken broke off its answer" in said["broken"]["message"]


def python_with(module: str) -> str:
    """A Python that has a client: P2L_CLIENTS_PYTHON, or this one."""
    for python in filter(None, (os.environ.get("P2L_CLIENTS_PYTHON"), sys.executable)):
        if subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip(f"needs a Python that can import {module} (P2L_CLIENTS_PYTHON=.../bin/python)")


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_clients_of_others(routing9, upstreams, client):
    """Plain, streamed, tools and errors, each in its client's own terms; the loop of tools stays with one LLM."""
    upstreams.reset()
    llms = {name: {"base_url": upstreams.url(name), "upstream_model": f"up/{name}"} for name in (CHEAP, DEAR)}
    llms |= {"broken": {"base_url": upstreams.url("broken"), "cost": 0.1}}
    upstreams.always |= {"broken": "drop"}
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}  # neither calls others
    with serving(routing9, GatewayConfig.from_dict({"models": llms, "budget": 0.0005})) as router:
        script = [python_with(CLIENTS[client][0]), str(ROOT / "tests" / "support" / "client_smoke.py")]
        command, environment = [*script, client, router.url], {**os.environ, **quiet}
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
        assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout.splitlines()[-1])
    assert re.fullmatch(rf"({CHEAP}|{DEAR}) answers at temperature .* and sees 0 images", said["plain"])
    assert re.fullmatch(rf"({CHEAP}|{DEAR}) answers at temperature .* and sees 0 images", said["stream"].strip())
    assert (said["tool"], said["again"]) == (["weather", {"city": "Paris"}], "weather")
    assert said["streamed_tool"] == ["weather"]
    assert "NotFoundError" in said["unknown"]["kinds"]
    assert "there is no model 'nobody' here; known: p2l, p2l-best" in said["unknown"]["text"]
    assert "BadRequestError" in said["refused"]["kinds"]
    assert "the cheapest feasible budget is $0.0001" in said["refused"]["text"]
    assert "APIError" in said["broken"]["kinds"]
    assert "broken broke off its answer" in said["broken"]["text"]
    loop = [seen for seen in upstreams.seen if seen.body.get("tools") and not seen.body.get("stream")]
    assert [len(seen.body["messages"]) for seen in loop] == [1, 3]
    assert len({seen.llm for seen in loop}) == 1


@contextlib.contextmanager
def p2l_serve(*options: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str, Iterator[str]]]:
    """The command itself: its process, its address, and the lines that it writes."""
    port = closed_port()
    command = [sys.executable, "-m", "p2l_sdk", "serve", *map(str, options), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            assert any("Uvicorn running" in line for line in lines)
            yield process, f"http://127.0.0.1:{port}", lines
        finally:
            process.kill()  # else a test that failed would wait for its end


def test_p2l_serve(upstreams, tmp_path):
    """In a process of its own, with a key; it ends when it is told to."""
    config = tmp_path / "router.yaml"
    config.write_text(f"models: {{{CHEAP}: {{base_url: '{upstreams.url(CHEAP)}'}}}}")
    started = p2l_serve("--model", "routing9", "--config", config, P2L_API_KEYS="sk-0123456789abcdef me")
    with started as (process, address, lines):
        url, key = f"{address}/v1", "sk-0123456789abcdef"
        messages = [{"role": "user", "content": "What is 17 * 23?"}]
        with openai.OpenAI(base_url=url, api_key=key) as client:
            assert client.chat.completions.create(model="p2l", messages=messages).model == CHEAP
        counted = httpx.get(f"{address}/metrics", headers={"Authorization": f"Bearer {key}"})
        assert 'p2l_key_spend_usd{key="me"} 0.0001' in counted.text
        with openai.OpenAI(base_url=url, api_key="x") as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        process.terminate()
        assert any(f"chat asked=p2l llm={CHEAP} end=done" in line for line in lines)
        process.wait(20)


EXAMPLE = {  # the LLMs of the shipped config -> the model's own names, and what the upstreams are asked for
    "llama-3.1-8b": ("llama-3.1-8b-instruct", "llama3.1:8b"),
    "gpt-4o-mini": ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
    "claude-3-5-haiku": ("claude-3-5-haiku-20241022", "claude-3-5-haiku-20241022"),
}


def test_the_shipped_config_with_the_default_model(default, upstreams, tmp_path):
    """As a newcomer starts it, but with upstreams that are here."""
    text = (ROOT / "examples" / "router.yaml").read_text()
    places = re.findall(r"base_url: (\S+)", text)
    assert len(places) == len(EXAMPLE)
    for name, place in zip(EXAMPLE, places, strict=True):
        text = text.replace(f"base_url: {place}", f"base_url: {upstreams.url(name)}")
    config = tmp_path / "router.yaml"
    config.write_text(text)
    upstreams.reset()
    prompt = "Write a Python function that merges two sorted lists"
    read = (len(prompt) + len("You are a helpful assistant.")) / 4  # tokens, expected; the config says 600 of answer
    costs = {"llama-3.1-8b": 0.0001, "gpt-4o-mini": 0.000375, "claude-3-5-haiku": 0.00272}
    now = {**costs, "claude-3-5-haiku": (0.8 * read + 4 * 600) / 1e6}
    now["gpt-4o-mini"] = (0.15 * len(prompt) / 4 + 0.6 * 500) / 1e6  # of usual length
    messages = [{"role": "user", "content": prompt}]
    started = p2l_serve(
        "--config", config, OPENAI_API_KEY="sk-openai-0123456789", ANTHROPIC_API_KEY="sk-ant-0123456789"
    )
    with started as (process, address, lines):
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
            assert [model.id for model in client.models.list()] == ["p2l", "p2l-best", *EXAMPLE]
            for cost in (0.0001, 0.000375, 0.003):
                asked = client.chat.completions.with_raw_response
                reply = asked.create(model="p2l", messages=messages, extra_body={"cost": cost})
                expected = default.route(prompt, cost, models=list(EXAMPLE), costs=now)
                assert reply.headers["x-p2l-model"] in expected.mixture
                assert float(reply.headers["x-p2l-expected-score"]) == pytest.approx(expected.expected_score, abs=1e-4)
                assert float(reply.headers["x-p2l-expected-cost"]) == pytest.approx(expected.expected_cost, abs=1e-8)
                assert upstreams.seen[-1].body["model"] == EXAMPLE[reply.headers["x-p2l-model"]][1]
            for name, (_, upstream) in EXAMPLE.items():
                assert client.chat.completions.create(model=name, messages=messages).choices
                assert upstreams.seen[-1].body["model"] == upstream
            sent = {seen.llm: seen.headers.get("authorization") for seen in upstreams.seen}
            assert sent == {
                "llama-3.1-8b": None,
                "gpt-4o-mini": "Bearer sk-openai-0123456789",
                "claude-3-5-haiku": "Bearer sk-ant-0123456789",
            }
        with httpx.Client(base_url=address) as api:
            rows = api.get("/v1/p2l/models").json()["models"]
            assert len(rows) == len(default.models)
            assert {row["model"]: row["cost"] for row in rows if row["routed"]} == {
                own: costs[name] for name, (own, _) in EXAMPLE.items()
            }
            route = api.post("/v1/route", json={"prompt": prompt, "cost": 0.003}).json()
            assert route["model"] in EXAMPLE
            assert route["kinds"] == pytest.approx(default.leaderboard(prompt).kinds, abs=1e-6)
            for name in ("openai/gpt-4o-mini", "GPT-4o-mini", "gpt-4o-mini"):  # as clients write it
                assert api.post("/v1/route", json={"prompt": prompt, "models": [name]}).status_code == 200
            labels = set(re.findall(r'model="([^"]*)"', api.get("/metrics").text))
            assert labels <= {*EXAMPLE, *(own for own, _ in EXAMPLE.values())}
        remote = P2L.from_pretrained(address)
        assert remote.leaderboard(prompt).kinds == pytest.approx(default.leaderboard(prompt).kinds, abs=1e-6)
        process.terminate()
        assert sum("chat asked=" in line for line in lines) == 6
        process.wait(20)
