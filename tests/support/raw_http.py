"""HTTP as bytes on a socket, for requests that no client library would send."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

HOST = b"Host: localhost\r\n"


def request(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    """A request: its line without the version, its fields beside Host, its body."""
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: localhost", *fields, b"", body])


def post(path: str, value: Any, *fields: bytes) -> bytes:
    """A request with a JSON body and its length."""
    body = json.dumps(value).encode()
    return request(b"POST " + path.encode(), b"Content-Length: %d" % len(body), *fields, body=body)


@dataclass
class Said:
    """What a server said on a connection.

    Attributes:
        heard: all of it.
        replies: status and body of each reply.
        closed: whether it closed the connection.
        seconds: until then.
        taken: bytes that it took.
    """

    heard: bytes = b""
    replies: list[tuple[int, bytes]] = field(default_factory=list)
    closed: bool = False
    seconds: float = 0.0
    taken: int = 0

    @property
    def statuses(self) -> list[int]:
        return [status for status, _ in self.replies]


def say(port: int, parts: bytes | Iterable[bytes], *, seconds: float = 5.0, pause: float = 0.0) -> Said:
    """Send bytes, a pause after each part, and read until the server closes the connection, or for a time."""
    said, start, heard = Said(), time.monotonic(), bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with contextlib.suppress(OSError):  # it may close before it has taken everything
            for part in [parts] if isinstance(parts, bytes) else parts:
                connection.sendall(part)
                said.taken += len(part)
                if pause:
                    connection.settimeout(pause)
                    with contextlib.suppress(TimeoutError):
                        heard += (got := connection.recv(65536))
                        if not got:
                            break
                    connection.settimeout(seconds)
        try:
            while (left := start + seconds - time.monotonic()) > 0:
                connection.settimeout(left)
                got = connection.recv(65536)
                if not got:
                    said.closed = True
                    break
                heard += got
        except TimeoutError:
            pass
        except OSError:
            said.closed = True
    said.seconds = time.monotonic() - start
    said.heard, said.replies = bytes(heard), replies(bytes(heard))
    return said


def replies(heard: bytes) -> list[tuple[int, bytes]]:
    """The replies in what was heard; all have a Content-Length, or are interim. None is to HEAD."""
    found = []
    while heard.startswith(b"HTTP/"):
        head, _, heard = heard.partition(b"\r\n\r\n")
        length = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        size = length[0] if length else 0
        found.append((int(head.split()[1]), heard[:size]))
        heard = heard[size:]
    return found
