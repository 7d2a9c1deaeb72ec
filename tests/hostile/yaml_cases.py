"""Hostile YAML and JSON of users: settings, costs, trees and names, each through the one reader of documents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Case, command

from p2l_sdk.mpg.tree import Tree
from p2l_sdk.routing.costs import load_costs
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.tables.documents import read_yaml
from p2l_sdk.tables.json_files import read_json
from p2l_sdk.tables.reading import read_renames
from p2l_sdk.training.config import TrainingConfig

LLMS = ("a", "b")
READERS: dict[str, Callable[[Path], Any]] = {
    "gateway": GatewayConfig.from_yaml,
    "training": TrainingConfig.from_yaml,
    "costs": lambda path: dict(load_costs(path, LLMS)),
    "renames": read_renames,
    "tree": Tree.read,
}


def _laughs(n: int, each: int = 2) -> str:
    rows = ["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * each)}]" for i in range(1, n))]
    return "\n".join(rows) + "\n"


ALL = {  # text -> what every reader says of it
    "nested-5000": ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    "nested-million": ("[" * 10**6, "nested too deeply"),
    "nested-blocks": ("\n".join(" " * i + "a:" for i in range(1200)), "nested too deeply"),
    "laughs": (_laughs(40), "more than 1,000,000 values"),
    "laughs-of-nine": (_laughs(10, 9), "more than 1,000,000 values"),
    "circle": ("a: &x [*x]", r"\*x refers to what it stands in"),
    "digits-400": ("a: " + "9" * 400, "line 1: a number has 400 digits"),
    "digits-5000": ("models: {a: " + "9" * 5000 + "}", "a number has 5000 digits"),
    "key-twice": ("a: 1\na: 2\n", "'a' stands twice"),
    "tag-of-python": ("a: !!python/object/apply:os.system [id]", "cannot be read as YAML"),
    "date-that-is-none": ("a: 2024-99-99", "cannot be read as YAML"),
    "too-large": ("a: 1\n" * 500_000, "characters"),
    "binary": ("\x00\x01\x02" * 50, "YAML|UTF-8"),
}
ONE = {  # tried with the reader of settings
    "octal": ("a: 017", "takes 017 for a number of another notation"),
    "minutes": ("a: 1:30", "takes 1:30 for a number of another notation"),
    "minutes-with-a-point": ("a: 1:30.5", "takes 1:30.5 for a number of another notation"),
    "underscore": ("a: 1_0", "takes 1_0 for a number of another notation"),
    "underscore-and-point": ("a: 1_0.5", "takes 1_0.5 for a number of another notation"),
    "hex": ("a: 0x10", "takes 0x10 for a number of another notation"),
    "hex-of-1200-bits": ("a: 0x" + "f" * 300, "a number has 302 digits"),
    "binary-of-2000-bits": ("a: 0b" + "1" * 2000, "a number has 2002 digits"),
    "sexagesimal": ("a: " + "59:" * 200 + "59", "a number has 602 digits"),
    "int-that-is-none": ("a: !!int x", "cannot be read as YAML"),
    "bool-that-is-none": ("a: !!bool x", "cannot be read as YAML"),
    "float-that-is-none": ("a: !!float x", "cannot be read as YAML"),
    "date-tag": ("a: !!timestamp x", "cannot be read as YAML"),
    "base64": ("a: !!binary '%%%'", None),
    "unhashable-key": ("? [a, b]\n: 1\n", "cannot be read as YAML|unhashable"),
    "two-documents": ("a: 1\n---\nb: 2\n", "cannot be read as YAML"),
    "unknown-alias": ("a: *x", "cannot be read as YAML"),
    "half-a-character": ('a: "\\ud800"', "cannot be read as YAML"),
    "tabs": ("a:\n\t- 1\n", "cannot be read as YAML"),
    "open-quote": ('a: "' + "x" * 10**6, "cannot be read as YAML"),
    "merge-of-merges": (
        f"a: &a {{x: 1}}\nb: &b {{<<: [{'*a, ' * 10**5}]}}\nc: {{<<: [{'*b, ' * 20}]}}\n",
        "more than 1,000,000",
    ),
    "merge-of-a-text": ("a: {<<: x}", "cannot be read as YAML"),
    "20000-keys-last-twice": ("".join(f"k{i}: 1\n" for i in range(20_000)) + "k19999: 2\n", "'k19999' stands twice"),
    "anchors": ("".join(f"- &a{i} x\n" for i in range(20_000)), None),
    "many-blanks": (" " * 10**6, None),
    "comments": ("# x\n" * 10**5, None),
    "nested-99": ("[" * 99 + "]" * 99, None),
    "2000-llms": ("".join(f"llm-{i}: {{input_price: 1, output_price: 2}}\n" for i in range(2000)), None),
    "shared-honestly": ("base: &b {url: x, key: y}\n" + "".join(f"llm-{i}: *b\n" for i in range(2000)), None),
}
JSON = {
    "nested-100000": ("[" * 10**5 + "]" * 10**5, "nested too deeply"),
    "nested-objects": ('{"a":' * 10**5, "nested too deeply"),
    "nested-500": ("[" * 500 + "]" * 500, "nested too deeply"),
    "digits-5000": ('{"a": ' + "9" * 5000 + "}", "a number has 5,000 digits"),
    "digits-400": ('{"a": ' + "9" * 400 + "}", "a number has 400 digits"),
    "key-twice": ('{"a": 1, "a": 2}', "'a' stands twice"),
    "half-a-character": ('{"a": "\\ud800"}', "half a character"),
    "half-in-a-key": ('{"\\udfff": 1}', "half a character"),
    "both-halves": ('{"a": "\\ud83d\\ude00"}', None),
    "empty": ("", "cannot be read as JSON"),
    "cut": ('{"a": [1, 2', "cannot be read as JSON"),
    "two-values": ("{} {}", "cannot be read as JSON"),
    "binary": ("\x00\x01\x02" * 50, "JSON|UTF-8"),
    "mark": ("\ufeff{}", None),
}


def _case(name: str, read: Callable[[Path], Any], text: str, says: str | None, suffix: str = ".yaml") -> Case:
    def run(folder: Path) -> Any:
        path = folder / f"x{suffix}"
        path.write_text(text, encoding="utf-8")
        read(path)
        return "read"

    return Case(name, run, says, None if says else {"read"}.__contains__)


def _served(folder: Path) -> str:
    (folder / "c.yaml").write_text(ALL["nested-5000"][0])
    return command("serve", "--check", str(folder / "c.yaml"))


def _renamed(folder: Path) -> str:
    (folder / "r.yaml").write_text(_laughs(40))
    return command("evaluate", "--votes", "v.csv", "--rename", str(folder / "r.yaml"))


CASES = [
    *(_case(f"{kind}-{name}", read, *case) for kind, read in READERS.items() for name, case in ALL.items()),
    *(_case(f"yaml-{name}", read_yaml, *case) for name, case in ONE.items()),
    *(_case(f"json-{name}", read_json, *case, suffix=".json") for name, case in JSON.items()),
    Case("check-of-a-nested-config", _served, "nested too deeply"),
    Case("rename-by-a-bomb", _renamed, "more than 1,000,000 values"),
]
