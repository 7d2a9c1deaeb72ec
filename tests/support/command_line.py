"""The command line in a separate process, for tests."""

from __future__ import annotations

import os
import subprocess

from forks import python


def p2l(*arguments, stdin: str | bytes | None = None, env: dict | None = None) -> subprocess.CompletedProcess:
    return python("-m", "p2l_sdk", *arguments, input=stdin, env={**os.environ, "COLUMNS": "100", **(env or {})})


def ok(*arguments, **options) -> str:
    result = p2l(*arguments, **options)
    assert result.returncode == 0, result.stderr.decode()
    assert result.stderr == b""
    return result.stdout.decode()


def refused(*arguments, **options) -> str:
    """The single line of an error."""
    result = p2l(*arguments, **options)
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert result.stdout == b""
    lines = result.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("p2l: ")
    return lines[0]
