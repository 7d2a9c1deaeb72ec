"""Timed, streamed queries to an OpenAI-compatible endpoint (`POST BASE_URL/chat/completions`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from p2l_sdk.errors import EndpointError, MissingExtraError
from p2l_sdk.modeling.prompt_p2l import Prompt

try:
    import httpx
except ImportError:
    raise MissingExtraError("measuring an endpoint", "httpx", "mpg") from None

_SHOWN = 200  # characters kept of a server's error message
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An endpoint and the settings of its queries.

    Attributes:
        base_url: everything before "/chat/completions"; usually ends in "/v1". A query (?a=b) is kept.
        model: the endpoint's name of the LLM.
        api_key: sent as a bearer token; never shown or stored.
        api_key_header: the header that carries the bare key instead, for a server that takes no bearer token.
        headers: sent with every query, replacing others of the same name.
        max_tokens: longest answer.
        temperature: sampling temperature; 0 always takes the most likely token; None leaves it to the server.
        top_p: share of the probability that is sampled from; None leaves it to the server.
        system: system message of prompts that have none.
        timeout: seconds after which a query without a complete answer counts as failed.
        pause: seconds until an answer begins, and between two parts of it; None for no limit but `timeout`.
        trust_env: whether proxies of the environment (HTTPS_PROXY) are used.
    """

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    api_key_header: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # a header may hold a key
    max_tokens: int = 512
    temperature: float | None = 0.0
    top_p: float | None = None
    system: str | None = None
    timeout: float = 120.0
    pause: float | None = None
    trust_env: bool = True

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise EndpointError(f"the base URL {self.base_url!r} must begin with http:// or https://")
        if self.max_tokens < 1 or not self.timeout > 0 or not (self.temperature is None or self.temperature >= 0):
            raise EndpointError("max_tokens must be at least 1, timeout above 0 and temperature at least 0")

    def messages(self, prompt: Prompt) -> list[Mapping[str, Any]]:
        """The chat messages that ask a prompt, with the system message if it has none of its own."""
        asked: list[Mapping[str, Any]] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [*prompt]
        if self.system is None or any(message.get("role") in ("system", "developer") for message in asked):
            return asked
        return [{"role": "system", "content": self.system}, *asked]

    def body(self, prompt: Prompt) -> dict[str, Any]:
        """The body of a query."""
        optional = {"temperature": self.temperature, "top_p": self.top_p}
        return {
            "model": self.model,
            "messages": self.messages(prompt),
            "max_tokens": self.max_tokens,
            **{name: value for name, value in optional.items() if value is not None},
            "stream": True,
            "stream_options": {"include_usage": True},
        }


@dataclass(frozen=True)
class Answer:
    """An answer: text; first_token and end, times of `time.perf_counter` (first_token is None if the answer is empty or
    was not streamed); input_tokens and output_tokens as counted by the server, None if it does not count them."""

    text: str
    first_token: float | None
    end: float
    input_tokens: int | None
    output_tokens: int | None
    finish_reason: str | None


class QueryError(Exception):
    """A failed query. Attributes: kind (connection, timeout, status 429 or another code, error, garbage, cut off),
    detail, and retry_after (the server's header of that name, "" if it sent none)."""

    def __init__(self, kind: str, detail: str, retry_after: str = "") -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail, self.retry_after = kind, detail[:_SHOWN], retry_after


def connect(endpoint: Endpoint) -> httpx.AsyncClient:
    """An HTTP client that keeps its connections open; close it, or use it in `async with`."""
    key, pause = endpoint.api_key, endpoint.pause
    bearer = {} if not key else {"authorization": f"Bearer {key}"}
    try:
        sent = httpx.Headers({endpoint.api_key_header: key} if key and endpoint.api_key_header else bearer)
        sent.update(endpoint.headers)
        _url(endpoint)
        return httpx.AsyncClient(
            headers=sent,
            timeout=None if pause is None else httpx.Timeout(pause, connect=min(pause, _CONNECT_SECONDS)),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            trust_env=endpoint.trust_env,
        )
    except (httpx.InvalidURL, UnicodeEncodeError, ValueError) as error:
        raise EndpointError(f"the base URL or the API key cannot be sent: {error}") from None


async def ask(client: httpx.AsyncClient, endpoint: Endpoint, prompt: Prompt) -> Answer:
    """The answer to one prompt. Raises `QueryError` if the query fails; its text does not contain the API key."""
    try:
        return await _ask(client, endpoint, prompt)
    except QueryError as error:
        if endpoint.api_key and endpoint.api_key in str(error):
            detail = error.detail.replace(endpoint.api_key, "[the API key]")
            raise QueryError(error.kind, detail, error.retry_after) from None
        raise


async def _ask(client: httpx.AsyncClient, endpoint: Endpoint, prompt: Prompt) -> Answer:
    sent = client.stream("POST", _url(endpoint), json=endpoint.body(prompt))
    try:
        async with asyncio.timeout(endpoint.timeout), sent as response:
            if response.status_code != 200:
                text = (await response.aread()).decode("utf-8", "replace")
                raise QueryError(f"status {response.status_code}", text, response.headers.get("retry-after", ""))
            if "json" in response.headers.get("content-type", ""):  # a server that does not stream
                return _whole(await response.aread())
            return await _streamed(response.aiter_bytes())
    except TimeoutError:
        raise QueryError("timeout", f"no whole answer within {endpoint.timeout:g} s") from None
    except httpx.ConnectTimeout as error:
        raise QueryError("connection", str(error) or "no connection in time") from None
    except httpx.TimeoutException:
        raise QueryError("timeout", f"nothing came for {endpoint.pause or 0:g} s") from None
    except (httpx.ConnectError, httpx.UnsupportedProtocol) as error:
        raise QueryError("connection", str(error) or type(error).__name__) from None
    except httpx.DecodingError as error:
        raise QueryError("garbage", str(error)) from None
    except httpx.HTTPError as error:
        raise QueryError("cut off", str(error) or type(error).__name__) from None


def _url(endpoint: Endpoint) -> httpx.URL:
    base = httpx.URL(endpoint.base_url)
    return base.copy_with(path=base.path.rstrip("/") + "/chat/completions")


async def _streamed(pieces: AsyncIterator[bytes]) -> Answer:
    texts: list[str] = []
    first = end = reason = None
    usage: tuple[int | None, int | None] = (None, None)
    choices_seen = False
    async for line in _lines(pieces):
        if end is not None or not line.startswith(b"data:"):
            continue  # read on after [DONE], so that the connection can be reused
        data = line[5:].strip()
        if data == b"[DONE]":
            end = perf_counter()
            continue
        event = _object(data)
        try:
            for choice in event.get("choices") or ():
                choices_seen = True
                delta = choice.get("delta") or {}
                text = delta.get("content") or ""
                if first is None and (text or delta.get("reasoning_content") or delta.get("reasoning")):
                    first = perf_counter()
                texts.append(text)
                reason = choice.get("finish_reason") or reason
            usage = _usage(event) or usage
        except (AttributeError, TypeError) as error:
            raise QueryError("garbage", f"{error}: {data.decode('utf-8', 'replace')}") from None
    if end is None and reason is None:
        raise QueryError("cut off" if choices_seen else "garbage", "the stream ended without a finish")
    if not choices_seen:
        raise QueryError("garbage", "the stream has no choices")
    return _answer(texts, first, end or perf_counter(), usage, reason)


def _whole(content: bytes) -> Answer:
    end = perf_counter()
    event = _object(content)
    try:
        choice = event["choices"][0]
        text, reason = choice["message"].get("content") or "", choice.get("finish_reason")
        return _answer([text], None, end, _usage(event) or (None, None), reason)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise QueryError("garbage", f"{error!r}: {content.decode('utf-8', 'replace')}") from None


def _answer(
    texts: list[str], first: float | None, end: float, usage: tuple[int | None, int | None], reason: str | None
) -> Answer:
    if not all(isinstance(text, str) for text in texts):
        raise QueryError("garbage", f"the content is no text: {texts!r}")
    return Answer("".join(texts), first, end, *usage, reason if isinstance(reason, str) else None)


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines of server-sent events; httpx's own also split at U+2028, which JSON may contain."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r")
    yield rest


def _object(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise QueryError("garbage", f"{error}: {data.decode('utf-8', 'replace')}") from None
    if not isinstance(event, dict):
        raise QueryError("garbage", f"no JSON object: {data.decode('utf-8', 'replace')}")
    if event.get("error"):
        raise QueryError("error", json.dumps(event["error"]))
    return event


def _usage(event: dict[str, Any]) -> tuple[int | None, int | None] | None:
    usage = event.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    known = [n if isinstance(n, int) and not isinstance(n, bool) and n >= 0 else None for n in counts]
    return known[0], known[1]
