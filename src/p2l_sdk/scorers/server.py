"""A client of an HTTP server that scores prompts: its address, its key, and what is tried again."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from p2l_sdk.errors import P2LError, RemoteError

_BUSY = {408, 429, 500, 502, 503, 504}
_LONGEST_WAIT = 30.0  # seconds between two attempts


class Server:
    """An HTTP server; can be shared between threads.

    Args:
        url: "http://host:port", followed by a path if the server is behind a proxy under that path.
        key: its API key; by default that of the environment variable `key_variable`.
        timeout_s: seconds to wait for a connection, and for each response.
        retries: number of retries if the server is busy, fails or cannot be reached.

    Raises:
        RemoteError: the address is malformed, or the key cannot be sent.
    """

    kind, program = "a p2l server", "p2l serve"
    key_variable = "P2L_API_KEY"

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60.0, retries: int = 4) -> None:
        try:
            parts = urlsplit(url)
            self._address = parts.hostname or "", parts.port
        except ValueError:  # brackets, a port that is no number
            parts, self._address = urlsplit(""), ("", None)
        if parts.scheme not in ("http", "https") or not self._address[0] or parts.query or parts.fragment:
            raise RemoteError(f"{_without_password(url)!r} is no address of a server; write http://host:port")
        if parts.username is not None:
            raise RemoteError(f"a key does not belong in an address; pass it as token=..., or in {self.key_variable}")
        self.url = url.rstrip("/")
        self._path, self._secure = parts.path.rstrip("/"), parts.scheme == "https"
        self._key = ((os.environ.get(self.key_variable) if key is None else key) or "").strip()
        if not (self._key.isascii() and self._key.isprintable()):  # http.client would print it in its error
            where = self.key_variable if key is None else "token=..."
            raise RemoteError(f"the key in {where} holds characters that no header can carry; copy it anew")
        self._timeout, self._retries = timeout_s, retries
        self._connections = threading.local()  # one per thread, kept alive

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The JSON of a response with status 200; retries failures that may pass."""
        for attempt in range(self._retries + 1):
            try:
                status, headers, content = self._send(method, self._path + path, body)
            except (OSError, http.client.HTTPException) as error:
                self._hang_up()
                what, wait = f"cannot be reached ({error or type(error).__name__})", 0.0
            else:
                if status == 200:
                    return self._json(content)
                if status not in _BUSY:
                    raise self._refusal(status, content)
                after = headers.get("Retry-After") or ""
                what, wait = f"answers {status}: {message_of(content)}", float(after) if after.isdigit() else 0.0
            if attempt < self._retries:
                backoff = 0.1 * 2**attempt * (1 + random.random())
                time.sleep(min(max(wait, backoff), _LONGEST_WAIT))
        tries = f"after {self._retries + 1} tries" if self._retries else "and was asked once"
        raise RemoteError(f"{self.url} {what}, {tries}; does {self.program} run there?")

    def _send(self, method: str, path: str, body: bytes | None) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = getattr(self._connections, "open", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            connection = self._connections.open = kind(*self._address, timeout=self._timeout)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()

    def _hang_up(self) -> None:
        connection = getattr(self._connections, "open", None)
        if connection is not None:
            connection.close()
        self._connections.open = None

    def _json(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError:
            raise RemoteError(f"{self.url} answers, but not as {self.kind} does (no JSON)") from None

    def _refusal(self, status: int, content: bytes) -> P2LError:
        """The error of a response with a status that stays."""
        facts = facts_of(content)
        if status == 401 or (status == 403 and facts.get("code") != "forbidden"):  # "forbidden" names its remedy
            return RemoteError(
                f"{self.url} does not accept {'your key' if self._key else 'a request without a key'}; pass token=..., "
                f"or set {self.key_variable}"
            )
        if status in (301, 302, 303, 307, 308):
            return RemoteError(f"{self.url} redirects elsewhere, which is not followed; name the address it stands for")
        wrong = "; name the server without /v1" if status == 404 and self._path.endswith("/v1") else ""
        return RemoteError(f"{self.url} answers {status}: {message_of(content)}{wrong}")

    def __repr__(self) -> str:
        return self.url


def facts_of(content: bytes) -> dict[str, Any]:
    """The error in the body of a response; empty if there is none."""
    try:
        facts = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return facts if isinstance(facts, dict) else {}


def message_of(content: bytes) -> str:
    """The error's message."""
    return str(facts_of(content).get("message") or "no reason is given")


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//...@", url)
