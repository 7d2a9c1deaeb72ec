"""Calls of the command line with hostile values, drawn for every option and argument of the click tree.

A call may do anything, so the tests run them in a process of its own: `python tests/support/fuzz_commands.py SEED N
SECONDS` makes N calls, or as many as it can in that time, and prints one JSON object for each that ends as none may. A
call that not even a signal ends is the last one in the standard error, with its stack.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from fuzz_values import HOSTILE, good, make_files, role_of

LIMIT = 30.0  # seconds of the processor for a call, which may import torch; those of LONG may go on, since they work
WAIT = 2  # times as long by the clock: the machine may be busy
LONG = {"train", "judge", "collect", "measure", "build"}
LONG_SECONDS = 2.0
ENDS = {0, 2, 130}  # exit statuses that a call may have
LISTENING = (b"Uvicorn running on", b" workers at ")
STOPPED = {signal.SIGINT: 130, signal.SIGTERM: -signal.SIGTERM}  # how a server that is asked to stop ends


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group, with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def drawn(path: tuple[str, ...], command: click.Command, draw: random.Random, target: click.Parameter) -> list[str]:
    """The arguments of a call: a hostile value for this parameter, now and then another, honest ones elsewhere."""
    options: list[str] = []
    arguments: list[str] = []
    for param in command.params:
        hostile = param is target or draw.random() < 0.05
        needed = param.required or param.name in ("votes", "questions", "results", "config", "prompts", "ratings")
        if not (hostile or (needed and draw.random() < 0.95) or draw.random() < 0.05):
            continue
        if getattr(param, "is_flag", False):
            options.append(param.opts[0])
            continue
        role = role_of(param)
        pool = HOSTILE[role if draw.random() < 0.8 else draw.choice(list(HOSTILE))]
        for _ in range(2 if param.multiple and draw.random() < 0.3 else 1):
            values = [draw.choice(pool) if hostile else good(param) for _ in range(param.nargs)]
            if isinstance(param, click.Argument):
                arguments += values
            else:
                options += [param.opts[0], *values]
    return [*path, *options, "--", *arguments]


class Alarm(BaseException):
    """The time of a call is over."""


def fault_of(argv: list[str], stdin: str | None, seconds: float) -> dict[str, Any] | None:
    """What is wrong with how a call ends, or None."""
    began = time.monotonic()
    status, text, fault = (_served if argv[0] == "serve" else _called)(argv, stdin, seconds)
    if fault is None and status not in ENDS:
        fault = f"exit status {status}"
    if fault is None and "Traceback" in text and "Alarm" not in text:
        fault = "a traceback"
    if fault is None and status == 2 and len(text.strip()) < 10:
        fault = "nothing is said"
    if fault is None and any(c in text for c in "\x1b\x07\x00\u202e"):
        fault = "a control character in what it says"
    if fault is None:
        return None
    took = round(time.monotonic() - began, 2)
    return {"call": shlex.join(a[:200] for a in argv), "fault": fault, "says": text[-3000:], "seconds": took}


def _called(argv: list[str], stdin: str | None, seconds: float) -> tuple[int, str, str | None]:
    """How a call in this process ends: its status, what it says, and what is wrong."""
    from p2l_sdk.cli import cli, run

    def ring(*_: Any) -> None:
        raise Alarm

    out, err = io.StringIO(), io.StringIO()
    old, sys.stdin = sys.stdin, io.StringIO(stdin) if stdin is not None else None  # type: ignore[assignment]
    signal.signal(signal.SIGALRM, ring)
    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)  # again, if it rings where Python ignores exceptions
    signal.setitimer(signal.ITIMER_REAL, LONG_SECONDS if LONG & set(argv[:2]) else WAIT * seconds, 1.0)
    fault = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run(lambda: cli(args=argv, prog_name="p2l", standalone_mode=False))
    except Alarm:
        status = 130
        fault = None if LONG & set(argv[:2]) else f"it takes longer than {seconds:g} s"
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 2
    except BaseException as error:
        status, fault = 1, f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdin = old
    return status, err.getvalue(), fault


def _served(argv: list[str], stdin: str | None, seconds: float) -> tuple[int, str, str | None]:
    """How `p2l serve` ends, as in `_called`, in a process of its own, where a server has the signals for itself. One
    that listens has done well: it is asked to stop, and its status is 0 here if it stops as usual."""
    Path("stdin").write_text(stdin or "")
    asked = signal.SIGINT if stdin else signal.SIGTERM
    with open("stdin") as given, open("log", "wb") as log:
        call = [sys.executable, "-m", "p2l_sdk", *argv]
        process = subprocess.Popen(call, stdin=given, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)
    fault, listens, ends = None, False, time.monotonic() + 2 * WAIT * seconds  # it may load torch
    try:
        while process.poll() is None and not listens and time.monotonic() < ends:
            time.sleep(0.05)
            listens = any(word in Path("log").read_bytes() for word in LISTENING)
        if listens:
            process.send_signal(asked)
        status = process.wait(WAIT * seconds if listens else 1)
    except subprocess.TimeoutExpired:
        status, fault = 1, f"{asked.name} does not end it" if listens else "it neither listens nor ends"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers end with it
        process.wait()
    if listens and fault is None:
        fault = None if status == STOPPED[asked] else f"{asked.name} ends it with status {status}"
        status = 0
    return status, Path("log").read_text(errors="replace"), fault


def main(seed: int, n: int, seconds: float, limit: float = LIMIT) -> None:
    """Make the calls; every parameter of every command has its turn before one has its second."""
    from p2l_sdk.cli import cli

    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "COLUMNS": "100",
        "A_KEY": "sk-of-nobody",
    }
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    draw = random.Random(seed)
    targets = [(path, command, param) for path, command in commands(cli) for param in command.params]
    done, ends = 0, time.monotonic() + seconds
    while done < n and time.monotonic() < ends:
        for path, command, param in draw.sample(targets, len(targets)):
            if done >= n or time.monotonic() >= ends:
                break
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                make_files(Path(folder))
                argv = drawn(path, command, draw, param)
                if "--port" not in argv and path == ("serve",):
                    argv[1:1] = ["--port", "0"]  # its own may be taken
                stdin = draw.choice([None, "", "hello\n", '{"prompt": 1}\n', "\0\0", "{" * 5000])
                print(shlex.join(a[:200] for a in argv).encode("ascii", "backslashreplace").decode(), file=sys.stderr)
                faulthandler.dump_traceback_later(4 * WAIT * limit, exit=True)
                fault = fault_of(argv, stdin, limit)
                faulthandler.cancel_dump_traceback_later()
                os.chdir("/")
            done += 1
            if fault is not None:
                print(json.dumps(fault), flush=True)
    print(json.dumps({"calls": done, "parameters": len(targets)}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *map(float, sys.argv[4:]))
