"""Serve a model over HTTP: the P2L API and its page (`create_app`), the engine that scores prompts for it (`Engine`),
and an OpenAI-compatible endpoint in front of many LLMs (`chat.create_gateway`)."""

from p2l_sdk.errors import MissingExtraError

try:
    import aiohttp  # noqa: F401
    import fastapi  # noqa: F401
    import orjson  # noqa: F401
    import prometheus_client  # noqa: F401
    import uvicorn  # noqa: F401
    import yaml  # noqa: F401
except ImportError as error:
    raise MissingExtraError("serving", error.name or "fastapi", "serve") from None

from p2l_sdk.serve.app import create_app
from p2l_sdk.serve.engine.engine import Engine
from p2l_sdk.serve.metrics import ServerMetrics

__all__ = ["Engine", "ServerMetrics", "create_app"]
