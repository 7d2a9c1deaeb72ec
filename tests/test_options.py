"""Options by keyword: shown in the signature, and a wrong one answered with the nearest right one."""

from __future__ import annotations

import inspect

import pytest

from p2l_sdk import P2L
from p2l_sdk.errors import P2LError, UnknownOptionError
from p2l_sdk.routing.router import DEFAULTS, RouteOptions, Router, RouterOptions

ROUTING = ["models", "opponents", "policy", "objective"]


@pytest.mark.parametrize("name", ["route", "route_many", "frontier", "pacer", "router"])
def test_every_option_stands_in_the_signature(name):
    parameters = inspect.signature(getattr(P2L, name)).parameters
    assert {*ROUTING, "costs"} <= parameters.keys()
    assert not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def test_the_user_s_own_wording_keeps_its_order():
    assert list(inspect.signature(P2L.route).parameters)[:3] == ["self", "prompt", "cost"]


def test_types_and_defaults_are_those_of_the_router():
    """The options are typed once more for type checkers; both say the same."""
    own = inspect.signature(Router).parameters
    assert [name for name, p in own.items() if p.kind is inspect.Parameter.KEYWORD_ONLY] == ROUTING
    assert list(RouterOptions.__annotations__) == ROUTING
    for name in ROUTING:
        assert own[name].annotation == RouteOptions.__annotations__[name].__forward_arg__
        assert own[name].default == DEFAULTS.get(name)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p2l: p2l.route("a", polcy="strict"), r"route\(\) has no option 'polcy'; did you mean 'policy'\?"),
        (lambda p2l: p2l.route("a", sed=1), "did you mean 'seed'"),
        (
            lambda p2l: p2l.route_many(["a"], model=["b"]),
            r"route_many.* 'model'; did you mean 'models'",
        ),
        (lambda p2l: p2l.frontier(["a"], outcome=None), "did you mean 'outcomes'"),
        (lambda p2l: p2l.router(opponent={}), "did you mean 'opponents'"),
        (lambda p2l: p2l.pacer(1.0, samples=["a"]), "did you mean 'sample'"),
        (lambda p2l: p2l.push_to_hub("org/name", privat=True), r"push_to_hub\(\) .* did you mean 'private'"),
    ],
)
def test_a_wrong_option_is_told_the_right_one(call, message, default):
    with pytest.raises(UnknownOptionError, match=message) as caught:
        call(default)
    assert isinstance(caught.value, P2LError)
    assert isinstance(caught.value, TypeError)  # what Python itself raises for a wrong keyword
