"""One client's faults close an LLM for that client; for all it is closed only by those of several."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx
import pytest
from gateway_llms import CHEAP, HELLO, config
from gateway_server import serving

from p2l_sdk.serve.auth import Key, Keys
from p2l_sdk.serve.gateway.breaker import Breaker

pytest_plugins = ["gateway_fixtures"]
A, B, C = b"a", b"b", b"c"


@pytest.fixture
def now(monkeypatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("p2l_sdk.serve.gateway.breaker.time.monotonic", lambda: now[0])
    return now


def fail(breaker: Breaker, clients: str) -> None:
    for client in clients:
        breaker.failed(client=client.encode())


def waits(breaker: Breaker) -> list[float]:
    return [breaker.wait(client) for client in (A, B, C)]


@pytest.mark.parametrize(
    ("clients", "closed"),
    [
        ("aaaa", ""), ("aaaaa", "a"), ("aaaaaaaaab", "a"), ("aaaaabbbbb", "abc"), ("aaab", ""), ("aaabb", "abc"),
        ("aaabc", "abc"), ("aabbc", "abc"), ("aabb", ""), ("baaaaaaaa", "a"), ("abababa", "abc"),
    ],
)  # fmt: skip
def test_who_is_kept_from_an_llm(clients, closed, now):
    breaker = Breaker(failures=5, seconds=10)
    fail(breaker, clients)
    assert waits(breaker) == [10 if name in closed else 0 for name in "abc"]
    breaker.succeeded()
    assert waits(breaker) == [0, 0, 0]


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_few_failures_of_one_client_do_not_close_it_for_others(failures, now):
    breaker = Breaker(failures, 10)
    fail(breaker, "a" * 20)
    assert waits(breaker) == [10, 0, 0]
    fail(breaker, "b")
    assert waits(breaker) == [10, 10, 10]


def test_after_an_outage_each_client_tries_once_and_none_prolongs_it_for_the_others(now):
    breaker = Breaker(5, 10)
    fail(breaker, "aaabb")
    now[0] += 10
    assert waits(breaker) == [0, 0, 0]
    trial = breaker.enter(A)
    assert waits(breaker) == [10, 0, 0]  # alone among those of its client
    breaker.failed(client=A)
    fail(breaker, "aaaa")
    assert waits(breaker) == [10, 0, 0]
    breaker.release(trial, A)
    fail(breaker, "c")  # and of another client: it is out of order still
    assert waits(breaker) == [10, 10, 10]
    now[0] += 10
    breaker.enter(B)
    breaker.succeeded()
    assert waits(breaker) == [0, 0, 0]


def test_a_pause_that_an_upstream_asks_for_holds_for_all_once_two_clients_were_told(now):
    breaker = Breaker(5, 10)
    breaker.failed(3600, A)
    assert waits(breaker) == [10, 0, 0]
    breaker.failed(4, B)
    assert waits(breaker) == [10, 4, 4]


def test_many_clients_are_not_remembered_for_ever(now):
    breaker = Breaker(10**6, 10)
    for i in range(3000):
        breaker.failed(client=b"%d" % i)
    assert len(breaker._clients) <= 1024
    assert breaker._counted.total() <= 1024


def keys() -> tuple[Keys, list[dict[str, str]]]:
    secrets = [f"sk-{name}-0123456789" for name in ("one", "two")]
    found = [Key(secret, hashlib.sha256(secret.encode()).digest()) for secret in secrets]
    return Keys(found), [{"x-api-key": secret} for secret in secrets]


@pytest.fixture
def two(routing9, upstreams) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two clients of a gateway whose LLM answers within half a second."""
    upstreams.reset()
    known, headers = keys()
    settings = config(upstreams, llms={CHEAP: {"timeout": 0.3}}, attempts=1, breaker_failures=2, breaker_seconds=30)
    with serving(routing9, settings, known) as running:
        url = running.url
        with httpx.Client(base_url=url, headers=headers[0]) as one, httpx.Client(base_url=url, headers=headers[1]) as b:
            yield one, b


def status(client: httpx.Client) -> int:
    return client.post("/chat/completions", json={"model": CHEAP, "messages": HELLO}).status_code


@pytest.mark.parametrize("fault", ["stall", "500"])
def test_a_client_whose_requests_break_an_llm_does_not_close_it_for_others(fault, two, upstreams):
    one, other = two
    upstreams.script[CHEAP] = [fault, fault]
    assert [status(one), status(one)] == [504 if fault == "stall" else 502] * 2
    seen = len(upstreams.seen)
    assert status(one) == 503
    assert len(upstreams.seen) == seen
    assert status(other) == 200
    assert status(one) == 200  # it works, as the other has found out
    upstreams.script[CHEAP] = ["500"] * 2
    assert [status(one), status(other), status(one), status(other)] == [502, 502, 503, 503]


def test_a_reply_that_is_too_large_is_no_fault(two, upstreams, monkeypatch):
    monkeypatch.setattr("p2l_sdk.serve.gateway.upstream.LARGEST_REPLY", 100)
    assert [status(two[0]) for _ in range(4)] == [502] * 4
    assert len(upstreams.seen) == 4
