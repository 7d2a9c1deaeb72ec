"""Several processes that serve one address: a parent, which listens but never accepts, and workers forked from it.

What they share is in the parent's hands or outside of all: the sockets, with the connections that wait to be accepted,
the counters (files of Prometheus' client), keys and spend (the ledger). A worker that dies loses the requests that it
was answering, and another one takes its place. If the parent dies, the workers finish and end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import logging.config
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from prometheus_client import multiprocess, values

from p2l_sdk.errors import P2LError
from p2l_sdk.serve.ledger.opening import MEMORY
from p2l_sdk.serve.process import listen
from p2l_sdk.serve.run import ServerSettings, Worker, log_config, open_keys

_log = logging.getLogger("p2l_sdk.serve")
_SHORT_LIFE = 5.0  # seconds; who dies sooner is replaced after a pause
_PAUSE = 1.0
_READY = b"\0"

Work = Callable[[ServerSettings, Worker, bool], None]


def run_workers(work: Work, settings: ServerSettings, count: int) -> None:
    """Serve with several processes until this one is asked to stop.

    Args:
        work: loads a model and serves it (`run_server`) in one of them, with the settings that it is given; the last
            argument says whether it is the first.
        settings: of the server.
        count: of processes.

    Raises:
        P2LError: this system cannot fork, the server cannot listen, or the first process could not start.
    """
    if not hasattr(os, "fork"):
        raise P2LError("several workers need a system that can fork; start p2l serve without --workers")
    logging.config.dictConfig(log_config())
    with tempfile.TemporaryDirectory(prefix="p2l-serve-") as folder:
        if settings.keys and settings.ledger in (None, MEMORY):  # they need one in common
            settings = dataclasses.replace(settings, ledger=str(Path(folder) / "ledger"))
            if settings.keys.forgetful:
                _log.warning("what keys spend is forgotten when this server stops; --ledger FILE keeps it")
        open_keys(settings).ledger.close()  # an error is seen once, here
        listeners = listen(settings.host, settings.port)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        values.ValueClass = values.get_value_class()  # its counters are in files from now on
        stopped = _Parent(work, settings, listeners, folder, count).run()
    if stopped is not None:
        signal.raise_signal(stopped)  # whoever asked sees that it was heard


class _Parent:
    def __init__(
        self, work: Work, settings: ServerSettings, listeners: Sequence[socket.socket], folder: str, count: int
    ) -> None:
        self._work, self._settings = work, settings
        self._listeners, self._folder, self._count = listeners, folder, count
        self._lives, self._holds = os.pipe()  # its end is seen by the workers when this process has died
        self._born: dict[int, float] = {}  # of each worker, by its process
        self._stop: int | None = None

    def run(self) -> int | None:
        """Serve; returns the signal that ended it."""
        before = {sig: signal.signal(sig, self._stopping) for sig in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._wait_for(self._start(first=True))
            host, port = self._listeners[0].getsockname()[:2]
            _log.info("%d workers at http://%s:%d", self._count, f"[{host}]" if ":" in host else host, port)
            while len(self._born) < self._count and self._stop is None:
                os.close(self._start())
            self._watch()
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)
            for listener in self._listeners:
                listener.close()
        return self._stop

    def _stopping(self, sig: int, _: FrameType | None) -> None:
        self._stop = sig
        for process in list(self._born):
            os.kill(process, sig)

    def _start(self, first: bool = False) -> int:
        """Fork a worker; returns where it says that it is ready, or why it is not."""
        told, tells = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(told)
            self._be_a_worker(tells, first)
        os.close(tells)
        self._born[process] = time.monotonic()
        if self._stop is not None:  # the signal came while there was no such worker yet
            os.kill(process, self._stop)
        return told

    def _wait_for(self, told: int) -> None:
        with os.fdopen(told, "rb") as pipe:
            said = pipe.read()
        if said and said != _READY:
            self._watch_once()
            raise P2LError(said.decode())
        if not said and self._stop is None:
            _, status = self._watch_once()
            raise P2LError(f"the first worker ended before it could serve ({_ending(status)})")

    def _watch(self) -> None:
        """Replace workers that end, until this process is to stop and all have ended."""
        while self._born:
            lived, status = self._watch_once()
            if self._stop is None:
                _log.warning("a worker has ended (%s); another one takes its place", _ending(status))
                if lived < _SHORT_LIFE:
                    time.sleep(_PAUSE)
            while len(self._born) < self._count and self._stop is None:
                os.close(self._start())

    def _watch_once(self) -> tuple[float, int]:
        """How long a worker has lived that has ended, and its status."""
        process, status = os.waitpid(-1, 0)
        multiprocess.mark_process_dead(process, self._folder)
        return time.monotonic() - self._born.pop(process), status

    def _be_a_worker(self, tells: int, first: bool) -> NoReturn:
        status = 1
        try:
            for sig in (signal.SIGTERM, signal.SIGINT):
                signal.signal(sig, signal.SIG_DFL)
            if self._stop is not None:  # the signal came in between
                os._exit(0)
            os.setsid()  # Ctrl-C reaches the parent only, which passes it on
            os.close(self._holds)
            threading.Thread(target=_end_with_parent, args=(self._lives,), daemon=True).start()

            def say(text: bytes) -> None:
                nonlocal tells
                if tells >= 0:
                    ready, tells = tells, -1
                    with contextlib.suppress(OSError):  # nobody waits for any but the first
                        os.write(ready, text)
                    os.close(ready)

            worker = Worker(listeners=self._listeners, metrics=self._folder, of=self._count, ready=lambda: say(_READY))
            try:
                self._work(self._settings, worker, first)
                status = 0
            except P2LError as error:
                say(str(error).encode())
                if not first:  # of the first, the parent says it
                    _log.error("%s", error)
            except KeyboardInterrupt:
                status = 0
            except Exception:
                _log.exception("a worker could not start")
        finally:
            logging.shutdown()
            os._exit(status)  # what lies above on the stack is the parent's


def _end_with_parent(lives: int) -> None:
    os.read(lives, 1)  # nobody ever writes
    os.kill(os.getpid(), signal.SIGTERM)


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"status {os.WEXITSTATUS(status)}"
