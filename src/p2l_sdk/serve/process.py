"""Setup of a process that does nothing but serve."""

from __future__ import annotations

import errno
import gc
import ipaddress
import os
import socket

from p2l_sdk.errors import P2LError

_FILES_BESIDE = 100  # that a server holds open whatever its connections: the model, the log, its own sockets
_BACKLOG = 2048  # connections that wait to be accepted, as in uvicorn
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def require_address(host: str, port: int) -> None:
    """Check that the server can listen, by listening briefly: uvicorn would start everything first, and its message
    says less.

    Raises:
        P2LError: the port is in use, or the host is not an address of this machine.
    """
    for listener in listen(host, port):
        listener.close()


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen at every address of the host ("localhost" may have two).

    Raises:
        P2LError: the port is in use, or the host is not an address of this machine.
    """
    listeners: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            if listeners and not port:  # the same one at each address
                address = (address[0], listeners[0].getsockname()[1], *address[2:])
            try:
                listeners.append(socket.create_server(address, family=family, backlog=_BACKLOG))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
        if not listeners:
            raise OSError(errno.EADDRNOTAVAIL, "")
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise P2LError(_why(error, host, port)) from None
    for listener in listeners:  # its connections inherit it; asyncio sets it only for those of its own listeners
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listeners


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} at {host} is in use; end what listens there, or choose another with --port"
    if error.errno in _NOT_HERE or isinstance(error, socket.gaierror):
        return f"{host} is no address of this machine; give one with --host"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"cannot listen at {host}, port {port}: {reason}; choose another with --port"


def allow_open_files(connections: int) -> int:
    """Raise this process's limit of open files as far as needed and allowed: a server at that limit can accept nobody,
    not even to say so.

    Args:
        connections: of clients that there should be room for.

    Returns:
        How many of them there is room for.
    """
    try:
        import resource
    except ImportError:  # on Windows there is no such limit
        return connections
    needed = 2 * connections + _FILES_BESIDE  # a request may hold a connection to an upstream, too
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < needed:
        soft = needed if hard == unlimited else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == unlimited else max(1, min(connections, (soft - _FILES_BESIDE) // 2))


def tune_process() -> None:
    """Tune the process for serving; to be called once, after loading the model and before the first request.

    Exempts what is loaded from garbage collection: scanning it would delay requests by 50 ms. Turns off the tokenizer's
    threads, which for a few prompts at a time cost more than they save (TOKENIZERS_PARALLELISM=true keeps them).
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    gc.collect()
    gc.freeze()


def is_loopback(host: str) -> bool:
    """Whether an address is that of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
