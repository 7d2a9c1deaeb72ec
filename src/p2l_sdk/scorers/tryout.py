"""Trying out a tokenizer, or a chat template, in a process of its own, before it reads a prompt in this one.

A `tokenizer.json` may hold regular expressions that take exponential time, and rules that replace a letter by a
thousand. Those of common tokenizers do neither, and `is_unusual` recognises them at a glance; any other one reads
texts of growing length, made of the letters that it treats in a way of its own, in a child process with limits on time
and memory. What passes may still take long on a text that nobody thought of: this finds traps, it proves nothing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.modeling.limits_p2l import parse_json

_MOST_BYTES = 500_000_000  # of a tokenizer.json; the largest known one has 35 MB
_SECONDS, _BYTES = 2, 3 << 29  # of the child: of the processor, and of address space
PATIENCE = 15  # times as long by the clock: other processes may need the cores, too
_LENGTHS = (30, 300, 3_000, 30_000)  # characters of a text
_MOST_PATTERN, _MOST_REPEATS, _MOST_GROWTH, _MOST_WORD = 2_000, 2, 8.0, 1_000
_MOST_CHUNKS = 40
_PLAIN = ("a", " ", "\n", "0", "aA", "é", "a b ", "🙂", "<|", "ab1 ")


def require_small(path: Path) -> None:
    """Raise ModelFormatError if a `tokenizer.json` is too large to be one."""
    if path.stat().st_size > _MOST_BYTES:
        raise ModelFormatError(f"{str(path)!r} has {path.stat().st_size:,} bytes; {_MOST_BYTES:,} are legal")


def is_unusual(tokenizer: Any) -> bool:
    """Whether a `tokenizers.Tokenizer` has rules that those of common ones do not have: a regular expression in which a
    group repeats, or that can backtrack in many ways; or replacements that make a text several times longer."""
    rules = [rule for part in _parts(tokenizer) for rule in _objects(part)]
    growth = 1.0
    for rule in rules:
        if rule.get("type") == "Replace":
            growth *= max(1.0, len(str(rule.get("content"))) / max(1, len(_text(rule.get("pattern")))))
    word = getattr(tokenizer.model, "max_input_chars_per_word", 0)
    return growth > _MOST_GROWTH or word > _MOST_WORD or any(map(_may_backtrack, _patterns(rules)))


def try_out(path: Path, template: str | None = None) -> None:
    """Let a tokenizer, and a chat template if there is one, read texts in a child process.

    Args:
        path: a `tokenizer.json`.
        template: a chat template in Jinja.

    Raises:
        ModelFormatError: the child did not finish in time, ran out of memory, or failed.
    """
    done = in_child("p2l_sdk.scorers.tryout", [str(path)], json.dumps(template), PATIENCE * _SECONDS)
    if done is None:
        raise ModelFormatError(_hangs(path))
    if done.returncode:
        raise ModelFormatError(f"{str(path.parent)!r} cannot read a text of its own kind: {last_line(done)}")


def in_child(
    module: str, arguments: Sequence[str], given: str, seconds: float
) -> subprocess.CompletedProcess[str] | None:
    """Run a module in a child process that computes on one core.

    Args:
        module: which limits itself (`limit`).
        arguments: of its command line.
        given: its standard input.
        seconds: after which it is ended.

    Returns:
        How it ended, or None if it was ended: by the clock, or by a limit of its own.
    """
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module, *arguments],
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **one, "TOKENIZERS_PARALLELISM": "false", "PYTHONUTF8": "1"},
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return None if done.returncode < 0 else done


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a child said last of what went wrong."""
    return (done.stderr.strip().splitlines() or ["it ended"])[-1][:200]


def limit(seconds: int, n_bytes: int) -> None:
    """Limit this process, which is a child: seconds of the processor, and bytes of address space."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):  # not on Windows; the parent still limits the time
        pass


def _hangs(path: Path) -> str:
    return (
        f"the tokenizer of {str(path.parent)!r} was tried out on texts of up to {_LENGTHS[-1]:,} characters, and "
        f"took more than {_SECONDS} s or {_BYTES >> 20} MB; its rules grow a text, or match it in "
        "exponential time. Do not use it"
    )


def _parts(tokenizer: Any) -> Iterator[Any]:
    for part in (tokenizer.normalizer, tokenizer.pre_tokenizer):
        if part is not None:
            yield parse_json(part.__getstate__(), "a rule of tokenizer.json")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(item)


def _patterns(rules: list[dict[str, Any]]) -> Iterator[str]:
    for rule in rules:
        if isinstance(rule.get("Regex"), str):
            yield rule["Regex"]


def _text(pattern: Any) -> str:
    return str(next(iter(pattern.values()), "")) if isinstance(pattern, dict) else str(pattern)


def _may_backtrack(pattern: str) -> bool:
    plain = re.sub(r"\\.", "x", pattern)  # without escapes
    plain = re.sub(r"\[[^\]]*\]", "x", plain)  # and classes
    if len(pattern) > _MOST_PATTERN or re.search(r"\)\s*(?:[*+]|\{)", plain) or re.search(r"\\[1-9kg]", pattern):
        return True
    return any(len(re.findall(r"[*+]|\{\d*,\}", branch)) > _MOST_REPEATS for branch in plain.split("|"))


def _probes(tokenizer: Any) -> Iterator[str]:
    """Texts of growing length: plain ones, and repetitions of the letters that stand in the tokenizer's own rules."""
    rules = [rule for part in _parts(tokenizer) for rule in _objects(part)]
    own = [_text(rule["pattern"]) for rule in rules if "pattern" in rule]
    own += [
        chunk for pattern in _patterns(rules) for chunk in re.findall(r"[^\W_]+|[^\w\s\\()\[\]*+?|^$.{}]+", pattern)
    ]
    own += [letter for chunk in own for letter in chunk]
    chunks = list(dict.fromkeys([*_PLAIN, *own]))[:_MOST_CHUNKS]
    for length in _LENGTHS:
        for chunk in chunks:
            text = chunk * (length // max(1, len(chunk)))
            yield from (text, f"{text}\x01", f"{text}!")


def _main(path: str) -> None:
    from tokenizers import Tokenizer

    template = json.loads(sys.stdin.read())
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    render = None
    if template is not None:
        from p2l_sdk.modeling.template_p2l import renderer

        render = renderer(template)
    for text in _probes(tokenizer):
        tokenizer.encode(text if render is None else render([text]), add_special_tokens=False)


if __name__ == "__main__":
    limit(_SECONDS, _BYTES)
    _main(sys.argv[1])
