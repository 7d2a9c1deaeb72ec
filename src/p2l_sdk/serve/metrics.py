"""What the server counts, for Prometheus and for the page. Each `ServerMetrics` has a registry of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class ServerMetrics:
    """Counters of one server. Labels are names of LLMs, keys, stages, endpoints: never anything that a caller wrote."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self._stages = Histogram("p2l_stage_seconds", "Time by stage", ["stage"], buckets=_SECONDS, **own)
        self._batches = Histogram("p2l_batch_size", "Prompts in a batch of the model", buckets=_SIZES, **own)
        self._depth = Gauge("p2l_queue_depth", "Prompts that wait for the model", **own)
        self._hits = Counter("p2l_cache_hits", "Prompts answered from the cache", **own)
        self._misses = Counter("p2l_cache_misses", "Prompts that the model had to score", **own)
        self._requests = Counter("p2l_requests", "Requests answered", ["endpoint", "status"], **own)
        self._routes = Counter("p2l_routes", "Routes given by the P2L API", ["model"], **own)
        self._choices = Counter("p2l_choices", "Calls that the router sent to an LLM", ["model"], **own)
        self._spend = Counter("p2l_spend_usd", "What these calls cost, USD", ["model"], **own)
        self._keys = Gauge("p2l_key_spend_usd", "Spent and set aside with an API key, USD", ["key"], **own)
        # prometheus checks and looks up labels under a lock, longer than it counts; there are few of them
        self._stage, self._request = functools.cache(self._stages.labels), functools.cache(self._requests.labels)
        self._upstream = Counter("p2l_upstream_errors", "Failed calls of an LLM", ["model", "kind"], **own)

    def stage(self, name: str, seconds: float) -> None:
        """A stage took so long: queue, score, choose, upstream (a call, until its answer begins or it fails), chat,
        http."""
        self._stage(name).observe(seconds)

    def batch(self, size: int) -> None:
        """The model scored so many prompts at once."""
        self._batches.observe(size)

    def cache(self, hits: int, misses: int) -> None:
        """So many prompts were, and were not, in the cache."""
        if hits:
            self._hits.inc(hits)
        if misses:
            self._misses.inc(misses)

    def queue_depth(self, depth: Callable[[], float]) -> None:
        """Where the number of waiting prompts is read when somebody asks for it."""
        self._depth.set_function(depth)

    def request(self, endpoint: str, status: int) -> None:
        """A request was answered; the endpoint is the pattern of its path."""
        self._request(endpoint, status).inc()

    def key(self, name: str, spent: Callable[[], float]) -> None:
        """Where the spending of an API key is read when somebody asks for it."""
        self._keys.labels(name).set_function(spent)

    def route(self, model: str) -> None:
        """The P2L API named this LLM to a caller, who calls it by himself."""
        self._routes.labels(model).inc()

    def choice(self, model: str, cost: float | None = None) -> None:
        """The router called this LLM; the call cost so many USD, None where that is not known."""
        self._choices.labels(model).inc()
        if cost is not None:
            self._spend.labels(model).inc(cost)

    def upstream_error(self, model: str, kind: str) -> None:
        """A call of this LLM failed: timeout, connection, status, ..."""
        self._upstream.labels(model, kind).inc()

    def traffic(self) -> list[dict[str, Any]]:
        """Of every LLM that was chosen so far: model, routes, calls, spend (USD), errors; most calls first."""
        table: dict[str, dict[str, Any]] = {}
        for key, counter in (
            ("routes", self._routes),
            ("calls", self._choices),
            ("spend", self._spend),
            ("errors", self._upstream),
        ):
            for sample in next(iter(counter.collect())).samples:
                if sample.name.endswith("_total"):
                    name = sample.labels["model"]
                    row = table.setdefault(name, {"model": name, "routes": 0, "calls": 0, "spend": 0.0, "errors": 0})
                    row[key] += sample.value if key == "spend" else int(sample.value)
        return sorted(table.values(), key=lambda row: (-row["calls"], -row["routes"], row["model"]))

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
