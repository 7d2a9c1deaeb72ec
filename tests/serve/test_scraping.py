"""Who may read /metrics, and what it says of keys."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from fastapi import FastAPI, Request
from httpx import ASGITransport, AsyncClient

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.auth import Key, Keys
from p2l_sdk.serve.errors import ApiError
from p2l_sdk.serve.http import add_error_handlers
from p2l_sdk.serve.ledger.entries import Account, Budgets, Spent
from p2l_sdk.serve.metrics import ServerMetrics
from p2l_sdk.serve.scraping import MetricsGuard

ANY, OURS = "sk-any-0123456789abc", "sk-metrics-0123456789"
HERE, AWAY = "127.0.0.1", "10.0.0.7"


def keys() -> Keys:
    return Keys([Key("any", hashlib.sha256(ANY.encode()).digest())])


def status(guard: MetricsGuard, sent: dict[str, str], host: str) -> int:
    return asyncio.run(_status(guard, sent, host))


async def _status(guard: MetricsGuard, sent: dict[str, str], host: str) -> int:
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/metrics")
    async def metrics(request: Request) -> str:
        await guard(request)
        return "x"

    transport = ASGITransport(app, client=(host, 1))
    async with AsyncClient(transport=transport, base_url="http://localhost") as client:
        return (await client.get("/metrics", headers=sent)).status_code


@pytest.mark.parametrize(
    ("secret", "sent", "host", "expected"),
    [
        (None, {}, HERE, 401),
        (None, {"authorization": "Bearer x"}, HERE, 401),
        (None, {"authorization": f"Bearer {ANY}"}, HERE, 200),
        (None, {"authorization": f"Bearer {ANY}"}, "::1", 200),
        (None, {"authorization": f"Bearer {ANY}"}, AWAY, 403),
        (None, {"x-api-key": ANY, "x-forwarded-for": AWAY}, HERE, 403),
        (None, {"x-api-key": ANY, "forwarded": f"for={AWAY}"}, HERE, 403),
        (OURS, {}, AWAY, 401),
        (OURS, {"authorization": f"Bearer {OURS}"}, AWAY, 200),
        (OURS, {"x-api-key": OURS, "x-forwarded-for": AWAY}, HERE, 200),
        (OURS, {"authorization": f"Bearer {OURS}x"}, AWAY, 401),
        (OURS, {"authorization": f"Bearer {ANY}"}, HERE, 403),
        (OURS, {"authorization": f"Bearer {ANY}"}, AWAY, 403),
    ],
)
def test_who_may_read_the_metrics_of_a_server_with_keys(secret, sent, host, expected):
    assert status(MetricsGuard(keys(), secret), sent, host) == expected


def test_a_server_without_keys_asks_for_the_key_of_metrics_alone():
    assert status(MetricsGuard(Keys(()), None), {}, HERE) == 200
    assert status(MetricsGuard(Keys(()), OURS), {}, HERE) == 403
    assert status(MetricsGuard(Keys(()), OURS), {"authorization": f"Bearer {OURS}"}, HERE) == 200
    for secret in ("", "short"):
        with pytest.raises(P2LError, match="P2L_METRICS_KEY must have at least 16 characters"):
            MetricsGuard(Keys(()), secret)


def test_metrics_tell_budgets_and_what_is_left():
    metrics = ServerMetrics()
    budgets = Budgets(total=10.0, daily=1.0)
    accounts = [
        Account("a", "team", budgets, spent=Spent(0.25, 2.0, 4.0)),
        Account("b", "docs", Budgets(monthly=3.0), spent=Spent(0.0, 5.0, 5.0)),
        Account("c", "free"),
        Account("d", "team", Budgets(total=1.0), spent=Spent(0.0, 0.0, 0.5)),  # of a ledger, beside one of a file
    ]
    metrics.keys(lambda: accounts)
    metrics.key_refused("team", "budget_in_use")
    lines = [line for line in metrics.exposition().decode().splitlines() if line.startswith("p2l_key")]
    assert {
        'p2l_key_spend_usd{key="team"} 4.5',
        'p2l_key_spend_usd{key="free"} 0.0',
        'p2l_key_budget_usd{budget="total",key="team"} 11.0',
        'p2l_key_left_usd{budget="total",key="team"} 6.5',
        'p2l_key_budget_usd{budget="daily",key="team"} 1.0',
        'p2l_key_left_usd{budget="daily",key="team"} 0.75',
        'p2l_key_left_usd{budget="monthly",key="docs"} 0.0',
        'p2l_key_refusals_total{code="budget_in_use",key="team"} 1.0',
    } <= set(lines)
    assert not [line for line in lines if "free" in line and "budget" in line]


def test_metrics_without_a_ledger_have_no_rows_of_keys():
    def broken() -> list[Account]:
        raise ApiError("no")

    metrics = ServerMetrics()
    metrics.keys(broken)
    assert "p2l_key_spend_usd{" not in metrics.exposition().decode()
