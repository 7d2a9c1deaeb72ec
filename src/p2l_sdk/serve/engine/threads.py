"""Threads that do not keep the process alive.

Python joins the threads of a `ThreadPoolExecutor` when it exits, so a model that hangs would block the exit forever.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

_Task = tuple[Future[Any], Callable[[], Any]]


class DaemonThreads(Executor):
    """Like `ThreadPoolExecutor`, on daemon threads.

    Args:
        n: number of threads.
        name: prefix of their names.
    """

    def __init__(self, n: int, name: str) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads = [Thread(target=self._run, name=f"{name}-{i}", daemon=True) for i in range(n)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call and return the future of its result."""
        future: Future[Any] = Future()
        self._tasks.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads once all submitted calls are done; `cancel_futures` cancels those that have not begun."""
        while cancel_futures and (task := self._next()) is not None:
            task[0].cancel()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _next(self) -> _Task | None:
        try:
            return self._tasks.get_nowait()
        except Empty:
            return None

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, call = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:
                    future.set_exception(error)
            del task, future, call  # so that they are not kept alive while the thread waits
