"""What a request needs of an LLM, and which LLMs lack it: they are left out before one is chosen and called.

Only what the config says, or what is known of an LLM at its maker's own address (`known`), counts: an LLM of which
nothing is known may be tried. Tokens are estimated from the request's size, so an LLM at the edge of its context window
may be called and refuse, or be left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2l_sdk.serve.auth import Key
from p2l_sdk.serve.errors import ApiError
from p2l_sdk.serve.gateway.llm import ABILITIES, LLMConfig
from p2l_sdk.serve.gateway.overcharges import Overcharges
from p2l_sdk.serve.gateway.reasons import CONTEXT
from p2l_sdk.serve.gateway.request import ChatRequest
from p2l_sdk.serve.gateway.size import BYTES_PER_TOKEN

_IMAGE_TOKENS = 85  # the least that any LLM takes for an image
_OVERCHARGED = "request that a key's budget pays (it has billed more than its `prices` in the config allow for)"
_NAMES = {"tools": "tools", "vision": "images", "audio": "audio", "json_schema": "JSON schemas"}


class Incapable(ApiError):  # noqa: N818  named for what happened, like all errors of the server
    """No LLM that may answer can do what the request needs.

    Args:
        lacks: what each of them lacks, by name.
        named: whether the client named the LLM.
    """

    code = "unsupported_request"

    def __init__(self, lacks: Mapping[str, Sequence[str]], named: bool) -> None:
        what = "; ".join(f"{name} takes no {' and no '.join(texts)}" for name, texts in lacks.items())
        if all(text.startswith("more than") for texts in lacks.values() for text in texts):
            self.code = CONTEXT
        remedy = "name another LLM, or let one be chosen" if named else "send less, or leave out what they cannot do"
        super().__init__(f"no LLM here can answer this request: {what}; {remedy}", param="messages")


@dataclass(frozen=True)
class Needs:
    """What a request needs.

    Attributes:
        prompt: its estimated size in tokens.
        answer: the tokens that it asks for, None if it sets no limit.
        abilities: those of `ABILITIES` that it needs.
    """

    prompt: int
    answer: int | None
    abilities: frozenset[str]

    @classmethod
    def of(cls, request: ChatRequest) -> Needs:
        """The needs of a request."""
        images = request.size.images
        needs = {
            "tools": any(_value(request, name) for name in ("tools", "functions"))
            or any(message.get("tool_calls") or message["role"] == "tool" for message in request.messages),
            "vision": images > 0,
            "audio": request.size.sounds > 0 or request.speaks,
            "json_schema": _kind(_value(request, "response_format")) == "json_schema",
        }
        prompt = request.size.text // BYTES_PER_TOKEN + images * _IMAGE_TOKENS
        return cls(prompt, request.max_tokens, frozenset(name for name, needed in needs.items() if needed))

    def lacking(self, llm: LLMConfig) -> list[str]:
        """What an LLM does not take of this, in words; empty if it takes all, as far as that is known."""
        found = [_NAMES[name] for name in ABILITIES if name in self.abilities and getattr(llm, name) is False]
        answer = self.answer or llm.max_tokens or 0
        if llm.context is not None and self.prompt + answer > llm.context:
            asked = f" and {answer} of answer" if answer else ""
            found.append(f"more than {llm.context} tokens (about {self.prompt} of prompt{asked} are asked)")
        return found


class Capabilities:
    """Which LLMs can answer a request.

    Args:
        llms: by name.
        overcharges: the LLMs that bill more than is known.
    """

    def __init__(self, llms: Mapping[str, LLMConfig], overcharges: Overcharges) -> None:
        self._overcharges = overcharges
        self._unpriced = {name: _without_price(llm) for name, llm in llms.items() if llm.unpriced and not llm.bounded}
        limited = {name: llm for name, llm in llms.items() if llm.context is not None}
        limited |= {name: llm for name, llm in llms.items() if False in [getattr(llm, a) for a in ABILITIES]}
        self._llms, self._limited = llms, limited

    def lacking(self, request: ChatRequest, payer: Key | None = None) -> dict[str, list[str]]:
        """What each LLM lacks, in words, by name; those that lack nothing are left out. If a key with budgets is the
        `payer`, only what has a price is possible."""
        needs = Needs.of(request) if self._limited else None
        found = {} if needs is None else {name: needs.lacking(llm) for name, llm in self._limited.items()}
        if payer is not None:
            for name in self._unpriced:
                found.setdefault(name, []).append(self._unpriced[name])
            for name in self._overcharges.of(request, payer):
                found.setdefault(name, []).append(_OVERCHARGED)
        if payer is not None and (request.size.sounds or request.speaks):
            for name, llm in self._llms.items():
                if missing := _unpriced(request, llm):
                    found.setdefault(name, []).append(f"audio that a key's budget pays (its `prices` lack {missing})")
        return {name: lacks for name, lacks in found.items() if lacks}

    def require(self, request: ChatRequest, candidates: Iterable[str], payer: Key | None = None) -> frozenset[str]:
        """Those of the candidates that cannot answer; `payer` as of `lacking`.

        Raises:
            Incapable: none of them can.
        """
        lacks = self.lacking(request, payer)
        if not lacks:
            return frozenset()
        names = list(candidates)
        if all(name in lacks for name in names):
            raise Incapable({name: lacks[name] for name in names}, named=not request.routed)
        return frozenset(name for name in names if name in lacks)


def _without_price(llm: LLMConfig) -> str:
    """Why a key with budgets cannot use an LLM whose prices are not known in full."""
    return f"request that a key's budget pays (its vendor also bills {', '.join(llm.unpriced)}; see its `prices`)"


def _unpriced(request: ChatRequest, llm: LLMConfig) -> str:
    """The price that is missing for the audio of a request, if one is."""
    if llm.prices is None:
        return ""
    heard = request.size.sounds > 0 and llm.prices.audio_input is None
    return "audio_input" if heard else "audio_output" if request.speaks and llm.prices.audio_output is None else ""


def _value(request: ChatRequest, name: str) -> Any:
    field = request.fields.get(name)
    return None if field is None else field.value


def _kind(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else None
