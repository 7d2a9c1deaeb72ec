"""What the P2L API takes and gives, with examples: the source of its OpenAPI schema.

A request is validated once, straight from its bytes. Replies are written without a second validation; that they keep to
these schemas is tested.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, with_config
from typing_extensions import TypedDict

from p2l_sdk.errors import nearest
from p2l_sdk.routing import Objective, Policy
from p2l_sdk.serve.errors import InvalidBody, UnreadableBody

_QUESTION = "Prove that the square root of two is irrational"
_STRONG, _CHEAP = "llama-3.3-nemotron-super-49b-v1", "qwen2.5-7b-instruct"

Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


@with_config(ConfigDict(extra="allow"))
class Part(TypedDict):
    """A part of a message. Only those of type "text" are read."""

    type: str
    text: NotRequired[str]


@with_config(ConfigDict(extra="allow"))
class Message(TypedDict):
    """A chat message. Only user turns are read."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part]


Prompt = Annotated[str | list[Message], Field(examples=[_QUESTION, [{"role": "user", "content": _QUESTION}]])]
Prompts = Annotated[list[Prompt], Field(min_length=1, examples=[["What is 17 * 23?", "Write a haiku about the sea"]])]


class Request(BaseModel):
    """An unknown field is an error: it may be a misspelt one."""

    model_config = ConfigDict(extra="forbid")


class PromptRequest(Request):
    """One prompt."""

    prompt: Prompt


class PromptsRequest(Request):
    """Many prompts."""

    prompts: Prompts


class AggregateRequest(Request):
    """A set of prompts, with their weights (1 each if not given); the seed is of the bootstrap."""

    prompts: Prompts
    weights: list[Weight] | None = None
    seed: Seed = 0


class RouteRequest(Request):
    """A prompt and what it may cost (mean USD per response; null: whatever the best LLM costs); see `P2L.route`."""

    prompt: Prompt
    cost: Annotated[Usd | None, Field(examples=[0.0004])] = None
    costs: Annotated[dict[str, Usd] | None, Field(examples=[{_STRONG: 0.0009}])] = None
    models: Annotated[list[str] | None, Field(examples=[[_STRONG, _CHEAP]])] = None
    opponents: Annotated[dict[str, Weight] | None, Field(examples=[{_CHEAP: 1.0}])] = None
    policy: Policy = Policy.OPTIMAL
    objective: Objective = Objective.WIN_RATE
    seed: Annotated[Seed | None, Field(examples=[0])] = None


class ResearchRequest(BaseModel):
    """What the research code's server takes: the user turns."""

    prompt: Annotated[str | list[str], Field(examples=[[_QUESTION]])]


class Row(BaseModel):
    """An LLM of a leaderboard; low and high limit its rating (95 %) where there are several prompts."""

    rank: int
    model: str
    coef: float
    rating: float
    usable: float | None = None
    low: float | None = None
    high: float | None = None


class LeaderboardReply(BaseModel):
    """A leaderboard, best LLM first."""

    feedback: str
    n_prompts: int
    eta: float | None
    gamma: float | None
    leaderboard: list[Row]


class LeaderboardsReply(BaseModel):
    """One leaderboard for each prompt, in their order."""

    leaderboards: list[LeaderboardReply]


class CoefficientsReply(BaseModel):
    """The bare numbers: coefs `(n_prompts, n_models)` in logits, eta and gamma `(n_prompts,)` or null."""

    models: list[str]
    coefs: list[list[float]]
    eta: list[float] | None
    gamma: list[float] | None


class RouteReply(LeaderboardReply):
    """The LLM to call, and why."""

    model: str
    mixture: dict[str, float]
    expected_cost: float | None
    expected_score: float
    objective: Objective
    rating: float
    ranking: list[str]
    budget: float | None


class ModelRow(BaseModel):
    """An LLM that the model knows; its cost in USD per response, null where it is not known; whether /v1/route may
    choose it where the request names no `models` (of a router: whether it is in the config)."""

    model: str
    cost: float | None
    routed: bool


class Limits(BaseModel):
    """What one request may hold."""

    max_prompts: int
    max_body_bytes: int


class ModelsReply(BaseModel):
    """What the model knows."""

    feedback: str
    models: list[ModelRow]
    limits: Limits


class TrafficRow(BaseModel):
    """An LLM: routes that the API gave to it, calls that it answered, what they cost (USD), and calls that failed."""

    model: str
    routes: int
    calls: int
    spend: float
    errors: int


class TrafficReply(BaseModel):
    """Traffic since the server started."""

    traffic: list[TrafficRow]


class ResearchReply(BaseModel):
    """What the research code's server gives."""

    coefs: list[float]
    eta: float | None


class ResearchModels(BaseModel):
    """Names of the LLMs, in the order of the coefficients."""

    models: list[str]


class HealthReply(BaseModel):
    """Whether the server runs, or takes requests."""

    status: str


class ErrorFacts(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """OpenAI's error shape."""

    error: ErrorFacts


Body = TypeVar("Body", bound=BaseModel)


def parse(body: bytes, kind: type[Body]) -> Body:
    """The validated request. Its errors name the place and the rule, and repeat nothing of the values.

    Raises:
        UnreadableBody: it is no JSON.
        InvalidBody: it breaks the schema.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        faults: list[Any] = list(error.errors(include_url=False, include_context=False, include_input=False))
    if faults[0]["type"] == "json_invalid":
        raise UnreadableBody("the body is not valid JSON; send a JSON object, in UTF-8")
    deepest = max(faults, key=lambda fault: len(fault["loc"]))  # of a union: the alternative that went furthest
    if deepest["type"] == "extra_forbidden":
        near = nearest(deepest["loc"][-1], kind.model_fields)
        hint = f"; did you mean {near!r}?" if near else ""  # of ours: what a caller made up is not repeated
        known = ", ".join(kind.model_fields)
        raise InvalidBody(f"the body has a field that is not known here{hint}; known: {known}")
    place = _place(deepest["loc"], kind)
    raise InvalidBody(f"{place}: {deepest['msg']}", param=place)


def _place(loc: tuple[str | int, ...], kind: type[BaseModel]) -> str:
    """Where in the request: its first field and the places in it; keys that the caller made up are left out."""
    if not loc or loc[0] not in kind.model_fields:
        return "body"
    known = {"role", "content", "type", "text"}
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" if step in known else "" for step in loc[1:]]
    return str(loc[0]) + "".join(steps)
