"""What an answer cost, by what its upstream says, and how much an LLM reads."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from gateway_llms import HELLO

from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.prices import Prices
from p2l_sdk.serve.gateway.quote import Quote, tokens_read
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.sse import Events
from p2l_sdk.serve.gateway.usage import counted_cost, overcharge

LLM = LLMConfig(name="x", base_url="http://x", prices=Prices(input=10, output=20, cached_input=1))
TOKENS = {"prompt_tokens": 20, "completion_tokens": 30}
BY_TOKENS = (10 * 20 + 20 * 30) / 1e6


def asked(**fields) -> ChatRequest:
    return ChatRequest.parse(json.dumps({"model": "p2l", "messages": HELLO, "max_tokens": 100, **fields}).encode())


def cost(usage: dict, **fields) -> float | None:
    request = asked(**fields)
    return counted_cost(usage, request, LLM, Quote.of(request, LLM, 0.0))


def test_a_cost_that_the_upstream_states_is_taken_if_it_is_possible():
    assert cost({**TOKENS, "cost": 0.0005}) == 0.0005
    for more in (0.1, 10.0):  # which is the truth, or a mistake: no more than what was set aside is booked
        assert cost({**TOKENS, "cost": more}) == Quote.of(asked(), LLM, 0.0).most
    for impossible in (0, -1.0, 1e300, True, "0.0005", float("nan")):
        assert cost({**TOKENS, "cost": impossible}) == pytest.approx(BY_TOKENS)


def test_a_fee_for_passing_on_is_not_the_cost():
    details = {"upstream_inference_cost": 0.0006}
    assert cost({**TOKENS, "cost": 0.0001, "is_byok": True, "cost_details": details}) == pytest.approx(0.0007)
    assert cost({**TOKENS, "cost": 0, "is_byok": True, "cost_details": details}) == pytest.approx(0.0006)
    assert cost({**TOKENS, "cost": 0.0001, "is_byok": True}) == pytest.approx(BY_TOKENS)
    assert cost({**TOKENS, "cost": 0.0006, "is_byok": False, "cost_details": details}) == pytest.approx(0.0006)
    assert cost({**TOKENS, "cost": 0.0001, "cost_details": {"upstream_inference_cost": None}}) == 0.0001


@pytest.mark.parametrize(("wrote", "believed"), [(90, 90), (10**6, 164)])
def test_a_count_is_believed_up_to_what_was_allowed_whatever_is_shown(wrote, believed):
    """A vendor bills tokens that no text shows: reasoning, and those that end an answer."""
    request, usage = asked(), {"prompt_tokens": 20, "completion_tokens": wrote, "total_tokens": 20 + wrote}
    quote = Quote.of(request, LLM, 0.0)
    found = counted_cost(usage, request, LLM, quote)
    assert found == pytest.approx(min((10 * 20 + 20 * believed) / 1e6, quote.most))


def test_the_largest_numbers_of_a_stream_count():
    events = Events()
    for usage in ({"prompt_tokens": 9, "d": {"a": 1}}, {"prompt_tokens": 0, "n": 5, "d": {"a": 0, "b": 2}}, {"n": 0}):
        events.feed(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n".encode())
    assert events.usage == {"prompt_tokens": 9, "n": 5, "d": {"a": 1, "b": 2}}


def test_a_mark_to_keep_something_is_found_however_it_is_spelled():
    for name in ("cache_control", "cache\\u005fcontrol", "\\u0063ache_\\u0063ontrol"):
        part = f'{{"type": "text", "text": "x", "{name}": {{"type": "ephemeral"}}}}'
        body = f'{{"model": "p2l", "messages": [{{"role": "user", "content": [{part}]}}]}}'
        assert ChatRequest.parse(body.encode()).size.kept
    assert not asked(messages=[{"role": "user", "content": "caf\u00e9 \u007f"}]).size.kept


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
        ({"type": "text", "text": "x", "image_url": {"url": "https://x.example/i"}}, 100_000),
        ({"type": "video", "video": ["a", "b", "c"]}, 300_000),
        ({"type": "tool_result", "content": [{"type": "image"}] * 50}, 5_000_000),
        ({"type": "input_audio", "input_audio": {"data": "A" * 6400, "format": "wav"}}, 200),
        ({"type": "text", "text": "hi"}, 0),
    ],
)
def test_a_part_whose_size_is_not_shown_may_be_large(part, tokens):
    size = asked(messages=[{"role": "user", "content": [part]}]).size
    assert (size.other, size.images) == (tokens, 0)
    assert size.most < 1200


def test_media_beside_the_content_of_a_message_count():
    picture = {"type": "image_url", "image_url": {"url": "https://x.example/i"}}
    for message, tokens in (({"images": [picture, picture]}, 300_000), ({"file_ids": "f"}, 100_000), ({"file": {}}, 0)):
        assert asked(messages=[{"role": "assistant", "content": "x", **message}]).size.other == tokens
    assert asked(messages=[{"role": "user", "content": picture}]).size.images == 1
    assert asked(messages=[{"role": "user", "content": [{**picture, "image_url": ["a"] * 3}]}]).size.images == 3


def test_only_an_image_that_is_sent_along_is_no_text():
    def size(url):
        return asked(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]).size

    picture, text = size("data:image/png;base64," + "A" * 9000), size("data:text/plain;base64," + "A" * 9000)
    assert (picture.images, text.images) == (1, 1)
    assert picture.most < 200
    assert text.most > 9000


@pytest.mark.parametrize("messages", [1, 20])
def test_a_template_may_write_around_a_request_and_its_messages(messages):
    """gpt-oss reads 95 tokens more than "hi" has, Mistral's `safe_prompt` adds 60."""
    hello = [{"role": "user", "content": "hi"}] * messages
    request = asked(messages=hello)
    text = len(json.dumps(hello))
    assert tokens_read(request, LLM)[1] == text + 128 + 16 * messages
    assert tokens_read(request, dataclasses.replace(LLM, system="five."))[1] == text + 5 + 128 + 16 * (messages + 1)


def test_what_is_written_around_documents_and_beside_calls_without_tools_is_set_aside():
    """Granite's template writes 13 tokens for an empty document; LiteLLM adds a tool where Anthropic wants one."""
    most = tokens_read(asked(), LLM)[1]
    assert tokens_read(asked(documents=[{}] * 1000), LLM)[1] - most > 13 * 1000
    for name, calls in (("tool_calls", []), ("function_call", None)):
        called = asked(messages=[*HELLO, {"role": "assistant", "content": "a", name: calls}, *HELLO])
        plain = asked(messages=[*HELLO, {"role": "assistant", "content": "a"}, *HELLO])
        assert tokens_read(called, LLM)[1] - tokens_read(plain, LLM)[1] > 900


def test_a_count_that_costs_more_than_was_set_aside_shows_that_the_prices_are_wrong():
    request = asked()
    quote = Quote.of(request, LLM, 0.0)
    most_read = tokens_read(request, LLM)[1]
    fine = {"prompt_tokens": most_read, "completion_tokens": 100, "total_tokens": most_read + 100}
    assert overcharge(fine, request, LLM, quote) == ""
    for read, wrote in ((most_read, 110), (most_read + 100, 100), (9, 4096)):
        usage = {"prompt_tokens": read, "completion_tokens": wrote}
        assert f"{read} tokens read and {wrote} written" in overcharge(usage, request, LLM, quote)
        assert overcharge({**usage, "cost": 0.0001}, request, LLM, quote) == ""  # what it bills is less
    long = asked(max_tokens=9000)  # of which an answer leaves much: what was read is too much all the same
    usage = {"prompt_tokens": 2 * most_read, "completion_tokens": 5}
    assert f"possible were {most_read} and 9064" in overcharge(usage, long, LLM, Quote.of(long, LLM, 0.0))
    assert overcharge({"prompt_tokens": 9, "completion_tokens": 10**9}, request, LLM, quote) == ""  # nobody bills that


def test_a_way_to_count_does_not_put_an_llm_out():
    """Reasoning may be a part of the answer where no total says so, and the cache a part of the prompt."""
    request = asked()
    quote = Quote.of(request, LLM, 0.0)
    inside = {"prompt_tokens": 9, "completion_tokens": 100, "completion_tokens_details": {"reasoning_tokens": 90}}
    assert overcharge(inside, request, LLM, quote) == ""
    for more in ({"total_tokens": 199}, {"completion_tokens_details": {"reasoning_tokens": 101}}):
        assert "written" in overcharge({**inside, **more}, request, LLM, quote)
    marked = asked(cache_control={"type": "ephemeral"})
    most_read = tokens_read(marked, LLM)[1]
    repeated = {"prompt_tokens": most_read, "completion_tokens": 1, "cache_creation_input_tokens": most_read}
    assert overcharge(repeated, marked, LLM, Quote.of(marked, LLM, 0.0)) == ""


@pytest.mark.parametrize(
    "thoughts",
    [
        {"thinking": {"type": "enabled", "budget_tokens": 3000}}, {"reasoning": {"max_tokens": 3000, "effort": "low"}},
        {"reasoning": {"max_tokens": "3000"}}, {"thinking": {"type": "enabled", "budget_tokens": 2999.5}},
    ],
)  # fmt: skip
def test_reasoning_that_is_asked_for_by_a_number_may_come_beside_the_limit(thoughts):
    request, plain = asked(n=2, **thoughts), asked(n=2)
    quote, before = Quote.of(request, LLM, 0.0), Quote.of(plain, LLM, 0.0)
    grown = tokens_read(request, LLM)[1] - tokens_read(plain, LLM)[1]
    assert quote.most - before.most == pytest.approx(2 * (3000 * 20 + grown * 10) / 1e6)
    usage = {"prompt_tokens": 20, "completion_tokens": 6200, "total_tokens": 6220}
    assert overcharge(usage, request, LLM, quote) == ""
    assert counted_cost(usage, request, LLM, quote) == pytest.approx((20 * 10 + 6200 * 20) / 1e6)
    assert asked(thinking={"budget_tokens": 10**400}).thinking == 10**9


def test_sounds_that_a_count_does_not_tell_apart_are_paid_in_full():
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "mp3"}}
    request = asked(messages=[{"role": "user", "content": [sound]}], n=4)
    spoken, rest = request.size.audio, 50  # tokens
    llm = dataclasses.replace(LLM, prices=Prices(input=10, output=20, audio_input=100))
    each = {"prompt_tokens": 4 * (spoken + rest), "completion_tokens": 40}  # the prompt is billed for every answer
    quote = Quote.of(request, llm, 0.0)
    assert counted_cost(each, request, llm, quote) == pytest.approx((4 * (spoken * 100 + rest * 10) + 40 * 20) / 1e6)
    whole = dataclasses.replace(llm, context=100_000, set_aside="context")  # whatever is made of the request
    quote = Quote.of(request, whole, 0.0)
    usage = {"prompt_tokens": 100_000, "completion_tokens": 40}
    assert counted_cost(usage, request, whole, quote) == pytest.approx((100_000 * 100 + 40 * 20) / 1e6)


@pytest.mark.parametrize("details", [{"prompt_tokens_details": {"audio_tokens": 375}}, {}])
def test_sounds_that_only_the_total_holds_are_paid_as_such(details):
    """Mistral's count of what Voxtral heard; older replies do not say what the rest is."""
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "mp3"}}
    request = asked(messages=[{"role": "user", "content": [sound]}])
    usage = {"prompt_tokens": 3, "completion_tokens": 41, "total_tokens": 419, **details}
    for dear, settings in ((100, {}), (5.4, {"context": 32_000, "set_aside": "context"})):
        llm = dataclasses.replace(LLM, prices=Prices(input=0.04, output=0.04, audio_input=dear), **settings)
        found = counted_cost(usage, request, llm, Quote.of(request, llm, 0.0))
        assert found == pytest.approx((3 * 0.04 + 41 * 0.04 + 375 * dear) / 1e6)
    silent = dataclasses.replace(LLM, prices=Prices(input=10, output=20, audio_input=100))
    usage = {"prompt_tokens": 3, "completion_tokens": 41, "total_tokens": 94}
    reasoning = counted_cost(usage, asked(), silent, Quote.of(asked(), silent, 0.0))
    assert reasoning == pytest.approx((3 * 10 + (41 + 50) * 20) / 1e6)  # no sound was sent: the rest is reasoning


def test_a_sound_that_is_kept_in_a_cache_is_booked_at_what_was_set_aside_for_it():
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "mp3"}}
    request = asked(messages=[{"role": "user", "content": [{**sound, "cache_control": {"type": "ephemeral"}}]}])
    llm = dataclasses.replace(LLM, prices=Prices(input=10, output=20, audio_input=100))
    usage = {"prompt_tokens": request.size.audio, "completion_tokens": 0}
    found = counted_cost(usage, request, llm, Quote.of(request, llm, 0.0))
    assert found == pytest.approx(request.size.audio * 2 * 100 / 1e6)


def test_a_count_that_does_not_tell_what_is_sound_does_not_put_an_llm_out():
    """All of it may be: reasoning beside a spoken answer, and a prompt of which a part was stored."""
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 64_000, "format": "mp3"}}
    spoken = {"modalities": ["text", "audio"], "thinking": {"type": "enabled", "budget_tokens": 500}}
    request = asked(messages=[{"role": "user", "content": [sound]}], **spoken)
    prices = Prices(input=10, output=20, cache_write=20, audio_input=30, audio_output=400)
    for settings in ({}, {"context": 100_000, "set_aside": "context"}):
        llm = dataclasses.replace(LLM, prices=prices, **settings)
        quote = Quote.of(request, llm, 0.0)
        read = tokens_read(request, llm)[1]
        usage = {"prompt_tokens": read, "completion_tokens": 600, "total_tokens": read + 600}
        usage["prompt_tokens_details"] = {"cache_write_tokens": read}
        assert overcharge(usage, request, llm, quote) == ""
        assert quote.most * 0.99 < counted_cost(usage, request, llm, quote) <= quote.most


@pytest.mark.parametrize(
    ("part", "heard"),
    [
        ({"type": "video_url", "video_url": {"url": "https://x.example/v"}}, True),
        ({"type": "file", "file": {"file_id": "gs://x/a"}}, True),
        ({"type": "image_url", "image_url": {"url": "https://x.example/a.mp3"}}, True),
        ({"type": "file", "file": {"file_data": "data:audio/mp3;base64,AAAA"}}, True),
        ({"type": "file", "file": {"file_data": "data:video/mp4;base64,AAAA"}}, True),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "format": "audio/mp3"}}, True),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.mp3"}}, True),
        ({"type": "file", "file": {"file_data": "data:text/plain;base64,SUQzAAAA"}}, True),
        ({"type": "image_url", "image_url": {"url": "data:audio/mp3;base64,AAAA"}}, True),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "format": "mp3"}}, True),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}, False),
        (
            {
                "type": "file",
                "file": {
                    "file_data": "data:application/pdf;base64,AAAA",
                    "filename": "a.pdf",
                    "format": "application/pdf",
                },
            },
            False,
        ),
        ({"type": "file", "file": {"file_data": "data:text/plain;base64,AAAA", "format": "pdf"}}, False),
        ({"type": "image_url", "image_url": {"url": "https://x.example/a"}}, False),
    ],
)
def test_what_may_have_sound_is_paid_as_such(part, heard):
    request = asked(messages=[{"role": "user", "content": [part]}])
    llm = dataclasses.replace(LLM, prices=Prices(input=10, output=20, audio_input=100))
    quote = Quote.of(request, llm, 0.0)
    assert (quote.most > 100_000 * 100 / 1e6) is heard
    usage = {"prompt_tokens": 1000, "completion_tokens": 0}
    assert counted_cost(usage, request, llm, quote) == pytest.approx(1000 * (100 if heard else 10) / 1e6)
    images = math.ceil(request.size.images * llm.prices.image_tokens)
    whole = Quote.of(request, dataclasses.replace(llm, context=5000, set_aside="context"), 0.0)
    assert whole.read == pytest.approx((5000 + images) * (100 if heard else 10) / 1e6)


def test_images_are_set_aside_beside_the_context():
    """Some vendors bill a multiple of the tokens that an image takes of the window (gpt-4o-mini's)."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    request = asked(messages=[{"role": "user", "content": [image] * 20}])
    llm = dataclasses.replace(LLM, prices=Prices(input=10, output=20, image_tokens=48_169))
    quote = Quote.of(request, dataclasses.replace(llm, context=100_000, set_aside="context"), 0.0)
    assert quote.read == pytest.approx((100_000 + 20 * 48_169) * 10 / 1e6)


def test_a_fee_is_paid_for_each_answer():
    llm = dataclasses.replace(LLM, prices=dataclasses.replace(LLM.prices, request=0.005))
    request = asked(n=4)
    found = counted_cost(TOKENS, request, llm, Quote.of(request, llm, 0.0))
    assert found == pytest.approx(4 * 0.005 + BY_TOKENS)
