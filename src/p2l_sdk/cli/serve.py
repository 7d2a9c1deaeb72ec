"""`p2l serve`: the P2L API and the router in front of LLMs."""

from __future__ import annotations

import asyncio
import copy
import functools
import ipaddress
from collections.abc import Coroutine
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from p2l_sdk.cli.common import MODEL, load
from p2l_sdk.errors import MissingExtraError, P2LError, nearest

if TYPE_CHECKING:
    from p2l_sdk.p2l import P2L
    from p2l_sdk.serve.auth import Keys
    from p2l_sdk.serve.gateway.config import RouterConfig

_GRACE_SECONDS = 30.0  # for requests in flight when the server is told to stop
_PACKAGES = ("fastapi", "httpx", "uvicorn", "yaml")


@click.command(short_help="Serve a model over HTTP, and route chats with it.")
@MODEL
@click.option("--config", metavar="YAML", help="File of LLMs: also serve OpenAI's chat completions, routed.")
@click.option("--check", "checked", metavar="YAML", help="Check a --config file, say what is missing, and exit.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port to listen on.")
@click.option("--api-keys", metavar="FILE", help="File of API keys, one per line; also read from P2L_API_KEYS.")
@click.option(
    "--cache-mb",
    type=click.FloatRange(min=0),
    default=64,
    show_default=True,
    help="Memory for results of prompts seen before, MB; 0 for none.",
)
@click.option(
    "--max-body-mb", type=click.FloatRange(min=0.01), default=32, show_default=True, help="Largest request body, MB."
)
@click.option(
    "--origin",
    "origins",
    multiple=True,
    metavar="URL",
    help="A site whose pages may call the server (CORS); repeatable.",
)
@click.option(
    "--max-prompts", type=click.IntRange(min=1), default=1024, show_default=True, help="Most prompts in one request."
)
def serve(
    model: str | None, config: str | None, checked: str | None, host: str, port: int, api_keys: str | None,
    cache_mb: float, max_body_mb: float, max_prompts: int, origins: tuple[str, ...],
) -> None:  # fmt: skip
    """Serve a model over HTTP: its API, a page, and, with --config, a router for OpenAI chat clients."""
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingExtraError("p2l serve", package, "serve")
    from p2l_sdk.serve.auth import ENVIRONMENT, Keys
    from p2l_sdk.serve.gateway.config import RouterConfig

    if checked is not None:
        _check(RouterConfig.from_yaml(checked), load(model), checked)
        return
    settings = None if config is None else RouterConfig.from_yaml(config)
    keys = Keys.load(api_keys)
    if not keys and not _is_loopback(host):
        raise P2LError(
            f"the address {host} can be reached from outside, and there is no API key; set {ENVIRONMENT} or "
            "--api-keys FILE, or listen at 127.0.0.1"
        )
    p2l = load(model)
    if settings is not None:
        _require(settings, p2l, str(config))
    limits = {"max_body_bytes": round(max_body_mb * 2**20), "max_prompts": max_prompts, "origins": origins}
    _run(_serve(p2l, settings, keys, host, port, cache_mb, limits))


def _run(server: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:  # not available on Windows
        asyncio.run(server)
    else:
        uvloop.run(server)


def _check(config: RouterConfig, p2l: P2L, path: str) -> None:
    """Print the LLMs of a configuration file; raise `P2LError` for what is missing in it."""
    from p2l_sdk.routing.route import usd
    from p2l_sdk.serve.gateway.choice import Chooser
    from p2l_sdk.serve.gateway.config import check, costs

    found, known = check(config, p2l), costs(config, p2l)
    for name, llm in config.models.items():
        cost = f"{usd(known[name])} per response" if name in known else "cost not known"
        route = _by_name(name, p2l) if name in found.unknown else "routed"
        click.echo(f"{name}: {route}, {cost}, {llm.base_url}")
    if found.problems:
        raise P2LError(f"{path}: {'; '.join(found.problems)}")
    Chooser(config, p2l)  # raises for a budget below the cheapest LLM
    click.echo(f"{path}: ready to serve")


def _by_name(name: str, p2l: P2L) -> str:
    near = nearest(name, p2l.models)
    return "by name only: the P2L model does not know it" + (f" (did you mean {near!r}?)" if near else "")


def _require(config: RouterConfig, p2l: P2L, path: str) -> None:
    """Raise `P2LError` for what prevents the router from starting; name the LLMs that it never routes to."""
    from p2l_sdk.serve.gateway.config import check

    found = check(config, p2l)
    if found.problems:
        raise P2LError(f"{path}: {'; '.join(found.problems)}")
    if found.unknown:
        names = ", ".join(found.unknown)
        click.echo(f"p2l: the P2L model does not know {names}: reached by name, never routed to", err=True)


async def _serve(
    p2l: P2L, config: RouterConfig | None, keys: Keys, host: str, port: int, cache_mb: float, limits: dict[str, Any]
) -> None:
    import uvicorn

    from p2l_sdk.serve.app import create_app
    from p2l_sdk.serve.engine.engine import Engine
    from p2l_sdk.serve.gateway.chat import create_chat_router
    from p2l_sdk.serve.gateway.config import costs
    from p2l_sdk.serve.gateway.pool import create_client
    from p2l_sdk.serve.process import require_address, settle

    routed = None
    if config is not None:  # /v1/route, too, chooses among the LLMs that the router can call, at its costs
        routed = [name for name in config.models if name in p2l.models]
        known = costs(config, p2l)
        p2l.costs = {**p2l.costs, **{name: known[name] for name in routed}}
    engine = Engine(p2l, cache_mb=cache_mb)
    for key in keys:
        engine.metrics.key(key.name, functools.partial(getattr, key, "spent"))
    async with create_client(config is not None and config.trust_env) as client:
        routers = [] if config is None else [create_chat_router(engine, config, engine.metrics, client)]
        app = create_app(
            engine,
            routers=routers,
            guards=[keys] if keys else [],
            local_only=not keys,
            routed=routed,
            **limits,
        )
        settings = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=_logging(),
            access_log=False,
            timeout_keep_alive=75,  # longer than clients keep idle connections, so that none sends on a closed one
            timeout_graceful_shutdown=round(_GRACE_SECONDS if config is None else config.deadline),
        )
        require_address(host, port)
        settle()
        await uvicorn.Server(settings).serve()


def _logging() -> dict[str, Any]:
    """uvicorn's logging configuration, extended by p2l_sdk's logger."""
    from uvicorn.config import LOGGING_CONFIG

    config: dict[str, Any] = copy.deepcopy(LOGGING_CONFIG)
    config["loggers"]["p2l_sdk"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return config


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
