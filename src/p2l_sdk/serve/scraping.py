"""`MetricsGuard`: who may read /metrics, which tells what each key spends."""

from __future__ import annotations

import hmac
from collections.abc import Iterator

from fastapi import Request

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.auth import SHORTEST_KEY, Keys, secrets_of
from p2l_sdk.serve.errors import Forbidden
from p2l_sdk.serve.process import is_loopback

ENVIRONMENT = "P2L_METRICS_KEY"
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")  # by a proxy, for somebody else


class MetricsGuard:
    """Lets those read /metrics who hold the key for it, which is good for nothing else. Without such a key: requests of
    this machine that no proxy has forwarded, with any API key of the server, if it has some.

    Args:
        keys: of the server.
        secret: the key for /metrics.

    Raises:
        P2LError: the secret is too short.
    """

    def __init__(self, keys: Keys, secret: str | None) -> None:
        if secret is not None and len(secret) < SHORTEST_KEY:
            raise P2LError(f"{ENVIRONMENT} must have at least {SHORTEST_KEY} characters")
        self._keys, self._secret = keys, None if secret is None else secret.encode()

    async def __call__(self, request: Request) -> None:
        """Check a request.

        Raises:
            Unauthorized: it has no key of this server.
            Forbidden: its key is not for metrics.
        """
        if self._secret is not None and any(hmac.compare_digest(one, self._secret) for one in _sent(request)):
            return
        if self._keys:
            await self._keys(request)
        if self._secret is not None:
            raise Forbidden(
                f"the metrics are for the holder of the server's {ENVIRONMENT}; send it as the bearer token"
            )
        host = "" if request.client is None else request.client.host
        if self._keys and (not is_loopback(host) or any(name in request.headers for name in _FORWARDED)):
            raise Forbidden(
                "the metrics tell what every key spends, so they are for requests of the server's own machine, or for "
                f"the holder of {ENVIRONMENT}, once that is set where the server starts"
            )


def _sent(request: Request) -> Iterator[bytes]:
    return (secret.encode("utf-8", "surrogatepass") for secret in secrets_of(request))
