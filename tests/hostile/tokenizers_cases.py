"""Hostile tokenizers and chat templates: rules that grow a text, match it for ever, or run as a program."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Case
from hostile_models import LETTERS, ask, copy_of, edited, is_a_board

REGEX = {"type": "Split", "behavior": "Isolated", "invert": False}


def _replace(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def _sequence(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(rules)}


def _split(pattern: str) -> dict[str, Any]:
    return {**REGEX, "pattern": {"Regex": pattern}}


def _file(name: str, change: Callable[[Any], Any], says: str | None = None, prompt: str = "a b c", **more: Any) -> Case:
    """What is done to `tokenizer.json` of a static model that then reads a prompt."""

    def run(place: Path) -> Any:
        folder = copy_of("static", place)
        edited(folder / "tokenizer.json", change)
        return ask(folder, prompt)

    return Case(name, run, says=says, **({} if says else {"right": is_a_board}), **more)


def _rule(name: str, part: str, rule: Any, says: str | None = None, prompt: str = "a b c", **more: Any) -> Case:
    return _file(name, lambda fields: fields | {part: rule}, says, prompt, **more)


def _template(name: str, source: str, says: str | None = None, right: Callable[[str], bool] | None = None) -> Case:
    def run(_: Path) -> str:
        from p2l_sdk.modeling.template_p2l import renderer

        return renderer(source)(["hello", "again"])

    return Case(f"template-{name}", run, says=says, right=right)


def _untrusted(place: Path) -> Any:
    folder = copy_of("static", place)
    edited(folder / "tokenizer.json", lambda fields: fields | {"pre_tokenizer": _split(r"(\d+)+$")})
    return ask(folder, untrusted=True)


def _vocab(words: dict[str, int]) -> Callable[[Any], None]:
    return lambda fields: fields["model"]["vocab"].update(words)


def _raw(text: str) -> Callable[[Any], str]:
    return lambda _: text


TRAP, STOPPED, BROKEN = "was tried out on|cannot read a text of its own kind", "was stopped", "is damaged"
DEEP = "[" * 10_000 + "]" * 10_000
CASES = [
    _rule("four-replacements", "normalizer", _sequence(*[_replace("a", "a" * 100)] * 4), TRAP, quick=False),
    _rule("forty-doublings", "normalizer", _sequence(*[_replace("a", "aa")] * 40), TRAP, quick=False),
    _rule("replace-by-regex", "normalizer", _sequence(*[_replace(".", "x" * 100, "Regex")] * 4), TRAP, quick=False),
    _rule("prepend-is-harmless", "normalizer", {"type": "Prepend", "prepend": "a"}),
    _rule("a-little-longer", "normalizer", _replace("a", "b c")),
    _rule("split-a-or-aa", "pre_tokenizer", _split("(a|aa)+$"), TRAP, quick=False),
    _rule("split-words", "pre_tokenizer", _split("(xyz|xyzxyz)+$"), TRAP),
    _rule("split-digits", "pre_tokenizer", _split(r"(\d+)+$"), TRAP, quick=False),
    _rule("split-spaces", "pre_tokenizer", _split(r"(\s*)*[^\s]$"), "|".join([TRAP, BROKEN]), quick=False),
    _rule("replace-a-or-aa", "normalizer", _replace("(a|aa)+$", "b", "Regex"), TRAP, quick=False),
    _rule(
        "split-as-common",
        "pre_tokenizer",
        _split(r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
    ),
    _rule("regex-damaged", "pre_tokenizer", _split("(("), BROKEN),
    _rule("rule-unknown", "pre_tokenizer", {"type": "Exec", "code": "import os"}, BROKEN),
    _rule("rule-number", "pre_tokenizer", 5, BROKEN),
    _rule(
        "model-of-nothing", "model", {"type": "WordLevel", "vocab": {}, "unk_token": "[UNK]"}, "tokenizer cannot read"
    ),
    _rule("model-unknown", "model", {"type": "Pickle"}, BROKEN),
    _rule(
        "long-words",
        "model",
        {
            "type": "WordPiece",
            "vocab": {"[UNK]": 0, "a": 1},
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "",
            "max_input_chars_per_word": 10**9,
        },
        TRAP,
        quick=False,
    ),
    _rule("merge-of-strangers", "model", {"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]}, BROKEN),
    _rule(
        "padding-for-ever",
        "padding",
        {
            "strategy": {"Fixed": 10**9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "a",
        },
    ),
    _rule(
        "truncation-to-nothing",
        "truncation",
        {"max_length": 0, "direction": "Left", "strategy": "LongestFirst", "stride": 0},
    ),
    _file("id-beyond-the-table", _vocab({"k": 4_000_000}), "does not know", prompt="k"),
    _file("id-one-beyond", _vocab({"k": len(LETTERS) + 1}), "does not know", prompt="k"),
    _file("id-beyond-not-used", _vocab({"k": 4_000_000})),
    _file("id-of-32-bits", _vocab({"k": 2**32 - 1}), "does not know", prompt="k"),
    _file("id-of-33-bits", _vocab({"k": 2**33}), BROKEN),
    _file("id-negative", _vocab({"k": -1}), BROKEN),
    _file("id-text", _vocab({"k": "0"}), BROKEN),
    _file("id-twice", _vocab({"k": 1})),
    _file(
        "added-beyond",
        lambda f: f["added_tokens"].append(
            {
                "id": 10**6,
                "content": "zz",
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": False,
            }
        ),
        "does not know",
        prompt="zz",
    ),
    _file("no-unknown-token", lambda f: f["model"].update(unk_token="[NONE]"), "tokenizer cannot read", prompt="zzz"),
    _file("not-json", _raw("{]"), BROKEN),
    _file("empty", _raw(""), BROKEN),
    _file("nested", _raw(DEEP), BROKEN),
    _file(
        "nested-rules",
        lambda f: json.dumps(f | {"normalizer": 7}).replace(
            "7", '{"type":"Sequence","normalizers":[' * 300 + "]}" * 300, 1
        ),
        BROKEN,
    ),
    _file("a-list", _raw("[]"), BROKEN),
    _file("digits", _raw('{"version": ' + "9" * 5000 + "}"), BROKEN),
    _file("nul", _raw("\x00" * 1000), BROKEN),
    _file("html", _raw("<html>404</html>"), BROKEN),
    Case("untrusted-is-tried-out", _untrusted, says=TRAP, quick=False),
    Case("untrusted-and-good", lambda place: ask(copy_of("static", place), untrusted=True), right=is_a_board),
    _template("loops", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", STOPPED),
    _template("one-loop", "{% for i in range(99999) %}{% for m in messages %}x{% endfor %}{% endfor %}", STOPPED),
    _template("times", "{{ 'a' * 10**9 }}", STOPPED),
    _template("times-list", "{{ [1] * 10**9 }}", STOPPED),
    _template("tilde", "{% set n = namespace(x='aa') %}" + "{% set n.x = n.x ~ n.x %}" * 60 + "{{ n.x }}", STOPPED),
    _template("plus", "{% set n = namespace(x='aa') %}" + "{% set n.x = n.x + n.x %}" * 60 + "{{ n.x }}", STOPPED),
    _template(
        "replace",
        "{% set n = namespace(x='aa') %}" + "{% set n.x = n.x|replace('a', n.x) %}" * 60 + "{{ n.x }}",
        STOPPED,
    ),
    _template("lists", "{% set n = namespace(x='aa') %}" + "{% set n.x = [n.x, n.x] %}" * 60 + "{{ n.x }}", STOPPED),
    _template("macro", "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", STOPPED),
    _template(
        "macro-tree", "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(40) }}", STOPPED
    ),
    _template("recursive", "{% for x in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}", STOPPED),
    _template("percent", "{{ '%999999999d' % 1 }}", STOPPED),
    _template("percent-star", "{{ '%*d' % (999999999, 1) }}", STOPPED),
    _template("format", "{{ '{:>999999999}'.format(1) }}", STOPPED),
    _template("center", "{{ 'a'|center(999999999) }}", STOPPED),
    _template("ljust", "{{ 'a'.ljust(10**9) }}", STOPPED),
    _template("range", "{{ range(10**12) }}", STOPPED),
    _template("power", "{{ 9 ** 9 ** 9 }}", STOPPED),
    _template("indent", "{{ 'a'|indent(999999, true)|indent(999999, true) }}", STOPPED),
    _template("to-json", "{{ dict(a=1)|tojson(indent=99999999) }}", STOPPED),
    _template("output", "{% set x = 'a' * 900000 %}" + "{{ x }}" * 2000, STOPPED),
    _template("class", "{{ ''.__class__.__mro__ }}", "unsafe"),
    _template("globals", "{{ cycler.__init__.__globals__ }}", "unsafe"),
    _template("subclasses", "{{ ().__class__.__base__.__subclasses__() }}", "unsafe"),
    _template("include", "{% include '/etc/passwd' %}", "cannot take the prompt"),
    _template("import", "{% import 'os' as os %}", "cannot take the prompt"),
    _template("refuses", "{{ raise_exception('no turn for you') }}", "no turn for you"),
    _template("undefined", "{{ nothing.at.all }}", "cannot take the prompt"),
    _template("half", "{% for m in messages", "template is damaged"),
    _template("parentheses", "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "template is damaged"),
    _template("long", "x" * 1_000_001, "1,000,001 characters"),
    _template(
        "good",
        "{% for m in messages %}<{{ m['role'] }}>{{ m.content | trim ~ '\n' }}"
        "{% generation %}{% endgeneration %}{% endfor %}",
        right=lambda text: text == "<user>hello\n<user>again\n",
    ),
    _template(
        "loop-controls",
        "{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
        right=lambda text: text == "hello",
    ),
]
