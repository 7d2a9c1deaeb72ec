"""The counters of the server, for Prometheus and for the page. Each `ServerMetrics` has its own registry."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.ledger.entries import Account

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class ServerMetrics:
    """Counters of one server. Labels are names of LLMs, keys, stages and endpoints, never anything a caller wrote.

    Args:
        shared: the folder in which the processes of a server keep their counters (see `serve/workers.py`): what is
            read is their sum. None for a server of one process.
    """

    def __init__(self, shared: str | None = None) -> None:
        self._shared, self._spending = shared, _Spending(tuple)
        self._waiting: Callable[[], float] | None = None
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self._stages = Histogram("p2l_stage_seconds", "Time by stage", ["stage"], buckets=_SECONDS, **own)
        self._batches = Histogram("p2l_batch_size", "Prompts in a batch of the model", buckets=_SIZES, **own)
        self._depth = Gauge("p2l_queue_depth", "Prompts that wait for the model", multiprocess_mode="livesum", **own)
        self._hits = Counter("p2l_cache_hits", "Prompts answered from the cache", **own)
        self._misses = Counter("p2l_cache_misses", "Prompts that the model had to score", **own)
        self._requests = Counter("p2l_requests", "Requests answered", ["endpoint", "status"], **own)
        self._routes = Counter("p2l_routes", "Routes given by the P2L API", ["model"], **own)
        self._choices = Counter("p2l_choices", "Requests of the router that an LLM answered", ["model"], **own)
        self._spend = Counter("p2l_spend_usd", "What requests of the router cost, USD", ["model"], **own)
        self._unpaid = Counter("p2l_key_refusals", "Requests that a key could not pay", ["key", "code"], **own)
        self._overcharges = Counter("p2l_overcharges", "LLMs out for a key that they overcharged", ["model"], **own)
        self._refused = Counter("p2l_refused_connections", "Connections closed by a limit", ["reason"], **own)
        # prometheus validates and looks up labels under a lock, which takes longer than counting; there are few of them
        self._stage, self._request = functools.cache(self._stages.labels), functools.cache(self._requests.labels)
        self._choice, self._spent = functools.cache(self._choices.labels), functools.cache(self._spend.labels)
        self._upstream = Counter("p2l_upstream_errors", "Failed calls of an LLM", ["model", "kind"], **own)

    def stage(self, name: str, seconds: float) -> None:
        """Record the duration of a stage: queue, score, choose, upstream (a call until its answer begins or it fails),
        chat, http."""
        self._stage(name).observe(seconds)

    def batch(self, size: int) -> None:
        """Record the number of prompts in a batch."""
        self._batches.observe(size)

    def cache(self, hits: int, misses: int) -> None:
        """Count prompts that were, and were not, in the cache."""
        if hits:
            self._hits.inc(hits)
        if misses:
            self._misses.inc(misses)

    def queue_depth(self, depth: Callable[[], float]) -> None:
        """Set the function that tells the number of waiting prompts; called when the metrics are read, in a server of
        several processes also after each request."""
        if self._shared is None:
            self._depth.set_function(depth)
        self._waiting = depth

    def request(self, endpoint: str, status: int) -> None:
        """Count an answered request; `endpoint` is the pattern of its path."""
        self._request(endpoint, status).inc()
        self._note_depth()

    def refused_connection(self, reason: str) -> None:
        """Count a connection that a limit refused or closed: per_client, in_all, gave_way, header_timeout, stalled, or
        the code of an error."""
        self._refused.labels(reason).inc()

    def keys(self, accounts: Callable[[], Iterable[Account]]) -> None:
        """Set the function that tells the API keys, with what they have spent; called when the metrics are read."""
        self._spending = _Spending(accounts)
        if self._shared is None:
            self.registry.register(self._spending)

    def route(self, model: str) -> None:
        """Count a route: the P2L API recommended this LLM, and calling it is up to the caller."""
        self._routes.labels(model).inc()

    def choice(self, model: str, cost: float | None = None) -> None:
        """Count a request that this LLM answered through the router, and its cost in USD (None if unknown)."""
        self._choice(model).inc()
        if cost is not None:
            self._spent(model).inc(cost)

    def key_refused(self, key: str, code: str) -> None:
        """Count a request that this key, by its name, could not pay; `code` is that of the error."""
        self._unpaid.labels(key, code).inc()

    def overcharged(self, model: str) -> None:
        """Count an LLM that billed more than its prices allow for, and is not used for keys with budgets any more."""
        self._overcharges.labels(model).inc()

    def upstream_error(self, model: str, kind: str) -> None:
        """Count a failed call of this LLM; `kind` as in `UpstreamError`."""
        self._upstream.labels(model, kind).inc()

    def traffic(self) -> list[dict[str, Any]]:
        """One row per LLM seen so far, most calls first: model, routes, calls, spend (USD), errors."""
        table: dict[str, dict[str, Any]] = {}
        families = {family.name: family for family in self._read().collect()}
        for key, counter in (
            ("routes", "p2l_routes"),
            ("calls", "p2l_choices"),
            ("spend", "p2l_spend_usd"),
            ("errors", "p2l_upstream_errors"),
        ):
            if counter not in families:  # no process of this server has counted any
                continue
            for sample in families[counter].samples:
                if sample.name.endswith("_total"):
                    name = sample.labels["model"]
                    row = table.setdefault(name, {"model": name, "routes": 0, "calls": 0, "spend": 0.0, "errors": 0})
                    row[key] += sample.value if key == "spend" else int(sample.value)
        return sorted(table.values(), key=lambda row: (-row["calls"], -row["routes"], row["model"]))

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format; it may block, as it reads what keys have spent."""
        self._note_depth()
        return generate_latest(self._read())

    def _read(self) -> CollectorRegistry:
        """The registry of this process, or of all."""
        if self._shared is None:
            return self.registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry, self._shared)
        registry.register(self._spending)
        return registry

    def _note_depth(self) -> None:
        if self._shared is not None and self._waiting is not None:
            self._depth.set(self._waiting())


class _Spending(Collector):
    """What keys have spent and may spend, which a ledger knows."""

    def __init__(self, accounts: Callable[[], Iterable[Account]]) -> None:
        self._accounts = accounts

    def collect(self) -> Iterator[Metric]:
        """One sample by key, and one by budget; nothing at all while the ledger does not answer."""
        spend = GaugeMetricFamily("p2l_key_spend_usd", "Spent and set aside with an API key, USD", labels=["key"])
        by_budget = ["key", "budget"]
        budget = GaugeMetricFamily("p2l_key_budget_usd", "Budget of an API key, USD", labels=by_budget)
        left = GaugeMetricFamily("p2l_key_left_usd", "What is left of a budget of an API key, USD", labels=by_budget)
        with contextlib.suppress(P2LError):
            for name, spent, budgets in _by_name(self._accounts()):
                spend.add_metric([name], spent)
                for kind, (usd, rest) in budgets.items():
                    budget.add_metric([name, kind], usd)
                    left.add_metric([name, kind], rest)
            yield from (spend, budget, left)


def _by_name(accounts: Iterable[Account]) -> Iterator[tuple[str, float, dict[str, tuple[float, float]]]]:
    """Of each name what was spent, and budget and rest by kind. A key of a file may have the name of one in a ledger:
    what they have is added up."""
    spend: dict[str, float] = {}
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for account in accounts:
        budgets, spent, name = account.budgets, account.spent, account.name
        spend[name] = spend.get(name, 0.0) + spent.total
        rows = found.setdefault(name, {})
        for kind, usd, gone in (
            ("total", budgets.total, spent.total),
            ("monthly", budgets.monthly, spent.month),
            ("daily", budgets.daily, spent.today),
        ):
            if usd is not None:
                before = rows.get(kind, (0.0, 0.0))
                rows[kind] = before[0] + usd, before[1] + max(0.0, usd - gone)
    return ((name, usd, found[name]) for name, usd in spend.items())
