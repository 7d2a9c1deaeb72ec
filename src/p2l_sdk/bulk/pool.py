"""Worker processes: each scores one part of the input at a time, and writes what comes out itself.

They are started anew, not forked, with one thread each, and talk over pipes. Each ends when its parent does.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
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
    if processes == 1:
        for number, part in parts:
            yield number, work(number, part)
        return
    with _workers(work, processes) as (todo, done):
        waiting = 0
        for task in parts:
            while waiting > processes:  # one part more than there are workers: the next is read while they work
                yield _of(done.get())
                waiting -= 1
            todo.put(task)
            waiting += 1
            while not done.empty():
                yield _of(done.get())
                waiting -= 1
        while waiting:
            yield _of(done.get())
            waiting -= 1


def _of(found: Done | BaseException) -> Done:
    if isinstance(found, BaseException):
        raise found
    return found


@contextlib.contextmanager
def _workers(work: PartScorer, count: int) -> Iterator[tuple[queue.Queue[Any], queue.Queue[Any]]]:
    """Context manager of worker processes: a queue of parts for them, and one of what they give."""
    todo: queue.Queue[Any] = queue.Queue()
    done: queue.Queue[Any] = queue.Queue()
    environment = {**os.environ, **_ONE_THREAD, "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "p2l_sdk.bulk.worker"]
    pipe = subprocess.PIPE
    started = [
        # a session of its own: Ctrl-C is for the parent, which ends them
        subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)
        for _ in range(count)
    ]
    try:
        for process in started:
            threading.Thread(target=_serve, args=(process, work, todo, done), daemon=True).start()
        yield todo, done
    finally:
        for process in started:
            process.kill()
            todo.put(None)  # its thread ends
        for process in started:
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
        pickle.dump(work, process.stdin, protocol=5)
        while True:
            part = todo.get()
            if part is None:
                return
            pickle.dump(part, process.stdin, protocol=5)
            process.stdin.flush()
            del part
            done.put(pickle.load(process.stdout))
    except (OSError, EOFError, ValueError, pickle.UnpicklingError):
        status = process.wait()
        why = f"killed by signal {-status}, maybe for want of memory" if status < 0 else f"its exit status is {status}"
        done.put(
            P2LError(
                f"a worker process ended ({why}); the parts that are finished are kept: give the same command again to "
                "go on, with fewer --processes if memory is short"
            )
        )
