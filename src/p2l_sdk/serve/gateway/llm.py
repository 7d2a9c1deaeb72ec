"""`LLMConfig`: one LLM behind the gateway, its addresses, prices and abilities, as an entry of the config says."""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.gateway.address import check_address, check_header_name, checked_headers
from p2l_sdk.serve.gateway.catalogue import searches, token_prices, unpriced
from p2l_sdk.serve.gateway.prices import Prices
from p2l_sdk.tables.settings import check_count, check_keys, check_number, check_text

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ROUTED, BEST = "p2l", "p2l-best"  # names that a request may use instead of an LLM's
MAX_TOKENS = ("max_tokens", "max_completion_tokens")  # the second is OpenAI's newer name
KEY_SETTINGS = ("api_key_env", "api_key_header")
_FORGOTTEN = ("cache_write", "request")  # prices, which come without being asked for
_MAKERS = re.compile(r"api\.openai\.com|api\.anthropic\.com|generativelanguage\.googleapis\.com")
_FRAME, _FRAME_OF_GROK = 128, 1024  # tokens around a request at most (gpt-oss: 95; grok-4 has 679 of its own)
SIZE, CONTEXT = "size", "context"  # what is set aside for a prompt
ABILITIES = ("tools", "vision", "audio", "json_schema")


@dataclass(frozen=True, kw_only=True)
class AddressConfig:
    """One of several addresses of an LLM.

    Attributes:
        base_url, upstream_model: as in `LLMConfig`; the LLM's by default.
        api_key_env, api_key_header: as in `LLMConfig`; the LLM's by default, unless there is a base_url here, as a key
            is not sent to another host than the one that it was written for.
        weight: share of the calls that begin here, relative to the LLM's other addresses; 0 for a reserve, which is
            called only if the others fail.
    """

    base_url: str | None = None
    upstream_model: str | None = None
    api_key_env: str | None = None
    api_key_header: str | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("base_url", "upstream_model", "api_key_env", "api_key_header"):
            check_text(self, name)
        check_number(self, "weight", least=0)


@dataclass(frozen=True, kw_only=True)
class LLMConfig:
    """One LLM behind an OpenAI-compatible address, or several.

    Attributes:
        name: its name for clients; the P2L model's own, or one that it is found by (see `p2l_sdk.names`).
        base_url: the address before /chat/completions, e.g. "https://api.openai.com/v1"; a query is kept.
        upstream_model: the upstream's id of the LLM; the name by default.
        api_key_env: the environment variable that holds the key; None for an upstream without keys.
        api_key_header: the header that carries the bare key, for an upstream that does not take a bearer token.
        cost: USD per response; the P2L model's own if neither this nor prices are given.
        prices: by the token, instead of a cost.
        flat: whether the cost is the same whatever is read and written, as on a machine of one's own. Otherwise an LLM
            without prices has no bound that a key's budget could hold.
        system, temperature, top_p, max_tokens: for requests that do not set them.
        stream_usage: whether its streams end with a count of tokens if asked for (`stream_options`), as those of an LLM
            with prices always are; false for an upstream that refuses the field.
        timeout: seconds until the answer begins (until its end, if it is not streamed), and between two parts of a
            stream.
        headers: sent with every call, replacing the gateway's own of the same name.
        addresses: several addresses of the LLM, which share its calls by weight and stand in for each other.
        context: the most tokens of prompt and answer together; None if it is not known, as for those below.
        tools, vision, audio, json_schema: whether it takes tools, images, audio (or gives it), and a JSON schema for
            its answer.
        set_aside: what a key with a budget must be able to pay of a prompt: the most that its "size" can be, or the
            whole "context", which is a bound whatever a template, a proxy or a tokenizer makes of it.
        bills_errors: whether it may bill a call that it answers with an error, whatever its status and words, as a
            proxy whose guards refuse answers: a key then pays the most for it, unless the error comes with a count.
        max_tokens_field: which of `MAX_TOKENS` it takes, and the other one is renamed to; None to send what came.
        unpriced: what its vendor is known to bill, in words, of which the prices say nothing; no setting.
    """

    name: str
    base_url: str
    upstream_model: str | None = None
    api_key_env: str | None = None
    api_key_header: str | None = None
    cost: float | None = None
    prices: Prices | None = None
    flat: bool = False
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stream_usage: bool = True
    timeout: float = 120.0
    headers: Mapping[str, str] = field(default_factory=dict)
    addresses: Sequence[AddressConfig] = ()
    context: int | None = None
    tools: bool | None = None
    vision: bool | None = None
    audio: bool | None = None
    json_schema: bool | None = None
    set_aside: str = SIZE
    bills_errors: bool = False
    max_tokens_field: str | None = None
    unpriced: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name in (ROUTED, BEST):
            raise P2LError(f"an LLM is called {self.name!r}, which is what requests name to be routed; rename it")
        for name in ("name", "base_url", "upstream_model", "api_key_env", "api_key_header", "system"):
            check_text(self, name)
        check_address(self.base_url)
        for name, most in (("cost", math.inf), ("temperature", 2.0), ("top_p", 1.0)):
            check_number(self, name, least=0, most=most)
        check_number(self, "timeout", least=0.001)
        for name in ("max_tokens", "context"):
            check_count(self, name)
        for name in ("stream_usage", "flat", "bills_errors"):
            if not isinstance(getattr(self, name), bool):
                raise P2LError(f"{name} is {getattr(self, name)!r}; it must be true or false")
        for name in ABILITIES:
            if not isinstance(getattr(self, name), bool | None):
                raise P2LError(f"{name} is {getattr(self, name)!r}; it must be true or false")
        if self.max_tokens_field not in (None, *MAX_TOKENS):
            raise P2LError(f"max_tokens_field is {self.max_tokens_field!r}; it must be {' or '.join(MAX_TOKENS)}")
        if self.set_aside not in (SIZE, CONTEXT):
            raise P2LError(f"set_aside is {self.set_aside!r}; it must be {SIZE} or {CONTEXT}")
        if self.set_aside == CONTEXT and self.context is None:
            raise P2LError(f"set_aside: {CONTEXT} needs the setting `context`, the LLM's tokens of prompt and answer")
        if self.cost is not None and self.prices is not None:
            raise P2LError("give a cost or prices, not both")
        if self.flat and self.prices is not None:
            raise P2LError("give prices or `flat: true`, not both")
        if self.api_key_env is not None and not _VARIABLE.fullmatch(self.api_key_env):
            raise P2LError(
                "api_key_env must be the name of an environment variable, not the key itself (it is not shown)"
            )
        if self.api_key_header is not None and self.api_key_env is None:
            raise P2LError("api_key_header needs api_key_env, the variable that holds the key")
        if self.api_key_header is not None:
            check_header_name("api_key_header", self.api_key_header)
        object.__setattr__(self, "headers", checked_headers(self.headers))
        object.__setattr__(self, "addresses", tuple(self.addresses))
        _ = self.places  # each of them is checked

    @classmethod
    def from_dict(cls, name: str, entry: Any, source: str) -> LLMConfig:
        """Build it from an entry of the config; `source` begins the messages of errors.

        Raises:
            P2LError: a setting is unknown, missing or illegal.
        """
        if not isinstance(entry, Mapping):
            raise P2LError(f"{source}: needs at least a base_url")
        check_keys(entry, cls, source, hidden=("name", "unpriced"))
        values = dict(entry)
        with told_of(source):
            if "addresses" in values:
                common = {} if "base_url" in values else {name: values[name] for name in KEY_SETTINGS if name in values}
                values["addresses"] = found = _addresses(values["addresses"], common, source)
                if all(address.base_url is not None for address in found):
                    values.setdefault("base_url", found[0].base_url)
            if "base_url" not in values:
                raise P2LError("'base_url' is missing")
            if (prices := values.get("prices")) is not None:
                if not isinstance(prices, Mapping) or not {"input", "output"} <= set(prices):
                    raise P2LError("prices must be a section with 'input' and 'output', USD per million tokens")
                check_keys(prices, Prices, f"{source}: prices")
                values["prices"] = Prices(**prices)
            return _priced(cls(name=name, **values))

    @property
    def places(self) -> tuple[LLMConfig, ...]:
        """The LLM at each of its addresses, with that address' settings and no others."""
        return tuple(self._at(address) for address in self.addresses) or (self,)

    def _at(self, address: AddressConfig) -> LLMConfig:
        model = address.upstream_model or self.upstream_model
        key: dict[str, Any] = {name: getattr(address, name) for name in KEY_SETTINGS}
        if address.base_url is None:
            key = {name: value or getattr(self, name) for name, value in key.items()}
        return replace(self, base_url=address.base_url or self.base_url, upstream_model=model, addresses=(), **key)

    @property
    def bounded(self) -> bool:
        """Whether the most that a request costs is known."""
        return self.flat or (self.prices is not None and not self.unpriced)

    @functools.cached_property
    def templated(self) -> bool:
        """Whether it may be served by a template of chats that comes with its weights, as by vLLM: anywhere but at the
        addresses of makers who give none away."""
        return not all(map(_MAKERS.fullmatch, self._hosts))

    @functools.cached_property
    def frame(self) -> int:
        """Tokens that a template or its vendor writes around a request at most, unless it has a system message of its
        own."""
        grok = any("grok" in f"{self.name} {place.model}".lower() for place in self.places)
        return _FRAME_OF_GROK if grok or any(f".{host}".endswith(".x.ai") for host in self._hosts) else _FRAME

    @property
    def _hosts(self) -> list[str]:
        return [(urlsplit(place.base_url).hostname or "").rstrip(".") for place in self.places]

    @functools.cached_property
    def surest_limit(self) -> str | None:
        """The name by which a limit of tokens is surely taken, or refused; None for any. Most servers take `max_tokens`
        and many of them, as DeepSeek's, pass over the newer name without a word; OpenAI and Azure refuse what an LLM
        does not take."""
        host = urlsplit(self.base_url).hostname or ""
        refuses = host == "api.openai.com" or host.endswith(".azure.com")
        return self.max_tokens_field or (None if refuses else MAX_TOKENS[0])

    @property
    def model(self) -> str:
        """The upstream's id of the LLM."""
        return self.upstream_model or self.name


def _priced(llm: LLMConfig) -> LLMConfig:
    """An LLM with the prices that are known, as far as the config gives none, and what of them is not known."""
    lacks: tuple[str, ...] = ()
    if llm.cost is None and llm.prices is None and not (llm.flat or llm.addresses):
        if (known := token_prices(llm.model, llm.base_url)) is not None:
            llm, lacks = replace(llm, prices=Prices(**known)), unpriced(llm.model, llm.base_url)
    elif llm.prices is not None:
        llm = replace(llm, prices=_filled(llm, llm.prices))
    if llm.prices is not None and llm.prices.request is None and any(searches(place.model) for place in llm.places):
        lacks = (*lacks, "searches that it makes by itself (`request`)")
    if llm.set_aside == CONTEXT and llm.prices is None:
        raise P2LError(f"set_aside: {CONTEXT} needs `prices`, by which its tokens are paid; none are given or known")
    return replace(llm, unpriced=lacks)


def _filled(llm: LLMConfig, prices: Prices) -> Prices:
    """Prices of the config with those of the parts that it may well have forgotten, the highest of all addresses."""
    found = [token_prices(place.model, place.base_url) or {} for place in llm.places]
    missing = [name for name in _FORGOTTEN if getattr(prices, name) is None]
    known: dict[str, Any] = {name: max((one.get(name, 0.0) for one in found), default=0.0) for name in missing}
    return replace(prices, **{name: usd for name, usd in known.items() if usd > 0.0})


def _addresses(entries: Any, common: Mapping[str, Any], source: str) -> tuple[AddressConfig, ...]:
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise P2LError("addresses must be a list with one entry for each address")
    found = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise P2LError("each entry of addresses must be a section: {base_url: ..., weight: ...}")
        check_keys(entry, AddressConfig, f"{source}: addresses")
        found.append(AddressConfig(**{**common, **entry}))
    return tuple(found)


@contextlib.contextmanager
def told_of(source: str) -> Iterator[None]:
    """Errors within begin with the source of the settings."""
    try:
        yield
    except P2LError as error:
        text = str(error)
        raise P2LError(text if text.startswith(source) else f"{source}: {text}") from None
