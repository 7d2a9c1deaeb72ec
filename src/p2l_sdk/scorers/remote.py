"""A server as the scorer: `P2L.from_pretrained("http://host:port")` is the same `P2L`, on the base install alone.

The server sends only coefficients and recognised kinds; leaderboards, aggregates and routes are computed here and equal
those of a local model. Redirects are not followed, and proxies are not used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np

from p2l_sdk.errors import P2LError, PromptError, RemoteError
from p2l_sdk.leaderboards.leaderboard import Coefficients, Kinds
from p2l_sdk.modeling.prompt_p2l import Prompt, user_turns
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.scorers.server import Server, facts_of, message_of

_PLACE = re.compile(r"prompts\[(\d+)\]")


class RemoteScorer(Server):
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
        super().__init__(url, key=key, timeout_s=timeout_s, retries=retries)
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
                kinds = Kinds(self.spec.kinds, shares, self.variance)
            familiar = answer.get("familiarity")  # a server of an older version does not send it
            familiar = None if familiar is None else np.array(familiar, dtype=np.float32).reshape(n)
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(f"{self.url} answers, but not as a p2l server does ({error!r})") from None
        if not same:
            raise self._other_model()
        return Coefficients(coefs, eta, gamma, kinds, familiar)

    def _refusal(self, status: int, content: bytes) -> P2LError:
        facts = facts_of(content)
        if facts.get("code") != "prompt_error":
            return super()._refusal(status, content)
        error = PromptError(re.sub(r"^prompt \d+: ", "", message_of(content)))
        place = _PLACE.fullmatch(str(facts.get("param")))
        error.index = int(place[1]) if place else None
        return error


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
