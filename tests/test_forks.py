"""A program that is forked (`support/forks.py`) does what it does in a process from nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest
from forks import python, start

PROGRAMS = {
    "words, folder, environment": "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['A'])",
    "standard input": "import sys; text = sys.stdin.read(); print(len(text), text[-3:])",
    "no text on its streams": "import os; os.write(1, bytes(range(256))); os.write(2, bytes([255]))",
    "a status": "import sys; sys.exit(3)",
    "a last word": "import sys; print('before'); sys.exit('why')",
    "work at its end": "import atexit; atexit.register(print, 'the end'); print('begun')",
    "work in threads": "import threading as t; from concurrent.futures import ThreadPoolExecutor as T; e = t.Event()\n"
    "T(2).submit(lambda: e.wait() and print('late')); print('first', flush=True); e.set()",
    "a signal": "import os; print('lost'); os.kill(os.getpid(), 9)",
    "processes of its own": "import os, sys; sys.stdout.flush(); os.fork() or os._exit(0); os.wait(); print('both')",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_says_and_ends_the_same(name, tmp_path):
    words, text = ("-c", PROGRAMS[name], "one", "two words"), b"y" * 200_000 + b"end"
    options = {"input": text, "cwd": tmp_path, "env": {"A": "ü", **os.environ}}
    forked = python(*words, **options)
    alone = subprocess.run([sys.executable, *words], capture_output=True, check=False, **options)
    assert (forked.returncode, forked.stdout, forked.stderr) == (alone.returncode, alone.stdout, alone.stderr)


def test_an_error_is_a_traceback_and_status_1():
    forked = python("-c", "def f(): 1 / 0\nf()", text=True)
    assert forked.returncode == 1
    assert "Traceback" in forked.stderr
    assert forked.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_what_is_read_at_a_start_makes_another_process():
    code = "import sys; print(sys.stdout.encoding, sys.flags.dev_mode)"
    assert python("-c", code, env={**os.environ, "PYTHONIOENCODING": "ascii"}, text=True).stdout == "ascii False\n"
    assert python("-c", code, env={**os.environ, "PYTHONDEVMODE": "1"}, text=True).stdout == "utf-8 True\n"


def test_a_process_is_waited_for_and_killed():
    with tempfile.TemporaryFile() as output:
        process = start("-c", "print('begun', flush=True); import time; time.sleep(60)", output=output, env=os.environ)
        while not os.fstat(output.fileno()).st_size:
            assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.kill()
        assert process.wait(20) == process.poll() == -9
    process.kill()  # it has ended: nobody else is meant
