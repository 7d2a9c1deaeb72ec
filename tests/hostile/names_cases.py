"""Hostile names of LLMs and kinds: what a terminal, a card or a page would obey, and very many of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Case, command
from hostile_models import NAMES, ask, copy_of, edited


def _named(name: str, value: Any, says: str, field: str = "models") -> Case:
    def run(place: Path) -> Any:
        folder = copy_of("static", place)
        edited(folder / "config.json", lambda config: config | {"costs": {}, field: value})
        return ask(folder)

    return Case(name, run, says=says)


def _spec(
    name: str, fields: dict[str, Any], says: str | None = None, right: Callable[[Any], bool] | None = None
) -> Case:
    def run(_: Path) -> Any:
        from p2l_sdk.modeling.spec_p2l import ModelSpec

        return ModelSpec.from_config({"model_type": "p2l", "feedback": "bt", **fields})

    return Case(name, run, says=says, right=right)


def _inspected(place: Path) -> str:
    folder = copy_of("static", place)
    edited(folder / "config.json", lambda config: config | {"models": ["\x1b[2Jx", *NAMES[1:]], "costs": {}})
    return command("inspect", str(folder), "--no-tryout")


def _page(place: Path) -> str:
    folder = copy_of("static", place)
    names = ["<img src=x onerror=alert(1)>", *NAMES[1:]]
    edited(folder / "config.json", lambda config: config | {"models": names, "costs": {}})
    return ask(folder)._repr_html_()


ODD = {
    "escape": "\x1b[31mred",
    "bell": "a\x07",
    "backspace": "gpt\x08\x08",
    "nul": "a\x00b",
    "new-line": "a\nb",
    "return": "good\rbad",
    "tab": "a\tb",
    "delete": "a\x7f",
    "c1": "a\x9b31m",
    "right-to-left": "a\u202eb",
    "isolate": "a\u2066b",
    "mark": "a\u200fb",
    "arabic-mark": "a\u061cb",
    "zero-width": "gpt\u200b-4",
    "joiner": "gpt\u2060-4",
    "bom": "\ufeffgpt-4",
    "line-separator": "a\u2028b",
    "paragraph": "a\u2029b",
    "surrogate": "a\ud83d",
    "osc-8": "\x1b]8;;http://x\x07y",
}
ILLEGAL = {
    "text": "alpha",
    "number": 5,
    "null": None,
    "object": {"a": 1},
    "empty-list": [],
    "with-number": ["a", 1, "b"],
    "with-null": ["a", None, "b"],
    "with-list": ["a", ["b"], "c"],
    "with-empty": ["a", "", "b"],
    "with-blank": ["a", "  "],
    "twice": ["a", "b", "a"],
    "long": ["a", "b" * 100_000, "c"],
    "true": True,
}
MANY = [f"llm-{i}" for i in range(30_000)]
CASES = [
    *(
        _named(f"model-{key}", [odd, *NAMES[1:]], r"character U\+[0-9A-F]{4}, which cannot be shown")
        for key, odd in ODD.items()
    ),
    *(_named(f"kind-{key}", [odd], "character U", "kinds") for key, odd in list(ODD.items())[:6]),
    *(_named(f"models-{key}", value, "models|list of LLMs|LLM name") for key, value in ILLEGAL.items()),
    _spec(
        "30000-names-with-costs",
        {"models": MANY, "costs": dict.fromkeys(MANY, 0.1)},
        right=lambda s: len(s.models) == 30_000,
    ),
    _spec("30000-names-one-twice", {"models": [*MANY, MANY[7]]}, says="llm-7 more than once"),
    _spec("30000-names-all-twice", {"models": MANY * 2}, says="and 29990 more more than once"),
    _spec("a-million-names", {"models": ["a"] * 1_000_000}, says="1,000,000 LLM names, and 100,000 are legal"),
    _spec("a-cost-of-a-stranger", {"models": MANY, "costs": {"x\x1b[2J": 1}}, says=r"for 'x\\x1b\[2J'.* and \d+ more"),
    _spec(
        "emoji-and-umlauts-are-names",
        {"models": ["höher-7b", "🦙-3", "模型", "a b"]},
        right=lambda s: s.models[1] == "🦙-3",
    ),
    Case("inspect-shows-no-escape", _inspected, right=lambda text: "\x1b[2J" not in text and "U+001B" in text),
    Case("a-page-escapes-html", _page, right=lambda text: "<img src=x" not in text),
    Case("feedback-escape", lambda _: _feedback("\x1b[2J"), says=r"unknown feedback model '\\x1b\[2J'"),
    Case("feedback-long", lambda _: _feedback("x" * 10**6), says="unknown feedback model 'xxx.{100,130}"),
]


def _feedback(name: str) -> Any:
    from p2l_sdk.modeling.spec_p2l import ModelSpec

    return ModelSpec.from_config(json.loads(json.dumps({"model_type": "p2l", "feedback": name, "models": NAMES})))
