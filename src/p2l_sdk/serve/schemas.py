"""Requests and replies of the P2L API, with examples: the source of its OpenAPI schema.

A request is validated once, directly from its bytes. Replies are not validated at run time; tests check that they
conform to these schemas.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WithJsonSchema,
    with_config,
)
from pydantic_core import PydanticCustomError, from_json
from typing_extensions import TypedDict

from p2l_sdk.errors import nearest
from p2l_sdk.modeling.number_p2l import to_number
from p2l_sdk.routing.mixture import Objective, Policy
from p2l_sdk.serve.errors import InvalidBody, UnreadableBody

_QUESTION = "Prove that the square root of two is irrational"
_STRONG, _CHEAP = "claude-3-5-haiku", "gpt-4o-mini"

_UNCHECKED = 4096  # bytes of a body that can hold only few faults
_MOST_FIELDS, _MOST_NAMES = 50, 10_000  # in a body, and in one of its mappings


def _plain(value: Any) -> Any:
    """A text or a bool as the number that it spells, as everywhere: pydantic also reads "1_0" and true."""
    if isinstance(value, str | bool):
        value = to_number(value)
        if math.isnan(value):
            raise PydanticCustomError("float_parsing", "Input should be a valid number")
    return value


Usd = Annotated[float, BeforeValidator(_plain), Field(ge=0, allow_inf_nan=False)]
Weight = Annotated[float, BeforeValidator(_plain), Field(ge=0, allow_inf_nan=False)]
Number = Annotated[float, BeforeValidator(_plain), Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


@with_config(ConfigDict(extra="allow"))
class Part(TypedDict):
    """A part of a message; only parts of type "text" are read."""

    type: str | None
    text: NotRequired[str | None]


@with_config(ConfigDict(extra="allow"))
class UserMessage(TypedDict):
    """A user turn: the text that is read, or a list of parts."""

    role: Literal["user"]
    content: str | Annotated[list[Part | None], Field(fail_fast=True)]


@with_config(ConfigDict(extra="allow"))
class OtherMessage(TypedDict):
    """A chat message that is not read, whatever it holds: an assistant turn may have tool calls and no content."""

    role: Annotated[
        Literal["system", "developer", "user", "assistant", "function", "tool"],  # a wrong role is told all of them
        WithJsonSchema({"enum": ["system", "developer", "assistant", "function", "tool"], "type": "string"}),
    ]


def _speaker(message: Any) -> str:
    return "user" if isinstance(message, dict) and message.get("role") == "user" else "other"


Message = Annotated[
    Annotated[UserMessage, Tag("user")] | Annotated[OtherMessage, Tag("other")], Discriminator(_speaker)
]
# of a list with a million faults the first is reported: pydantic takes ten microseconds, and memory, for each
Prompt = Annotated[
    str | Annotated[list[Message], Field(fail_fast=True)],
    Field(examples=[_QUESTION, [{"role": "user", "content": _QUESTION}]]),
]
Prompts = Annotated[
    list[Prompt],
    Field(fail_fast=True),
    Field(min_length=1, examples=[["What is 17 * 23?", "Write a haiku about the sea"]]),
]


class Request(BaseModel):
    """Base of the requests; an unknown field is an error, because it may be a misspelling."""

    model_config = ConfigDict(extra="forbid")


class PromptRequest(Request):
    """A single prompt."""

    prompt: Prompt


class PromptsRequest(Request):
    """A batch of prompts."""

    prompts: Prompts


class AggregateRequest(Request):
    """Prompts to aggregate, with optional weights (1 each if not given) and the seed of the bootstrap."""

    prompts: Prompts
    weights: Annotated[list[Weight], Field(fail_fast=True)] | None = None
    seed: Seed = 0


class RouteRequest(Request):
    """A prompt and its budget in mean USD per response (null for no limit); see `P2L.route`."""

    prompt: Prompt
    cost: Annotated[Usd | None, Field(examples=[0.001])] = None
    costs: Annotated[dict[str, Usd] | None, Field(examples=[{_STRONG: 0.0024}])] = None
    models: Annotated[Annotated[list[str], Field(fail_fast=True)] | None, Field(examples=[[_STRONG, _CHEAP]])] = None
    opponents: Annotated[dict[str, Weight] | None, Field(examples=[{_CHEAP: 1.0}])] = None
    policy: Policy = Policy.OPTIMAL
    objective: Objective = Objective.WIN_RATE
    seed: Annotated[Seed | None, Field(examples=[0])] = None


class ResearchRequest(BaseModel):
    """The request format of the research code's server: the user turns of a prompt."""

    prompt: Annotated[str | Annotated[list[str], Field(fail_fast=True)], Field(examples=[[_QUESTION]])]


class Row(BaseModel):
    """An LLM on a leaderboard; low and high are the limits of its rating (95 %) if there are several prompts, or the
    model knows how certain its ratings are."""

    rank: int
    model: str
    coef: float
    rating: float
    usable: float | None = None
    low: float | None = None
    high: float | None = None


class LeaderboardReply(BaseModel):
    """A leaderboard, with the best LLM first. `kinds` says how much of each kind of prompt was recognised, in [0, 1];
    it is there if the model recognises kinds. `familiarity` says in [0, 1] how much the prompt is like those that the
    model learned from (the mean over several prompts); it is there if the model knows."""

    feedback: str
    n_prompts: int
    eta: float | None
    gamma: float | None
    familiarity: float | None = None
    kinds: dict[str, float] | None = None
    leaderboard: list[Row]


class LeaderboardsReply(BaseModel):
    """One leaderboard per prompt, in the order of the prompts."""

    leaderboards: list[LeaderboardReply]


class CoefficientsReply(BaseModel):
    """The raw numbers: coefs `(n_prompts, n_models)` in logits, eta and gamma `(n_prompts,)` or null, and kinds
    `(n_prompts, n_kinds)`, how much of each kind of prompt was recognised, or null; familiarity `(n_prompts,)`,
    how much each prompt is like those that the model learned from, or null."""

    models: list[str]
    coefs: list[list[float]]
    eta: list[float] | None
    gamma: list[float] | None
    kinds: list[list[float]] | None
    familiarity: list[float] | None


class RouteReply(LeaderboardReply):
    """The LLM to call, and why. `matched` says how names of the request were read: name -> the model's own name;
    `left_out` are LLMs that a budget could not choose because their cost is not known."""

    model: str
    mixture: dict[str, float]
    expected_cost: float | None
    expected_score: float
    objective: Objective
    rating: float
    ranking: list[str]
    budget: float | None
    matched: dict[str, str]
    left_out: list[str]


class ModelRow(BaseModel):
    """An LLM that the model knows, its cost in USD per response (null if unknown), and whether /v1/route may choose it
    if the request names no `models` (for a router: whether it is in the config)."""

    model: str
    cost: float | None
    routed: bool


class Limits(BaseModel):
    """The limits on a single request."""

    max_prompts: int
    max_body_bytes: int


class ModelsReply(BaseModel):
    """The model's feedback model, its LLMs and the kinds of prompt that it recognises, and the server's limits;
    `group_error` as in `P2L.group_error`, or null."""

    feedback: str
    models: list[ModelRow]
    kinds: list[str]
    limits: Limits
    group_error: list[float] | None


class KindsReply(BaseModel):
    """The kinds of prompt that the model recognises, and `variance` `(n_models, n_kinds + 1)` in squared logits, or
    null: with the shares s of `/v1/coefficients`, the coefs have the variances `variance @ (s^2, 1)`."""

    kinds: list[str]
    variance: list[list[float]] | None


class TrafficRow(BaseModel):
    """An LLM's traffic: routes that the API gave to it, calls that it answered, their cost in USD, and failed calls."""

    model: str
    routes: int
    calls: int
    spend: float
    errors: int


class TrafficReply(BaseModel):
    """The traffic of each LLM since the server started."""

    traffic: list[TrafficRow]


class ResearchReply(BaseModel):
    """The reply format of the research code's server."""

    coefs: list[float]
    eta: float | None


class ResearchModels(BaseModel):
    """The names of the LLMs, in the order of the coefficients."""

    models: list[str]


class HealthReply(BaseModel):
    """Whether the server is running, or is ready for requests."""

    status: str


class ErrorFacts(BaseModel):
    """The description of an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """An error in OpenAI's format."""

    error: ErrorFacts


Body = TypeVar("Body", bound=BaseModel)


def parse(body: bytes, kind: type[Body]) -> Body:
    """Validate a request. Errors name the place and the rule, but never repeat the values sent.

    Raises:
        UnreadableBody: the body is not JSON.
        InvalidBody: the body violates the schema.
    """
    if len(body) > _UNCHECKED:
        _require_few_names(body)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        faults: list[Any] = list(error.errors(include_url=False, include_context=False, include_input=False))
    if faults[0]["type"] == "json_invalid":
        raise _unreadable()
    deepest = max(faults, key=lambda fault: len(fault["loc"]))  # in a union, the alternative that matched furthest
    if deepest["type"] == "extra_forbidden":
        near = nearest(deepest["loc"][-1], kind.model_fields)
        hint = f"; did you mean {near!r}?" if near else ""  # never repeats what the caller sent
        known = ", ".join(kind.model_fields)
        raise InvalidBody(f"the body has a field that is not known here{hint}; known: {known}")
    place = _place(deepest["loc"], kind)
    raise InvalidBody(f"{place}: {deepest['msg']}", param=place)


def _unreadable() -> UnreadableBody:
    return UnreadableBody("the body is not valid JSON; send a JSON object, in UTF-8")


def _require_few_names(body: bytes) -> None:
    """Refuse what pydantic would report a fault of for each of a million names."""
    try:
        value = from_json(body)
    except ValueError:
        raise _unreadable() from None
    if isinstance(value, dict):
        if len(value) > _MOST_FIELDS:
            raise InvalidBody(f"the body has {len(value)} fields; an endpoint takes a few")
        for part in value.values():
            if isinstance(part, dict) and len(part) > _MOST_NAMES:
                raise InvalidBody(f"a mapping in the body has {len(part)} names; at most {_MOST_NAMES}")


def _place(loc: tuple[str | int, ...], kind: type[BaseModel]) -> str:
    """The location of an error as a path within the request; keys made up by the caller are left out."""
    if not loc or loc[0] not in kind.model_fields:
        return "body"
    known = {"role", "content", "type", "text"}
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" if step in known else "" for step in loc[1:]]
    return str(loc[0]) + "".join(steps)
