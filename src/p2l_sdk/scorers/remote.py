"""A server as the scorer: `P2L.from_pretrained("http://host:port")` is the same `P2L`, on the base install alone.

The server sends only coefficients and recognised kinds; leaderboards, aggregates and routes are computed here and equal
those of a local model. Redirects are not followed, and proxies are not used.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from p2l_sdk.errors import P2LError, PromptError, RemoteError
from p2l_sdk.leaderboards.leaderboard import Coefficients, Kinds
from p2l_sdk.modeling.prompt_p2l import Prompt, user_turns
from p2l_sdk.modeling.spec_p2l import ModelSpec

KEY_VARIABLE = "P2L_API_KEY"
_BUSY = {408, 429, 500, 502, 503, 504}
_LONGEST_WAIT = 30.0  # seconds between two attempts
_PLACE = re.compile(r"prompts\[(\d+)\]")


class RemoteScorer:
    """A p2l server as a scorer; can be shared between threads.

    Args:
        url: "http://host:port", followed by a path if the server is behind a proxy under that path.
        key: the server's API key; by default that of the environment variable P2L_API_KEY.
        timeout_s: seconds to wait for a connection, and for each response.
        retries: number of retries if the server is busy, fails or cannot be reached.

    Raises:
        RemoteError: the address is malformed, the key cannot be sent, or the server cannot be reached, refuses the key,
            or is not a p2l server; the message says which.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 60.0, retries: int = 4) -> None:
        try:
            parts = urlsplit(url)
            self._address = parts.hostname or "", parts.port
        except ValueError:  # brackets, a port that is no number
            parts, self._address = urlsplit(""), ("", None)
        if parts.scheme not in ("http", "https") or not self._address[0] or parts.query or parts.fragment:
            raise RemoteError(f"{_without_password(url)!r} is no address of a server; write http://host:port")
        if parts.username is not None:
            raise RemoteError(f"a key does not belong in an address; pass it as token=..., or in {KEY_VARIABLE}")
        self.url = url.rstrip("/")
        self._path, self._secure = parts.path.rstrip("/"), parts.scheme == "https"
        self._key = ((os.environ.get(KEY_VARIABLE) if key is None else key) or "").strip()
        if not (self._key.isascii() and self._key.isprintable()):  # http.client would print it in its error
            where = KEY_VARIABLE if key is None else "token=..."
            raise RemoteError(f"the key in {where} holds characters that no header can carry; copy it anew")
        self._timeout, self._retries = timeout_s, retries
        self._connections = threading.local()  # one per thread, kept alive
        known = self._ask("GET", "/v1/p2l/models")
        try:
            names, costs = [row["model"] for row in known["models"]], {r["model"]: r["cost"] for r in known["models"]}
            known_costs = {name: cost for name, cost in costs.items() if cost is not None}
            kinds = tuple(known.get("kinds") or ())
            self.spec = ModelSpec(models=tuple(names), feedback=known["feedback"], costs=known_costs, kinds=kinds)
            error = known.get("group_error")  # a server of an older version does not send it
            self.group_error = None if error is None else np.array(error, dtype=np.float32).reshape(2)
            self._max_prompts = int(known["limits"]["max_prompts"])
            self._max_bytes = int(known["limits"]["max_body_bytes"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RemoteError(f"{self.url} answers, but not as a p2l server does ({error!r})") from None
        self.variance = self._variance() if kinds else None

    def score(self, prompts: Sequence[Prompt]) -> Coefficients:
        """Coefficients of a batch of prompts, float32, in as many requests as the server's limits require.

        Raises:
            PromptError: a prompt cannot be scored; its `index` is the position in the batch.
            RemoteError: the server refused the request, still fails after the retries, or serves another model now.
        """
        bodies: list[bytes] = []
        for i, prompt in enumerate(prompts):
            try:
                turns = user_turns(prompt)  # raises the same errors as a local model
            except PromptError as error:
                error.index = i
                raise
            bodies.append(json.dumps([{"role": "user", "content": turn} for turn in turns]).encode())
        parts, done = [], 0
        for chunk in _chunks(bodies, self._max_prompts, self._max_bytes - 64):
            try:
                parts.append(self._coefficients(chunk))
            except PromptError as error:
                error.index = done + (error.index or 0)
                raise
            done += len(chunk)
        return Coefficients.concatenate(parts)

    def _variance(self) -> np.ndarray:
        """How uncertain a model that recognises kinds of prompt is; see `EditableScorer.variance`."""
        answer, shape = self._ask("GET", "/v1/p2l/kinds"), (len(self.spec.models), len(self.spec.kinds) + 1)
        try:
            same = tuple(answer["kinds"]) == self.spec.kinds
            variance = np.array(answer["variance"], dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(f"{self.url} answers, but not as a p2l server does ({error!r})") from None
        if not same or variance.shape != shape:
            raise self._other_model()
        return variance

    def _other_model(self) -> RemoteError:
        return RemoteError(f"{self.url} serves another model now; load it again")

    def _coefficients(self, bodies: list[bytes]) -> Coefficients:
        answer = self._ask("POST", "/v1/coefficients", b'{"prompts":[' + b",".join(bodies) + b"]}")
        n, names = len(bodies), self.spec.models
        try:
            same = tuple(answer["models"]) == names
            coefs = np.array(answer["coefs"], dtype=np.float32).reshape(n, len(names))
            eta, gamma = (
                None if answer[name] is None else np.array(answer[name], dtype=np.float32).reshape(n, 1)
                for name in ("eta", "gamma")
            )
            kinds = None
            if self.variance is not None:
                shares = np.array(answer["kinds"], dtype=np.float32).reshape(n, len(self.spec.kinds))
                kinds = Kinds.of_layer(self.spec.kinds, shares, self.variance)
            familiar = answer.get("familiarity")  # a server of an older version does not send it
            familiar = None if familiar is None else np.array(familiar, dtype=np.float32).reshape(n)
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(f"{self.url} answers, but not as a p2l server does ({error!r})") from None
        if not same:
            raise self._other_model()
        return Coefficients(coefs, eta, gamma, kinds, familiar)

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
                what, wait = f"answers {status}: {_message(content)}", float(after) if after.isdigit() else 0.0
            if attempt < self._retries:
                backoff = 0.1 * 2**attempt * (1 + random.random())
                time.sleep(min(max(wait, backoff), _LONGEST_WAIT))
        tries = f"after {self._retries + 1} tries" if self._retries else "and was asked once"
        raise RemoteError(f"{self.url} {what}, {tries}; does p2l serve run there?")

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
            raise RemoteError(f"{self.url} answers, but not as a p2l server does (no JSON)") from None

    def _refusal(self, status: int, content: bytes) -> P2LError:
        facts = _facts(content)
        if status == 401 or (status == 403 and facts.get("code") != "forbidden"):  # "forbidden" names its remedy
            return RemoteError(
                f"{self.url} does not accept {'your key' if self._key else 'a request without a key'}; pass token=..., "
                f"or set {KEY_VARIABLE}"
            )
        if status in (301, 302, 303, 307, 308):
            return RemoteError(f"{self.url} redirects elsewhere, which is not followed; name the address it stands for")
        if facts.get("code") == "prompt_error":
            error = PromptError(re.sub(r"^prompt \d+: ", "", _message(content)))
            place = _PLACE.fullmatch(str(facts.get("param")))
            error.index = int(place[1]) if place else None
            return error
        wrong = "; name the server without /v1" if status == 404 and self._path.endswith("/v1") else ""
        return RemoteError(f"{self.url} answers {status}: {_message(content)}{wrong}")

    def __repr__(self) -> str:
        return self.url


def _chunks(bodies: list[bytes], count: int, size: int) -> list[list[bytes]]:
    chunks: list[list[bytes]] = []
    room = 0
    for body in bodies:
        room -= len(body) + 1
        if not chunks or room < 0 or len(chunks[-1]) == count:
            chunks.append([])
            room = size - len(body) - 1
        chunks[-1].append(body)
    return chunks


def _facts(content: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _message(content: bytes) -> str:
    return str(_facts(content).get("message") or "no reason is given")


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//...@", url)
