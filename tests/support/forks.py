"""Python programs in processes that are forked from one that has imported what such programs import.

`python(...)` is `subprocess.run([sys.executable, ...], capture_output=True)`, and `start(...)` is `subprocess.Popen`: a
process of its own, with its own arguments, environment, folder, streams, signals and status. Only the seconds that
click, pandas or torch take to be imported are saved: what one program imports, those after it find. What Python or a
library reads when it starts must be as in this process, and there must be a fork; else it is a process from nothing.
Tests of what is imported, and when, start such ones themselves.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

Environment = Mapping[str, str]
_STARTUP = ("PYTHON", "LANG", "LC_", "TZ", "OMP_", "MKL_", "OPENBLAS_", "LD_", "MPL", "TORCH", "TOKENIZERS_", "PROMETH")
_HUB = ("HF_", "TRANSFORMERS_", "HOME", "XDG_")  # huggingface_hub and transformers read these when they are imported
_ANYWHERE = {
    "numpy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "scipy",
    "sklearn",
    "torch",
    "click",
    "rich",
    "yaml",
    "openpyxl",
}
_HERE = _ANYWHERE | {"huggingface_hub", "tokenizers", "transformers", "peft", "accelerate", "datasets", "p2l_sdk"}
_CAN = hasattr(os, "pidfd_open")  # Linux


def startup(env: Environment) -> dict[str, str]:
    """The part of an environment that is read once, at the start of a process."""
    return {name: value for name, value in env.items() if name.startswith(_STARTUP)}


def _hub(env: Environment) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_HUB)}


# --- in the tests -----------------------------------------------------------------------------------------------------


def python(
    *arguments: object,
    input: bytes | str | None = None,
    env: Environment | None = None,
    cwd: str | os.PathLike[str] | None = None,
    text: bool = False,
) -> subprocess.CompletedProcess[Any]:
    """Run `python ARGUMENTS`, where these begin with a program: `-m NAME`, `-c CODE` or a file."""
    words = list(map(str, arguments))
    given = input.encode() if isinstance(input, str) else input
    environment, folder = os.environ if env is None else env, os.fspath(cwd or os.getcwd())
    nursery = _nursery_for(environment)
    if nursery is None:
        command = [sys.executable, *words]
        done = subprocess.run(command, input=given, capture_output=True, check=False, env=environment, cwd=folder)
        status, out, err = done.returncode, done.stdout, done.stderr
    else:
        status, out, err = _communicate(nursery, words, given, environment, folder)
    if text:
        with io.TextIOWrapper(io.BytesIO(out)) as o, io.TextIOWrapper(io.BytesIO(err)) as e:
            return subprocess.CompletedProcess(words, status, o.read(), e.read())
    return subprocess.CompletedProcess(words, status, out, err)


def start(
    *arguments: object,
    output: io.BufferedWriter,
    env: Environment,
    cwd: str | os.PathLike[str] | None = None,
    imports: Sequence[str] = (),
) -> Forked | subprocess.Popen[bytes]:
    """Start `python ARGUMENTS`, which writes to this file, and needs these modules."""
    words, folder = list(map(str, arguments)), os.fspath(cwd or os.getcwd())
    nursery = _nursery_for(env)
    if nursery is None:
        return subprocess.Popen([sys.executable, *words], stdout=output, stderr=output, env=env, cwd=folder)
    return nursery.fork(words, env, folder, (0, output.fileno(), output.fileno()), imports)


class Forked:
    """What `subprocess.Popen` has of a process that was started by `start`."""

    def __init__(self, pid: int, ended: socket.socket) -> None:
        self.pid, self.returncode, self._ended = pid, None, ended

    returncode: int | None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._ended.settimeout(timeout)
            try:
                (self.returncode,) = struct.unpack("<i", _exactly(self._ended, 4))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0) from None
            self._ended.close()
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that is forked; it ends with this one."""

    def __init__(self, roots: set[str]) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, __file__, str(theirs.fileno()), *sorted(roots)]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()

    def fork(
        self,
        words: list[str],
        env: Environment,
        folder: str,
        streams: tuple[int, int, int],
        imports: Sequence[str] = (),
    ) -> Forked:
        """Start a program with these streams as its own."""
        ended, theirs = socket.socketpair()
        request = json.dumps([words, dict(env), folder, list(imports)]).encode()
        with theirs, self._lock:
            socket.send_fds(self._socket, [struct.pack("<Q", len(request))], [*streams, theirs.fileno()])
            self._socket.sendall(request)
        (pid,) = struct.unpack("<i", _exactly(ended, 4))
        return Forked(pid, ended)


@functools.cache
def _nursery(anywhere: bool) -> tuple[Nursery, dict[str, str], dict[str, str]]:
    return Nursery(_ANYWHERE if anywhere else _HERE), startup(os.environ), _hub(os.environ)


def _nursery_for(env: Environment) -> Nursery | None:
    """The one whose imports are right in this environment."""
    if not _CAN:
        return None
    nursery, began, hub = _nursery(anywhere=False)
    if startup(env) == began and _hub(env) != hub:
        nursery, began, _ = _nursery(anywhere=True)
    return nursery if startup(env) == began else None


def _communicate(
    nursery: Nursery, words: list[str], given: bytes | None, env: Environment, folder: str
) -> tuple[int, bytes, bytes]:
    """Run a program to its end: its status, and what it wrote."""
    with contextlib.ExitStack() as stack:

        def pipe() -> tuple[io.FileIO, io.FileIO]:
            ends = os.pipe()
            return stack.enter_context(open(ends[0], "rb", 0)), stack.enter_context(open(ends[1], "wb", 0))

        (out, out_end), (err, err_end), (in_end, into) = pipe(), pipe(), pipe()
        standard = 0 if given is None else in_end.fileno()
        process = nursery.fork(words, env, folder, (standard, out_end.fileno(), err_end.fileno()))
        for end in (out_end, err_end, in_end):
            end.close()
        said: dict[io.FileIO, bytes] = {}
        threads = [threading.Thread(target=lambda end=end: said.update({end: end.read()})) for end in (out, err)]

        def write() -> None:
            with contextlib.suppress(BrokenPipeError), open(into.fileno(), "wb", closefd=False) as whole:
                whole.write(given or b"")
            into.close()

        threads.append(threading.Thread(target=write))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return process.wait(), said[out], said[err]


def _exactly(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = connection.recv(size - len(content))
        if not part:
            raise EOFError("the process that is forked has ended")
        content += part
    return content


# --- in the process that is forked ------------------------------------------------------------------------------------


def _wanted(name: str, roots: set[str]) -> bool:
    return name.partition(".")[0] in roots and not name.endswith("__main__")


class _Child(NamedTuple):
    pid: int
    ended: socket.socket  # where its status is told
    imported: io.FileIO  # where it tells what it imported


def serve(requests: socket.socket, roots: set[str]) -> list[str]:
    """Fork for each request, until there are none. Returns in the children only: the words of theirs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal it is for the tests
    children: dict[int, _Child] = {}  # by a descriptor that is ready when it has ended
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if child := children.pop(key.fd, None):
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    _import(_told(child), roots)
                    continue
                header, descriptors, _, _ = socket.recv_fds(requests, 8, 4)
                if not header:
                    sys.exit()
                words, env, folder, imports = json.loads(_exactly(requests, *struct.unpack("<Q", header)))
                _import(imports, roots)
                *streams, last = descriptors
                imported = open(os.memfd_create("imported"), "r+b", buffering=0)  # noqa: SIM115
                ended = socket.socket(fileno=last)
                if not (pid := os.fork()):
                    _become(env, folder, streams, imported, roots)
                    return words
                ended.sendall(struct.pack("<i", pid))
                for descriptor in streams:
                    os.close(descriptor)
                watched = os.pidfd_open(pid)
                children[watched] = _Child(pid, ended, imported)
                selector.register(watched, selectors.EVENT_READ)


def _told(child: _Child) -> list[str]:
    """What a process that has ended imported; its status goes to whoever waits for it."""
    status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
    with child.ended, contextlib.suppress(BrokenPipeError):
        child.ended.sendall(struct.pack("<i", status))
    with child.imported as file:
        file.seek(0)
        return file.read().decode().split()


def _import(names: list[str], roots: set[str]) -> None:
    """What is not there yet of these."""
    names = [name for name in names if name not in sys.modules and _wanted(name, roots)]
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if names:
        gc.collect()
        gc.freeze()  # so that the children need not copy what they never change


def _become(env: dict[str, str], folder: str, streams: list[int], imported: io.FileIO, roots: set[str]) -> None:
    for place, descriptor in enumerate(streams):
        os.dup2(descriptor, place)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    tempfile.tempdir = None
    before = set(sys.modules)

    def tell() -> None:
        new = [name for name in sys.modules if name not in before and _wanted(name, roots)]
        imported.write("\n".join(new).encode())

    atexit.register(tell)


def run(words: list[str]) -> None:
    """What the interpreter does with its arguments."""
    kind, name = words[0], words[1] if words[0] in ("-m", "-c") else ""
    if kind == "-m":
        sys.argv, sys.path[0] = [kind, *words[2:]], os.getcwd()
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv, sys.path[0] = [kind, *words[2:]], ""
        exec(compile(name, "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    else:
        sys.argv, sys.path[0] = words, str(Path(kind).absolute().parent)
        runpy.run_path(kind, run_name="__main__")


def leave(words: list[str]) -> NoReturn:
    """Run a program and end as an interpreter does, but let the modules be: to take them down copies their memory."""
    status = 0
    try:
        run(words)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if stop.code is not None and not isinstance(stop.code, int):
            print(stop.code, file=sys.stderr)
    except BaseException:
        status = 1
        sys.excepthook(*sys.exc_info())
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, those of executors too
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError, ValueError):
            stream.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    leave(serve(socket.socket(fileno=int(sys.argv[1])), set(sys.argv[2:])))
