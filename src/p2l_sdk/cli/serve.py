"""`p2l serve`: the P2L API and the router in front of LLMs."""

from __future__ import annotations

import os
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from p2l_sdk.cli.common import MODEL, load, number_type, say, say_matched, whole_type
from p2l_sdk.errors import NO_VOTES, MissingExtraError, P2LWarning

if TYPE_CHECKING:
    from p2l_sdk.p2l import P2L
    from p2l_sdk.serve.gateway.check import Check, LLMCheck
    from p2l_sdk.serve.gateway.config import GatewayConfig

_PACKAGES = ("aiohttp", "fastapi", "uvicorn", "yaml")


@click.command(short_help="Serve a model over HTTP, and route chats with it.")
@MODEL
@click.option("--config", metavar="YAML", help="File of LLMs: also serve OpenAI's chat completions, routed.")
@click.option("--check", "checked", metavar="YAML", help="Check a --config file, say what is missing, and exit.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=whole_type(0, 65535), default=8000, show_default=True, help="Port to listen on.")
@click.option("--api-keys", metavar="FILE", help="File of API keys, one per line; also read from P2L_API_KEYS.")
@click.option(
    "--ledger",
    metavar="FILE|URL",
    envvar="P2L_LEDGER",
    help="Where keys and what they spend are kept: a file, redis://..., or memory.  [the file of --api-keys + .ledger]",
)
@click.option("--workers", type=whole_type(1, 256), default=1, show_default=True, help="Processes that share the port.")
@click.option(
    "--cache-mb",
    type=number_type(0),
    default=64,
    show_default=True,
    help="Memory for results of prompts seen before, MB; 0 for none.",
)
@click.option("--max-body-mb", type=number_type(0.01), default=32, show_default=True, help="Largest request body, MB.")
@click.option(
    "--origin",
    "origins",
    multiple=True,
    metavar="URL",
    help="A site or application whose pages may call the server (CORS); repeatable.",
)
@click.option("--max-prompts", type=whole_type(1), default=1024, show_default=True, help="Most prompts in one request.")
@click.option("--max-connections", type=whole_type(1), default=2000, show_default=True, help="Most connections in all.")
@click.option(
    "--max-per-client",
    type=whole_type(1),
    default=256,
    show_default=True,
    help="Most connections from one address, but for this machine and --proxy.",
)
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    metavar="ADDRESS",
    help="A reverse proxy (address or network): --max-per-client does not hold for it; repeatable.",
)
@click.option(
    "--header-seconds",
    type=number_type(above=0),
    default=10,
    show_default=True,
    help="Time within which the header of a request must have arrived.",
)
@click.option("--max-header-kb", type=whole_type(1), default=64, show_default=True, help="Largest request header, KB.")
def serve(
    model: str | None, config: str | None, checked: str | None, host: str, port: int, api_keys: str | None,
    ledger: str | None, workers: int, cache_mb: float, max_body_mb: float, max_prompts: int, origins: tuple[str, ...],
    max_connections: int, max_per_client: int, proxies: tuple[str, ...], header_seconds: float, max_header_kb: int,
) -> None:  # fmt: skip
    """Serve a model over HTTP: its API, a page, and, with --config, a router for OpenAI chat clients."""
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingExtraError("p2l serve", package, "serve")
    from p2l_sdk.serve.auth import Keys
    from p2l_sdk.serve.connections import ConnectionLimits
    from p2l_sdk.serve.gateway.check import check
    from p2l_sdk.serve.gateway.config import GatewayConfig
    from p2l_sdk.serve.run import ServerSettings, Worker, run_server
    from p2l_sdk.serve.scraping import ENVIRONMENT
    from p2l_sdk.serve.workers import run_workers

    if checked is not None:
        _print_check(check(GatewayConfig.from_yaml(checked), load(model)), checked)
        return
    warnings.filterwarnings("ignore", r".* this model reads", P2LWarning)  # a line for each long request
    settings = ServerSettings(
        host=host,
        port=port,
        gateway=None if config is None else GatewayConfig.from_yaml(config),
        keys=Keys.load(api_keys),
        metrics_key=os.environ.get(ENVIRONMENT),
        ledger=ledger or (None if api_keys is None else f"{api_keys}.ledger"),
        cache_mb=cache_mb,
        max_body_bytes=round(max_body_mb * 2**20),
        max_prompts=max_prompts,
        origins=origins,
        connections=ConnectionLimits(
            max_header_bytes=max_header_kb * 1024,
            header_seconds=header_seconds,
            max_connections=max_connections,
            max_per_client=max_per_client,
            proxies=(*ConnectionLimits.proxies, *proxies),
        ),
    )
    if workers == 1:
        run_server(_loaded(model, config, settings.gateway), settings)
        return

    def work(settings: ServerSettings, worker: Worker, first: bool) -> None:
        run_server(_loaded(model, config, settings.gateway, aloud=first), settings, worker)

    run_workers(work, settings, workers)


def _loaded(model: str | None, config: str | None, gateway: GatewayConfig | None, aloud: bool = True) -> P2L:
    """The P2L model, with which a configuration must be ready to serve; `aloud`: say how it reads the names of LLMs."""
    from p2l_sdk.serve.gateway.check import check

    p2l = load(model)
    if gateway is not None:
        found = check(gateway, p2l)
        found.require_ready(str(config))
        if aloud:
            say_matched(found.matched)
        for text in (*found.ambiguous, *filter(None, [found.idle])) if aloud else ():
            say(f"p2l: {text}", err=True)
        unknown = [llm.name for llm in found.llms if not (llm.known or llm.fallback or llm.candidates)]
        if aloud and unknown:
            names = ", ".join(unknown)
            say(f"p2l: the P2L model does not know {names}: reached by name, never routed to", err=True)
    return p2l


def _print_check(found: Check, path: str) -> None:
    """Print the LLMs of a configuration file; raise `P2LError` for what is missing in it."""
    from p2l_sdk.routing.route import usd

    for llm in found.llms:
        cost = "cost not known" if llm.cost is None else f"{usd(llm.cost)} per response"
        routed = f"routed as {llm.own}" if llm.own else "routed"
        say(f"{llm.name}: {routed if llm.known else _by_name(llm)}, {cost}, {llm.base_url}")
    if any(not (llm.known or llm.candidates or llm.fallback) for llm in found.llms):
        say(f"an LLM that the P2L model does not know: {NO_VOTES}")
    if found.budget:
        say(found.budget)
    found.require_ready(path)
    for warning in found.warnings:
        say(f"warning: {warning}")
    say(f"{path}: ready to serve")


def _by_name(llm: LLMCheck) -> str:
    if llm.fallback:
        return "fallback, called after all that are routed"
    if llm.candidates:
        return f"by name only: it may be {' or '.join(llm.candidates)}; name one of them"
    similar = f" (did you mean {llm.similar!r}?)" if llm.similar else ""
    return f"by name only: the P2L model does not know it{similar}"
