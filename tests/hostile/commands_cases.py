"""Hostile arguments of commands: each ends in what is wrong, never in a traceback. The fuzz over all options is
tests/cli/test_fuzz_commands.py; these are the cases that got through, and their neighbours."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Case, command

RESULTS = "model,x\na,1\nb,0\n"
REPORT = ("mpg", "report", "--results", "{}/r.csv")
NUMBERS = ("nan", "-1", "x", "inf")
TOPS = ("0", "-1", "1.5", "nan", "9" * 5000, "")
PROMPT = "Prove that the square root of two is irrational"
CSV = "prompt,model_a,model_b,winner\n" + "hello,gpt-4o-mini,claude-3-5-haiku,tie\n" * 5
DEEP = "[" * 5000 + "]" * 5000


def _says(name: str, says: str, *arguments: str, **files: str) -> Case:
    """A call, in a folder with these files, that ends in an error; `{}` in an argument is the folder."""

    def run(folder: Path) -> str:
        for file, text in files.items():
            (folder / file.replace("_", ".")).write_text(text, encoding="utf-8")
        return command(*(argument.replace("{}", str(folder)) for argument in arguments))

    return Case(name, run, says)


def _raised(error: BaseException) -> Callable[[Path], Any]:
    """What the command line says of an exception."""

    def run(_: Path) -> str:
        from p2l_sdk.cli.failures import message_of, printable

        try:
            raise error
        except BaseException as raised:
            text, status = message_of(raised)
        return f"{status} {printable(text)}"

    return run


def _said(name: str, error: BaseException, *parts: str) -> Case:
    return Case(f"said-of-{name}", _raised(error), right=lambda text: all(part in text for part in parts))


def _linked(folder: Path) -> str:
    (folder / "v.csv").symlink_to("v.csv")
    return command("evaluate", "--votes", str(folder / "v.csv"))


def _nowhere(folder: Path) -> str:
    (folder / "v.csv").symlink_to("gone.csv")
    return command("evaluate", "--votes", str(folder / "v.csv"))


def _full(_: Path) -> str:
    return command("costs", "--output", "/dev/full")


def _quiet(folder: Path) -> str:
    """Control characters of a file are not passed on to the terminal."""
    (folder / "v.csv").write_text(CSV + "\x1b[2Jx,\x1b[31ma,\u202eb,\x07c\n" * 3)
    return command("evaluate", "--votes", str(folder / "v.csv"))


def _in_environment(name: str, value: str, *arguments: str) -> Callable[[Path], str]:
    def run(_: Path) -> str:
        old = os.environ.get(name)
        os.environ[name] = value
        try:
            return command(*arguments)
        finally:
            os.environ.pop(name) if old is None else os.environ.update({name: old})

    return run


UNWRITTEN = (
    "No space|cannot write|is a folder; name a file|No such|Is a directory|Not a directory|too long|not permitted|"
    "denied|ermission"
)
CASES = [
    # a bug says how to report it; what the system or the user did says so
    _said("a-bug", KeyError("x"), "70", "bug of p2l-sdk", "KeyError: 'x'", "please report", "Python", "P2L_DEBUG=1"),
    _said("an-assertion", AssertionError(), "70", "AssertionError", "please report"),
    _said("a-recursion", RecursionError("maximum"), "70", "RecursionError"),
    _said("a-long-bug", ValueError("x" * 10**6), "70", "ValueError: xxx"),
    _said("a-bug-with-escapes", ValueError("\x1b[31m\u202e"), "70", "\\x1b", "\\u202e"),
    _said("a-full-disk", OSError(errno.ENOSPC, "No space left"), "2 cannot write the output: No space left"),
    _said("a-file", PermissionError(errno.EACCES, "Permission denied", "x.csv"), "2 'x.csv': Permission denied"),
    _said("two-files", OSError(errno.EXDEV, "Invalid link", "a", None, "b"), "2 'a' to 'b': Invalid link"),
    _said("a-network", ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "2 Connection refused"),
    _said("a-system-without-reason", OSError("no file named x"), "2 no file named x"),
    _said("no-memory", MemoryError("10 GB"), "2 there is not enough memory", "10 GB"),
    _said("torchao", ModuleNotFoundError("No module named 'torchao'", name="torchao"), "2", "pip install torchao"),
    _said("timm", ImportError("needs timm", name="timm.models"), "2", "pip install timm"),
    _said("an-import-of-ours", ImportError("x", name="p2l_sdk.x"), "70", "bug"),
    _said("half-a-character", UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "x"), "2", "half a character"),
    # texts
    _says("half-a-character-in-a-prompt", "half|UTF-8|character", "leaderboard", "\udcff"),
    _says(
        "half-a-character-in-a-name",
        "half|not know",
        "leaderboard",
        PROMPT,
        "--models",
        "\udcff",
    ),
    _says("escapes-in-a-name", r"(?s)^(?!.*\x1b).*not know", "leaderboard", PROMPT, "--models", "\x1b[31mred"),
    _says("escapes-in-a-path", r"(?s)^(?!.*\x1b).*no such file", "evaluate", "--votes", "\x1b[31m.csv"),
    _says("a-name-of-a-megabyte", r"(?s)^.{20,40000}$", "leaderboard", PROMPT, "--models", "x" * (1 << 20)),
    _says("a-path-of-5000", "too long|no such", "evaluate", "--votes", "x" * 5000 + ".csv"),
    _says("an-option-of-a-megabyte", r"(?s)^.{20,40000}$", "leaderboard", PROMPT, "--" + "x" * (1 << 20)),
    _says("a-dash", "prompt", "leaderboard", "-x"),
    _says("empty", "empty|prompt", "leaderboard", ""),
    _says("blanks", "empty|prompt", "leaderboard", " \n "),
    # numbers
    *(_says(f"top-{n[:9]}", "--top", "leaderboard", PROMPT, "--top", n) for n in TOPS),
    *(_says(f"seed-{n[:9]}", "seed", "route", PROMPT, "--seed", n) for n in ("1.5", "1e3", "9" * 5000)),
    *(
        _says(f"weight-{n[:9]}", "weight|opponent", "leaderboard", PROMPT, "--opponents", f"gpt-4o-mini={n}")
        for n in NUMBERS
    ),
    # files
    _says("a-user-that-is-none", "no such|does not know", "evaluate", "--votes", "~nobody-here/v.csv"),
    _says(
        "an-output-of-a-user-that-is-none", "No such|does not know|home dir", "costs", "--output", "~nobody-here/c.json"
    ),
    Case("a-link-to-nowhere", _nowhere, says="it is a link to 'gone.csv', which is not there"),
    Case("a-link-to-itself", _linked, "cannot be read|symbolic"),
    Case("control-characters-in-votes", _quiet, r"(?s)^(?!.*[\x1b\x07\u202e]).*winner"),
    _says("a-folder-as-votes", "cannot be loaded|no such|folder|empty", "evaluate", "--votes", "{}"),
    _says("dev-zero-as-votes", "no known kind", "evaluate", "--votes", "/dev/zero"),
    _says("dev-zero-as-prompts", "byte 0 is 0", "aggregate", "/dev/zero"),
    _says("dev-null-as-prompts", "no prompt|empty", "aggregate", "/dev/null"),
    _says("a-nested-config", "nested too deeply", "train", "--config", "{}/c.yaml", c_yaml=DEEP),
    _says("a-nested-rename", "nested too deeply", "evaluate", "--votes", "x.csv", "--rename", "{}/r.json", r_json=DEEP),
    _says("nested-costs", "nested too deeply", "route", PROMPT, "--costs", "{}/c.json", c_json=DEEP),
    _says("costs-of-400-digits", "400 digits", "costs", "--costs", "{}/c.yaml", c_yaml="gpt-4o-mini: " + "9" * 400),
    _says(
        "a-nested-tree",
        "nested too deeply",
        "mpg",
        "report",
        "--results",
        "{}/r.csv",
        "--tree",
        "{}/t.yaml",
        r_csv=RESULTS,
        t_yaml=DEEP,
    ),
    _says(
        "a-config-of-another-kind",
        "cannot be read as YAML|no settings|UTF-8",
        "serve",
        "--check",
        "{}/c.yaml",
        c_yaml="\x00" * 50,
    ),
    *(
        _says(f"draws-{draws}", "at most 100,000 draws", *REPORT, "--draws", draws, r_csv=RESULTS)
        for draws in ("100001", "9" * 11)
    ),
    # outputs
    Case("a-full-disk", _full, UNWRITTEN),
    _says("output-in-no-folder", UNWRITTEN, "costs", "--output", "{}/no/folder/x.json"),
    _says("output-in-a-file", UNWRITTEN, "costs", "--output", "{}/c.csv/x.json", c_csv=CSV),
    _says("output-is-a-folder", UNWRITTEN, "costs", "--output", "{}"),
    _says("output-of-a-long-name", UNWRITTEN, "costs", "--output", "{}/" + "x" * 300),
    # the environment
    Case("a-ledger-that-is-none", _in_environment("P2L_LEDGER", "redis://[", "keys", "list"), "redis|ledger|address"),
    Case(
        "a-nothing-as-model",
        lambda _: command("leaderboard", PROMPT, "--model", "/dev/null/x"),
        "no such|there is no|not",
    ),
]
