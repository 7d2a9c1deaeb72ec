"""Temporary folders and files of ours, and what is left of them when a process is killed.

Each is locked by the process that fills it. The system gives a lock back when a process ends, however it ends, so what
has one of our names and no lock is left over, and goes with the next run that writes to the same place.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

from p2l_sdk.errors import P2LWarning

try:
    import fcntl
except ImportError:  # not available on Windows, where nothing is taken for left over
    fcntl = None  # type: ignore[assignment]

INSIDE = ".p2l-"  # how the names begin in a folder that is being filled
_SCRATCH = "p2l-scratch-"  # and in the system's temporary folder
_LONGEST = 100  # bytes of the target's name that the name of its temporary one begins with


def beside(target: Path) -> str:
    """How the names of temporary files and folders beside a target begin."""
    name = target.name.encode("utf-8", "ignore")
    if len(name) > _LONGEST:
        return f".{name[:_LONGEST].decode('utf-8', 'ignore')}-{zlib.crc32(name):08x}{INSIDE}"
    return f".{target.name}{INSIDE}"


def locked(path: Path) -> int | None:
    """Lock a file or folder until the returned descriptor is closed; None if that is not possible.

    Raises:
        BlockingIOError: somebody else holds the lock.
    """
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


@contextlib.contextmanager
def temporary(prefix: str, parent: Path, suffix: str | None = None) -> Iterator[Path]:
    """Context manager that yields a new folder (a new file, where a suffix is given) in `parent`, locked for as long.

    It stays when the block ends: its user removes it, or moves it to where it belongs.
    """
    while True:
        if suffix is None:
            path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        else:
            opened, name = tempfile.mkstemp(suffix, prefix, parent)
            os.close(opened)
            path = Path(name)
        with contextlib.suppress(BlockingIOError):  # taken for left over before it was locked
            lock = locked(path)
            if path.exists():
                break
            if lock is not None:
                os.close(lock)
    try:
        yield path
    finally:
        if lock is not None:
            os.close(lock)


def left_over(parent: Path, prefix: str) -> Iterator[Path]:
    """What nobody fills any more of our temporary files and folders in `parent`; each is locked until the next."""
    for path in _ours(parent, prefix):
        with contextlib.suppress(BlockingIOError):
            lock = locked(path)
            if lock is not None:
                try:
                    yield path
                finally:
                    os.close(lock)


def in_work(parent: Path, prefix: str) -> bool:
    """Whether a living process fills one of our temporary folders in `parent`."""
    for path in _ours(parent, prefix):
        try:
            lock = locked(path)
        except BlockingIOError:
            return True
        if lock is not None:
            os.close(lock)
    return False


def remove(path: Path) -> None:
    """Remove what is left over, and say so."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    if not path.exists():
        warnings.warn(f"removed {str(path)!r}, left over by a run that was killed", P2LWarning, stacklevel=2)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Context manager that yields an empty folder for what is needed in between; it goes with the block."""
    parent = Path(tempfile.gettempdir())
    for path in left_over(parent, _SCRATCH):
        remove(path)
    with temporary(_SCRATCH, parent) as folder:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _ours(parent: Path, prefix: str) -> list[Path]:
    """Of this user alone: the system's temporary folder is everybody's."""
    try:
        with os.scandir(parent) as entries:
            found = [entry for entry in entries if entry.name.startswith(prefix) and not entry.is_symlink()]
    except OSError:
        return []
    user = os.geteuid() if hasattr(os, "geteuid") else None
    paths = []
    for entry in found:
        with contextlib.suppress(OSError):  # gone meanwhile
            if user in (None, entry.stat(follow_symlinks=False).st_uid):
                paths.append(Path(entry.path))
    return sorted(paths)
