"""`Upstream`: calls one LLM behind an OpenAI-compatible address.

An answer counts as one if it has begun properly: status 200, the expected content type and, for a stream, a first event
that is part of an answer. Anything else is an `UpstreamError`, and another LLM can be called, as the client has seen
nothing yet. An error of the request (400, 413, 415, 422) would be the same elsewhere, so it is treated as an answer. A
`Call` reports the outcome, up to the end of a stream, to the circuit breaker and the metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from p2l_sdk.serve.errors import INVALID, error_body
from p2l_sdk.serve.gateway.address import read_key
from p2l_sdk.serve.gateway.breaker import Breaker
from p2l_sdk.serve.gateway.call import Call, UpstreamError
from p2l_sdk.serve.gateway.config import GatewayConfig, LLMConfig
from p2l_sdk.serve.gateway.reply import read_reply
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.sse import LARGEST_EVENT, Events, EventTooLarge, payloads, text_bytes
from p2l_sdk.serve.metrics import ServerMetrics

_CLIENT_ERRORS = (400, 413, 415, 422)  # the request is at fault: other LLMs would refuse it too
_CONNECT_SECONDS = 10.0
_ENDING_SECONDS = 0.1
_PASSED_ON = ("content-type", "x-request-id")  # headers of the upstream's reply
_LARGEST_BODY = 64 * 2**20  # bytes


@dataclass
class Stream:
    """A stream that has begun.

    Attributes:
        response: the upstream's reply.
        parts: its parts that are still to come.
        events: what is known of the stream so far.
        call: the call that it belongs to.
    """

    response: httpx.Response
    parts: AsyncIterator[bytes]
    events: Events
    call: Call

    async def rest(self) -> AsyncIterator[bytes]:
        """The events after the first ones, each as soon as it is complete; UpstreamError if the stream breaks off."""
        try:
            while not self.events.done and (part := await anext(self.parts, None)) is not None:
                if whole := self.events.feed(part):
                    yield whole
        except httpx.TimeoutException:
            raise self._failed("timeout", "stopped in the middle of its answer") from None
        except (httpx.HTTPError, EventTooLarge):
            raise self._failed("broken", "broke off its answer") from None
        if not self.events.finished:
            raise self._failed("broken", "broke off its answer")
        if not self.events.done and (rest := self.events.rest()):
            yield rest

    def _failed(self, kind: str, message: str) -> UpstreamError:
        error = UpstreamError(kind, message)
        self.call.ended(error)
        return error

    async def close(self) -> None:
        """End the call. If the stream is done, the end of the reply is read, so that the connection can be reused."""
        if self.events.finished:
            self.call.ended()
        if self.events.done:
            with contextlib.suppress(TimeoutError, httpx.HTTPError):
                async with asyncio.timeout(_ENDING_SECONDS):
                    async for _ in self.parts:
                        pass
        await self.response.aclose()


@dataclass
class Answer:
    """The answer of an LLM: all of it, or the beginning of a stream.

    Attributes:
        llm: the LLM that answered.
        status: of the reply; 200, or that of an error of the request.
        headers: of the reply, those that are passed on.
        content: the body, or the first events of a stream.
        usage: the upstream's token count, if it sent one.
        stream: the open stream whose events follow; None if the content is complete.
        counted_bytes: of text in the content, if they have been counted.
    """

    llm: LLMConfig
    status: int
    headers: dict[str, str]
    content: bytes | memoryview
    usage: dict[str, Any] | None = None
    stream: Stream | None = None
    counted_bytes: int | None = None

    @property
    def cost(self) -> float | None:
        """The cost in USD by the tokens that the upstream counted; None without prices or a count."""
        usage = self.usage if self.stream is None else self.stream.events.usage
        prices = self.llm.prices
        if prices is None or usage is None:
            return None
        tokens = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
        numbers = [t for t in tokens if isinstance(t, int) and not isinstance(t, bool) and t >= 0]
        return prices.of(*numbers) if len(numbers) == 2 else None

    @property
    def text_bytes(self) -> int:
        """Bytes of text that have arrived so far."""
        if self.stream is not None:
            return self.stream.events.text_bytes
        return text_bytes(bytes(self.content)) if self.counted_bytes is None else self.counted_bytes

    async def close(self) -> None:
        """End the call, if it is still open."""
        if self.stream is not None:
            await self.stream.close()


class Upstream:
    """One LLM, called through a shared client.

    Args:
        llm: its address and settings.
        config: of the gateway.
        client: see `create_client`.
        metrics: counts failures and measures the time until an answer begins.
    """

    def __init__(
        self, llm: LLMConfig, config: GatewayConfig, client: httpx.AsyncClient, metrics: ServerMetrics
    ) -> None:
        self.llm = llm
        self.breaker = Breaker(config.breaker_failures, config.breaker_seconds)
        self._client, self._metrics = client, metrics
        self._key = read_key(llm.api_key_env)
        base = httpx.URL(llm.base_url)
        self._url = base.copy_with(path=base.path.rstrip("/") + "/chat/completions")
        self._timeout = httpx.Timeout(llm.timeout, connect=min(_CONNECT_SECONDS, llm.timeout))
        self._headers = httpx.Headers(
            {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "p2l-sdk"}
        )
        self._headers.update(self._authorization())
        self._headers.update(llm.headers)

    def _authorization(self) -> dict[str, str]:
        if not self._key:
            return {}
        if self.llm.api_key_header is not None:
            return {self.llm.api_key_header: self._key}
        return {"authorization": f"Bearer {self._key}"}

    async def ask(self, request: ChatRequest, seconds: float) -> Answer:
        """Call the LLM and wait for its answer, or for the beginning of a stream.

        Args:
            request: the client's request.
            seconds: time left for it; the LLM's own timeout applies if it is shorter.

        Raises:
            UpstreamError: the call failed. It has been reported to the breaker and the metrics.
        """
        call, start = Call(self.llm.name, self.breaker, self._metrics), time.perf_counter()
        try:
            answer = await self._ask_within(seconds, request, call)
        except UpstreamError as error:
            call.ended(error)
            raise
        finally:
            call.release()
            self._metrics.stage("upstream", time.perf_counter() - start)
        if answer.stream is None:
            call.ended()
        return answer

    async def _ask_within(self, seconds: float, request: ChatRequest, call: Call) -> Answer:
        try:
            async with asyncio.timeout(min(seconds, self.llm.timeout)):
                return await self._ask(request, call)
        except TimeoutError:
            blamed = seconds >= self.llm.timeout  # otherwise earlier calls had used up the time
            raise UpstreamError("timeout", "did not answer in time", blamed=blamed) from None
        except httpx.TimeoutException:
            raise UpstreamError("timeout", "did not answer in time") from None
        except (httpx.HTTPError, EventTooLarge):
            raise UpstreamError("connection", "could not be reached, or broke off before its answer") from None

    async def _ask(self, request: ChatRequest, call: Call) -> Answer:
        headers = self._headers.copy()
        headers["accept"] = "text/event-stream" if request.stream else "application/json"
        body = request.body(self.llm)
        sent = self._client.build_request("POST", self._url, content=body, headers=headers, timeout=self._timeout)
        response = await self._client.send(sent, stream=True)
        stays_open = False
        try:
            if response.status_code in _CLIENT_ERRORS:
                return await self._refusal(response)
            if response.status_code != 200:
                raise UpstreamError.of(response)
            if not request.stream:
                return await self._whole(response)
            answer = await self._beginning(response, request.n, call)
            stays_open = True
            return answer
        finally:
            if not stays_open:
                await response.aclose()

    async def _whole(self, response: httpx.Response) -> Answer:
        reply = await read_reply(response)
        content, value = reply.content, reply.value
        if not _is(response, "application/json") or not isinstance(value, dict):
            raise UpstreamError("content", "sent something that is no JSON object")
        if not isinstance(value.get("choices"), list):
            raise UpstreamError("content", "sent something that is no chat completion")
        usage = value.get("usage")
        answer = Answer(self.llm, 200, _headers(response), content)
        answer.usage = usage if isinstance(usage, dict) else None
        answer.counted_bytes = reply.text_bytes
        return answer

    async def _refusal(self, response: httpx.Response) -> Answer:
        """The error of a request, unchanged if it has OpenAI's shape, where upstreams put nothing but the reason. An
        error in any other shape is replaced by one of ours without any of the upstream's text."""
        content, headers = await _read(response), _headers(response)
        if self._key and self._key.encode() in content:  # then it is about our key and not the client's fault
            raise UpstreamError.of(response)
        value = _json(content)
        error = value.get("error") if isinstance(value, dict) else None
        if not (isinstance(error, dict) and isinstance(error.get("message"), str)):
            reason = f"{self.llm.name} refused the request with status {response.status_code}"
            remedy = "send a shorter or simpler one, or name another LLM"
            content = json.dumps(error_body(f"{reason}; {remedy}", INVALID, code="refused_by_upstream")).encode()
            headers["content-type"] = "application/json"
        return Answer(self.llm, response.status_code, headers, content)

    async def _beginning(self, response: httpx.Response, choices: int, call: Call) -> Answer:
        """Read up to the first event with data; until then another LLM can still be called."""
        if not _is(response, "text/event-stream"):
            raise UpstreamError("content", "sent something that is no event stream")
        events, parts = Events(choices), response.aiter_bytes()
        begun = b""
        async for part in parts:
            whole = events.feed(part)
            begun += whole
            first = next(payloads(whole), ...)
            if first is ... and len(begun) < LARGEST_EVENT:
                continue
            if not (isinstance(first, dict) and isinstance(first.get("choices"), list)) or first.get("error"):
                raise UpstreamError("content", "began its stream with something else than an answer")
            return Answer(self.llm, 200, _headers(response), begun, stream=Stream(response, parts, events, call))
        raise UpstreamError("content", "sent an empty stream")


async def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > _LARGEST_BODY:
            raise UpstreamError("content", "sent too much")
    return bytes(content)


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _is(response: httpx.Response, kind: str) -> bool:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower() == kind


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name: response.headers[name] for name in _PASSED_ON if name in response.headers}
