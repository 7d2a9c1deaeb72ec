"""What an LLM may have written unseen: in a silence of any choice, behind a text to stop at, or as the client asks."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from billing_fixtures import ask
from gateway_llms import DEAR, HELLO, TEAM, config, team
from gateway_server import eventually, serving
from upstreams import Reply, delta, events

from p2l_sdk.serve.gateway import sse
from p2l_sdk.serve.gateway.config import LLMConfig
from p2l_sdk.serve.gateway.prices import Prices
from p2l_sdk.serve.gateway.quote import Quote
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.sse import LEFT_OUT, Events
from p2l_sdk.serve.gateway.usage import Written, most_cost

pytest_plugins = ["gateway_fixtures"]
PRICES = Prices(input=10, output=20)
COMMENT, PING = b": OPENROUTER PROCESSING\n\n", b'event: ping\ndata: {"type": "ping"}\n\n'
NOTHING = b'data: {"choices": []}\n\n'


def said(text: str = "x", index: int = 0, end: str | None = None) -> bytes:
    choice = {"index": index, "delta": {"content": text} if text else {}, "finish_reason": end}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@pytest.fixture
def stream(monkeypatch):
    """A function that feeds parts, each so many seconds after the one before, and returns what is known then."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(sse, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def fed(*parts: tuple[float, bytes], after: float = 0.0, choices: int = 1) -> Events:
        found = Events(choices)
        for seconds, part in parts:
            clock.now += seconds
            found.feed(part)
        clock.now += after
        return found

    return fed


@pytest.mark.parametrize("life", [COMMENT, PING, NOTHING, said("")], ids=["comment", "ping", "nothing", "empty"])
def test_signs_of_life_are_no_text(life, stream):
    assert not stream((0, said()), after=0.4).quiet
    assert stream((0, said()), (0.3, life), (0.3, life)).quiet
    assert stream((0, said()), (0.3, life), (0.3, said())).silent >= 1200


def test_an_earlier_silence_is_not_forgotten(stream):
    """2,000 tokens in each second of it."""
    found = stream((0, said()), (2.0, said()), (0.1, said()), (1.0, said()), (0.4, said()))
    assert (found.silent, found.quiet) == (6000, False)
    assert stream((3.0, said())).silent == 6000  # before the first text, too
    assert stream((0, said()), (1.5, said("", end="stop"))).silent == 3001
    assert stream(*[(0.4, said())] * 20).silent == 0


def test_each_of_several_choices_has_silences_of_its_own(stream):
    flowing = [(0.1, said(index=3))] * 20
    found = stream((0, said(index=0)), (0, said(index=1)), (0, said(index=2)), *flowing, choices=4)
    assert found.quiet
    assert stream(*flowing, choices=4).quiet  # some have not begun
    ended = [(0.0, said("", index=i, end="stop")) for i in range(3)]
    assert not stream(*ended, *flowing, choices=4).quiet
    late = stream((0, said(index=0)), *flowing, (0, said(index=0)), choices=4)
    assert late.silent == pytest.approx(4000, abs=1)
    assert not stream(*ended, (0, said("", index=3, end="stop")), after=9.0, choices=4).quiet


def test_a_reason_to_end_beside_text_may_not_be_the_end(stream):
    """Some servers put a reason into every event."""
    found = stream((0, said(end="stop")), (3.0, said(end="stop")))
    assert found.finished
    assert found.silent == pytest.approx(6000, abs=1)
    assert stream((0, said(end="stop")), after=0.6).quiet
    assert not stream((0, said(end="stop")), after=0.4).quiet
    assert not stream((0, said(end="stop")), (0, b"data: [DONE]\n\n"), after=9.0).quiet
    counted = b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}\n\n'
    assert not stream((0, said(end="stop")), (0, counted), after=9.0).quiet
    assert stream((0, said("", end="stop")), (0, said()), after=0.6).quiet  # it goes on
    both = said(end="stop").replace(b"}]}", b'}], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}')
    assert stream((0, both)).final
    assert stream((0, both), after=0.6).quiet
    assert not stream((0, both), (0, both)).final  # one from the middle
    assert stream((0, both), (0, both), (0, b"data: [DONE]\n\n")).final


@pytest.mark.parametrize("end", ["malformed_function_call", "content_filter", "SAFETY", 1, "error_limit"])
def test_an_answer_that_ended_in_an_unusual_way_may_have_been_cut(end, stream):
    assert stream((0, said()), (0, said("", end=end))).silent >= LEFT_OUT
    for usual in ("stop", "length", "tool_calls", "STOP", "end_turn", "function_call"):
        assert stream((0, said()), (0, said("", end=usual))).silent == 1


def test_a_count_before_any_text_is_no_final_one():
    usage = {"usage": {"prompt_tokens": 9, "completion_tokens": 1}}
    found = Events()
    for event in (
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], **usage},
        delta({}, "length"),
    ):
        found.feed(f"data: {json.dumps(event)}\n\n".encode())
    assert (found.finished, found.final) == (True, False)


def asked(**fields: Any) -> ChatRequest:
    body = {"model": "p2l", "messages": HELLO, "max_tokens": 9000, **fields}
    return ChatRequest.parse(json.dumps(body).encode())


HIDING: list[dict[str, Any]] = [
    {"thinking": {"type": "enabled", "budget_tokens": 5000}}, {"reasoning_effort": "high"}, {"reasoning_effort": "low"},
    {"reasoning": {"effort": "high", "exclude": True}}, {"reasoning": {"max_tokens": 4000}}, {"enable_thinking": True},
    {"thinking_budget": 4000}, {"chat_template_kwargs": {"enable_thinking": True}}, {"include_reasoning": False},
    {"chat_template_kwargs": {"thinking": "high"}}, {"separate_reasoning": False}, {"reasoning_format": "hidden"},
    {"extra_body": {"google": {"thinking_config": {"include_thoughts": False}}}}, {"ignore_eos": True},
    {"logit_bias": {"9": 100}}, {"min_tokens": 5}, {"skip_special_tokens": False}, {"what_nobody_knows": 0},
    {"structured_outputs": {}}, {"think": "high"}, {"prompt_mode": "reasoning"}, {"stream_reasoning": False},
]  # fmt: skip
OPEN: list[dict[str, Any]] = [
    {"temperature": 1, "top_p": 1, "stop": "x", "n": 1, "user": "u", "seed": 1, "logprobs": True}, {"min_tokens": 0},
    {"tools": [], "tool_choice": "auto", "parallel_tool_calls": False}, {"reasoning_effort": "none"},
    {"thinking": {"type": "disabled"}}, {"enable_thinking": False},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"response_format": {"type": "json_object"}, "stream_options": {"include_usage": True}}, {"reasoning": None},
    {"prompt_cache_key": "k", "service_tier": "auto", "metadata": {}, "store": True, "verbosity": "low"},
]  # fmt: skip


@pytest.mark.parametrize("fields", [*HIDING, *OPEN], ids=str)
def test_only_a_request_of_which_all_is_known_hides_nothing(fields):
    request = asked(**fields)
    for reasoning in (False, 500):
        llm = LLMConfig(name="x", base_url="http://x", prices=PRICES, reasoning=reasoning)
        quote = Quote.of(request, llm, 0.0)
        found = most_cost(request, llm, quote, Written(4))
        assert (found == quote.most) is (fields in HIDING)
        assert not found < quote.read + (4 + int(reasoning)) * 20e-6


def test_a_text_to_stop_at_may_be_held_back():
    assert [asked(stop=stop).held for stop in (None, "é", ["x" * 4000, "y"], [], [1])] == [0, 2, 4000, 0, 0]
    assert asked().held == 0


def spent(routing9: Any, upstreams: Any, reply: Reply, until: str | None = None, **fields: Any) -> tuple[float, float]:
    """What a request is charged that leaves at a text, or reads all; and what was set aside for it, in tokens."""
    upstreams.reset()
    upstreams.replies["scripted"] = reply
    upstreams.script[DEAR] = ["scripted"]
    llm = {"prices": {"input": 0.0, "output": 1.0}, "reasoning": False, "stream_usage": False}
    keys, key = team(1.0)
    with serving(routing9, config(upstreams, llms={DEAR: llm}), keys) as running:
        body = ask(model=DEAR, **{"stream": True, "max_tokens": 50_000, **fields})
        with httpx.stream("POST", f"{running.url}/chat/completions", json=body, headers=TEAM) as got:
            assert got.status_code == 200
            for line in got.iter_lines():
                if until is not None and until in line:
                    break
        eventually(lambda: running.metrics.costs)
    n = fields.get("n", 1)
    return key.spent * 1e6, n * 50_000


def test_what_a_client_that_leaves_pays(routing9, upstreams):
    text, end = delta({"content": "said"}), delta({}, "malformed_function_call")
    later = [": still"] * 7
    buffered = events(text, *later, text, *later, pause=0.1)
    tokens, most = spent(routing9, upstreams, buffered, "still")
    assert 1000 < tokens < 2000
    tokens, most = spent(routing9, upstreams, events(text, *[f": {i}" for i in range(9)], "data: x", pause=0.1), ": 7")
    assert tokens == pytest.approx(most)
    tokens, most = spent(routing9, upstreams, events(text, text, end, "data: [DONE]", pause=0.01))
    assert tokens == pytest.approx(most)
    tokens, _ = spent(routing9, upstreams, events(text, text, delta({}, "stop"), "data: [DONE]", pause=0.01))
    assert tokens < 500
    tokens, _ = spent(routing9, upstreams, events(text, delta({}, "stop"), "data: [DONE]"), stop=["q" * 3000])
    assert 3000 < tokens < 3500


def test_a_whole_answer_that_was_cut_costs_what_was_set_aside(routing9, upstreams):
    for end, whole in (("stop", False), ("malformed_function_call", True)):
        choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": end}
        tokens, most = spent(routing9, upstreams, Reply({"choices": [choice]}), stream=False)
        assert (tokens == pytest.approx(most)) is whole
