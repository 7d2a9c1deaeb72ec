"""API keys of the server: who may call it and how much they may spend."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request

from p2l_sdk.errors import P2LError
from p2l_sdk.routing.route import usd
from p2l_sdk.serve.errors import ApiError

ENVIRONMENT = "P2L_API_KEYS"
_SHORTEST = 16
_BARE = ("x-api-key", "api-key")  # headers that hold a bare key
_DIGITS = 12  # decimals of USD: anything smaller is floating-point error of the sum


class Unauthorized(ApiError):  # noqa: N818  named for what happened, like all errors of the server
    """The request has no key, or an unknown one."""

    status, code = 401, "invalid_api_key"


class OutOfBudget(ApiError):  # noqa: N818
    """The key's remaining budget is too small for this request."""

    status, type, code = 429, "insufficient_quota", "insufficient_quota"


@dataclass(eq=False)
class Key:
    """An API key. The secret itself is not stored.

    Attributes:
        name: for people and the log.
        digest: SHA-256 of the secret.
        budget: USD that may be spent with it while the server runs, None for no limit.
        spent: USD so far, including what is reserved for requests in progress.
    """

    name: str
    digest: bytes = field(repr=False)
    budget: float | None = None
    spent: float = 0.0

    @property
    def left(self) -> float | None:
        """USD that may still be spent; None for no limit."""
        return None if self.budget is None else round(self.budget - self.spent, _DIGITS)

    def require(self, cost: float) -> None:
        """Raise OutOfBudget unless the key has this much left, in USD."""
        if self.budget is None or self.left is None:
            return
        left, cost = self.left, round(cost, _DIGITS)
        if cost <= left:
            return
        if left > 0:
            text = (
                f"the key {self.name!r} has {usd(left)} left of its budget of {usd(self.budget)}, and this needs up to "
                f"{usd(cost)}; send a lower cost, or name a cheaper LLM"
            )
        else:
            text = f"the budget of {usd(self.budget)} of the key {self.name!r} is spent"
        raise OutOfBudget(text, headers={"x-should-retry": "false"})  # respected by OpenAI's clients

    def record(self, cost: float) -> None:
        """Count a cost in USD as spent."""
        self.spent += cost

    def correct(self, recorded: float, cost: float | None) -> None:
        """Replace a recorded cost by the actual one in USD; None if nothing was spent."""
        self.spent += (cost or 0.0) - recorded


class Keys:
    """All keys of a server, as a guard of its endpoints: a request without one of them is refused; for all others the
    key is put in `request.state.key`.

    Raises:
        P2LError: two keys have the same name or the same secret.
    """

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = tuple(keys)
        for what in ("name", "digest"):
            values = [getattr(key, what) for key in self._keys]
            for value, key in zip(values, self._keys, strict=True):
                if values.count(value) > 1:
                    raise P2LError(f"two API keys have the same {'name' if what == 'name' else 'secret'}: {key.name!r}")

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    @classmethod
    def load(cls, file: str | Path | None = None) -> Keys:
        """Read the keys from a file and from the environment variable P2L_API_KEYS: one per line (in the variable also
        separated by commas), each optionally followed by a name and a budget in USD. Lines that begin with # are
        ignored.

        Raises:
            P2LError: the file cannot be read, a line is invalid, or the sources given hold no key. The message names
                the line, never the key.
        """
        environment = os.environ.get(ENVIRONMENT)  # set but empty still counts as a source: no key there is an error
        lines = [
            (f"{ENVIRONMENT}, entry {i}", line)
            for i, line in enumerate((environment or "").replace(",", "\n").splitlines(), 1)
        ]
        if file is not None:
            try:
                text = Path(file).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise P2LError(f"the file of API keys {str(file)!r} cannot be read: {reason}") from None
            lines += [(f"{file}, line {i}", line) for i, line in enumerate(text.splitlines(), 1)]
        found: list[Key] = []
        for place, line in lines:
            if line.strip() and not line.lstrip().startswith("#"):
                found.append(_key(place, line.split(), f"key-{len(found) + 1}"))
        named = [str(file)] if file is not None else []
        named += [ENVIRONMENT] if environment is not None else []
        if named and not found:
            raise P2LError(
                f"there is no API key in {' or '.join(named)}, so anybody could call the server; write one there, on a "
                "line of its own, or leave it out (unset the variable)"
            )
        return cls(found)

    def find(self, secret: str) -> Key | None:
        """The key with this secret. It is compared with all keys, in constant time."""
        digest, found = _digest(secret), None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    async def __call__(self, request: Request) -> None:
        """Check a request and set `request.state.key`.

        Raises:
            Unauthorized: the request carries none of the keys.
        """
        key = next(filter(None, map(self.find, _secrets(request))), None)
        if key is None:
            raise Unauthorized(
                "this server needs an API key: send the header 'Authorization: Bearer KEY' (or x-api-key, or api-key)",
                headers={"WWW-Authenticate": "Bearer"},
            )
        request.state.key = key


def _secrets(request: Request) -> Iterator[str]:
    """What may be a key of ours: clients made for Anthropic or Azure send theirs in headers of their own, perhaps
    beside an `Authorization` that is meant for a proxy on the way."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield secret.strip()
    for name in _BARE:
        if name in request.headers:
            yield request.headers[name].strip()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _key(place: str, words: list[str], name: str) -> Key:
    secret, *rest = words
    if len(secret) < _SHORTEST:
        raise P2LError(f"{place}: an API key has at least {_SHORTEST} characters")
    try:
        name = rest[0] if rest else name
        budget = float(rest[1]) if len(rest) > 1 else None
    except ValueError:
        budget = -1.0
    if len(rest) > 2 or (budget is not None and not 0 <= budget < float("inf")):
        raise P2LError(f"{place}: after the key stand its name and its budget, a number >= 0, USD; nothing else")
    return Key(name, _digest(secret), budget)
