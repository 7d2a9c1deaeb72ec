"""A separate process that uses the local Hub; it takes code line by line, so that imports happen only once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from forks import python

PROMPTS = ["write a poem about python", "sum", "prove that the square root of two is irrational in code"]
OWNER, GUEST = "hf_owner", "hf_guest"  # tokens for the namespaces org and guest

LOAD = """
from p2l_sdk import P2L
p2l = P2L.from_pretrained(repo, **options)
result = p2l.coefficients(prompts).coefs.tolist()
"""

PUSH = "from p2l_sdk import P2L\nresult = vars(P2L.from_pretrained(folder).push_to_hub(repo, **options))"

# `time.sleep` only records its argument, so that the waits between retries are tested without waiting
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
    """The code raised an exception; its text is the message."""


def environment(hub: Any, home: Path, **more: str) -> dict[str, str]:
    """The environment of a process that uses the local Hub; it inherits no Hub settings from this process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**kept, **quiet, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **more}


class Client:
    """Runs code in the process: `client("result = 6 * x", x=7)` is 42. With `sdk=False` it cannot import p2l_sdk."""

    def __init__(self, hub: Any, home: Path, sdk: bool = True) -> None:
        home.mkdir(parents=True)
        self.home = home
        self._log = (home / "log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOOP if sdk else WITHOUT_SDK + LOOP],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=home,
            env=environment(hub, home),
        )  # fmt: skip

    def __call__(self, code: str, **values: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
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
        """The message of the error that the code must raise."""
        try:
            result = self(code, **values)
        except RefusedError as error:
            return str(error)
        raise AssertionError(f"no error, but {result!r}")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()  # there is nothing to save, and torch is slow to shut down
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()


def load(client: Client, repo: str, **options: Any) -> np.ndarray:
    """The coefficients that a process computes for PROMPTS with the model of a repository."""
    return np.array(client(LOAD, repo=repo, prompts=PROMPTS, options=options))


def push_as_owner(client: Client, folder: Path, repo: str, **options: Any) -> dict[str, Any]:
    """The commit of a process that pushes the model of a folder."""
    return client(PUSH, folder=folder, repo=repo, options={"token": OWNER, **options})


def expected(folder: Path, **options: Any) -> np.ndarray:
    """The coefficients for PROMPTS with the model of a folder, computed in this process."""
    from p2l_sdk import P2L

    return P2L.from_pretrained(folder, **options).coefficients(PROMPTS).coefs


def p2l_command(*arguments: Any, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `p2l ...` in a new process."""
    return python("-m", "p2l_sdk", *arguments, env=env, text=True)


def assert_cache_is_whole(cache: Path) -> None:
    """Check that every file in the cache matches the hash in its name, and that no partial download is left."""
    blobs = [blob for blob in cache.rglob("blobs/*") if blob.is_file()]
    for blob in blobs:
        content = blob.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        assert blob.name in (hashlib.sha256(content).hexdigest(), git)
    for link in cache.rglob("snapshots/*/*"):
        assert link.exists(), f"{link.name} leads nowhere"
