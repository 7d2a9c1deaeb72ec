"""Clients that leave late: when all is settled, or before a call that fails for nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from billing_fixtures import ask
from gateway_llms import HELLO, TEAM, config, ranking, team
from gateway_server import eventually, serving
from upstreams import Reply

from p2l_sdk.serve import ServerMetrics
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.prices import Prices
from p2l_sdk.serve.gateway.quote import Quote
from p2l_sdk.serve.gateway.record import Records
from p2l_sdk.serve.gateway.relay import StreamedAnswer
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.spend import Charge
from p2l_sdk.serve.gateway.sse import Events
from p2l_sdk.serve.gateway.upstream import Answer

pytest_plugins = ["gateway_fixtures"]
WHOLE = (
    b'data: {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}\n\n'
    b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}\n\ndata: [DONE]\n\n'
)


async def _close() -> None: ...


def test_a_client_that_leaves_while_it_reads_the_end_is_not_waited_for():
    """It is settled by then, and must not stay among those that are read on, of whom there may be so many."""
    llm = LLMConfig(name="x", base_url="http://x", prices=Prices(input=10, output=20))
    records = Records(ServerMetrics())
    asked = ChatRequest.parse(json.dumps({"model": "x", "messages": HELLO, "max_tokens": 9, "stream": True}).encode())

    async def leave() -> float:
        _, key = team(1.0)
        record = records.begin(key)
        record.request = asked
        record.charge = Charge(asked, {"x": Quote.of(asked, llm, 0.0)}, "x", key=key)
        await record.charge.admit(llm, ())
        found, reading = Events(), asyncio.Event()
        found.feed(WHOLE)
        stream: Any = SimpleNamespace(events=found, ended=False, rest=lambda: aiter(_nothing()), close=_close)
        record.answer = Answer(llm, {}, WHOLE, stream=stream)
        ends = time.monotonic() + 60.0
        reply = StreamedAnswer((record.answer, {}), {}, ends=ends, done=record.finish, patience=record.patience)

        async def send(message: Any) -> None:
            if message.get("body") == WHOLE:
                reading.set()
                await asyncio.sleep(9.0)

        async def receive() -> Any:
            await reading.wait()
            return {"type": "http.disconnect"}

        await asyncio.wait_for(reply({"type": "http"}, receive, send), 5.0)
        return key.spent

    assert asyncio.run(leave()) == pytest.approx((9 * 10 + 20) / 1e6)
    assert not records.left


async def _nothing() -> Any:
    for part in ():
        yield part


@pytest.mark.parametrize("fields", [{}, {"stream": True}], ids=["whole", "stream"])
@pytest.mark.parametrize("ping", [None, 0.1])
def test_a_call_that_is_refused_when_its_client_has_left_is_free(fields, ping, routing9, upstreams, caplog):
    """No other LLM is called then, and nothing is booked for one that was not."""
    caplog.set_level("INFO", "p2l_sdk.serve.gateway.chat")
    upstreams.reset()
    upstreams.replies["refusal"] = Reply({"error": {"message": "no", "param": "n"}}, status=400, pause=0.5)
    upstreams.script[ranking(routing9)[0]] = ["refusal"]
    keys, key = team(1.0)
    llms = {name: {"prices": {"input": 1.0, "output": 1.0}} for name in ranking(routing9)}
    with serving(routing9, config(upstreams, llms=llms, ping_seconds=ping), keys) as running:
        address, body = urlsplit(running.url), json.dumps(ask(max_tokens=50_000, **fields)).encode()
        with socket.create_connection((address.hostname, address.port)) as client:
            head = (
                f"POST {address.path}/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            )
            client.sendall(f"{head}Authorization: {TEAM['authorization']}\r\n\r\n".encode() + body)
            time.sleep(0.3)
        eventually(lambda: any("end=disconnected" in line for line in caplog.messages))
    assert (key.spent, len(upstreams.seen)) == (0.0, 1)


def test_no_more_answers_are_read_on_than_there_are_places(monkeypatch):
    async def leave() -> None:
        records = Records(ServerMetrics())
        left = [records.begin(None) for _ in range(3)]
        for record in left:
            record.charge = SimpleNamespace(counts=True, settle=lambda *_, **__: None)  # type: ignore[assignment]
        assert [record.patience() > 0 for record in left] == [True, True, False]
        assert left[0].patience() > 0  # asked again, it keeps its place
        left[0].finish("disconnected")
        assert left[2].patience() > 0

    monkeypatch.setattr("p2l_sdk.serve.gateway.record._MOST_LEFT", 2)
    asyncio.run(leave())
