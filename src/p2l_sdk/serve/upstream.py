"""`Upstream`: one call of one LLM behind an OpenAI-compatible address.

An answer is one only when it has begun as it should: a status below 400, the right kind of content, and, of a stream, a
first event that is no error. Everything else is an `UpstreamError`, and another LLM can be called: the client has seen
nothing yet. An error of the client's own making (400, 413, ...) would be the same elsewhere: it is an answer too.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.breaker import Breaker
from p2l_sdk.serve.chat_request import ChatRequest
from p2l_sdk.serve.config import LLMConfig, RouterConfig
from p2l_sdk.serve.sse import LARGEST_EVENT, Events, EventTooLarge, payloads, text_bytes

_CLIENT_ERRORS = (400, 413, 415, 422)  # the request is at fault: any other LLM may refuse it too
_RETRIED = (408, 409, 425, 429)
_CONNECT_SECONDS = 10.0
_PASSED_ON = ("content-type", "x-request-id")  # of the upstream's headers
_LARGEST_BODY = 64 * 2**20  # bytes


class UpstreamError(Exception):
    """A call that brought no answer. Its text and kind never hold what the upstream sent.

    Attributes:
        kind: timeout, connection, status_429, status_500, ..., content, broken.
        retry_after: seconds of rest that the upstream asks for.
        final: whether the same upstream would answer the same once more: a wrong key, an unknown model.
    """

    def __init__(self, kind: str, message: str, retry_after: float | None = None, final: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after
        self.final = final

    @classmethod
    def of(cls, response: httpx.Response) -> UpstreamError:
        """Of a reply with a status that is none of an answer."""
        status = response.status_code
        final = status < 500 and status not in _RETRIED
        return cls(f"status_{status}", f"answered with status {status}", _retry_after(response), final)


@dataclass
class Stream:
    """A stream that has begun: its reply, its parts that are still to come, and what is known of it by now."""

    response: httpx.Response
    parts: AsyncIterator[bytes]
    events: Events

    async def rest(self) -> AsyncIterator[bytes]:
        """The events after the first ones, each as soon as it is whole; UpstreamError where the stream breaks off."""
        try:
            async for part in self.parts:
                if whole := self.events.feed(part):
                    yield whole
        except httpx.TimeoutException:
            raise UpstreamError("timeout", "stopped in the middle of its answer") from None
        except (httpx.HTTPError, EventTooLarge):
            if not self.events.done:  # what comes after that is of no interest
                raise UpstreamError("broken", "broke off its answer") from None
        if not self.events.finished:
            raise UpstreamError("broken", "broke off its answer")
        if rest := self.events.rest():
            yield rest


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
            await self.stream.response.aclose()


class Upstream:
    """One LLM, called through a shared client.

    Args:
        llm: where it is.
        config: of the router.
        client: see `create_client`.
    """

    def __init__(self, llm: LLMConfig, config: RouterConfig, client: httpx.AsyncClient) -> None:
        self.llm = llm
        self.breaker = Breaker(config.breaker_failures, config.breaker_seconds)
        self._client = client
        self._key = "" if llm.api_key_env is None else os.environ.get(llm.api_key_env, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise P2LError(f"the key in {llm.api_key_env} holds characters that no header can carry; set it anew")
        base = httpx.URL(llm.base_url)
        self._url = base.copy_with(path=base.path.rstrip("/") + "/chat/completions")
        self._timeout = httpx.Timeout(llm.timeout, connect=min(_CONNECT_SECONDS, llm.timeout))
        self._headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "p2l-sdk",
            **self._authorization(),
            **llm.headers,
        }

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
            UpstreamError: there is no answer. The breaker knows of it.
        """
        self.breaker.enter()
        try:
            async with asyncio.timeout(min(seconds, self.llm.timeout)):
                answer = await self._ask(request)
        except UpstreamError as error:
            self.breaker.failed(error.retry_after)
            raise
        except (TimeoutError, httpx.TimeoutException):
            self.breaker.failed()
            raise UpstreamError("timeout", "did not answer in time") from None
        except (httpx.HTTPError, EventTooLarge):
            self.breaker.failed()
            raise UpstreamError("connection", "could not be reached, or broke off before its answer") from None
        self.breaker.succeeded()
        return answer

    async def _ask(self, request: ChatRequest) -> Answer:
        accept = {"accept": "text/event-stream" if request.stream else "application/json"}
        body = request.body(self.llm)
        call = self._client.build_request(
            "POST", self._url, content=body, headers={**self._headers, **accept}, timeout=self._timeout
        )
        response = await self._client.send(call, stream=True)
        stays_open = False
        try:
            if response.status_code in _CLIENT_ERRORS:
                return await self._refusal(response)
            if response.status_code != 200:
                raise UpstreamError.of(response)
            if not request.stream:
                return await self._whole(response)
            answer = await self._beginning(response)
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
        """The client's own error, if it is told as OpenAI tells it; upstreams put no more than the reason there."""
        content = await _read(response)
        value = _json(content)
        error = value.get("error") if isinstance(value, dict) else None
        told = isinstance(error, dict) and isinstance(error.get("message"), str)
        if not told or (self._key and self._key.encode() in content):
            raise UpstreamError.of(response)
        return Answer(self.llm, response.status_code, _headers(response), content)

    async def _beginning(self, response: httpx.Response) -> Answer:
        """Reads up to the first event with data: until then another LLM may still be called."""
        if not _is(response, "text/event-stream"):
            raise UpstreamError("content", "sent something that is no event stream")
        events, parts = Events(), response.aiter_bytes()
        begun = b""
        async for part in parts:
            begun += events.feed(part)
            first = next(payloads(begun), ...)
            if first is ... and len(begun) < LARGEST_EVENT:
                continue
            if first != "[DONE]" and (not isinstance(first, dict) or first.get("error")):
                raise UpstreamError("content", "began its stream with something else than an answer")
            return Answer(self.llm, 200, _headers(response), begun, stream=Stream(response, parts, events))
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


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 9 else None
