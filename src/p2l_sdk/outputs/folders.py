"""The one way to write a folder of results: `require_new` before the work, `new_folder` around what fills it.

A folder that is not there yet is filled under a temporary name beside it and renamed. One that is there and empty (it
may be a mount point, the working directory, or behind a symlink) can not be renamed over, so it is filled in place: in
a temporary folder inside it, whose files then move up. Before that, a manifest says that they are all there: a run that
is killed between two moves, or whose result cannot be moved, loses nothing, and the next one finishes it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from p2l_sdk.errors import P2LError
from p2l_sdk.outputs.faults import real_path, write_faults
from p2l_sdk.outputs.leftovers import INSIDE, beside, in_work, left_over, remove, temporary

_MANIFEST = f"{INSIDE}complete"
_OF_THE_SYSTEM = "lost+found"  # in the root of an empty file system
CHECKPOINTS = ".checkpoints"  # of a run whose output this is
_LAST = "config.json"  # without it, a folder is no model
_PAGE = bytes(4096)


def require_new(target: str | Path, besides: Collection[str] = ()) -> Path:
    """Check that a folder can be written, before anything is computed; what killed runs left over there is removed.

    Args:
        target: the folder; it is not there yet, or is empty.
        besides: names that do not count.

    Returns:
        Its real path, behind symlinks.

    Raises:
        P2LError: it exists and is not empty, is no folder, cannot be written, or another process is writing it; or a
            killed run had finished its result, which is now there.
    """
    folder = real_path(target)
    with write_faults(target):
        finished = _finish(folder, target)
        if os.path.lexists(folder) and not folder.is_dir():
            raise P2LError(f"{str(target)!r} exists already; name a new or an empty folder")
        if in_work(folder, INSIDE) or in_work(folder.parent, beside(folder)):
            raise P2LError(f"another process is writing {str(target)!r}; wait for its end, or name another folder")
        if folder.is_dir() and set(os.listdir(folder)) - {_OF_THE_SYSTEM, *besides}:
            other = f" ({str(finished)!r} holds a finished result that could not be put there)" if finished else ""
            raise P2LError(f"{str(target)!r} exists already; name a new or an empty folder{other}")
        require_writable(folder)
    return folder


def require_writable(folder: Path) -> None:
    """Write to a folder, which need not be there yet, and leave no trace. Raises `OSError` where that fails."""
    for attempt in range(3):
        made: list[Path] = []
        try:
            missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
            for path in reversed(missing):
                if os.path.lexists(path) and not path.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                path.mkdir(exist_ok=True)
                made.append(path)
            with tempfile.TemporaryFile(dir=folder) as file:  # tells whether the disk is full, too
                file.write(_PAGE)
            return
        except FileNotFoundError:  # another process removed the same parents, after its own check
            if attempt == 2:
                raise
        finally:
            for path in reversed(made):
                with contextlib.suppress(OSError):
                    path.rmdir()


@contextlib.contextmanager
def new_folder(target: str | Path, besides: Collection[str] = ()) -> Iterator[Path]:
    """Context manager that yields a temporary folder to fill, which becomes `target` only if the block succeeds.

    Args:
        target, besides: as in `require_new`.

    Raises:
        P2LError: as in `require_new`; or the finished result cannot be put there, and the message says where it is.
    """
    folder = require_new(target, besides)
    with contextlib.ExitStack() as stack:
        with write_faults(target):
            partial = stack.enter_context(_partial(folder))
        try:
            with write_faults(target):
                yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        try:
            _settle(partial)
            _write_manifest(partial, folder)
            _put(partial, folder)
        except OSError as error:
            raise _kept(partial, target, error) from error


@contextlib.contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """Context manager that yields a temporary folder inside a folder, or beside it if it is not there yet."""
    with contextlib.ExitStack() as stack:
        for last in (False, False, True):
            try:
                if folder.is_dir():
                    partial = stack.enter_context(temporary(INSIDE, folder))
                else:
                    folder.parent.mkdir(parents=True, exist_ok=True)
                    partial = stack.enter_context(temporary(beside(folder), folder.parent))
                break
            except FileNotFoundError:  # another process, which checks its own output, removed the same parents
                if last:
                    raise
        yield partial


def half_written(folder: Path) -> bool:
    """Whether a folder is being filled, or was when a process was killed."""
    with contextlib.suppress(OSError):
        return any(name.startswith(INSIDE) or name == CHECKPOINTS for name in os.listdir(folder))
    return False


def _settle(partial: Path) -> None:
    """Give others access, since temporary folders and safetensors grant it to the owner alone; and wait for the disk,
    since a name must not reach it before its content does."""
    for path in (partial, *partial.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if path.is_file():
            with path.open("rb") as opened:
                os.fsync(opened.fileno())


def _write_manifest(partial: Path, folder: Path) -> None:
    names = sorted(os.listdir(partial), key=lambda name: (name == _LAST, name))
    with contextlib.suppress(OSError), (partial / _MANIFEST).open("w", encoding="utf-8") as file:  # a full disk
        json.dump({"target": folder.name, "names": names}, file)
        file.flush()
        os.fsync(file.fileno())


def _names(partial: Path, folder: Path) -> list[str] | None:
    """The names in the manifest of a finished result for this folder; None if it is not finished, or for another."""
    try:
        manifest = json.loads((partial / _MANIFEST).read_text(encoding="utf-8"))
        return list(manifest["names"]) if manifest["target"] == folder.name else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _put(partial: Path, folder: Path) -> None:
    """Move a finished result to where it belongs; what a killed process has moved before is not moved again."""
    if partial.parent != folder:
        os.rename(partial, folder)
        (folder / _MANIFEST).unlink(missing_ok=True)
        return
    names = _names(partial, folder) or sorted(os.listdir(partial))
    names = [name for name in names if os.path.lexists(partial / name)]
    for name in names:
        if os.path.lexists(folder / name):
            raise FileExistsError(f"{name} is there by now")
    try:
        for name in names:
            os.rename(partial / name, folder / name)
    except OSError:
        for name in names:  # all in one place, whichever
            if os.path.lexists(folder / name) and not os.path.lexists(partial / name):
                with contextlib.suppress(OSError):
                    os.rename(folder / name, partial / name)
        raise
    (partial / _MANIFEST).unlink(missing_ok=True)
    partial.rmdir()


def _kept(partial: Path, target: str | Path, error: OSError) -> P2LError:
    """Keep a finished result that cannot be put where it belongs, under a name that no later run takes for left over
    where names can still be given; the error says where it is."""
    kept = partial.with_name(partial.name.replace(INSIDE, ".kept-", 1).removeprefix("."))
    with contextlib.suppress(OSError):
        (partial / _MANIFEST).unlink(missing_ok=True)
        os.rename(partial, kept)
    where = f"{str(kept)!r}" if kept.is_dir() else f"{str(partial)!r}; move it before you name this output again"
    return P2LError(
        f"{str(target)!r} cannot be written: {error.strerror or error}; the finished result is kept in {where}"
    )


def _finish(folder: Path, target: str | Path) -> Path | None:
    """Remove what killed runs left over in a folder and beside it; the result of one that had finished is put there.

    Returns:
        A finished result that cannot be put there, since the folder is taken.
    """
    kept = None
    for parent, prefix in ((folder, INSIDE), (folder.parent, beside(folder))):
        for partial in left_over(parent, prefix):
            names = _names(partial, folder)
            if names is None:
                if not (partial / _MANIFEST).exists():  # else the result of another target with a similar name
                    remove(partial)
                continue
            if parent != folder and folder.is_dir() and set(os.listdir(folder)) - {_OF_THE_SYSTEM}:
                kept = partial
                continue
            try:
                _put(partial, folder)
            except OSError as error:
                raise _kept(partial, target, error) from error
            raise P2LError(
                f"{str(target)!r} exists already: a run had finished it when it was killed, and it is whole now; name "
                "another folder for a new one"
            )
    return kept
