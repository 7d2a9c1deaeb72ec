"""A process of its own that uses the Hub on this machine: it is asked line by line, so its imports are paid for once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# `time.sleep` only notes for how long it was asked to: the waits between retries are tested, not waited for
LOOP = """
import json, sys, time
naps = []
time.sleep = naps.append
answers, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    names = {"naps": naps, **json.loads(line)}
    naps.clear()
    try:
        exec(names.pop("code"), names)
        answer = {"result": names.get("result")}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), file=answers, flush=True)
"""
WITHOUT_SDK = 'import sys; sys.modules["p2l_sdk"] = None\n'


class RefusedError(Exception):
    """The code raised; the text is that of its error."""


def environment(hub: Any, home: Path, **more: str) -> dict[str, str]:
    """Of a process whose Hub is the one on this machine. Of this process it has nothing that is about the Hub."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "MPLBACKEND": "agg"}
    return {**kept, **quiet, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **more}


class Client:
    """`client("result = 6 * x", x=7)` is 42. With `sdk=False` the process cannot import p2l_sdk."""

    def __init__(self, hub: Any, home: Path, sdk: bool = True) -> None:
        home.mkdir(parents=True)
        self._log = (home / "log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOOP if sdk else WITHOUT_SDK + LOOP],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=home,
            env=environment(hub, home),
        )  # fmt: skip

    def __call__(self, code: str, **values: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"code": code, **values}, default=str) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise AssertionError(f"the client died:\n{self._log.read()[-3000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer["result"]

    def refused(self, code: str, **values: Any) -> str:
        """The error that the code must raise."""
        try:
            result = self(code, **values)
        except RefusedError as error:
            return str(error)
        raise AssertionError(f"no error, but {result!r}")

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.kill()  # there is nothing to save, and torch takes its time to leave
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()
