"""LLMs that bill: a real HTTP server that keeps the books as a vendor does, whatever it tells its client.

It counts a token for every two bytes of text that it reads, 1,600 for an image, one for 100 bytes of sound, 90,000 for
what it fetches, opens or has kept, twice as much for what it is to keep, and writes as long an answer as it is allowed
to, 20,000 tokens if nobody limits it. `behaviour[name]` is what an LLM does next: ok, slow (takes half a second),
silent (bills, and never answers), filter (bills what it read of a prompt that it then refuses), 403, 500, untold (does
not count), lie (counts more than can be), html (bills, and sends no answer), each (reads its prompt for each answer),
fast (streams as fast as it is read), parts (counts the prompt in the first event of a stream, the answer in the last,
and then nothing), byok (states a fee beside its own cost), early (counts only in the first event), custom (streams the
input of a tool, without a count), blank (writes tokens without text), shares (streams choices, and counts and bills
each, with its prompt), framed (the same, between a count of the prompt and an empty one),
withheld (ends a stream with a filter's error before any text), stall (sends a piece, and bills all), 202, normal (reads
a text in NFKC, a token for each byte), pretty (reads tools with indentation), window (reads as
much as it has room for). Reasoning is counted beside the answer
(beside), without a total (unsummed), or with the answer and not told apart from it (thinks).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from gateway_server import running

LONGEST = 20_000
WINDOW = 100_000  # tokens of prompt and answer that an LLM has room for
_UNTOLD = ("untold", "early", "custom")
_CHUNKS = {
    behaviour: f'data: {{"choices": [{{"index": 0, "delta": {delta}}}]}}\n\n'
    for behaviour, delta in (
        ("ok", '{"content": "x "}'),
        ("blank", '{"content": ""}'),
        ("custom", '{"tool_calls": [{"index": 0, "custom": {"input": "x "}}]}'),
    )
}
_CONTROL = ("model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "temperature")
_ELSEWHERE = re.compile(r"https://x\.example/v|data:application/pdf|\"audio\": {\"id\"")
_IMAGE = re.compile(r"data:image[^\"]*")
_SOUND = re.compile(r"[A-Za-z0-9+/=]{1000,}")  # in base64
HUGE = "1" + "0" * 400
LIES = f'{{"prompt_tokens": {HUGE}, "completion_tokens": {HUGE}}}'


class BillingLLMs:
    """Attributes: url(name); bills, USD by LLM; behaviour, by LLM; bodies, of the requests."""

    def __init__(self, prices: dict[str, tuple[float, float]]) -> None:
        self.prices = prices
        self.bills: defaultdict[str, float] = defaultdict(float)
        self.behaviour: dict[str, str] = {}
        self.bodies: list[dict] = []
        self.app = FastAPI()
        self.app.add_api_route("/{name}/chat/completions", self._complete, methods=["POST"])

    @contextlib.contextmanager
    def serving(self) -> Iterator[BillingLLMs]:
        with running(self.app) as self.address:
            yield self

    def url(self, name: str) -> str:
        return f"{self.address.removesuffix('/v1')}/{name}"

    def reset(self) -> None:
        self.bills = defaultdict(float)  # what is still under way goes into the old books
        self.behaviour.clear()
        self.bodies.clear()

    def _bill(self, name: str, read: float, written: float, bills: dict[str, float] | None = None) -> None:
        price, bills = self.prices[name], self.bills if bills is None else bills
        bills[name] += (price[0] * read + price[1] * written) / 1e6

    async def _complete(self, name: str, request: Request) -> Response:
        body = json.loads(await request.body())
        self.bodies.append(body)
        behaviour = self.behaviour.get(name, "ok")
        if behaviour in ("403", "500"):
            return JSONResponse({"error": {"message": "no"}}, int(behaviour))
        text = json.dumps({name: value for name, value in body.items() if name not in _CONTROL}, ensure_ascii=False)
        sounds = sum(map(len, _SOUND.findall(text))) if '"input_audio"' in text else 0
        read = (len(_IMAGE.sub("", text)) - sounds) // 2 + sounds // 100 + 1600 * len(_IMAGE.findall(text))
        read += 90_000 * len(_ELSEWHERE.findall(text))
        read *= (2 if "cache_control" in text else 1) * (body.get("n") or 1 if behaviour == "each" else 1)
        limits = [body[key] for key in ("max_tokens", "max_completion_tokens") if body.get(key)]
        each, n = max(limits, default=LONGEST), body.get("n") or 1
        if behaviour == "normal":
            read = len(unicodedata.normalize("NFKC", text).encode())
        if behaviour == "window":  # as if its template had no end
            read = WINDOW - each * n
        if behaviour == "pretty":
            read += sum(1 + len(line.split()) for line in json.dumps(body["tools"], indent=4).splitlines())
        self._bill(name, read, 0)
        if behaviour == "filter":
            return JSONResponse({"error": {"message": "no", "code": "content_filter"}}, 400)
        if body.get("stream"):
            return StreamingResponse(
                self._stream(name, each * n, read, body, behaviour), media_type="text/event-stream"
            )
        self._bill(name, 0, each * n)
        if behaviour == "202":
            return JSONResponse({"choices": [{"message": {"content": "x"}}]}, 202)
        if behaviour == "html":
            return Response("<html>", media_type="text/html")
        if behaviour == "beside":
            details = {"completion_tokens_details": {"reasoning_tokens": each * n - 1}, "total_tokens": read + each * n}
            usage = {"prompt_tokens": read, "completion_tokens": 1, **details}
            return JSONResponse({"choices": [{"message": {"content": "x"}}], "usage": usage})
        if behaviour in ("thinks", "unsummed", "byok"):
            cost = (self.prices[name][0] * read + self.prices[name][1] * each * n) / 1e6
            usage = {
                "thinks": {"completion_tokens": each * n},
                "unsummed": {
                    "completion_tokens": n, "completion_tokens_details": {"reasoning_tokens": (each - 1) * n},
                },
                "byok": {
                    "completion_tokens": each * n, "cost": cost / 20, "is_byok": True,
                    "cost_details": {"upstream_inference_cost": cost},
                },
            }[behaviour]  # fmt: skip
            choices = [{"index": i, "message": {"content": "x"}} for i in range(n)]
            return JSONResponse({"choices": choices, "usage": {"prompt_tokens": read, **usage}})
        if behaviour == "slow":
            await asyncio.sleep(0.5)
        if behaviour == "silent":
            await asyncio.sleep(5)
        usage = LIES if behaviour == "lie" else json.dumps({"prompt_tokens": read, "completion_tokens": each * n})
        text = json.dumps([{"index": i, "message": {"role": "assistant", "content": "x " * each}} for i in range(n)])
        text = text.replace("x ", "") if behaviour == "blank" else text
        told = "" if behaviour == "untold" else f', "usage": {usage}'
        return Response(f'{{"choices": {text}{told}}}', media_type="application/json")

    async def _stream(self, name: str, tokens: int, read: int, body: dict, behaviour: str):
        chunk = _CHUNKS.get(behaviour, _CHUNKS["ok"])
        if behaviour == "withheld":
            self._bill(name, 0, tokens)
            yield 'data: {"error": {"message": "no", "code": "content_filter"}}\n\n'
            return
        if behaviour == "stall":
            self._bill(name, 0, tokens)
            yield chunk
            await asyncio.sleep(5)
        if behaviour in ("shares", "framed"):
            each = tokens // (n := body.get("n") or 1)
            self._bill(name, (n - 1) * read, tokens)
            usage = json.dumps({"prompt_tokens": read, "completion_tokens": each, "total_tokens": read + each})
            alone = 'data: {{"choices": [], "usage": {{"prompt_tokens": {}, "completion_tokens": 0}}}}\n\n'
            yield alone.format(read) if behaviour == "framed" else ""
            for i in range(n):
                yield f'data: {{"choices": [{{"index": {i}, "delta": {{"content": "{"x" * each}"}}}}]}}\n\n'
                end = f'{{"index": {i}, "delta": {{}}, "finish_reason": "stop"}}'
                yield f'data: {{"choices": [{end}], "usage": {usage}}}\n\n'
            yield alone.format(0) if behaviour == "framed" else ""
            yield "data: [DONE]\n\n"
            return
        if behaviour in ("parts", "early"):
            usage = json.dumps({"prompt_tokens": read, "completion_tokens": 1})
            yield f'data: {{"choices": [{{"index": 0, "delta": {{}}}}], "usage": {usage}}}\n\n'
        left, bills = tokens, self.bills
        while left > 0:
            size = min(300 if behaviour == "fast" else 3, left)
            left -= size
            self._bill(name, 0, size, bills)
            yield chunk * size
            await asyncio.sleep(0 if behaviour == "fast" else 0.01)  # 300 tokens a second, which is fast
        yield 'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
        if (body.get("stream_options") or {}).get("include_usage") and behaviour not in _UNTOLD:
            usage = LIES if behaviour == "lie" else json.dumps({"prompt_tokens": read, "completion_tokens": tokens})
            if behaviour == "parts":
                usage = json.dumps({"prompt_tokens": 0, "completion_tokens": tokens})
            yield f'data: {{"choices": [], "usage": {usage}}}\n\n'
            if behaviour == "parts":
                yield 'data: {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}\n\n'
        yield "data: [DONE]\n\n"
