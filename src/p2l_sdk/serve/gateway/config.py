"""`GatewayConfig`: the LLMs behind the gateway, and how one is chosen. Read from YAML.

Every key is checked when the file is read; for an unknown one the error suggests the nearest known one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from p2l_sdk.errors import P2LError, did_you_mean, member
from p2l_sdk.names import meant
from p2l_sdk.routing.mixture import Objective, Policy
from p2l_sdk.serve.gateway.llm import LLMConfig, told_of
from p2l_sdk.tables.documents import read_yaml
from p2l_sdk.tables.settings import check_count, check_keys, check_number

if TYPE_CHECKING:
    from p2l_sdk.p2l import P2L

PRICED = (  # fields of a request that change the upstream's LLM, or what it costs
    "models", "fallbacks", "route", "provider", "plugins", "transforms", "best_of", "service_tier",
    "web_search_options", "api_base", "base_url", "api_key", "custom_llm_provider", "model_list", "preset",
    "deployment_id", "inference_geo", "speed", "reasoning.mode",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GatewayConfig:
    """The settings of the gateway, validated on creation.

    Attributes:
        models: the LLMs, by name.
        max_messages: limit per conversation.
        allow: fields of requests that change the upstream's LLM or its price (see `PRICED`), or cause charges beside
            tokens (see `charges`), and may be passed on.
        trust_env: whether proxies of the environment (HTTPS_PROXY) are used.
        attempts: maximum number of faults per request, after which no LLM is called any more. Only those count that
            another try may mend, and those of several addresses of an LLM count once.
        backoff: seconds before an upstream that failed is called again for the same request; doubled each time.
        deadline: seconds for a whole request, including its stream.
        opponents: name -> weight; see `Router`.
        policy, objective: see `Router`.
        budget: USD per response that the mixture may cost, for requests without a budget of their own; None for the
            best LLM regardless of its cost.
        mean_budget: instead of `budget`: mean USD per response over all requests without a budget of their own.
        breaker_failures: consecutive failures after which an upstream is left alone.
        breaker_seconds: how long it is left alone before it is tried with a single request.
        fallback: names of LLMs that are called, in this order, after all that a request is routed to; the P2L model
            need not know them.
        ping_seconds: after so long a silence, a comment is sent to a client that waits for a stream; None for never.
        affinity: whether a conversation stays with the LLM that has answered it so far.
        affinity_minutes: after so long without a request, a conversation is forgotten.
        affinity_gain: the least gain in score for which a conversation changes its LLM, all costs included.

    Raises:
        P2LError: a setting is illegal; the message names it and its legal values.
    """

    models: Mapping[str, LLMConfig]
    max_messages: int = 2048
    allow: tuple[str, ...] = ()
    trust_env: bool = False
    attempts: int = 3
    backoff: float = 0.25
    deadline: float = 600.0
    opponents: Mapping[str, float] | None = None
    policy: str = Policy.OPTIMAL
    objective: str = Objective.WIN_RATE
    budget: float | None = None
    mean_budget: float | None = None
    breaker_failures: int = 5
    breaker_seconds: float = 30.0
    fallback: Sequence[str] = ()
    ping_seconds: float | None = 15.0
    affinity: bool = True
    affinity_minutes: float = 30.0
    affinity_gain: float = 0.05

    def __post_init__(self) -> None:
        if not self.models:
            raise P2LError("the config names no LLM; it needs a section 'models'")
        object.__setattr__(self, "policy", member(Policy, "policy", self.policy))
        object.__setattr__(self, "objective", member(Objective, "objective", self.objective))
        for name in ("budget", "mean_budget", "backoff", "breaker_seconds", "affinity_minutes", "affinity_gain"):
            check_number(self, name, least=0)
        check_number(self, "deadline", least=0.001)
        if self.ping_seconds is not None:
            check_number(self, "ping_seconds", least=0.01)
        self._check_fallback()
        for name in ("attempts", "breaker_failures", "max_messages"):
            check_count(self, name)
        if not (isinstance(self.allow, list | tuple) and all(isinstance(name, str) for name in self.allow)):
            raise P2LError(f"allow is {self.allow!r}; it must be a list of fields of requests, such as {PRICED[0]!r}")
        object.__setattr__(self, "allow", tuple(self.allow))
        for name in ("trust_env", "affinity"):
            if not isinstance(getattr(self, name), bool):
                raise P2LError(f"{name} is {getattr(self, name)!r}; it must be true or false")
        if self.budget is not None and self.mean_budget is not None:
            raise P2LError("give a budget (for each request) or a mean_budget (over all of them), not both")

    def _check_fallback(self) -> None:
        if isinstance(self.fallback, str) or not isinstance(self.fallback, Sequence):
            raise P2LError(f"fallback is {self.fallback!r}; it must be a list of LLMs of 'models'")
        for name in self.fallback:
            if name not in self.models:
                raise P2LError(f"fallback names {name!r}; {did_you_mean(str(name), list(self.models))}")
        object.__setattr__(self, "fallback", tuple(dict.fromkeys(self.fallback)))

    @classmethod
    def from_yaml(cls, path: str | Path) -> GatewayConfig:
        """Read the settings from a file.

        Raises:
            P2LError: it cannot be read, a key is unknown or occurs twice, or a value is illegal.
        """
        return cls.from_dict(read_yaml(path), str(path))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "the config") -> GatewayConfig:
        """Build the settings from plain values, as in YAML; `source` appears in error messages."""
        if not isinstance(values, Mapping):
            raise P2LError(f"{source} holds no settings; it needs a section 'models'")
        check_keys(values, cls, source)
        models = values.get("models")
        if not isinstance(models, Mapping) or not models:
            raise P2LError(f"{source}: 'models' must be a section with one entry for each LLM, its name as the key")
        with told_of(source):
            llms = {
                str(name): LLMConfig.from_dict(str(name), entry, f"{source}: {name}") for name, entry in models.items()
            }
            return cls(**{**values, "models": MappingProxyType(llms)})


def known_llms(config: GatewayConfig, p2l: P2L) -> dict[str, str]:
    """Name in the config -> the P2L model's own name, for the LLMs that it knows; no other is routed to."""
    found = {name: meant(name, p2l.models) for name in config.models}
    return {name: llms[0] for name, llms in found.items() if len(llms) == 1}


def costs(config: GatewayConfig, p2l: P2L) -> dict[str, float]:
    """USD per response by LLM: from the config if given there, otherwise from the P2L model."""
    found, known = {}, known_llms(config, p2l)
    for name, llm in config.models.items():
        cost = llm.prices.cost if llm.prices is not None else llm.cost
        cost = p2l.costs.get(known.get(name, name)) if cost is None else cost
        if cost is not None:
            found[name] = cost
    return found
