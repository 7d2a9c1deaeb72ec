"""What suits a process that does nothing but serve."""

from __future__ import annotations

import errno
import gc
import os
import socket

from p2l_sdk.errors import P2LError

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def require_address(host: str, port: int) -> None:
    """Listen for a moment at every address of a host ("localhost" may have two): uvicorn says less of what keeps it
    from there, and starts everything before.

    Raises:
        P2LError: the port is taken, or the host is no address of this machine.
    """
    free = False
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            try:
                socket.create_server(address, family=family).close()
                free = True
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
        if not free:
            raise OSError(errno.EADDRNOTAVAIL, "")
    except OSError as error:
        raise P2LError(_why(error, host, port)) from None


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} at {host} is in use; end what listens there, or choose another with --port"
    if error.errno in _NOT_HERE or isinstance(error, socket.gaierror):
        return f"{host} is no address of this machine; give one with --host"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"cannot listen at {host}, port {port}: {reason}; choose another with --port"


def settle() -> None:
    """To be called once, when model and libraries are loaded and before the first request.

    They stay for good: to look through them again would hold up requests for 50 ms. And prompts come a few at a time:
    the tokenizer's threads would wait for each other longer than they read (TOKENIZERS_PARALLELISM=true has them back).
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    gc.collect()
    gc.freeze()
