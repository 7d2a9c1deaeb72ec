"""`Upstream`: one call of one LLM behind an OpenAI-compatible address.

An answer is one only when it has begun as it should: a status below 400, the right kind of content, and, of a stream, a
first event that is part of an answer. Everything else is an `UpstreamError`, and another LLM can be called: the client
has seen nothing yet. An error of the client's own making (400, 413, ...) would be the same elsewhere: it is an answer
too. What becomes of a call, to the end of its stream, the breaker and the metrics hear by its `Call`.
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

from p2l_sdk.serve.address import read_key
from p2l_sdk.serve.breaker import Breaker
from p2l_sdk.serve.call import Call, UpstreamError
from p2l_sdk.serve.chat_request import ChatRequest
from p2l_sdk.serve.config import LLMConfig, RouterConfig
from p2l_sdk.serve.errors import INVALID, error_body
from p2l_sdk.serve.metrics import ServerMetrics
from p2l_sdk.serve.sse import LARGEST_EVENT, Events, EventTooLarge, payloads, text_bytes

_CLIENT_ERRORS = (400, 413, 415, 422)  # the request is at fault: any other LLM may refuse it too
_CONNECT_SECONDS = 10.0
_ENDING_SECONDS = 0.1
_PASSED_ON = ("content-type", "x-request-id")  # of the upstream's headers
_LARGEST_BODY = 64 * 2**20  # bytes


@dataclass
class Stream:
    """A stream that has begun: its reply, its parts that are still to come, what is known of it by now, its call."""

    response: httpx.Response
    parts: AsyncIterator[bytes]
    events: Events
    call: Call

    async def rest(self) -> AsyncIterator[bytes]:
        """The events after the first ones, each as soon as it is whole; UpstreamError where the stream breaks off."""
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
        """Ends the call. Of a stream that is done the end of the reply is read, so that its connection stays usable."""
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
    """What an LLM answers: all of it, or the beginning of a stream.

    Attributes:
        llm: whose answer.
        status: of the reply; 200, or the client's own error.
        headers: of the reply, those that go on.
        content: the body, or of a stream its first events.
        usage: tokens, where the upstream told.
        stream: the call that is still open, whose events follow; None where the content is all.
    """

    llm: LLMConfig
    status: int
    headers: dict[str, str]
    content: bytes
    usage: dict[str, Any] | None = None
    stream: Stream | None = None

    @property
    def cost(self) -> float | None:
        """USD by the tokens that were counted; None where it is not known so."""
        usage = self.usage if self.stream is None else self.stream.events.usage
        prices = self.llm.prices
        if prices is None or usage is None:
            return None
        tokens = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
        numbers = [t for t in tokens if isinstance(t, int) and not isinstance(t, bool) and t >= 0]
        return prices.of(*numbers) if len(numbers) == 2 else None

    @property
    def text_bytes(self) -> int:
        """Of the text that has come so far."""
        return text_bytes(self.content) if self.stream is None else self.stream.events.text_bytes

    async def close(self) -> None:
        """Ends the call, if it is still open."""
        if self.stream is not None:
            await self.stream.close()


class Upstream:
    """One LLM, called through a shared client.

    Args:
        llm: where it is.
        config: of the router.
        client: see `create_client`.
        metrics: told of every failure, and of the time until an answer begins.
    """

    def __init__(self, llm: LLMConfig, config: RouterConfig, client: httpx.AsyncClient, metrics: ServerMetrics) -> None:
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
        """Call it, and wait for the answer, or for the beginning of a stream.

        Args:
            request: what the client asks.
            seconds: that are left for it; the LLM's own timeout, if that is less.

        Raises:
            UpstreamError: there is no answer. The breaker and the metrics know of it.
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
            blamed = seconds >= self.llm.timeout  # else others had used up the time
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
        content = await _read(response)
        value = _json(content)
        if not _is(response, "application/json") or not isinstance(value, dict):
            raise UpstreamError("content", "sent something that is no JSON object")
        if not isinstance(value.get("choices"), list):
            raise UpstreamError("content", "sent something that is no chat completion")
        usage = value.get("usage")
        answer = Answer(self.llm, 200, _headers(response), content)
        answer.usage = usage if isinstance(usage, dict) else None
        return answer

    async def _refusal(self, response: httpx.Response) -> Answer:
        """The client's own error, as it came if it is told as OpenAI tells it: upstreams put no more than the reason
        there. Told in another way it is told anew, without a word of the upstream's."""
        content, headers = await _read(response), _headers(response)
        if self._key and self._key.encode() in content:  # it is about our key, which is no fault of the client
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
        """Reads up to the first event with data: until then another LLM may still be called."""
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
