"""The gateway in front of a real LLM, and called by OpenAI's JavaScript client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest
from conftest import ROOT
from gateway_llms import CHEAP, DEAR
from gateway_server import eventually, running, serving
from llm_server import NAME, create_llm_app, smollm2
from upstreams import Upstreams, closed_port

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
    assert "broken broke off its answer" in said["broken"]["message"]


def test_p2l_serve(upstreams, tmp_path):
    """The command itself, in a process of its own, with a key; it ends when it is told to."""
    config, port = tmp_path / "router.yaml", closed_port()
    config.write_text(f"models: {{{CHEAP}: {{base_url: '{upstreams.url(CHEAP)}'}}}}")
    command = [sys.executable, "-m", "p2l_sdk", "serve", "--model", "routing9", "--config", str(config)]
    command += ["--port", str(port)]
    environment = {**os.environ, "P2L_API_KEYS": "sk-0123456789abcdef me"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            assert any("Uvicorn running" in line for line in lines)
            url, key = f"http://127.0.0.1:{port}/v1", "sk-0123456789abcdef"
            messages = [{"role": "user", "content": "What is 17 * 23?"}]
            with openai.OpenAI(base_url=url, api_key=key) as client:
                assert client.chat.completions.create(model="p2l", messages=messages).model == CHEAP
            counted = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {key}"})
            assert 'p2l_key_spend_usd{key="me"} 0.0001' in counted.text
            with openai.OpenAI(base_url=url, api_key="x") as client, pytest.raises(openai.AuthenticationError):
                client.models.list()
            process.terminate()
            assert any(f"chat asked=p2l llm={CHEAP} end=done" in line for line in lines)
            process.wait(20)
        finally:
            process.kill()  # else a test that failed would wait for its end
