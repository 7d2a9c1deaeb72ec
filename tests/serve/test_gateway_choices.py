"""A schema counts as what it becomes where proxies write its choices out for vendors that know no lists of types."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from billing_fixtures import ask

from p2l_sdk.serve.gateway.charges import check_charges
from p2l_sdk.serve.gateway.choices import LARGEST, chosen_out
from p2l_sdk.serve.gateway.references import written_out
from p2l_sdk.serve.gateway.request import BadRequest, ChatRequest

OF_NESTED = ("properties", "required", "additionalProperties", "items", "minItems", "maxItems", "minProperties",
             "maxProperties")  # fmt: skip


def written(schema: Any) -> Any:
    """What such a proxy (LiteLLM for Google's LLMs, as its source says) makes of a schema: an entry for each type of a
    list, with all that belongs to an object or an array in each that is one; and labels in each entry."""
    if isinstance(schema, list):
        return list(map(written, schema))
    if not isinstance(schema, dict):
        return schema
    node, kinds = dict(schema), schema.get("type")
    if isinstance(kinds, list) and len(kinds) > 1:
        inner = {name: node.pop(name) for name in OF_NESTED if name in node}
        node["anyOf"] = [
            {"type": kind, **(copy.deepcopy(inner) if kind in ("object", "array") else {})} for kind in kinds
        ]
        del node["type"]
    if isinstance(node.get("anyOf"), list):
        labels = {name: node[name] for name in ("title", "description") if name in node}
        node["anyOf"] = [{**each, **labels} if isinstance(each, dict) else each for each in node["anyOf"]]
    return {name: written(inner) for name, inner in node.items()}


def growth(schema: Any) -> tuple[int, int]:
    """Characters that are added, and tokens that are counted for them."""
    text = json.dumps(schema)
    return len(json.dumps(written(schema))) - len(text), chosen_out(text, schema)


def nested(levels: int, kinds: list[str]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": kinds, "properties": {"a": schema}}
    return schema


CASES = {
    "an object or an array": nested(1, ["object", "array"]),
    "the same, five deep": nested(5, ["object", "array"]),
    "an object many times": nested(1, ["object"] * 200),
    "a long description of choices": {"description": "x" * 500, "anyOf": [{"type": "string"}] * 50},
    "a description of types": {"description": "x" * 500, "title": "y" * 90, "type": ["string", "number", "null"]},
    "choices in choices": {"title": "t" * 99, "anyOf": [{"description": "d" * 99, "anyOf": [{"type": "x"}] * 9}] * 9},
    "entries of a list": {"type": ["array", "object", "null"], "items": {"type": ["object", "array"], "items": {}}},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_choices_count_as_what_is_written_in_their_place(name):
    added, counted = growth(CASES[name])
    assert 0 < added <= counted <= 2 * added + 300


def test_schemas_of_any_shape_count_as_what_is_written_in_their_place():
    chance = random.Random(0)

    def schema(levels: int) -> dict[str, Any]:
        kinds = chance.choices(["object", "array", "string", "null"], k=chance.randint(1, 3))
        node: dict[str, Any] = {"type": kinds if len(kinds) > 1 else kinds[0]}
        if chance.random() < 0.4:
            node["description"] = "é" * chance.randint(0, 40)
        if levels:
            node["properties"] = {letter: schema(levels - 1) for letter in "ab"[: chance.randint(0, 2)]}
            if chance.random() < 0.4:
                node["items"] = schema(levels - 1)
            if chance.random() < 0.3:
                node["anyOf"] = [schema(levels - 1) for _ in range(chance.randint(0, 3))]
        return node

    grown = 0
    for _ in range(300):
        one = schema(chance.randint(0, 3))
        text = json.dumps(one)
        added = len(json.dumps(written(one))) - len(text)
        grown += added > 0
        assert added <= chosen_out(text, one)
    assert grown > 100


@pytest.mark.parametrize("schema", [nested(12, ["object", "array"]), nested(200, ["array", "object"]), {
    "type": ["object", "array"], "items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"type": "string"}},
}], ids=["twelve deep", "deeper than anything", "with a reference"])  # fmt: skip
def test_what_grows_beyond_measure_is_refused(schema):
    assert chosen_out(json.dumps(schema), schema) == LARGEST
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    request = ChatRequest.parse(json.dumps(ask(tools=[tool])).encode())
    with pytest.raises(BadRequest, match=r"lists of types in 'tools', written out, may be charged"):
        check_charges(request, ())
    check_charges(request, ("tools",))


def test_labels_around_a_reference_go_into_the_choices_that_it_means():
    """Proxies write references out first, and labels into all that came of them."""
    label = "x" * 900
    plain = {"description": label, "anyOf": [{"type": ["string"] * 100}]}
    lists = {"A": {"type": ["string"] * 100}, "B": {"$ref": "#/$defs/A"}}
    for name in lists:
        schema = {"description": label, "anyOf": [{"$ref": f"#/$defs/{name}"}], "$defs": lists}
        text = json.dumps(schema)
        assert written_out(text, schema) + chosen_out(text, schema) >= growth(plain)[0] > 90_000


def test_usual_schemas_grow_by_little():
    assert chosen_out("{}", {"type": "object", "properties": {"type": {"type": "string"}}}) == 0
    nullable = {"type": ["string", "null"], "description": "The name of the city."}
    strict = {"type": "object", "properties": dict.fromkeys("abc", nullable), "required": ["a", "b", "c"]}
    text = json.dumps(strict)
    assert 0 < chosen_out(text, strict) < 1.5 * len(text)
    by_reference = {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}], "$defs": {"a": {"type": ["object", "null"]}}}
    assert chosen_out(json.dumps(by_reference), by_reference) < 100


def test_a_letter_that_is_written_as_an_escape_changes_nothing():
    text = json.dumps(CASES["an object many times"]).replace('"type"', '"t\\u0079pe"')
    assert chosen_out(text, json.loads(text)) == growth(CASES["an object many times"])[1]


def label(levels: int) -> Any:
    schema: Any = "x"
    for _ in range(levels):
        schema = {"title": schema, "anyOf": [{}]}
    return schema


def pointing(levels: int) -> Any:
    schema: Any = [{"$ref": "#" + "/a" * 400 + "/b"} for _ in range(50)]
    for _ in range(levels):
        schema = {"a": schema}
    return {"x": schema}


def definitions(levels: int) -> Any:
    held = {f"a{i}": {"x": [{"$ref": f"#/$defs/a{i + 1}"}] * 3} for i in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**held, f"a{levels}": {"type": "string"}}}


SLOW: dict[str, dict[str, Any]] = {  # an hour or so each, if it were read in the square of its length
    "spaces in Markdown": {"messages": [{"role": "user", "content": "](" + " " * 900_000}]},
    "labels of labels": {f"f{i}": label(400) for i in range(25)},
    "strange entries of a list": {"messages": [{"role": "assistant", "tool_calls": [{"a": 1}] * 40_000}]},
    "definitions in many fields": {f"f{i}": definitions(10) for i in range(200)},
    "long pointers from deep places": {f"f{i}": pointing(800) for i in range(20)},
}


@pytest.mark.parametrize("name", SLOW)
def test_a_request_is_read_in_time_that_grows_with_its_length(name):
    request = ChatRequest.parse(json.dumps(ask(**SLOW[name])).encode())
    assert request.size.most >= 3000 or request.size.endless


def test_what_may_be_looked_at_is_for_all_fields_of_a_request_together():
    fields = {f"f{i}": definitions(5) for i in range(200)}  # some 400 references each, of which none is too large
    text = json.dumps(fields["f0"])
    assert written_out(text, fields["f0"]) < LARGEST
    endless = ChatRequest.parse(json.dumps(ask(**fields)).encode()).size.endless
    assert 0 < len(endless) < 200
    assert endless == list(fields)[-len(endless) :]


def test_a_name_that_stands_twice_among_many_is_found_at_once():
    names = ",".join(f'"n{i}":1' for i in range(200_000))
    body = json.dumps(ask()).removesuffix("}") + f', "a": {{{names},"n199999":2}}}}'
    with pytest.raises(BadRequest, match="'n199999' twice"):
        ChatRequest.parse(body.encode())
