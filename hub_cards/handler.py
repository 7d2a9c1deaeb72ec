"""Inference Endpoints handler of a P2L model: leaderboards, aggregates and routes over HTTP.

It uses p2l-sdk, installed by the `requirements.txt` next to it: aggregation and routing are not part of the model code
that comes with the weights. A request is

    {"inputs": PROMPT or [PROMPT, ...], "parameters": {"task": "leaderboard" | "aggregate" | "route", ...}}

where a prompt is a string or a conversation, [{"role": "user", "content": ...}, ...], and the other parameters are

    leaderboard  top_k: only the best LLMs
    aggregate    top_k; seed: of the bootstrap for the intervals
    route        cost: mean USD per response (over all prompts of a list); without it, the best LLM at any cost;
                 costs, models, opponents, policy, objective, seed: as in `P2L.route`

The answer to one prompt is an object, to a list of prompts a list; an aggregate is always an object. An invalid request
raises a ValueError that says what is expected; the endpoint answers it with status 400.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2l_sdk import P2L, P2LError
from p2l_sdk.hub.config import backbone_kind, read_config
from p2l_sdk.modeling.spec_p2l import STATIC_BACKBONE

PARAMETERS: dict[str, tuple[str, ...]] = {
    "leaderboard": ("top_k",),
    "aggregate": ("top_k", "seed"),
    "route": ("cost", "costs", "models", "opponents", "policy", "objective", "seed"),
}


class EndpointHandler:
    """The handler class that Inference Endpoints look for.

    Args:
        path: the folder of the model, as downloaded by the endpoint.
    """

    def __init__(self, path: str = "") -> None:
        self.p2l = P2L.from_pretrained(path or ".", device=_device(Path(path or ".")))

    def __call__(self, data: Any) -> dict[str, Any] | list[dict[str, Any]]:
        """Answer one request (see the module). Raises `P2LError`, a ValueError, for an invalid one."""
        inputs, task, options = _parsed(data)
        single = isinstance(inputs, str) or isinstance(inputs[0], Mapping)
        prompts: list[Any] = [inputs] if single else list(inputs)
        answers: list[dict[str, Any]]
        if task == "aggregate":
            return _top(self.p2l.aggregate(prompts, seed=options.get("seed", 0)).to_dict(), options.get("top_k"))
        if task == "route":
            routes = [self.p2l.route(inputs, **options)] if single else self.p2l.route_many(prompts, **options)
            answers = [route.to_dict() for route in routes]
        else:
            answers = [_top(board.to_dict(), options.get("top_k")) for board in self.p2l.leaderboards(prompts)]
        return answers[0] if single else answers


def _parsed(data: Any) -> tuple[Any, str, dict[str, Any]]:
    """The validated inputs, task and parameters of a request."""
    if not isinstance(data, Mapping) or "inputs" not in data:
        raise P2LError('a request is a JSON object with "inputs", a prompt or a list of prompts')
    if misplaced := sorted(data.keys() - {"inputs", "parameters", "options"}):
        raise P2LError(f'unknown key {misplaced[0]!r} beside "inputs"; what a task needs stands in "parameters"')
    inputs = data["inputs"]
    if not isinstance(inputs, str | list) or not inputs:
        raise P2LError(
            '"inputs" must be a prompt (a string or a list of chat messages) or a list of prompts, not empty'
        )
    parameters = {} if data.get("parameters") is None else data["parameters"]
    if not isinstance(parameters, Mapping):
        raise P2LError('"parameters" must be a JSON object, such as {"task": "route", "cost": 0.001}')
    options = {name: value for name, value in parameters.items() if name != "task" and value is not None}
    task = parameters.get("task", "leaderboard")
    if not isinstance(task, str) or task not in PARAMETERS:
        raise P2LError(f"unknown task {task!r}; known: {', '.join(PARAMETERS)}")
    for name, value in options.items():
        if name not in PARAMETERS[task]:
            raise P2LError(f"the task {task!r} has no parameter {name!r}; it has: {', '.join(PARAMETERS[task])}")
        _check(name, value)
    return inputs, task, options


def _check(name: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = number and isinstance(value, int)
    rules: dict[str, tuple[bool, str]] = {
        "top_k": (whole and value > 0, "an integer > 0"),
        "seed": (whole and value >= 0, "an integer >= 0"),
        "cost": (number and math.isfinite(value), "a number, USD per response"),
        "costs": (isinstance(value, Mapping), "an object, LLM name -> USD per response"),
        "models": (isinstance(value, list), "a list of LLM names"),
        "opponents": (isinstance(value, Mapping), "an object, LLM name -> weight"),
        "policy": (isinstance(value, str), "a name"),
        "objective": (isinstance(value, str), "a name"),
    }
    legal, rule = rules[name]
    if not legal:
        raise P2LError(f"{name} is {value!r}; it must be {rule}")


def _top(board: dict[str, Any], top_k: int | None) -> dict[str, Any]:
    return {**board, "leaderboard": board["leaderboard"][:top_k]}


def _device(folder: Path) -> str | None:
    """The GPU if there is one, else the CPU; None for a static model, which needs about a millisecond without a GPU."""
    if backbone_kind(read_config(folder)) == STATIC_BACKBONE:
        return None
    import torch

    return "cuda" if torch.cuda.is_available() else None
