"""Real mounts for tests of outputs, where this machine allows them (root on Linux); and limits that need no rights."""

from __future__ import annotations

import contextlib
import functools
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def _run(*words: str) -> bool:
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@functools.cache
def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        return _run("mount", "-t", "tmpfs", "tmpfs", folder) and _run("umount", folder)


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """An empty file system on an empty folder, by default in memory; `options` are those of `mount`."""
    folder.mkdir(exist_ok=True)
    assert _run("mount", *(options or ("-t", "tmpfs", "tmpfs")), str(folder)), "is can_mount() asked?"
    try:
        yield folder
    finally:
        _run("umount", "--lazy", str(folder))


def small(folder: Path, kilobytes: int) -> contextlib.AbstractContextManager[Path]:
    """A disk of this size."""
    return mounted(folder, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs")


@contextlib.contextmanager
def longest_file(n_bytes: int) -> Iterator[None]:
    """Files of this process cannot grow beyond a size, as where a quota is used up. Python ignores the signal."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
