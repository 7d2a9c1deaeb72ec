"""What an image, a sound or a text may be read as, and what references of a schema may become: the dearest counts."""

from __future__ import annotations

import base64
import json
import unicodedata
from typing import Any

import httpx
import pytest
from billing_fixtures import ask
from gateway_llms import TEAM

from p2l_sdk.serve.gateway.charges import check_charges
from p2l_sdk.serve.gateway.choices import LARGEST
from p2l_sdk.serve.gateway.contents import UNKNOWN
from p2l_sdk.serve.gateway.llm import CONTEXT, LLMConfig
from p2l_sdk.serve.gateway.prices import Prices
from p2l_sdk.serve.gateway.quote import Quote
from p2l_sdk.serve.gateway.references import written_out
from p2l_sdk.serve.gateway.request import BadRequest, ChatRequest
from p2l_sdk.serve.gateway.size import Size

pytest_plugins = ["billing_fixtures", "gateway_fixtures"]
PDF, FILM = b"%PDF-1.7\n" + bytes(99), bytes(4) + b"ftypisom" + bytes(99)


def packed(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def size(**fields: Any) -> Size:
    return ChatRequest.parse(json.dumps(ask(**fields)).encode()).size


def part(**one: Any) -> Size:
    return size(messages=[{"role": "user", "content": [one]}])


@pytest.mark.parametrize(
    "image",
    [
        {"url": "https://x.example/a.pdf", "format": "application/pdf"}, {"url": "https://x.example/a.pdf"},
        {"url": "https://x.example/a.PDF?size=2"}, {"url": "https://x.example/a.png?file=b.mp4"},
        {"url": "https://x.example/a.png", "format": "application/pdf"},
        {"url": "https://x.example/a", "format": "pdf"},
        {"url": "gs://bucket/a.mp4"}, {"url": "gs://bucket/a"}, {"url": "gs://bucket/a.png", "format": "video/mp4"},
        {"url": "https://generativelanguage.googleapis.com/v1beta/files/abc"}, {"url": "file-abc"},
        {"url": packed(b"x", "application/pdf")}, {"url": packed(b"x", "video/mp4")},
        {"url": packed(b"x", "text/plain")},
        {"url": packed(b"x" * 99), "format": "text/plain"}, {"url": packed(PDF)}, {"url": packed(bytes(900) + PDF)},
        {"url": packed(FILM)}, {"url": packed(b"\x1aE\xdf\xa3" + bytes(99))}, {"url": packed(b"PK\x03\x04" + bytes(9))},
        {"url": "data:image/png,%25PDF-1.7"}, {"url": "data:image/png," + "%25PDF-1.7".replace("%25", "%")},
        {"url": "https://x.example/a.%70df"}, {"url": "https://x.example/a.pd%66"}, {"url": "https://x.example/a%2epdf"},
        {"url": "https://x.example/a.%2570df"}, {"url": "https://x.example/a.%u0070df"}, {"url": "https://x.example/a%0A"},
        {"url": "https://generativelanguage.googleapis.com:443/v1beta/files/abc"},
        {"url": "https://generativelanguage.googleapis.com./v1beta/files/abc"},
        {"url": "https://generativelanguage\u3002googleapis.com/v1beta/files/abc"},
        {"url": "https://generativelanguag%65.googleapis.com/v1beta/files/abc"},
        {"url": "https://x@generativelanguage.googleapis.com/v1beta/files/abc"},
        {"url": "https://GenerativeLanguage.googleapis.com/v1beta/files/abc"}, {"url": "HTTPS://x.example/a"},
        {"url": "https:\\\\x.example\\a"}, {"url": "https:/x.example/a"}, {"url": "https://x.example\\a.png"},
        {"url": " https://x.example/a"}, {"url": "https://x.example/a\tb"}, {"url": "https://x.example/a.p\ndf"},
        {"url": "https://x.example/\uff50df"}, {"url": "gs://bucket/a.png"}, {"url": "s3://bucket/a.png"},
        {"url": packed(b"x", "image/new")}, {"url": packed(b"x", "IMAGE/png")},
        {"url": packed(b"x", "image/png;name=a")},
        {"url": packed(PDF).replace("JVBE", "JV\nBE")}, {"url": "data:image/png;base64,gs://bucket/a.mp4"},
    ],
    ids=str,
)  # fmt: skip
def test_an_image_that_may_be_something_else_counts_as_that(image):
    for kind, held in (("image_url", image), ("input_image", image)):
        found = part(type=kind, image_url=held)
        assert found.other >= UNKNOWN
        assert found.most >= len(image["url"])  # each byte may be text, too
    assert part(type="image", image=image).other >= UNKNOWN
    for nothing in (None, False, []):
        assert part(type="image", image_url=nothing, image=image).other >= UNKNOWN


@pytest.mark.parametrize(
    "content",
    [
        f"see ![it]({packed(PDF, 'application/pdf')})", f"![]({packed(b'x', 'audio/ogg')}) ![]( <Data:image/gif,x>)",
        [f"![\n[]]( {packed(PDF, 'application/pdf')} 'x')"],
        [{"type": "text", "text": f"![it]({packed(FILM, 'video/mp4')})"}],
        [{"type": "input_text", "text": f"![it]({packed(FILM)})", "annotations": None}],
    ],
    ids=str,
)  # fmt: skip
def test_a_file_in_a_text_of_markdown_counts_as_one_that_may_have_sound(content):
    found = size(messages=[{"role": "user", "content": content}])
    files = str(content).lower().count("data:")
    assert (found.other, found.audio, found.sounds) == (UNKNOWN * files, UNKNOWN * files, 0)
    window = LLMConfig(
        name="x", base_url="http://x", prices=Prices(input=1, output=1, audio_input=7), context=9000, set_aside=CONTEXT
    )
    body = ask(messages=[{"role": "user", "content": content}], max_tokens=1)
    assert Quote.of(ChatRequest.parse(json.dumps(body).encode()), window, 0.0).read == pytest.approx(9000 * 7e-6)


def test_files_of_the_vendors_account_that_a_text_names_count_as_files():
    """As Qwen-Long reads them."""
    messages = [
        {"role": "system", "content": "fileid://file-fe-a,fileid://file-fe-b"},
        {"role": "user", "content": "?"},
    ]
    assert size(messages=messages).other == 2 * UNKNOWN


def test_addresses_in_a_text_that_are_no_files_are_text():
    text = "![a](https://x.example/a.png) [b](#data) url(data:font/woff2;base64,AAAA) a[0](data) `data:`"
    assert size(messages=[{"role": "user", "content": text}]).other == 0


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "heic"])
def test_an_image_of_a_usual_kind_is_one(kind):
    heads = {"heic": bytes(4) + b"ftypheic", "webp": b"RIFF\x00\x00\x00\x00WEBP"}
    found = part(type="image_url", image_url={"url": packed(heads.get(kind, b"") + bytes(9000), f"image/{kind}")})
    assert (found.images, found.other) == (1, 0)
    assert found.most < 300
    drawn = part(type="image_url", image_url={"url": packed(b"<svg>" * 900, "image/svg+xml")})
    assert (drawn.images, drawn.other) == (1, 0)
    assert drawn.most > 4500  # which some read as the text that it is


@pytest.mark.parametrize(
    "file",
    [
        {"file_data": packed(b"x", "text/plain"), "format": "application/pdf"},
        {"file_data": packed(b"x", "text/plain"), "filename": "a.pdf"},
        {"file_data": packed(b"x", "text/plain"), "filename": "a.PDF"}, {"file_data": packed(PDF, "text/plain")},
        {"file_data": packed(bytes(900) + PDF, "text/plain")}, {"file_data": "data:text/plain,%PDF-1.7"},
        {"file_data": packed(b"ID3" + bytes(99), "text/plain")}, {"file_data": packed(b"PK\x03\x04", "text/plain")},
        {"file_data": packed(b"x", "text/plain"), "filename": "b.mp3"}, {"file_data": packed(b"x", "application/pdf")},
    ],
    ids=str,
)  # fmt: skip
def test_a_text_that_may_be_something_else_counts_as_that(file):
    assert part(type="file", file=file).other >= UNKNOWN


def file(kind: str, text: str, charset: str = "utf-8", **more: Any) -> Size:
    return part(type="file", file={"file_data": packed(text.encode(charset), kind), **more})


def test_a_text_in_a_file_is_as_large_as_its_longest_form():
    for text, tokens in (
        ("hello " * 50, 300),
        ("\ufdfa" * 50, 33 * 50),
        ("é" * 50, 2 * 50),
        ("a & b &amp; c", 13 + 66),
    ):
        for kind in ("text/markdown", "text/plain;charset=utf-8", "application/json"):
            for more in ({}, {"filename": "a.md"}, {"filename": "a.ts"}, {"format": "text/plain"}):
                found = file(kind, text, **more)
                assert len(unicodedata.normalize("NFKC", text).encode()) <= found.other == tokens
                assert found.most >= len(text)
                assert found.strange == []
    # in base64 though it does not say so, as some take it: four characters of it may be 33 tokens
    plain = part(type="file", file={"file_data": "data:text/plain,77e6"})
    assert (plain.other, plain.strange) == (36, [])
    assert (
        part(type="image_url", image_url={"url": packed("\ufdfa".encode() * 50, "text/plain")}).other > UNKNOWN + 1650
    )
    assert (
        part(type="video_url", video_url={"url": packed("\ufdfa".encode() * 50, "text/plain")}).other > UNKNOWN + 1650
    )


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (packed(b"\xfa\xfd", "text/plain;charset=utf-16le"), "data:text/plain;charset=utf-16le;base64"),
        (packed(b"\xff\xfe\xfa\xfd", "text/plain"), "data:text/plain;base64"),
        (packed(b"x", "application/octet-stream"), "data:application/octet-stream;base64"),
        (packed(b"x", "application/x-new"), "data:application/x-new;base64"), ("aGVsbG8=", "file_data"),
        (packed(b"x", "TEXT/plain"), "data:TEXT/plain;base64"),
        ("data:text/plain;base64,77e6!", "data:text/plain;base64"),
    ],
)  # fmt: skip
def test_a_file_of_which_nobody_knows_what_it_may_be_is_refused(data, name):
    assert part(type="file", file={"file_data": data}).strange == [(0, name)]
    for known in (packed(PDF, "application/pdf"), "https://x.example/a", packed(b"x", "application/vnd.ms-excel")):
        found = part(type="file", file={"file_data": known})
        assert (found.other, found.strange) == (UNKNOWN, [])


@pytest.mark.parametrize(
    "sound",
    [
        {"data": packed(PDF * 20, "application/pdf"), "format": "mp3"}, {"data": packed(FILM * 20, "video/mp4")},
        {"data": base64.b64encode(PDF * 20).decode(), "format": "wav"},
        {"data": "A" * 2000, "format": "application/pdf"}, {"data": "A" * 2000, "format": "pdf"},
    ],
    ids=lambda sound: sound["data"][:30],
)  # fmt: skip
def test_a_sound_that_may_be_something_else_counts_as_that(sound):
    assert part(type="input_audio", input_audio=sound).other >= UNKNOWN
    for usual in ("A" * 6400, {"data": "A" * 6400, "format": "mp3"}, {"data": packed(bytes(4800), "audio/wav")}):
        assert part(type="input_audio", input_audio=usual).other == 200


def definitions(levels: int, names: str) -> dict[str, Any]:
    """A schema in which each definition refers to the next one under each of these names."""
    defs: dict[str, Any] = {
        f"d{i}": {"type": "object", "properties": {name: {"$ref": f"#/$defs/d{i + 1}"} for name in names}}
        for i in range(levels)
    }
    return {"$defs": {**defs, f"d{levels}": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/d0"}}}


def unpacked(value: Any, defs: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if "$ref" in value:
            return unpacked(defs[value["$ref"].rpartition("/")[2]], defs)
        return {name: unpacked(inner, defs) for name, inner in value.items() if name != "$defs"}
    return [unpacked(inner, defs) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("levels", "names"), [(1, "a"), (4, "ab"), (3, "abcd"), (6, "ab")])
def test_a_schema_counts_as_large_as_its_references_make_it(levels, names):
    schema = definitions(levels, names)
    text, whole = json.dumps(schema), unpacked(schema, schema["$defs"])
    for tools in ([{"type": "function", "function": {"name": "f", "parameters": schema}}], [{"input_schema": schema}]):
        found, plain = size(tools=tools), size(tools=json.loads(json.dumps(tools).replace("$ref", "$rex")))
        assert found.other - plain.other + len(text) >= len(json.dumps(whole, separators=(",", ":")))
        assert written_out(json.dumps(tools), tools) + len(json.dumps(tools)) >= len(json.dumps(whole))
    # as YAML or over lines, too
    assert written_out(text, schema) + len(json.dumps(schema, indent=1)) >= len(json.dumps(whole, indent=1))


def test_references_are_found_by_their_place_and_by_their_last_name():
    big = {"enum": ["x" * 500]}
    for schema in (
        {"$defs": {"a": big}, "p": {"$ref": "#/$defs/a"}},
        {"definitions": {"a": big}, "p": {"$ref": "#/definitions/a"}},
        {"$defs": {"a": big}, "p": {"$ref": "anything/a"}},
        {"components": {"schemas": {"a": big}}, "p": {"$ref": "#/components/schemas/a"}},
        {"$defs": {"a": {"type": "string"}}, "inner": {"$defs": {"a": big}, "p": [{"$ref": "#/$defs/a"}]}},
        {"allOf": [{}, big], "p": {"$ref": "#/allOf/1"}},
        {"allOf": ["x" * 500], "p": {"$ref": "#/allOf/0"}},
        {"allOf": [big], "p": {"$ref": "#/allOf"}},
        {"$defs": {"a/b": big}, "p": {"$ref": "#/$defs/a~1b"}},
        {"$defs": {"a": big}, "p": json.loads('{"\\u0024ref": "#/$defs/a"}')},
    ):
        assert 500 < written_out(json.dumps(schema).replace("$ref", "\\u0024ref"), schema) < 1200


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"$defs": {"z": {"$anchor": "a"}}, "p": {"$ref": "#"}}, "$anchor"), ({"p": {"$ref": "#a"}}, "$ref"),
        ({"$defs": {"z": {"$id": "http://x/a"}}}, "$id"), ({"p": {"$ref": "http://x/a"}}, "$ref"),
        ({"p": {"$ref": "a"}}, "$ref"), ({"p": {"$ref": "#/%24defs/a"}}, "$ref"),
        ({"p": {"$ref": "#/$defs//a"}}, "$ref"),
        ({"p": {"$ref": ["#"]}}, "$ref"), ({"p": {"$dynamicRef": "#/$defs/a"}}, "$dynamicRef"),
        ({"p": {"$recursiveRef": "#"}}, "$recursiveRef"), ({"p": {"$REF": "#/$defs/a"}}, "$REF"),
        ({"properties": {"$ref": "other.json"}}, "$ref"), ({"properties": {"properties": {"$id": {}}}}, "$id"),
        ({"$defs": [{"$ref": "#"}]}, "$defs"), ({"$new": {}}, "$new"),
        ({"properties": {"$dynamicRef": ["x"]}}, "$dynamicRef"),
    ],
    ids=str,
)  # fmt: skip
def test_what_refers_to_elsewhere_is_refused_by_its_name(schema, keyword):
    function = {"name": "f", "parameters": schema}
    for fields in (
        {"tools": [{"type": "function", "function": function}]},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}},
        {"guided_json": schema}, {"functions": [function]}, {"structured_outputs": {"json": schema}},
    ):  # fmt: skip
        text = json.dumps(ask(**fields))
        for body in (text, text.replace("$", "\\u0024")):
            request = ChatRequest.parse(body.encode())
            with pytest.raises(BadRequest, match=r"which may refer to anything, may be charged") as refused:
                check_charges(request, ())
            assert f"`allow` '{keyword}'" in str(refused.value)
            assert refused.value.param == next(iter(fields))
            check_charges(request, (keyword,))


def test_names_that_look_like_keywords_and_plain_references_pass():
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#", "$comment": "x", "$defs": {"$a": {"type": "string"}},
        "definitions": {"b": {}}, "patternProperties": {"$id": {}}, "description": "say $id or $ref",
        "properties": {"$filter": {"type": "string"}, "$ref": {"type": "string"}, "$id": True, "c": {"$ref": "#"}},
        "anyOf": [{"$ref": "#/$defs/$a"}, {"$ref": "#/definitions/b"}, {"$ref": "#/properties/c"}],
    }  # fmt: skip
    for fields in (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]},
        {"format": schema},
    ):
        check_charges(ChatRequest.parse(json.dumps(ask(**fields)).encode()), ())
    metadata = {"metadata": {"$app": "x"}, "messages": [{"role": "user", "content": '{"$id": 1}'}]}
    check_charges(ChatRequest.parse(json.dumps(ask(**metadata)).encode()), ())


def test_what_refers_to_itself_is_written_out_once():
    tree = {"$defs": {"n": {"properties": {"left": {"$ref": "#/$defs/n"}, "right": {"$ref": "#"}}}}}
    tree["properties"] = {"root": {"$ref": "#/$defs/n"}}
    assert 50 < written_out(json.dumps(tree), tree) < 900  # six mentions of 60 to 140 characters, and lines
    assert written_out("$ref", {"$ref": "#/nowhere"}) == 0
    assert written_out("$ref", {"$ref": "#"}) >= len('{"$ref":"#"}')


@pytest.mark.parametrize("ref", ["#", "#/properties/a", "#/$defs/a"])
def test_each_mention_of_what_it_stands_in_is_written_out(ref):
    long = {"type": "object", "description": "d" * 3000, "items": [{"$ref": ref}] * 50}
    schema = {"$defs": {"a": long}, "properties": {"a": long}} if "a" in ref else long
    assert written_out(json.dumps(schema), schema) >= 50 * 3000


def test_a_schema_that_becomes_too_large_is_refused_by_name(gateway, llms):
    every = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{j}"} for j in range(12)]} for i in range(12)}
    many = {"$defs": {"x": {}}, "anyOf": [{"$ref": "#/$defs/x"}] * 60_000}
    deep: Any = {"$defs": {"x": {}}, "anyOf": [{"$ref": "x"}] * 5000}
    for _ in range(300):
        deep = {"a": deep}
    for schema in (definitions(9, "abcd"), {"$defs": every, **every["d0"]}, many, deep):
        assert written_out("$ref", schema) == LARGEST  # in no time: written out, some would never end
    server, key = gateway()
    for schema in (definitions(9, "abcd"), {"$defs": every, **every["d0"]}):
        tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
        format_ = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        for fields, name in (({"tools": tools}, "tools"), ({"response_format": format_}, "response_format")):
            reply = httpx.post(f"{server.url}/chat/completions", json=ask(**fields), headers=TEAM, timeout=30)
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, name)
            assert (
                f"the references ($ref) and lists of types in '{name}', written out, may be"
                in reply.json()["error"]["message"]
            )
    assert (key.spent, llms.bodies) == (0.0, [])
