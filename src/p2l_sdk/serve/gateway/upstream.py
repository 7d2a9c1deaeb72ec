"""`Upstream`: calls one LLM behind an OpenAI-compatible address.

An answer counts as one if it has begun properly: status 200, the expected content type and content without an error.
Anything else is an `UpstreamError`, and another LLM can be called, as the client has seen nothing yet; so is a
`Refusal`, as one LLM's context window, abilities or account are not another's. A `Call` reports the outcome, up to the
end of a stream, to the circuit breaker and the metrics.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from p2l_sdk.serve.gateway.address import read_key
from p2l_sdk.serve.gateway.breaker import Breaker
from p2l_sdk.serve.gateway.call import Call, UpstreamError
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.known import completed
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.pool import Endpoint, Response, UpstreamClient
from p2l_sdk.serve.gateway.reasons import EMPTY_ACCOUNT, MODERATED, Work, bills_refusals
from p2l_sdk.serve.gateway.refusal import (
    REFUSALS,
    SHORTEST_SECRET,
    Refusal,
    billed,
    holds,
    refusal_within,
)
from p2l_sdk.serve.gateway.reply import LARGEST_REPLY, read_reply
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.sse import Events, EventTooLarge, is_error, text_bytes
from p2l_sdk.serve.gateway.stream import Stream
from p2l_sdk.serve.gateway.usage import Written
from p2l_sdk.serve.metrics import ServerMetrics

_HEADERS = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "p2l-sdk"}
_CONNECT_SECONDS = 10.0
_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError)  # no connection, so nothing was sent
_LONGEST_HEADER = 256  # characters of one that is passed on
_ABOUT_MONEY = (402, 429)
_REFUSED = 400
_LARGEST_REFUSAL = 256 * 1024  # bytes
_REASON_SECONDS = 2.0  # for that of a fault, which only may say what it cost
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)


@dataclass
class Answer:
    """The answer of an LLM: all of it, or the beginning of a stream.

    Attributes:
        llm: the LLM that answered.
        headers: of the reply, those that are passed on.
        content: the body, or the first events of a stream.
        usage: the upstream's token count, if it sent one.
        stream: the open stream whose events follow; None if the content is complete.
        wrote: what the LLM has written, of a complete answer.
    """

    llm: LLMConfig
    headers: dict[str, str]
    content: bytes | memoryview
    usage: dict[str, Any] | None = None
    stream: Stream | None = None
    wrote: Written | None = None

    @property
    def counted(self) -> dict[str, Any] | None:
        """The upstream's count of tokens, if one has come, even with the error that ended a stream."""
        if self.stream is None:
            return self.usage
        return self.stream.events.count or billed(self.stream.events.error)

    @property
    def written(self) -> Written:
        """What has arrived so far."""
        if self.stream is not None:
            return Written(self.stream.events.text_bytes, self.stream.events.pieces)
        return self.wrote or Written(len(self.content))

    @property
    def whole(self) -> bool:
        """Whether all of it has arrived."""
        return self.stream is None or self.stream.ended or self.stream.events.done

    async def close(self) -> None:
        """End the call, if it is still open."""
        if self.stream is not None:
            await self.stream.close()


class Upstream:
    """One LLM at one address, called through a shared client.

    Args:
        llm: its address and settings; also an attribute.
        config: of the gateway.
        client: calls it.
        metrics: counts failures and measures the time until an answer begins.
        label: for the log and for messages; the LLM's name by default. Also an attribute.
        weight: share of the LLM's calls that begin here, relative to its other addresses; also an attribute.

    Attributes:
        breaker: of this address.
    """

    def __init__(
        self,
        llm: LLMConfig,
        config: GatewayConfig,
        client: UpstreamClient,
        metrics: ServerMetrics,
        label: str | None = None,
        weight: float = 1.0,
    ) -> None:
        self.llm, self.label, self.weight = llm, label or llm.name, weight
        self.breaker = Breaker(config.breaker_failures, config.breaker_seconds)
        self._metrics = metrics
        self._key = read_key(llm.api_key_env)
        base = urlsplit(llm.base_url)
        self._bills_refusals = bills_refusals(base.hostname or "")
        address = base._replace(path=base.path.rstrip("/") + "/chat/completions").geturl()
        self._url = URL(address, encoded=address.isascii())  # as it is, if it can be
        self._endpoints: dict[bool, Endpoint] = {}  # of requests for a stream, and of others
        for stream, kind in ((True, "text/event-stream"), (False, "application/json")):
            headers = CIMultiDict(_HEADERS)
            headers.update(self._authorization())
            headers.update(llm.headers)
            headers["accept"] = kind
            self._endpoints[stream] = Endpoint(client, self._url, headers)
        hidden = [value for name, value in llm.headers.items() if _SECRET_HEADER.search(name)]
        self._secrets = [self._key, *(value.rpartition(" ")[2] for value in hidden)]

    @classmethod
    def of(
        cls, llm: LLMConfig, config: GatewayConfig, client: UpstreamClient, metrics: ServerMetrics
    ) -> tuple[Upstream, ...]:
        """An LLM at each of its addresses, which are numbered from 1 if there are several; arguments as of the
        class."""
        if not llm.addresses:
            return (cls(completed(llm), config, client, metrics),)
        return tuple(
            cls(completed(place), config, client, metrics, f"{llm.name}#{i}", address.weight)
            for i, (place, address) in enumerate(zip(llm.places, llm.addresses, strict=True), 1)
        )

    def _authorization(self) -> dict[str, str]:
        if not self._key:
            return {}
        if self.llm.api_key_header is not None:
            return {self.llm.api_key_header: self._key}
        return {"authorization": f"Bearer {self._key}"}

    async def ask(self, request: ChatRequest, seconds: float, patience: float | None = None) -> Answer:
        """Call the LLM and wait for its answer, or until the content of a stream begins.

        Args:
            request: the client's request.
            seconds: time left for it; the LLM's own timeout applies if it is shorter.
            patience: an upstream that keeps sending signs of life (comments, empty lines) may take so many seconds
                rather than its timeout; by default all the time left.

        Raises:
            UpstreamError: the call failed. It has been reported to the breaker and the metrics.
        """
        call, start = Call(self.llm.name, self.breaker.of(request.owner), self._metrics), time.perf_counter()
        try:
            answer = await self._ask_within(seconds, seconds if patience is None else patience, request, call)
        except UpstreamError as error:
            call.ended(error)
            raise
        finally:
            call.release()
            self._metrics.stage("upstream", time.perf_counter() - start)
        if answer.stream is None:
            call.ended()
        return answer

    async def _ask_within(self, seconds: float, patience: float, request: ChatRequest, call: Call) -> Answer:
        now = asyncio.get_running_loop().time
        first = min(seconds, self.llm.timeout)
        last = now() + max(first, min(seconds, patience))
        try:
            async with asyncio.timeout(first) as limit:
                return await self._ask(request, call, lambda: limit.reschedule(min(now() + self.llm.timeout, last)))
        except aiohttp.ConnectionTimeoutError:
            raise UpstreamError("timeout", "could not be reached in time", work=Work.NONE) from None
        except aiohttp.SocketTimeoutError:
            raise UpstreamError("timeout", "did not answer in time") from None
        except TimeoutError:
            blamed = seconds >= self.llm.timeout  # otherwise earlier calls had used up the time
            raise UpstreamError("timeout", "did not answer in time", blamed=blamed) from None
        except (aiohttp.ClientError, EventTooLarge) as error:
            work = Work.NONE if isinstance(error, _UNSENT) else Work.WROTE
            text = "could not be reached, or broke off before its answer"
            blamed = not isinstance(error, EventTooLarge)  # which a client can ask for
            raise UpstreamError("connection", text, blamed=blamed, work=work) from None

    async def _ask(self, request: ChatRequest, call: Call, alive: Callable[[], None]) -> Answer:
        connect, silence = min(_CONNECT_SECONDS, self.llm.timeout), self.llm.timeout
        endpoint = self._endpoints[request.stream]
        response = await endpoint.post(request.body(self.llm), connect=connect, silence=silence)
        stays_open = False
        try:
            if response.status != 200:
                raise await self._failed(response)
            if not request.stream:
                return await self._whole(response, alive)
            if not _is(response, "text/event-stream"):
                raise UpstreamError("content", "sent something that is no event stream")
            events = Events(request.n, request.wants_usage)
            try:
                begun, stream = await Stream.begin(response, events, call, alive)
            except UpstreamError as error:
                found = self._refused_within(events.error) or error
                if events.answered:  # whatever the error says of the request
                    found.work = Work.WROTE
                found.usage = events.count or billed(events.error)
                raise found from None
            stays_open = True
            return Answer(self.llm, self._passed_on(response), begun, stream=stream)
        except UpstreamError as error:
            if self.llm.bills_errors and not error.usage:
                error.work = Work.WROTE
            raise
        finally:
            if not stays_open:
                response.release()

    async def _whole(self, response: Response, alive: Callable[[], None]) -> Answer:
        reply = await read_reply(response, LARGEST_REPLY, alive)
        content, value = reply.content, reply.value
        if any(len(secret) >= SHORTEST_SECRET and reply.holds(secret.encode()) for secret in self._secrets):
            raise UpstreamError("content", "repeated a key of this server in its answer")
        if not _is(response, "application/json") or not isinstance(value, dict):
            raise UpstreamError("content", "sent something that is no JSON object")
        if is_error(value):
            error = self._refused_within(value) or UpstreamError("content", "sent an error as if it were an answer")
            error.usage = billed(value)
            raise error
        found = value.get("choices")
        choices: list[Any] = found if isinstance(found, list) else []
        messages = [isinstance(choice, dict) and choice.get("message") for choice in choices]
        if not messages or not all(isinstance(message, dict) for message in messages):
            raise UpstreamError("content", "sent something that is no chat completion")
        usage = value.get("usage")
        answer = Answer(self.llm, self._passed_on(response), content)
        answer.usage = usage if isinstance(usage, dict) else None
        answer.wrote = Written(text_bytes(choices) + (reply.cut or 0))
        return answer

    async def _failed(self, response: Response) -> UpstreamError:
        """What to make of a reply with a status that is not that of an answer, and what it says to have cost."""
        status = response.status
        reason = await _reason(response, None if status in (*REFUSALS, *_ABOUT_MONEY) else _REASON_SECONDS)
        content = reason or b""
        refusal = Refusal.of(status, content, self.llm.name, self._passed_on(response).get("x-request-id"))
        if status in REFUSALS and not holds(content, self._secrets):
            error = UpstreamError.refused(refusal)
        else:  # one that holds our key is about that, and none of the client's business
            error = UpstreamError.of(status, response.headers)
            if status in _ABOUT_MONEY and refusal.kind in EMPTY_ACCOUNT:
                error.kind, error.final = refusal.kind, True  # a limit of rate passes, an empty account stays empty
        error.usage = refusal.usage
        billed_anyway = Work.READ if status == _REFUSED and self._bills_refusals else Work.NONE
        unread = Work.WROTE if reason is None else Work.NONE  # nobody has read what it may say of a cost
        error.work = max(refusal.work, billed_anyway, unread)
        return error

    def _passed_on(self, response: Response) -> dict[str, str]:
        """Headers of a reply for the client: only what any client, and any proxy before it, can read."""
        headers = {"content-type": response.headers.get("content-type", "")}
        if not _is_plain(headers["content-type"]):
            headers["content-type"] = headers["content-type"].partition(";")[0].strip()
        identity = response.headers.get("x-request-id", "")
        if identity and _is_plain(identity) and not holds(identity.encode(), self._secrets):
            headers["x-request-id"] = identity
        return headers

    def _refused_within(self, value: Any) -> UpstreamError | None:
        refusal = refusal_within(value, self.llm.name)
        if refusal is None or holds(json.dumps(dict(refusal.error)).encode(), self._secrets):
            return None
        error = UpstreamError.refused(refusal)
        if error.kind in MODERATED:
            error.work = Work.WROTE  # it may be the answer that was filtered, as written
        return error


async def _reason(response: Response, seconds: float | None) -> bytes | None:
    """The body of a reply that is no answer; None if it cannot be read, or not so soon."""
    try:
        async with asyncio.timeout(seconds):
            return bytes((await read_reply(response, _LARGEST_REFUSAL)).content)
    except (UpstreamError, aiohttp.ClientError, TimeoutError):
        return None  # a reason of that size is none, and half of one neither


def _is(response: Response, kind: str) -> bool:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower() == kind


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable() and len(value) <= _LONGEST_HEADER
