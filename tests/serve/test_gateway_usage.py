"""What an answer cost, by what its upstream says, and how much an LLM reads."""

from __future__ import annotations

import json

import pytest
from gateway_llms import HELLO

from p2l_sdk.serve.gateway.config import LLMConfig, Prices
from p2l_sdk.serve.gateway.quote import Quote
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.usage import Written, counted_cost

LLM = LLMConfig(name="x", base_url="http://x", prices=Prices(input=10, output=20, cached_input=1))
TOKENS = {"prompt_tokens": 20, "completion_tokens": 30}
BY_TOKENS = (10 * 20 + 20 * 30) / 1e6


def asked(**fields) -> ChatRequest:
    return ChatRequest.parse(json.dumps({"model": "p2l", "messages": HELLO, "max_tokens": 100, **fields}).encode())


def cost(usage: dict, **fields) -> float | None:
    request = asked(**fields)
    return counted_cost(usage, request, LLM, Quote.of(request, LLM, 0.0), Written(400, 900))


def test_a_cost_that_the_upstream_states_is_taken_if_it_is_possible():
    assert cost({**TOKENS, "cost": 0.0005}) == 0.0005
    for impossible in (0, -1.0, 10.0, 1e300, True, "0.0005", float("nan")):
        assert cost({**TOKENS, "cost": impossible}) == pytest.approx(BY_TOKENS)


def test_tokens_are_believed_as_far_as_they_can_be():
    assert cost(TOKENS) == pytest.approx(BY_TOKENS)
    cached = {**TOKENS, "prompt_tokens_details": {"cached_tokens": 15}}
    assert cost(cached) == pytest.approx((10 * 5 + 1 * 15 + 20 * 30) / 1e6)
    assert cost({**TOKENS, "total_tokens": 90}) == pytest.approx((10 * 20 + 20 * 70) / 1e6)  # reasoning beside
    assert cost({"prompt_tokens": 10**400, "completion_tokens": 10**400}) == Quote.of(asked(), LLM, 0.0).most
    for nothing in ({}, {"prompt_tokens": 3}, {"prompt_tokens": -1, "completion_tokens": 2}):
        assert cost(nothing) is None


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "video_url", "video_url": {"url": "https://x.example/v"}}, 100_000),
        ({"type": "file", "file": {"file_id": "f"}}, 100_000),
        ({"type": "tool_result", "content": []}, 100_000),
        ({"no": "type"}, 100_000),
        ({"type": "input_audio", "input_audio": {"data": "A" * 6400, "format": "wav"}}, 100),
        ({"type": "text", "text": "hi"}, 0),
    ],
)
def test_a_part_whose_size_is_not_shown_may_be_large(part, tokens):
    size = asked(messages=[{"role": "user", "content": [part]}]).size
    assert (size.other, size.images) == (tokens, 0)
    assert size.most < 200


def test_only_an_image_that_is_sent_along_is_no_text():
    def size(url):
        return asked(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]).size

    picture, text = size("data:image/png;base64," + "A" * 9000), size("data:text/plain;base64," + "A" * 9000)
    assert (picture.images, text.images) == (1, 1)
    assert picture.most < 200
    assert text.most > 9000
