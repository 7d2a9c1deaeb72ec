"""Worker processes: each scores one part of the input at a time, and writes what comes out itself.

They are started anew, not forked, with one thread each, and talk over pipes as processes of multiprocessing do: what
comes over a pipe is from a process of our own, and nothing of a file is ever read that way. Each ends when its parent
does.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from p2l_sdk.bulk.work import Part, PartScorer
from p2l_sdk.errors import P2LError

Done = tuple[int, dict[str, Any]]  # a part's number and the note on it

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def n_cores() -> int:
    """The number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def scored_parts(work: PartScorer, parts: Iterator[tuple[int, Part]], processes: int) -> Iterator[Done]:
    """Score parts, and yield the note on each when it is done, in whatever order.

    Args:
        work: scores a part.
        parts: parts with their numbers.
        processes: number of worker processes; with 1, this process does the work.

    Raises:
        P2LError: as in the work, or a process died.
    """
    if processes == 1 or sys.platform == "win32":  # whose pipes are of another kind
        for number, part in parts:
            yield number, work(number, part)
        return
    with contextlib.closing(_Workers(work, processes)) as workers:
        for task in parts:
            while workers.waiting > processes:  # one more than there are processes: it is read while they work
                yield workers.take()
            workers.put(task)
            while not workers.done.empty():
                yield workers.take()
        while workers.waiting:
            yield workers.take()


class _Workers:
    """Worker processes, each started when there is a part that no other one would begin at once.

    Args:
        work: what they do.
        most: number of processes.

    Attributes:
        waiting: number of parts that were put and not taken.
        done: what they give.
    """

    def __init__(self, work: PartScorer, most: int) -> None:
        self.waiting = 0
        self.done: queue.Queue[Done | BaseException] = queue.Queue()
        self._work, self._most = work, most
        self._todo: queue.Queue[Any] = queue.Queue()
        self._started: list[subprocess.Popen[bytes]] = []

    def put(self, task: tuple[int, Part]) -> None:
        """Give them a part."""
        if len(self._started) < min(self._most, self.waiting + 1):
            self._start()
        self._todo.put(task)
        self.waiting += 1

    def take(self) -> Done:
        """Wait for the next part that is done."""
        found = self.done.get()
        self.waiting -= 1
        if isinstance(found, BaseException):
            raise found
        return found

    def _start(self) -> None:
        environment = {**os.environ, **_ONE_THREAD, "TOKENIZERS_PARALLELISM": "false"}
        command, pipe = [sys.executable, "-m", "p2l_sdk.bulk.worker"], subprocess.PIPE
        # a session of its own: Ctrl-C is for the parent, which ends them
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)
        self._started.append(process)
        threading.Thread(target=_serve, args=(process, self._work, self._todo, self.done), daemon=True).start()

    def close(self) -> None:
        """End them, whatever they do."""
        for process in self._started:
            process.kill()
            self._todo.put(None)  # its thread ends
        for process in self._started:
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if stream is not None:
                        stream.close()


def _serve(process: subprocess.Popen[bytes], work: PartScorer, todo: queue.Queue[Any], done: queue.Queue[Any]) -> None:
    """Hand parts to a process, one after the other, until it dies or is killed."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with (
            Connection(os.dup(process.stdin.fileno()), readable=False) as parts,
            Connection(os.dup(process.stdout.fileno()), writable=False) as answers,
        ):
            parts.send(work)
            while True:
                part = todo.get()
                if part is None:
                    return
                parts.send(part)
                del part
                done.put(answers.recv())
    except (OSError, EOFError, ValueError):
        status = process.wait()
        why = f"killed by signal {-status}, maybe for want of memory" if status < 0 else f"its exit status is {status}"
        done.put(
            P2LError(
                f"a worker process ended ({why}); the parts that are finished are kept: give the same command again to "
                "go on, with fewer --processes if memory is short"
            )
        )
