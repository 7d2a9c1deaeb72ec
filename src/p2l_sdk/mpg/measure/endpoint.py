"""Timed, streamed queries to an OpenAI-compatible endpoint (`POST BASE_URL/chat/completions`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from p2l_sdk.errors import EndpointError, MissingExtraError

try:
    import httpx
except ImportError:
    raise MissingExtraError("measuring an endpoint", "httpx", "mpg") from None

_SHOWN = 200  # characters kept of a server's error message


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An endpoint and the settings of its queries.

    Attributes:
        base_url: everything before "/chat/completions"; usually ends in "/v1".
        model: the endpoint's name of the LLM.
        api_key: sent as a bearer token; never shown or stored.
        max_tokens: longest answer.
        temperature: sampling temperature; 0 always takes the most likely token.
        timeout: seconds after which a query without a complete answer counts as failed.
    """

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    max_tokens: int = 512
    temperature: float = 0.0
    timeout: float = 120.0

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise EndpointError(f"the base URL {self.base_url!r} must begin with http:// or https://")
        if self.max_tokens < 1 or not self.timeout > 0 or not self.temperature >= 0:
            raise EndpointError("max_tokens must be at least 1, timeout above 0 and temperature at least 0")


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
    """A failed query. Attributes: kind (connection, timeout, status 429 or another code, error, garbage, cut off) and
    detail."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail[:_SHOWN]


def connect(endpoint: Endpoint) -> httpx.AsyncClient:
    """An HTTP client that keeps its connections open; close it, or use it in `async with`."""
    headers = {"authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}
    try:
        return httpx.AsyncClient(
            base_url=endpoint.base_url.rstrip("/") + "/",
            headers=headers,
            timeout=None,  # `ask` limits the whole query
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        )
    except (httpx.InvalidURL, UnicodeEncodeError, ValueError) as error:
        raise EndpointError(f"the base URL or the API key cannot be sent: {error}") from None


async def ask(client: httpx.AsyncClient, endpoint: Endpoint, prompt: str) -> Answer:
    """The answer to one prompt. Raises `QueryError` if the query fails."""
    body = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": endpoint.max_tokens,
        "temperature": endpoint.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    try:
        async with asyncio.timeout(endpoint.timeout), client.stream("POST", "chat/completions", json=body) as response:
            if response.status_code != 200:
                text = (await response.aread()).decode("utf-8", "replace")
                raise QueryError(f"status {response.status_code}", text)
            if "json" in response.headers.get("content-type", ""):  # a server that does not stream
                return _whole(await response.aread())
            return await _streamed(response.aiter_bytes())
    except TimeoutError:
        raise QueryError("timeout", f"no whole answer within {endpoint.timeout:g} s") from None
    except (httpx.ConnectError, httpx.UnsupportedProtocol) as error:
        raise QueryError("connection", str(error) or type(error).__name__) from None
    except httpx.DecodingError as error:
        raise QueryError("garbage", str(error)) from None
    except httpx.HTTPError as error:
        raise QueryError("cut off", str(error) or type(error).__name__) from None


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
