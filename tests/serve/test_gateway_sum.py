"""The sum in docs/router.md ("In ten lines"): its config, its request, what is set aside, booked and said."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import yaml
from conftest import ROOT
from gateway_llms import CHEAP, TEAM, team
from gateway_server import eventually, serving
from upstreams import Reply, Upstreams

from p2l_sdk.serve.gateway.config import GatewayConfig

PAGE = (ROOT / "docs" / "router.md").read_text(encoding="utf-8").partition("### In ten lines")[2].partition("\n### ")[0]
ASKED = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1]
USAGE = {"prompt_tokens": 14, "completion_tokens": 8, "total_tokens": 22}
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "391"}}], "usage": USAGE}
KNOWN = {"base_url": "http://127.0.0.1:9/v1", "cost": 0.0}


def row(name: str) -> float:
    """The amount in a row of the table."""
    return float(re.search(rf"^\| {name}.*\| ([\d.]+) \|$", PAGE, re.MULTILINE)[1])


@pytest.mark.parametrize(("left", "tokens"), [(25.0, None), (0.00004, 18), (0.00003, 0)])
def test_the_sum_of_the_docs_is_that_of_the_server(routing9, left, tokens, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-docs")
    config = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])
    keys, key = team(left)
    with Upstreams() as upstreams, ThreadPoolExecutor(1) as pool:
        upstreams.replies["counts"] = Reply(json.dumps(ANSWER), pause=1.0)
        upstreams.always["gpt-4o-mini"] = "counts"
        config["models"]["gpt-4o-mini"]["base_url"] = upstreams.url("gpt-4o-mini")
        config["models"][CHEAP] = KNOWN  # to the P2L model, which a router needs
        with serving(routing9, GatewayConfig.from_dict(config), keys) as running:
            call = pool.submit(httpx.post, f"{running.url}/chat/completions", content=ASKED, headers=TEAM)
            if tokens is None:
                eventually(lambda: key.spent == row(r"\*\*set aside"), 10, lambda: key.spent)
            reply = call.result()
            if tokens == 0:
                assert (reply.status_code, reply.json()["error"]["code"]) == (429, "insufficient_quota")
                return
            assert reply.status_code == 200
            eventually(lambda: key.spent == row(r"\*\*booked\*\*"), 5, lambda: key.spent)
        sent = upstreams.seen[-1].body
    told = {name: value for name, value in reply.headers.items() if name.startswith("x-p2l-")}
    assert told.pop("x-p2l-max-tokens", None) == (None if tokens is None else str(tokens))
    assert sent["max_tokens"] == (tokens or 50)
    for name, value in told.items():
        assert f"`{name}: {value}`" in PAGE


def test_what_the_docs_say_is_set_aside():
    read, answer, both = row("set aside to read"), row("set aside for the"), row(r"\*\*set aside")
    assert len(json.dumps(json.loads(ASKED)["messages"])) + 128 + 16 == 193
    assert (read, answer, both) == pytest.approx((193 * 0.15e-6, 50 * 0.6e-6, read + answer))
