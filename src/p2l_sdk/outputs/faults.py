"""What can be wrong with a place to write to, as a `P2LError` with the system's reason."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from p2l_sdk.errors import P2LError

STREAMS = ("/dev/std", "/dev/fd/", "/proc/")  # what is behind these has been opened by somebody else
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # s3://; Path makes s3:/ of it, a folder; "C:/" is none
_NATIVE = re.compile(r"os error (\d+)")  # as Rust says it: safetensors and tokenizers raise errors of their own
_TORCH = re.compile(r"PytorchStreamWriter failed|file write failed|iostream error|unexpected pos")


def real_path(path: str | Path) -> Path:
    """The absolute path behind symlinks, of which the last may have no target yet.

    Raises:
        P2LError: it cannot be a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise P2LError(f"the output is a {type(path).__name__}; name a path, as text")
    if str(path) == "":
        raise P2LError("the name of the output is empty")
    if _ADDRESS.match(str(path)):
        raise P2LError(f"the output {str(path)!r} is an address; name a path on this machine, and copy the result")
    try:
        str(path).encode()  # native code opens files by their names in UTF-8
        whole = Path(path).expanduser().absolute()
        return whole if str(whole).startswith(STREAMS) else Path(os.path.realpath(whole))
    except (ValueError, RuntimeError) as error:  # NUL or surrogates, ~nobody
        raise P2LError(f"{str(path)!r} cannot be written: {error}") from None
    except OSError as error:
        raise P2LError(f"{str(path)!r} cannot be written, the working directory is gone: {error.strerror}") from None


@contextlib.contextmanager
def write_faults(target: str | Path, advice: str = "") -> Iterator[None]:
    """Context manager that turns the errors of writing into a `P2LError`: the system's, and those of native code.

    Args:
        target: what is written, for the message.
        advice: end of the message.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, P2LError):  # one of a missing package
            raise
        raise _fault(target, error.strerror or str(error), advice) from error
    except Exception as error:
        if isinstance(error, P2LError):
            raise
        if found := _NATIVE.search(str(error)):
            raise _fault(target, os.strerror(int(found[1])), advice) from error
        if isinstance(error, RuntimeError) and _TORCH.search(str(error)):
            raise _fault(target, f"{os.strerror(errno.ENOSPC)}, or the disk fails", advice) from error
        raise


def _fault(target: str | Path, reason: str, advice: str) -> P2LError:
    return P2LError(f"{str(target)!r} cannot be written: {reason}{advice}")
